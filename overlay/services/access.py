"""Who is calling, and the tokens there are.

Tokens are read through the ledger, so a revocation holds for every later request on every worker; their documents are
the durable truth and are written first when a token comes, and deleted first when it goes.
"""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from overlay.domain.errors import (
    BadRequest,
    DocumentNotFound,
    ForeignToken,
    NotAuthenticated,
    NotGranted,
    UnknownToken,
)
from overlay.domain.layout import token_key
from overlay.domain.ledger_port import StageLedger
from overlay.domain.names import NormalizedName, StageId, stage_id
from overlay.domain.ports import Documents
from overlay.domain.records import TokenDocument, encode
from overlay.domain.rights import (
    FOREIGN_PREFIX,
    Right,
    Token,
    covers_stage,
    grant_for,
    mint,
    mistyped,
    project_pattern,
)

OPERATOR = "operator"
FIRST_START = "first start"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a new token is to carry."""

    label: str
    rights: Sequence[str]
    projects: Sequence[str]
    stages: Sequence[str]
    expires_at_s: int | None


class Access:
    """Authenticates callers and keeps their tokens.

    `now_s` is the clock; `new_bits` returns 256 random bits; `operator_secret` is OVERLAY_ADMIN_TOKEN, "" when unset.
    """

    def __init__(
        self,
        ledger: StageLedger,
        documents: Documents,
        *,
        operator_secret: str,
        now_s: Callable[[], float],
        new_bits: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._documents = documents
        self._now_s = now_s
        self._new_bits = new_bits
        self._operator = _operator(operator_secret) if operator_secret else None

    async def authenticate(self, secret: str | None) -> Token:
        """Return the caller's token. Raises NotAuthenticated, ForeignToken; never quotes the secret."""
        if not secret:
            raise NotAuthenticated("This needs a token of this overlay: user name __token__, password ovl_...")
        if secret.startswith(FOREIGN_PREFIX):
            raise ForeignToken
        sha256 = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        if self._operator is not None and hmac.compare_digest(self._operator.sha256, sha256):
            return self._operator
        if mistyped(secret):
            raise NotAuthenticated("The token's checksum is wrong: it was mistyped or cut off.")
        token = await self._ledger.token(sha256)
        if token is None or not hmac.compare_digest(token.sha256, sha256):
            raise NotAuthenticated("This overlay does not know the token; it may have been revoked.")
        if token.expired(self._now_s()):
            raise NotAuthenticated(f"The token {token.label!r} has expired.")
        return token

    async def create(self, request: TokenRequest) -> tuple[Token, str]:
        """Mint a token; its text is returned here and never again. Raises BadRequest, InvalidName."""
        if not request.label.strip() or not request.label.isprintable():
            raise BadRequest("A token needs a label of printable characters, to be recognised by later.")
        rights = _rights(request.rights)
        if request.expires_at_s is not None and request.expires_at_s <= self._now_s():
            raise BadRequest("The token would have expired already.")
        if not request.projects and Right.ADMIN not in rights:
            raise BadRequest("Name at least one project (an exact name, a prefix and -*, or *).")
        text = mint(self._new_bits())
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        token = Token(
            id=sha256[:16],
            sha256=sha256,
            label=request.label.strip(),
            rights=rights,
            projects=tuple(sorted({project_pattern(raw) for raw in request.projects})),
            stages=tuple(sorted({raw if raw == "*" else stage_id(raw) for raw in request.stages})),
            created_at_s=int(self._now_s()),
            expires_at_s=request.expires_at_s,
        )
        await self._documents.put(token_key(token.id), encode(TokenDocument(token=token)))
        await self._ledger.put_token(token)
        return token, text

    async def revoke(self, token_id: str) -> None:
        """End a token; it holds for every request that begins later. Raises UnknownToken."""
        if not token_id.isalnum():
            raise UnknownToken(token_id)
        try:
            await self._documents.get(token_key(token_id))
        except DocumentNotFound as err:
            # A revocation that failed half way left it in the ledger alone.
            if all(token.id != token_id for token in await self._ledger.tokens()):
                raise UnknownToken(token_id) from err
        await self._documents.delete(token_key(token_id))
        await self._ledger.drop_token(token_id)

    async def tokens(self) -> tuple[Token, ...]:
        """List the stored tokens; the operator's own is not among them."""
        return await self._ledger.tokens()


def require(token: Token, right: Right) -> None:
    """Refuse a token without the right. Raises NotGranted."""
    if not token.allows(right):
        raise NotGranted(
            f"The token {token.label!r} may not do this: it carries {_words(token.rights)}, and this needs {right}. "
            f"An admin can make another: overlay token create --label LABEL --right {right} --project PROJECT"
        )


def require_grant(token: Token, right: Right, project: NormalizedName, stage: StageId, *, on_upstream: bool) -> str:
    """Return the pattern by which the token may touch the project in the stage. Raises NotGranted."""
    require(token, right)
    if not covers_stage(token, stage):
        raise NotGranted(f"The token {token.label!r} covers the stages {_words(token.stages)}, not {stage!r}.")
    grant = grant_for(token, project, on_upstream=on_upstream)
    if grant is None:
        deed = "promote" if right is Right.PROMOTE else "stage"
        because = " (* covers only names that upstream does not have)" if on_upstream and "*" in token.projects else ""
        raise NotGranted(
            f"The token {token.label!r} may not {deed} {project!r}: it is for {_words(token.projects)}{because}. "
            f"An admin can grant it: overlay token create --label LABEL --project {project} --right {deed}"
        )
    return grant


def local_operator() -> Token:
    """Return the caller that whoever started this process is: an admin who needs no secret."""
    return _admin(OPERATOR, "")


def _operator(secret: str) -> Token:
    return _admin(OPERATOR, hashlib.sha256(secret.encode()).hexdigest())


def _admin(label: str, sha256: str) -> Token:
    return Token(
        id=label,
        sha256=sha256,
        label=label,
        rights=(Right.ADMIN,),
        projects=("*",),
        stages=("*",),
        created_at_s=0,
    )


def _rights(raw: Sequence[str]) -> tuple[Right, ...]:
    known = [right.value for right in Right]
    unknown = sorted(set(raw) - set(known))
    if unknown or not raw:
        raise BadRequest(f"Rights are {', '.join(known)}; got {', '.join(unknown) or 'none'}.")
    return tuple(sorted({Right(right) for right in raw}))


def _words(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "nothing"
