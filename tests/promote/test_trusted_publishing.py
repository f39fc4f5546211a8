"""Trusted Publishing against the scripted PyPI, with identities of its scripted CI platforms, found by `id`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import pytest
from aiohttp import web

from overlay.promote import ambient
from overlay.promote.clock import Clock
from overlay.promote.errors import Ending, Refused
from overlay.promote.hosts import target
from overlay.promote.mint import checked_audience
from overlay.promote.trusted_publishing import Surroundings, TrustedPublisher
from tests.promote.runs import Heard
from tests.promote.test_push import serving
from tests.pypi import faults, orders
from tests.pypi.faults import Fault, Point
from tests.pypi.jobs import AUDIENCE
from tests.pypi.orders import Job, Publisher
from tests.pypi.server import ScriptedPypi, pypi

VARIABLES = (
    "GITHUB_ACTIONS",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "GITLAB_CI",
    "PYPI_ID_TOKEN",
    "SCRIPTED_ID_TOKEN",
    "GOOGLE_SERVICE_ACCOUNT_NAME",
    "BUILDKITE",
    "CIRCLECI",
)


@dataclass
class Ci:
    """A CI job in front of the scripted PyPI."""

    index: ScriptedPypi
    monkeypatch: pytest.MonkeyPatch
    heard: Heard
    slept: list[float]
    wrong_s: float = 0.0
    """How far the job's clock is ahead of the index's."""

    async def start(self, job: Job) -> None:
        """Let this process be a step of the job."""
        for name, value in (await self.index.job(job)).items():
            self.monkeypatch.setenv(name, value)

    async def begin(self, url: str = "") -> TrustedPublisher:
        return await TrustedPublisher.begin(target(url or self.index.upload_url), self.around())

    def around(self) -> Surroundings:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        now_s = self.index.world.now_s
        clock = Clock(passed_s=now_s, now_s=lambda: now_s() + self.wrong_s, sleep=sleep)
        return Surroundings(identify=ambient.identify, progress=self.heard, clock=clock)

    async def mints(self) -> list[int | None]:
        """Return the answers to the exchanges so far."""
        return [request.status for request in (await self.index.recording()).minted()]

    async def accepted(self, authorization: str) -> bool:
        """Ask the index whether it knows the credential."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.index.upload_url, data={"a": "b"}, headers={"Authorization": authorization}) as response,
        ):
            await response.read()
        return (await self.index.recording()).posts()[-1].account != ""


@pytest.fixture
async def ci(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Ci]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    async with pypi() as index:
        await index.do(
            Publisher(projects=("demo",)), Publisher(projects=("demo",), kind="gitlab", workflow=".gitlab-ci.yml")
        )
        yield Ci(index, monkeypatch, Heard(), [])


GITLAB = Job(kind="gitlab", workflow=".gitlab-ci.yml")


async def test_a_job_gets_a_token_that_pypi_takes(ci: Ci) -> None:
    """The identity is exchanged once for many files; identity and token are masked before they are used."""
    await ci.start(Job())
    credential = await ci.begin()
    assert await ci.mints() == []
    authorization = await credential.authorization()
    assert await credential.authorization() == authorization
    assert await ci.accepted(authorization)
    assert await ci.mints() == [200]
    assert len(ci.heard.secrets) == 2
    assert ci.heard.secrets[1].startswith("pypi-")
    assert "octo/demo/.github/workflows/release.yml" in str(credential.identity)


async def test_several_files_at_once_are_refused_once(ci: Ci) -> None:
    """Who waited for a token that was refused hears so, and does not ask for one in his turn."""
    await ci.start(Job())
    await ci.index.do(Fault(at=Point.MINT, action=faults.Answer(503), times=None))
    credential = await ci.begin()
    caught = await asyncio.gather(*(credential.authorization() for _ in range(4)), return_exceptions=True)
    assert all(isinstance(one, Refused) for one in caught)
    assert len({str(one) for one in caught}) == 1
    assert len(await ci.mints()) == 3


