"""Whether an address is reached through the environment's proxy: for every session of the command line."""

import ipaddress
from urllib.request import getproxies, proxy_bypass

from yarl import URL


def is_loopback(host: str) -> bool:
    """Say whether a host is this machine by its very name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def proxy_for(url: URL) -> str | None:
    """Return the environment's proxy for the address; there is none between this machine and itself."""
    host = url.host or ""
    if is_loopback(host) or proxy_bypass(host):
        return None
    return getproxies().get(url.scheme)
