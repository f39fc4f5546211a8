"""The machine's own store of passwords, by the package `keyring`, which comes with twine where it can be installed."""


def ask(service: str, username: str) -> tuple[str, str] | None:
    """Ask the keyring; see `credentials.Keyring`. One that is locked or broken counts as none."""
    try:
        import keyring  # noqa: PLC0415 - takes 0.15 s, and is missing on some platforms
        from keyring.errors import KeyringError  # noqa: PLC0415 - as above
    except ModuleNotFoundError:
        return None
    try:
        held = keyring.get_credential(service, username or None)
    except (KeyringError, OSError, RuntimeError):
        return None
    if held is None or not held.password:
        return None
    return held.username or username, held.password.strip()