async def test_several_files_at_once_mint_once(ci: Ci) -> None:
    """Files that are pushed at the same time share one token."""
    await ci.start(Job())
    credential = await ci.begin()
    texts = await asyncio.gather(*(credential.authorization() for _ in range(5)))
    assert len(set(texts)) == 1
    assert await ci.mints() == [200]


async def test_a_token_is_renewed_with_a_new_identity(ci: Ci) -> None:
    """When fewer than five minutes remain, a new identity token is exchanged: none is used twice."""
    await ci.start(Job())
    credential = await ci.begin()
    first = await credential.authorization()
    await ci.index.do(orders.Advance(590))
    assert await credential.authorization() == first
    await ci.index.do(orders.Advance(20))
    second = await credential.authorization()
    assert second != first
    assert await ci.accepted(second)
    assert await ci.mints() == [200, 200]
    assert len(set(ci.heard.secrets)) == 4


async def test_a_token_ends_with_its_time(ci: Ci) -> None:
    """Which is told of each one that was given out, also after it was replaced."""
    await ci.start(Job())
    credential = await ci.begin()
    first = await credential.authorization()
    await ci.index.do(orders.Advance(800))
    second = await credential.authorization()
    assert not credential.has_ended(first)
    await ci.index.do(orders.Advance(110))
    assert credential.has_ended(first)
    assert not credential.has_ended(second)
    assert not credential.has_ended("Basic bm9uZQ==")


@pytest.mark.parametrize("wrong_s", [-1200, 200], ids=["late", "early"])
async def test_a_wrong_clock_of_the_job_does_not_make_a_token_last_longer(ci: Ci, wrong_s: float) -> None:
    """How long a token lasts is told by the index's clock alone: renewed in time, and known to have ended."""
    ci.wrong_s = wrong_s
    await ci.start(Job())
    credential = await ci.begin()
    first = await credential.authorization()
    await ci.index.do(orders.Advance(590))
    assert await credential.authorization() == first
    assert not credential.has_ended(first)
    await ci.index.do(orders.Advance(20))
    assert await credential.authorization() != first
    await ci.index.do(orders.Advance(300))
    assert credential.has_ended(first)


@pytest.mark.parametrize("job", [Job(), GITLAB], ids=["github", "gitlab"])
@pytest.mark.parametrize("wrong_s", [-7200, 7200], ids=["late", "early"])
async def test_a_wrong_clock_of_the_job_refuses_no_identity(ci: Ci, job: Job, wrong_s: float) -> None:
    """Whether an identity token is over is the index's to say, or told by how long the run has had it."""
    ci.wrong_s = wrong_s
    await ci.start(job)
    assert await ci.accepted(await (await ci.begin()).authorization())
    assert await ci.mints() == [200]


async def test_an_identity_that_was_over_before_is_refused_by_the_index(ci: Ci) -> None:
    """GitLab's token of a job that took its time; a new job helps, and the message says so."""
    await ci.start(GITLAB)
    await ci.index.do(orders.Advance(400))
    with pytest.raises(Refused, match="invalid-token") as caught:
        await (await ci.begin()).authorization()
    assert "start the job again" in str(caught.value)
    assert await ci.mints() == [422]


async def test_tokens_of_twenty_seconds_are_renewed_for_every_file(ci: Ci) -> None:
    """A token that never lasts five minutes is used for one file, then replaced."""
    await ci.index.do(orders.Rules(mint_life_s=20))
    await ci.start(Job())
    credential = await ci.begin()
    texts = [await credential.authorization() for _ in range(3)]
    assert len(set(texts)) == 3
    assert await ci.mints() == [200] * 3


async def test_an_identity_that_grew_old_is_replaced(ci: Ci) -> None:
    """Between the first look and the first push an identity token may run out."""
    await ci.start(Job(life_s=300))
    credential = await ci.begin()
    await ci.index.do(orders.Advance(400))
    assert await ci.accepted(await credential.authorization())
    assert await ci.mints() == [200]


