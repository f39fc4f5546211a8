"""JSON web tokens signed with RS256 (RFC 7519, RFC 7518 3.3), as far as identity tokens of CI platforms go."""

import base64
import json
from collections.abc import Mapping
from typing import TypeAlias, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

Claims: TypeAlias = Mapping[str, object]


class Malformed(Exception):
    """No JWT at all."""


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def encode(claims: Claims, key: rsa.RSAPrivateKey, *, algorithm: str = "RS256") -> str:
    """Sign with RS256, whatever the header says of it."""
    signed = f"{_packed({'alg': algorithm, 'typ': 'JWT', 'kid': 'tests'})}.{_packed(claims)}"
    signature = key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_text(signature)}"


def claims_of(token: str) -> Claims:
    """Read the claims without verifying them. Raises Malformed."""
    return _read(token)[1]


def verified(token: str, key: rsa.RSAPublicKey) -> Claims | None:
    """Read the claims; None where the signature or its kind is wrong. Raises Malformed."""
    header, claims, signed, signature = _read(token)
    if header.get("alg") != "RS256":
        return None
    try:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return None
    return claims


def _read(token: str) -> tuple[Claims, Claims, bytes, bytes]:
    signed, _, signature = token.rpartition(".")
    try:
        header, claims = (json.loads(_bytes(part)) for part in signed.split("."))
        return _mapping(header), _mapping(claims), signed.encode(), _bytes(signature)
    except (ValueError, TypeError) as err:
        raise Malformed(token[:20]) from err


def _mapping(value: object) -> Claims:
    if not isinstance(value, dict):
        raise TypeError("no object")
    return cast("Claims", value)


def _packed(value: object) -> str:
    return _text(json.dumps(value).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
