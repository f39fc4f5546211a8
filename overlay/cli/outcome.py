"""How a command ends."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3


class CommandFailed(Exception):
    """A command cannot go on; `code` is its exit code, the sentence goes to stderr."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code
