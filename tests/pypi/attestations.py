"""Attestations (PEP 740): made as a CI job would, and judged as legacy-upload §9 says.

The certificate names the workflow in Fulcio's extensions; it signs itself, and nothing is in a transparency log:
whether Sigstore vouches for it is not asked here.
"""

import base64
import binascii
import datetime as dt
import json
from typing import Annotated, Final, Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec import Meta, Struct

from tests.pypi.jobs import ISSUERS, SHA
from tests.pypi.orders import Job, Publisher

PUBLISH: Final = "https://docs.pypi.org/attestations/publish/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_MOST: Final = 2

# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
_ISSUER: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")
_REPOSITORY: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.12")
_DIGEST: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.13")
_REF: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.14")
_CONFIG: Final = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.18")
_UTF8_STRING: Final = 0x0C
_SHORT_DER: Final = 128


class Unverified(Exception):
    """An attestation is not what this upload may carry."""


class _Material(Struct, kw_only=True):
    certificate: str
    transparency_entries: list[dict[str, object]]


class _Envelope(Struct, kw_only=True):
    statement: str
    signature: str


class _Attestation(Struct, kw_only=True):
    version: Literal[1]
    verification_material: _Material
    envelope: _Envelope


class _Subject(Struct, kw_only=True):
    name: str
    digest: dict[str, str]


class _Statement(Struct, kw_only=True):
    type_: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: Annotated[list[_Subject], Meta(min_length=1, max_length=1)]
    predicate_type: str = msgspec.field(name="predicateType")


def attestation(filename: str, sha256: str, job: Job, *, predicate: str = PUBLISH) -> dict[str, object]:
    """Attest a file as a job; `json.dumps([attestation(…)])` is the form's field."""
    key = ec.generate_private_key(ec.SECP256R1())
    statement = {
        "_type": _STATEMENT,
        "subject": [{"name": filename, "digest": {"sha256": sha256}}],
        "predicateType": predicate,
        "predicate": None,
    }
    payload = json.dumps(statement).encode()
    return {
        "version": 1,
        "verification_material": {
            "certificate": _base64(_certificate(key, job).public_bytes(Encoding.DER)),
            "transparency_entries": [{}],
        },
        "envelope": {
            "statement": _base64(payload),
            "signature": _base64(key.sign(_signed(payload), ec.ECDSA(hashes.SHA256()))),
        },
    }


def check(text: str, *, filename: str, sha256: str, publisher: Publisher | None) -> None:
    """Judge the form's field for an upload by a publisher; None: not by Trusted Publishing. Raises Unverified."""
    if publisher is None:
        raise Unverified("Attestations are only supported when using Trusted Publishing")
    try:
        found = msgspec.json.decode(text, type=list[_Attestation])
    except msgspec.ValidationError as err:
        raise Unverified(f"Malformed attestations: {err}") from err
    except msgspec.DecodeError as err:
        raise Unverified("Malformed attestations: no JSON") from err
    if not 1 <= len(found) <= _MOST:
        raise Unverified(f"{len(found)} attestations; a file has one or two")
    kinds = [_verified(each, filename, sha256, publisher) for each in found]
    if len(set(kinds)) != len(kinds):
        raise Unverified(f"Multiple attestations for the same file with the same predicate type ({kinds[0]})")


def _verified(found: _Attestation, filename: str, sha256: str, publisher: Publisher) -> str:
    """Verify one attestation and return its predicate type."""
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(found.verification_material.certificate))
        payload = base64.b64decode(found.envelope.statement)
        statement = msgspec.json.decode(payload, type=_Statement)
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(base64.b64decode(found.envelope.signature), _signed(payload), ec.ECDSA(hashes.SHA256()))
    except (ValueError, binascii.Error, AssertionError, InvalidSignature) as err:
        raise Unverified("Could not verify the artifact: signature, certificate or statement is invalid") from err
    _check_identity(certificate, publisher)
    subject = statement.subject[0]
    if subject.name != filename:
        raise Unverified(f"Could not verify the artifact: subject does not match: {subject.name} != {filename}")
    if subject.digest.get("sha256") != sha256:
        raise Unverified("Could not verify the artifact: subject does not match distribution digest")
    if statement.predicate_type not in {PUBLISH, PROVENANCE}:
        raise Unverified(f"Attestation with unsupported predicate type: {statement.predicate_type}")
    return statement.predicate_type


def _check_identity(certificate: x509.Certificate, publisher: Publisher) -> None:
    said = {extension.oid: extension.value for extension in certificate.extensions}
    issuer, repository, config = (_read(said.get(oid)) for oid in (_ISSUER, _REPOSITORY, _CONFIG))
    if issuer != ISSUERS[publisher.kind]:
        raise Unverified(f"Could not verify the artifact: the certificate's issuer is {issuer!r}")
    if repository != _repository(publisher):
        raise Unverified(f"Could not verify the artifact: the certificate's repository is {repository!r}")
    if not config.startswith(f"{_workflow(publisher)}@"):
        raise Unverified(f"Could not verify the artifact: the certificate's Build Config URI is {config!r}")


def _certificate(key: ec.EllipticCurvePrivateKey, job: Job) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    began = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    claims = {
        _ISSUER: ISSUERS[job.kind],
        _REPOSITORY: _repository(job),
        _DIGEST: SHA,
        _REF: job.ref,
        _CONFIG: f"{_workflow(job)}@{job.ref}",
    }
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + dt.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims[_CONFIG])]), critical=True)
    )
    for oid, value in claims.items():
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, _der(value)), critical=False)
    return builder.sign(key, hashes.SHA256())


def _repository(who: Job | Publisher) -> str:
    return f"https://{who.kind}.com/{who.repository}"


def _workflow(who: Job | Publisher) -> str:
    return f"{_repository(who)}/{'.github/workflows/' if who.kind == 'github' else '/'}{who.workflow}"


def _signed(payload: bytes) -> bytes:
    """Form DSSE's pre-authentication encoding, which is what is signed."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(payload), payload)


def _der(text: str) -> bytes:
    body = text.encode()
    size = bytes([len(body)]) if len(body) < _SHORT_DER else bytes([_SHORT_DER + 1, len(body)])
    return bytes([_UTF8_STRING]) + size + body


def _read(value: x509.ExtensionType | None) -> str:
    if not isinstance(value, x509.UnrecognizedExtension):
        return ""
    return value.value[3 if value.value[1] > _SHORT_DER else 2 :].decode()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
