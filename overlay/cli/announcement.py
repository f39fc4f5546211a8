"""What `overlay serve` says first: where it listens."""

from overlay.config.showing import without_userinfo
from overlay.config.tables import Config


def announce(config: Config, port: int) -> None:
    """Say where the server listens, and how to install from it."""
    url = root(config, port)
    print(f"overlay listens on {url}/ in front of {without_userinfo(config.upstream.url)}", flush=True)
    print(f"  pip install --index-url {url}/simple/ PROJECT", flush=True)


def root(config: Config, port: int) -> str:
    """Return the URL under which people reach the server, without a slash at its end."""
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    return config.public_url or f"http://{host}:{port}"
