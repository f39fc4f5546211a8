"""Which attestations go with a file (PEP 740; legacy-upload §9, trusted-publishing §3.1).

An index takes them from Trusted Publishing only, and only those that the uploading workflow signed itself. So what was
staged with a file is sent when its certificate names this very job's repository and workflow; else it is left out, and
that is said: the file without it is better than a refused file.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, Protocol

import msgspec

from overlay.domain.wire_promotions import PromotedFileView
from overlay.promote import certificate
from overlay.promote.answers import one_line
from overlay.promote.errors import Refused
from overlay.promote.identity import GITHUB, GITLAB, Identity
from overlay.promote.tools import Attestations

PUBLISH: Final = "https://docs.pypi.org/attestations/publish/v1"
_PREDICATES: Final = frozenset({PUBLISH, "https://slsa.dev/provenance/v1"})
_ISSUERS: Final = frozenset({GITHUB, GITLAB})


class Attesting(Enum):
    """Which attestations the caller wants to go with the files."""

    STAGED = "staged"
    """Those that were staged, where they fit."""
    SIGNED = "signed"
    """Publish attestations that are made here, instead of staged ones of that kind."""
    NONE = "none"


class Sign(Protocol):
    """Makes a publish attestation with the job's identity."""

    async def __call__(self, path: Path) -> str:
        """Return the attestation of the file as JSON. Raises Refused."""


class _Material(msgspec.Struct, frozen=True):
    certificate: str


class _Envelope(msgspec.Struct, frozen=True):
    statement: str


class _Attestation(msgspec.Struct, frozen=True):
    verification_material: _Material
    envelope: _Envelope


class _Subject(msgspec.Struct, frozen=True):
    name: str
    digest: dict[str, str]


class _Statement(msgspec.Struct, frozen=True):
    subject: tuple[_Subject, ...]
    predicate: str = msgspec.field(name="predicateType")


@dataclass(frozen=True, slots=True)
class _Judged:
    """One staged attestation: its JSON, its predicate, and why it is left out ("" when it is not)."""

    raw: msgspec.Raw
    predicate: str
    why: str


class Attester:
    """Sends what was staged where it fits; with `sign` makes a publish attestation instead. Implements `Attest`."""

    def __init__(self, sign: Sign | None = None) -> None:
        self._sign = sign

    async def __call__(
        self, file: PromotedFileView, path: Path, identity: Identity | None, *, dry_run: bool
    ) -> Attestations:
        """Decide, or sign; see `Attest`."""
        if self._sign is None:
            return choose(file, identity)
        if identity is None:
            raise Refused(
                "Attestations (--attest) can only be published by Trusted Publishing, and a password or token was "
                "found first. Take it away (TWINE_PASSWORD, .pypirc, keyring), or leave out --attest."
            )
        if dry_run:  # what is signed is public at once
            return choose(file, identity)
        made = msgspec.Raw(await self._sign(path))
        others = [one for one in _judged(file, identity) if not one.why and one.predicate != PUBLISH]
        return Attestations(_array([made, *(one.raw for one in others)]))


async def leave_out(
    file: PromotedFileView,
    path: Path,  # noqa: ARG001 - the shape of all that decide
    identity: Identity | None,  # noqa: ARG001
    *,
    dry_run: bool,  # noqa: ARG001
) -> Attestations:
    """Send none, because the caller wants it so; see `Attest`."""
    return Attestations(None, "" if file.attestations is None else "its attestations are left out (--no-attestations)")


def choose(file: PromotedFileView, identity: Identity | None) -> Attestations:
    """Choose among the staged attestations."""
    if file.attestations is None:
        return Attestations(None)
    if identity is None:
        return Attestations(None, "its attestations are left out: an index takes them from Trusted Publishing only")
    judged = _judged(file, identity)
    kept = [one.raw for one in judged if not one.why]
    reasons = dict.fromkeys(one.why for one in judged if one.why)
    if not reasons:
        return Attestations(file.attestations if kept else None)
    which = "one of its attestations is left out" if kept else "its attestations are left out"
    return Attestations(_array(kept) if kept else None, f"{which}: {'; '.join(reasons)}")


def _judged(file: PromotedFileView, identity: Identity) -> list[_Judged]:
    text = "[]" if file.attestations is None else file.attestations
    try:
        staged = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_Judged(msgspec.Raw(b"null"), "", "they are no JSON array")]
    judged: list[_Judged] = []
    for raw in staged:
        one = _judge(raw, file, identity)
        if not one.why and any(one.predicate == other.predicate for other in judged if not other.why):
            one = _Judged(raw, one.predicate, "there are two of one kind")
        judged.append(one)
    return judged


def _judge(raw: msgspec.Raw, file: PromotedFileView, identity: Identity) -> _Judged:
    try:
        attestation = msgspec.json.decode(raw, type=_Attestation)
        statement = msgspec.json.decode(base64.b64decode(attestation.envelope.statement), type=_Statement)
        signer = certificate.claims(base64.b64decode(attestation.verification_material.certificate))
    except (msgspec.DecodeError, ValueError):
        return _Judged(raw, "", "it cannot be read")
    return _Judged(raw, statement.predicate, _about(statement, file) or _difference(signer, identity))


def _about(statement: _Statement, file: PromotedFileView) -> str:
    """Say why a statement is not about this file, or of no kind that an index takes; "" when it is."""
    if statement.predicate not in _PREDICATES:
        return f"an index does not take the kind {one_line(statement.predicate)!r}"
    subjects = [(subject.name, subject.digest.get("sha256")) for subject in statement.subject]
    return "" if subjects == [(file.filename, file.sha256)] else "it is about another file"


def _difference(signer: certificate.Claims, identity: Identity) -> str:
    """Say in what the signer and this job differ; "" when they are one workflow of one repository."""
    if identity.issuer not in _ISSUERS:
        return f"this job's identity is of {identity.issuer}, whose workflows cannot be compared"
    signed_by = (
        signer.get(certificate.ISSUER, ""),
        signer.get(certificate.REPOSITORY, ""),
        signer.get(certificate.WORKFLOW, "").partition("@")[0],
    )
    ours = (identity.issuer, identity.repository, identity.workflow)
    if [part.casefold() for part in signed_by] == [part.casefold() for part in ours]:
        return ""
    return f"signed by {one_line(signed_by[2]) or 'an unnamed workflow'}, and this job is {identity.workflow}"


def _array(attestations: Sequence[msgspec.Raw]) -> str:
    return msgspec.json.encode(attestations).decode()
