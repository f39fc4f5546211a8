"""Which certificates a connection to the target trusts and shows, from where twine's users name them.

    to trust    REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, TWINE_CERT, `ca_cert` in .pypirc: a file or a folder, instead of
                what OpenSSL trusts else (SSL_CERT_FILE, SSL_CERT_DIR, the system's)
    to show     TWINE_CLIENT_CERT, `client_cert` in .pypirc: one file with the certificate and its private key

The first two come before twine's own as they do in requests, by which twine uploads: what works there works here.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from overlay.promote import pypirc
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target

_BUNDLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TWINE_CERT")
_CLIENT: Final = "TWINE_CLIENT_CERT"


@dataclass(frozen=True, slots=True)
class Tls:
    """How one target is connected to."""

    context: ssl.SSLContext | None
    """None: without TLS."""
    shown: str = ""
    """What named the client certificate; "" where none is shown."""


@dataclass(frozen=True, slots=True)
class _Named:
    path: Path
    words: str

    def __str__(self) -> str:
        return f"{self.path} ({self.words})"


def read(environment: Mapping[str, str], pypirc_path: Path, target: Target) -> Tls:
    """Read what is named for the target. Blocks; raises Refused where it cannot be used."""
    if target.url.scheme != "https":
        return Tls(None)
    entries = pypirc.read(pypirc_path, target)
    where = f"of {pypirc_path}"
    bundle = _first(
        *((environment.get(name, "").strip(), name) for name in _BUNDLES),
        *((entry.ca_cert, f"ca_cert in [{entry.section}] {where}") for entry in entries),
    )
    client = _first(
        (environment.get(_CLIENT, "").strip(), _CLIENT),
        *((entry.client_cert, f"client_cert in [{entry.section}] {where}") for entry in entries),
    )
    context = ssl.create_default_context() if bundle is None else _trusting(bundle)
    if client is not None:
        _show(context, client)
    context.set_alpn_protocols(("http/1.1",))
    return Tls(context, "" if client is None else client.words)


def _first(*named: tuple[str, str]) -> _Named | None:
    """Return the first path that is not "", and in words what names it."""
    return next((_Named(Path(path), words) for path, words in named if path), None)


def _trusting(bundle: _Named) -> ssl.SSLContext:
    """Trust what a file or a folder of certificates has, and nothing else."""
    try:
        if bundle.path.is_dir():
            return ssl.create_default_context(capath=bundle.path)
        return ssl.create_default_context(cafile=bundle.path)
    except FileNotFoundError:
        raise Refused(f"There is no file {bundle}. Name a file of CA certificates there, or take it away.") from None
    except ssl.SSLError:
        raise Refused(f"{bundle} has no certificates in PEM form (-----BEGIN CERTIFICATE-----).") from None
    except OSError as err:
        raise Refused(f"{bundle} cannot be read: {err.strerror}.") from None


def _show(context: ssl.SSLContext, client: _Named) -> None:
    def refuse() -> str:  # OpenSSL would ask the terminal, and a CI job would hang
        raise Refused(f"The private key in {client} is protected by a passphrase; name a file with a bare one.")

    try:
        context.load_cert_chain(client.path, password=refuse)
    except FileNotFoundError:
        raise Refused(f"There is no file {client}. Name the client certificate there, or take it away.") from None
    except ssl.SSLError:
        raise Refused(
            f"{client} is not a client certificate with its private key: one file must have both, in PEM form."
        ) from None
    except OSError as err:
        raise Refused(f"{client} cannot be read: {err.strerror}.") from None