async def test_gitlab_says_so_beforehand_and_stops_in_time(ci: Ci) -> None:
    """A job with one identity token is warned, and stopped before the upload token runs out in a file."""
    await ci.start(GITLAB)
    credential = await ci.begin()
    assert any("GitLab" in warning for warning in ci.heard.warnings)
    assert await ci.accepted(await credential.authorization())
    await ci.index.do(orders.Advance(650))
    with pytest.raises(Refused, match="no other identity token") as caught:
        await credential.authorization()
    assert "250 s" in str(caught.value) or "249 s" in str(caught.value)
    assert "Start the job again" in str(caught.value)
    assert await ci.mints() == [200]


async def test_an_identity_that_is_over_is_not_sent(ci: Ci) -> None:
    """GitLab's token that ran out before the first push fails at once."""
    await ci.start(Job(kind="gitlab", workflow=".gitlab-ci.yml", life_s=60))
    credential = await ci.begin()
    await ci.index.do(orders.Advance(61))
    with pytest.raises(Refused, match="expired"):
        await credential.authorization()
    assert await ci.mints() == []


async def test_an_identity_that_another_step_used(ci: Ci) -> None:
    """GitLab's one token, used by an earlier step of the job, is refused in PyPI's words and ours."""
    await ci.start(GITLAB)
    await (await ci.begin()).authorization()
    with pytest.raises(Refused, match="invalid-reuse-token") as caught:
        await (await ci.begin()).authorization()
    assert "no other identity token" in str(caught.value)


@pytest.mark.parametrize(
    ("job", "order", "code", "advice"),
    [
        (Job(workflow="build.yml"), orders.NoFaults(), "invalid-publisher", "workflow file"),
        (Job(repository="octo/other"), orders.NoFaults(), "invalid-publisher", "octo/other"),
        (Job(), orders.Rules(issuers_off=("github",)), "not-enabled", "API token"),
        (Job(issuer="https://ci.example"), orders.NoFaults(), "invalid-payload", "API token"),
        (Job(forged=True), orders.NoFaults(), "invalid-token", "clock"),
        (
            Job(workflow="new.yml"),
            Publisher(projects=("demo",), workflow="new.yml", pending=True),
            "invalid-pending-publisher",
            "own publishing settings",
        ),
        (
            Job(workflow="new.yml"),
            Publisher(projects=("string",), workflow="new.yml", pending=True),
            "invalid-payload",
            "API token",
        ),
    ],
)
async def test_refusals_are_shown_with_what_to_do(
    ci: Ci, job: Job, order: orders.Order, code: str, advice: str
) -> None:
    """Code, description, advice and the job's claims are shown, the identity token is not."""
    await ci.index.do(orders.Project(name="demo"), order)
    await ci.start(job)
    credential = await ci.begin()
    with pytest.raises(Refused, match=code) as caught:
        await credential.authorization()
    assert caught.value.ending is Ending.REFUSED
    assert advice in str(caught.value)
    assert f"sub repo:{job.repository}" in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ci.heard.secrets)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(permitted=False), "id-token: write"),
        (Job(kind="gitlab", permitted=False), "SCRIPTED_ID_TOKEN: aud: scripted"),
    ],
)
async def test_a_job_without_permission_is_told_how_to_get_it(ci: Ci, job: Job, words: str) -> None:
    """The mend of the workflow file is in the message."""
    await ci.start(job)
    with pytest.raises(Refused, match=words):
        await ci.begin()


async def test_a_platform_that_fails_is_quoted(ci: Ci) -> None:
    """What the platform answers is shown."""
    await ci.start(Job())
    await ci.index.do(Fault(at=Point.AMBIENT, action=faults.Answer(500, "out of order"), times=None))
    with pytest.raises(Refused, match="500"):
        await ci.begin()


