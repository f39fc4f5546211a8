"""The machine's keyring, as the package `keyring` gives it."""

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

    def __init__(self, *, locked: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._locked = locked
        self._passwords: dict[tuple[str, str], str] = {}

    def set_password(self, service: str, username: str, password: str) -> None:
        self._passwords[service, username] = password

    def get_password(self, service: str, username: str) -> str | None:
        if self._locked:
            raise KeyringLocked("nobody is there to unlock it")
        return self._passwords.get((service, username))


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def test_what_is_kept_for_the_upload_url_is_found() -> None:
    """Service and user name are as twine stores them."""
    drawer = Drawer()
    drawer.set_password(URL, "ada", "kept\n")
    keyring.set_keyring(drawer)
    assert ask(URL, "ada") == ("ada", "kept")
    assert ask(URL, "eve") is None
    assert ask(f"{URL}other/", "ada") is None


def test_a_locked_keyring_counts_as_none() -> None:
    """A CI job goes on to the next source."""
    keyring.set_keyring(Drawer(locked=True))
    assert ask(URL, "ada") is None


def test_a_machine_without_a_keyring_has_none() -> None:
    """Where no backend is usable the answer is the same."""
    keyring.set_keyring(keyring.backends.fail.Keyring())  # type: ignore[no-untyped-call]
    assert ask(URL, "") is None
