"""Whether an address is reached through the environment's proxy: for every session of the command line."""

import ipaddress
from typing import Final
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from overlay.promote.errors import Refused

_SPOKEN: Final = frozenset({"http", "https"})


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_for(url: URL) -> str | None:
    """Return the environment's proxy for the address; there is none between this machine and itself.

    Raises Refused for one that is no HTTP proxy.
    """
    host = url.host or ""
    if is_loopback(host) or proxy_bypass(f"{host}:{url.port}"):
        return None
    proxies = getproxies()
    name = url.scheme if proxies.get(url.scheme) else "all"
    raw = proxies.get(name)
    return _checked(raw, f"{name.upper()}_PROXY") if raw else None


def _checked(raw: str, words: str) -> str:
    """Return the proxy's URL; without a scheme it is an HTTP one. Never shown: it may hold a password."""
    named = raw if "://" in raw else f"http://{raw}"
    try:
        proxy = URL(named)
    except ValueError as err:
        raise Refused(f"{words} holds no address; it looks like http://proxy.example:3128.") from err
    if proxy.scheme not in _SPOKEN or not proxy.host:
        raise Refused(f"{words} names no HTTP proxy (http://HOST:PORT), and no other kind can be used here.")
    return named
