"""What Sigstore's certificate authority wrote into a certificate about the job that signed (Fulcio's OIDs).

Only what names the job is read, and nothing is verified: whether an attestation is good is for the index that gets it.
It is read here so that nothing is sent that will certainly be refused. A certificate is DER (X.690): nested items of
tag, length and content; eighty lines of walking, against a dependency of sixteen megabytes that not every platform has.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

# Fulcio's claims: 1.3.6.1.4.1.57264.1.N; the last byte is N.
_FULCIO: Final = bytes.fromhex("2b0601040183bf3001")
ISSUER, REPOSITORY, WORKFLOW = 8, 12, 18
"""The N of: the issuer of the identity token; the source repository's URL; the build's file with its ref, as a URL."""

Claims: TypeAlias = Mapping[int, str]

_SEQUENCE, _OID, _OCTETS, _UTF8, _EXTENSIONS = 0x30, 0x06, 0x04, 0x0C, 0xA3
_LONG_FORM: Final = 0x80
_LONGEST_LENGTH: Final = 4


class NotACertificate(ValueError):
    """These bytes are no X.509 certificate."""


def claims(der: bytes) -> Claims:
    """Return Fulcio's claims, N to text. Raises NotACertificate."""
    try:
        certificate = _one(der, _SEQUENCE)
        signed_part = _one(certificate, _SEQUENCE)
        extensions = next((content for tag, content in _items(signed_part) if tag == _EXTENSIONS), None)
        if extensions is None:
            return {}
        return dict(_claims(_one(extensions, _SEQUENCE)))
    except (IndexError, UnicodeDecodeError) as err:
        raise NotACertificate("The certificate is cut off or no DER.") from err


def _claims(extensions: bytes) -> Iterator[tuple[int, str]]:
    for _, extension in _items(extensions):
        parts = dict(_items(extension))
        name, value = parts.get(_OID, b""), parts.get(_OCTETS)
        if len(name) == len(_FULCIO) + 1 and name.startswith(_FULCIO) and value is not None:
            # The numbers up to 7 are older and hold bare text; from 8 on they hold a UTF8String.
            for tag, text in _items(value) if name[-1] >= ISSUER else ():
                if tag == _UTF8:
                    yield name[-1], text.decode()


def _one(body: bytes, tag: int) -> bytes:
    """Return the content of the first item, which must have this tag. Raises NotACertificate, IndexError."""
    found, content = next(_items(body), (-1, b""))
    if found != tag:
        raise NotACertificate("The certificate is no DER of X.509.")
    return content


def _items(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each item of one level. Raises IndexError where one is cut off."""
    at = 0
    while at < len(body):
        tag, length, at = body[at], body[at + 1], at + 2
        if length >= _LONG_FORM:
            size = length - _LONG_FORM
            if not 0 < size <= _LONGEST_LENGTH:
                raise IndexError("a length that DER does not have")
            length, at = int.from_bytes(body[at : at + size], "big"), at + size
        if at + length > len(body):
            raise IndexError("cut off")
        yield tag, body[at : at + length]
        at += length