async def test_outside_of_ci_there_is_no_identity(ci: Ci) -> None:
    """A developer's machine has none; the message names the other sources."""
    with pytest.raises(Refused, match=r"neither TWINE_PASSWORD nor \.pypirc nor the keyring"):
        await ci.begin()


async def test_an_index_without_trusted_publishing_is_told(ci: Ci) -> None:
    """One that does not know it (404), or has switched it off (403), means that there is no credential."""
    await ci.index.do(orders.Rules(trusted_publishing=False))
    with pytest.raises(Refused, match="403"):
        await ci.begin()
    await ci.index.do(Fault(at=Point.AUDIENCE, action=faults.Answer(404)))
    with pytest.raises(Refused, match="404"):
        await ci.begin()
    assert ci.slept == []


async def test_an_audience_is_asked_for_again(ci: Ci) -> None:
    """Passing trouble of the index is waited out, lasting trouble is told."""
    await ci.start(Job())
    await ci.index.do(Fault(at=Point.AUDIENCE, action=faults.Answer(503), times=2))
    await ci.begin()
    assert ci.slept == [2.0, 4.0]
    await ci.index.do(Fault(at=Point.AUDIENCE, action=faults.Close(), times=None))
    with pytest.raises(Refused, match="could not be asked for Trusted Publishing"):
        await ci.begin()


@pytest.mark.parametrize("job", [Job(), GITLAB], ids=["github", "gitlab"])
@pytest.mark.parametrize("action", [faults.Answer(503, "busy"), faults.Close()], ids=["503", "close"])
async def test_a_mint_that_fails_for_now_is_tried_again(ci: Ci, job: Job, action: faults.Action) -> None:
    """Trouble before the exchange costs a pause, not the identity."""
    await ci.start(job)
    await ci.index.do(Fault(at=Point.MINT, action=action, times=2))
    credential = await ci.begin()
    assert await ci.accepted(await credential.authorization())
    assert ci.slept == [2.0, 4.0]


