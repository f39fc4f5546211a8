"""Who asks, and by which URL, when a proxy stands in between (`[server] trusted_proxies`).

X-Forwarded-For, -Proto and -Host are believed only from a connection whose own address is trusted: everybody else can
write what they like into them. Each proxy appends to X-Forwarded-For whom it was asked by, so the list is read from
its end while the address there is trusted, too; the first that is not is the client, and what stands before it is the
client's own invention. Of the others the last value counts, which is the one our own proxy wrote.

RFC 7239's Forwarded is not read: a proxy that is set up for one of the two passes the other on as its client sent it.
A peer without an address (a Unix socket) is never trusted: the overlay listens on TCP alone.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from multidict import MultiMapping

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
# 203.0.113.7, 203.0.113.7:4711, 2001:db8::7, [2001:db8::7], [2001:db8::7]:4711
_HOP: Final = re.compile(r"(?P<v4>[0-9.]+)(?::[0-9]+)?|\[(?P<bracketed>[0-9A-Fa-f:.]+)\](?::[0-9]+)?|[0-9A-Fa-f:.]+")
_SCHEMES: Final = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from (an address; "" where there is none), and the scheme and Host it was sent with."""

    client: str
    scheme: str
    host: str


def networks(proxies: Sequence[str]) -> tuple[Network, ...]:
    """Read addresses and networks in CIDR notation. Raises ValueError."""
    return tuple(map(ip_network, proxies))


def believed(seen: Origin, headers: MultiMapping[str], trusted: tuple[Network, ...]) -> Origin:
    """Return where the request comes from, by what the connection shows and by what trusted proxies say."""
    if not trusted or not _is_trusted(_address(seen.client), trusted):
        return seen
    scheme = _last(headers, "X-Forwarded-Proto").lower()
    host = _last(headers, "X-Forwarded-Host")
    return Origin(
        client=_client(seen.client, headers, trusted),
        scheme=scheme if scheme in _SCHEMES else seen.scheme,
        host=host if host and is_host(host) else seen.host,
    )


@lru_cache(maxsize=256)
def is_host(host: str) -> bool:
    """Say whether this is a host (RFC 9110 §7.2) that may be shown again: it forms the links of pages and receipts."""
    return not host or _HOST.fullmatch(host) is not None


def _client(peer: str, headers: MultiMapping[str], trusted: tuple[Network, ...]) -> str:
    client = peer
    hops = ",".join(headers.getall("X-Forwarded-For", ())).split(",")
    for hop in reversed(hops):
        address = _address(hop.strip())
        if address is None:  # "unknown", or nothing sensible: nobody can say what stands before it
            return client
        client = str(address)
        if not _is_trusted(address, trusted):
            return client
    return client


@lru_cache(maxsize=1024)
def _address(text: str) -> Address | None:
    """Read an address as proxies write them; one of IPv4 that was mapped into IPv6 (a dual socket) is of IPv4."""
    found = _HOP.fullmatch(text)
    if found is None:
        return None
    try:
        address = ip_address(found["v4"] or found["bracketed"] or text)
    except ValueError:
        return None
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _is_trusted(address: Address | None, trusted: tuple[Network, ...]) -> bool:
    return address is not None and any(address in network for network in trusted)


def _last(headers: MultiMapping[str], name: str) -> str:
    values = headers.getall(name, ())
    return values[-1].rpartition(",")[2].strip() if values else ""
