"""Trusted Publishing: the CI job's own identity as a credential (trusted-publishing §2, §3).

The index names an audience; the CI platform makes an identity token for it; the index exchanges that for an upload
token of some minutes. An identity token is good for one exchange. So a renewal needs a *new* one, and where the
platform has only one for a job (GitLab), the promotion stops before the upload token runs out, not with a refusal in
the middle of a file.

An index that is not PyPI must not ask for PyPI's audience: it could publish there with what it was given.
"""

import asyncio
import math
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from overlay.caching.threads import in_thread
from overlay.promote.clock import Clock, pause_s
from overlay.promote.credentials import basic
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target
from overlay.promote.identity import GITLAB, Identity, NoIdentity, read
from overlay.promote.mint import ATTEMPTS, Minted, ask_audience, exchange
from overlay.promote.progress import Progress

# twine's number: a file of some hundred megabytes is pushed in that.
RENEW_BELOW_S: Final = 300.0
# PEP 807: without `expires` a client may assume at most 900 s.
_ASSUMED_LIFE_S: Final = 900.0
# An identity token that ends sooner might be refused when it arrives.
_LEAST_IDENTITY_S: Final = 5.0
# The index's times are whole seconds, and an answer takes its time.
_ROUNDED_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What Trusted Publishing needs of the job around it."""

    identify: Callable[[str], str | None]
    """Asks the CI platform for an identity token for an audience; see `ambient.identify`."""
    progress: Progress
    clock: Clock
    tls: ssl.SSLContext | None = None
    """How the target is connected to; see `overlay.promote.tls`."""
    renew_below_s: float = RENEW_BELOW_S
    """A token that lasts less than this is renewed before a file is pushed with it."""


class TrustedPublisher:
    """The job's identity as a credential; implements `Credential`. `begin` makes one."""

    def __init__(self, target: Target, around: Surroundings, *, audience: str, identity_token: str) -> None:
        self._target = target
        self._around = around
        self._audience = audience
        self._identity = _identity(identity_token)
        self._first = identity_token
        self._begun_s = around.clock.passed_s()
        self._unused: str | None = identity_token
        self._spent: set[str] = set()
        self._token = ""
        self._ends_s = -math.inf
        self._ends_s_of: dict[str, float] = {}
        self._minting = asyncio.Lock()
        self._refused = ""

    @classmethod
    async def begin(cls, target: Target, around: Surroundings) -> Self:
        """Ask the index for its audience and the platform for an identity; nothing is minted. Raises Refused."""
        audience = await ask_audience(target, around.clock, around.tls)
        token = await _ask_platform(around, audience)
        if token is None:
            raise Refused(
                f"There is no credential for {target.host}: neither TWINE_PASSWORD nor .pypirc nor the keyring has "
                "one, and this is no CI job with an identity of its own for Trusted Publishing."
            )
        begun = cls(target, around, audience=audience, identity_token=token)
        if begun.identity.issuer == GITLAB:
            around.progress.warned(
                "GitLab gives a job one identity token, and the upload token for it lasts about 15 minutes: what is "
                "not out by then needs the job to be started again, which goes on where this one ended."
            )
        return begun

    @property
    def words(self) -> str:
        """Where it comes from."""
        return "Trusted Publishing"

    @property
    def identity(self) -> Identity:
        """The job's identity."""
        return self._identity

    async def authorization(self) -> str:
        """Return what the header carries, with a token that lasts; mints one at first. Raises Refused.

        Once refused it stays so: the files that waited meanwhile do not ask again, each with its own attempts.
        """
        async with self._minting:
            if self._left_s() < self._around.renew_below_s:
                await self._renew()
            authorization = basic("__token__", self._token)
            self._ends_s_of[authorization] = self._ends_s
            return authorization

    def has_ended(self, authorization: str) -> bool:
        """Say whether a token's time is over: a file took longer on its way than that lasted."""
        return self._ends_s_of.get(authorization, math.inf) - self._around.clock.passed_s() < _ROUNDED_S

    async def _renew(self) -> None:
        if self._refused:
            raise Refused(self._refused)
        try:
            await self._mint()
        except Refused as err:
            self._refused = str(err)
            raise

    async def _mint(self) -> None:
        problem = ""
        for failed in range(ATTEMPTS):
            if failed:
                await self._around.clock.sleep(pause_s(failed))
            identity_token = await self._fresh(problem)
            asked_s = self._around.clock.passed_s()
            answer = await exchange(self._target, identity_token, self._identity, self._around.clock, self._around.tls)
            if isinstance(answer, Minted):
                self._spent.add(identity_token)
                self._around.progress.mask(answer.token)
                self._token = answer.token
                self._ends_s = asked_s + (_ASSUMED_LIFE_S if answer.life_s is None else answer.life_s)
                return
            problem = answer.sentence
            if answer.spent:
                self._spent.add(identity_token)
        raise Refused(problem)

    async def _fresh(self, problem: str) -> str:
        """Return an identity token that may still be good. Raises Refused where the platform has none."""
        token, self._unused = self._unused, None
        if token is None or self._is_over(token):
            token = await _ask_platform(self._around, self._audience)
        if token is None or token in self._spent:
            raise Refused(self._no_other(problem))
        if self._is_over(token):
            raise Refused("The job's identity token has expired: start the job again.")
        return token

    def _no_other(self, problem: str) -> str:
        if problem:
            return f"{problem}\nThe CI platform gives this job no other identity token: start the job again."
        return (
            f"The upload token lasts only {max(0.0, self._left_s()):.0f} s more, and the CI platform gives this job no "
            "other identity token to renew it with. Start the job again: it goes on where this one ended."
        )

    def _left_s(self) -> float:
        return self._ends_s - self._around.clock.passed_s()

    def _is_over(self, token: str) -> bool:
        """Say whether a token has certainly run out: the one of the beginning, for any other one is new.

        It lasts from one time of the platform's clock to another; this machine's may be wrong. One that was older than
        that when the run began is for the index to refuse.
        """
        life_s = self._identity.life_s
        if token != self._first or life_s is None:
            return False
        return self._begun_s + life_s - self._around.clock.passed_s() < _LEAST_IDENTITY_S


async def _ask_platform(around: Surroundings, audience: str) -> str | None:
    token = await in_thread(around.identify, audience)
    if token is not None:
        around.progress.mask(token)
    return token


def _identity(token: str) -> Identity:
    try:
        return read(token)
    except NoIdentity as err:
        raise Refused(f"{err} The CI platform gave something else.") from err
