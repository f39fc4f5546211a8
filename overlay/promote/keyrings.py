"""The machine's own store of passwords, by the package `keyring`, which comes with twine where it can be installed."""

from collections.abc import Callable

from overlay.promote.answers import one_line


def ask(warn: Callable[[str], None], service: str, username: str) -> tuple[str, str] | None:
    """Ask the keyring; see `credentials.Keyring`. One that is missing or locked counts as none, a broken one warns."""
    try:
        import keyring  # noqa: PLC0415 - takes 0.15 s, and is missing on some platforms
        from keyring.errors import KeyringError  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return None
    except Exception as err:  # noqa: BLE001 - as below: its import loads them
        warn(_broken(err))
        return None
    try:
        held = keyring.get_credential(service, username or None)
    except KeyringError:
        return None
    except Exception as err:  # noqa: BLE001 - backends are plug-ins of anybody's, and raise what they like
        warn(_broken(err))
        return None
    if held is None or not held.password:
        return None
    return held.username or username, held.password.strip()


def _broken(err: Exception) -> str:
    return f"The keyring could not be asked ({one_line(repr(err))}); it was passed over."