async def test_a_mint_that_keeps_failing_is_told(ci: Ci) -> None:
    """After three attempts the run stops."""
    await ci.start(Job())
    await ci.index.do(Fault(at=Point.MINT, action=faults.Answer(503), times=None))
    credential = await ci.begin()
    with pytest.raises(Refused, match="503"):
        await credential.authorization()
    assert len(await ci.mints()) == 3


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def minting(answer: Answering) -> AsyncIterator[str]:
    """Serve an index whose audience is well and whose mint is this."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path == "/_/oidc/audience":
            return web.json_response({"audience": AUDIENCE})
        return await answer(request)

    async with serving(handler) as url:
        yield url


async def test_no_redirect_is_followed(ci: Ci) -> None:
    """An identity token goes to no other address."""
    seen: list[bytes] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append(await request.read())
        return web.json_response({"token": "pypi-x"})

    async def redirecting(_: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": there})

    await ci.start(Job())
    async with serving(elsewhere) as there, minting(redirecting) as here:
        credential = await ci.begin(here)
        with pytest.raises(Refused, match="307"):
            await credential.authorization()
    assert seen == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"{",
        b'{"token": 7}',
        b'{"token": ""}',
        b'{"token": "a\\nb"}',
        b'{"token": "' + b"a" * 10**6,
    ],
)
async def test_odd_answers_are_no_token(ci: Ci, body: bytes) -> None:
    """What is not a token in JSON of bounded length is not used."""

    async def odd(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    await ci.start(Job())
    async with minting(odd) as url:
        credential = await ci.begin(url)
        with pytest.raises(Refused, match="no upload token"):
            await credential.authorization()


async def test_an_index_that_quotes_the_identity_is_not_quoted(ci: Ci) -> None:
    """The identity token stays out of the message even when the index repeats it; odd letters are replaced."""

    async def quoting(request: web.Request) -> web.StreamResponse:
        token = (await request.json())["token"]
        errors = [{"code": "invalid-\x1b[31mpublisher", "description": f"who is {token}?"}]
        return web.json_response({"errors": errors}, status=422)

    await ci.start(Job())
    async with minting(quoting) as url:
        credential = await ci.begin(url)
        with pytest.raises(Refused, match="who is …") as caught:
            await credential.authorization()
    assert not any(secret in str(caught.value) for secret in ci.heard.secrets)
    assert "\x1b" not in str(caught.value)


async def test_a_token_without_an_end_is_assumed_to_last_a_quarter_of_an_hour(ci: Ci) -> None:
    """PEP 807: without `expires` clients may assume at most 900 s."""
    minted = iter(range(10))

    async def unlimited(_: web.Request) -> web.StreamResponse:
        return web.json_response({"token": f"pypi-{next(minted)}"})

    await ci.start(Job())
    async with minting(unlimited) as url:
        credential = await ci.begin(url)
        first = await credential.authorization()
        await ci.index.do(orders.Advance(590))
        assert await credential.authorization() == first
        await ci.index.do(orders.Advance(20))
        assert await credential.authorization() != first


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://index.example/legacy/", "pypi"),
        ("https://index.example/legacy/", "testpypi"),
        ("https://index.example/legacy/", "sigstore"),
        ("https://index.example/legacy/", "PyPI"),
        ("https://index.example/legacy/", "vault"),
        ("https://index.example/legacy/", "sts.amazonaws.com"),
        ("https://index.example/legacy/", "STS.amazonaws.com"),
        ("https://index.example/legacy/", "api://AzureADTokenExchange"),
        ("https://index.example/legacy/", "//iam.googleapis.com/projects/7/locations/global/workloadIdentityPools/ci"),
        ("https://index.example/legacy/", "https://iam.googleapis.com/projects/7"),
        ("https://index.example/legacy/", "https://github.com/octo"),
        ("https://index.example/legacy/", "npm:registry.npmjs.org"),
        ("https://index.example/legacy/", "https://index.example@sts.amazonaws.com/"),
        ("https://index.example/legacy/", "https://index.example:x@sts.amazonaws.com/"),
        ("https://index.example/legacy/", "https://vault.index.example"),
        ("https://index.example/legacy/", "other.example"),
        ("https://index.example/legacy/", "https://example"),
        ("https://notindex.example/legacy/", "index.example"),
        ("http://127.0.0.1/legacy/", "pypi"),
        ("https://test.pypi.org/legacy/", "pypi"),
        ("https://upload.pypi.org/legacy/", "testpypi"),
        ("https://upload.pypi.org/legacy/", "sigstore"),
    ],
)
def test_no_index_gets_an_identity_for_another(url: str, audience: str) -> None:
    """Any index could publish on PyPI with a token for that, or act in a cloud: none is made, nor for one here."""
    with pytest.raises(Refused) as caught:
        checked_audience(audience, target(url))
    assert "pypi.org" in url or "TWINE_PASSWORD" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "audience"),
    [
        ("https://index.example/legacy/", "index.example"),
        ("https://upload.index.example/legacy/", "https://index.example"),
        ("https://index.example:8443/legacy/", "https://INDEX.example:8443/v1.0/sts.html?a=b"),
        ("https://index.example/legacy/", "acme-packages"),
        ("https://index.example/legacy/", "acme/packages"),
        ("https://test.pypi.org/legacy/", "testpypi"),
        ("https://upload.pypi.org/legacy/", "pypi"),
        ("http://127.0.0.1/legacy/", "scripted"),
    ],
)
def test_each_index_gets_an_identity_for_itself(url: str, audience: str) -> None:
    """PyPI's audiences are its own, and every other index has one of its own."""
    assert checked_audience(audience, target(url)) == audience


async def test_nothing_secret_is_shown(ci: Ci) -> None:
    """The credential's words and representation hold neither token."""
    await ci.start(Job())
    credential = await ci.begin()
    await credential.authorization()
    shown = f"{credential!r} {credential} {credential.words} {credential.identity!r}"
    assert not any(secret in shown for secret in ci.heard.secrets)
