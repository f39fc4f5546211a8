"""The sections of `.pypirc` that belong to an upload URL (packaging.python.org, "The .pypirc file")."""

import configparser
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from overlay.domain.public_indexes import Index
from overlay.promote.errors import Refused
from overlay.promote.hosts import Target

# These two need no `repository` key.
_KNOWN: Final[dict[str, Index]] = {"pypi": "pypi.org", "testpypi": "test.pypi.org"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What a section says; "" for what it does not."""

    section: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_cert: str = ""
    """Path of the CA certificates that are trusted."""
    client_cert: str = ""
    """Path of the client certificate and its key."""


def read(path: Path, target: Target) -> tuple[Entry, ...]:
    """Find the sections of the target, in the order of the file. Blocks; raises Refused, quoting nothing of it."""
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, UnicodeDecodeError) as err:
        raise Refused(f"{path} cannot be read ({type(err).__name__}).") from None
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error:
        # Its message quotes lines, and a line may be a password.
        raise Refused(f"{path} is not a .pypirc: it cannot be read as sections and `key = value`.") from None
    return tuple(
        Entry(
            section=section,
            username=parser.get(section, "username", fallback="").strip(),
            password=parser.get(section, "password", fallback="").strip(),
            ca_cert=parser.get(section, "ca_cert", fallback="").strip(),
            client_cert=parser.get(section, "client_cert", fallback="").strip(),
        )
        for section in parser.sections()
        if _is_of(section, parser.get(section, "repository", fallback=""), target)
    )


def _is_of(section: str, repository: str, target: Target) -> bool:
    if not repository:
        return section in _KNOWN and _KNOWN[section] == target.index
    return target.is_at(repository.strip())
