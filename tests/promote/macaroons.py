"""Tokens in the shape of pypi.org's (trusted-publishing §5): binary macaroons, version 2, with PyPI's caveats."""

import base64
import json
from collections.abc import Sequence

SIGNATURE = bytes(range(32))


def token(*caveats: Sequence[object], location: str = "pypi.org") -> str:
    """Form a token with these caveats, each [tag, field, …]."""
    sections = [_field(1, location.encode()) + _field(2, b"4b9f-a-row"), *(_field(2, _json(one)) for one in caveats)]
    body = b"\x02" + b"".join(section + b"\x00" for section in sections) + b"\x00" + _field(6, SIGNATURE)
    return "pypi-" + base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def _json(caveat: Sequence[object]) -> bytes:
    return json.dumps(caveat).encode()


def _field(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
