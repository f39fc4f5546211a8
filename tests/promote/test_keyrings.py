"""The machine's keyring, as the package `keyring` gives it."""

import sys
import types
from collections.abc import Iterator

import keyring
import keyring.backends.fail
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked

from overlay.promote.keyrings import ask

URL = "https://index.example/legacy/"


class Drawer(KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self, fails: Exception | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fails = fails
        self._passwords: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self._passwords[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if self._fails is not None:
            raise self._fails
        return self._passwords.get((service, username))


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def asked(service: str, username: str) -> tuple[str, str] | None:
    """Ask a keyring that is in order, so that nobody is warned."""
    warnings: list[str] = []
    held = ask(warnings.append, service, username)
    assert warnings == []
    return held


def test_what_is_kept_for_the_upload_url_is_found() -> None:
    """Service and user name are as twine stores them."""
    drawer = Drawer()
    drawer.set_password(URL, "ada", "kept\n")
    keyring.set_keyring(drawer)
    assert asked(URL, "ada") == ("ada", "kept")
    assert asked(URL, "eve") is None
    assert asked(f"{URL}other/", "ada") is None


def test_a_locked_keyring_counts_as_none() -> None:
    """A CI job goes on to the next source."""
    keyring.set_keyring(Drawer(KeyringLocked("nobody is there to unlock it")))
    assert asked(URL, "ada") is None


def test_a_machine_without_a_keyring_has_none() -> None:
    """Where no backend is usable the answer is the same."""
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    assert asked(URL, "") is None


@pytest.mark.parametrize("fails", [ValueError("no\nvault"), KeyError("x"), RuntimeError(), OSError()], ids=type)
def test_a_broken_backend_is_passed_over_with_a_warning(fails: Exception) -> None:
    """Backends are plug-ins of anybody's; a job that would go on to Trusted Publishing does."""
    keyring.set_keyring(Drawer(fails))
    warnings: list[str] = []
    assert ask(warnings.append, URL, "ada") is None
    (warning,) = warnings
    assert f"({type(fails).__name__}(" in warning
    assert "\n" not in warning


def test_a_package_that_cannot_be_imported_is_passed_over_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an installation; what is not installed at all needs no word."""
    monkeypatch.setitem(sys.modules, "keyring.errors", types.ModuleType("keyring.errors"))
    warnings: list[str] = []
    assert ask(warnings.append, URL, "ada") is None
    assert len(warnings) == 1
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert asked(URL, "ada") is None
