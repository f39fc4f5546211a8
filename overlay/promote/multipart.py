"""The body of an upload, `multipart/form-data` (RFC 7578): what stands before and after the file's bytes."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """An upload without the file's bytes."""

    content_type: str
    head: bytes
    tail: bytes

    def length(self, file_bytes: int) -> int:
        """Return the length of the whole body."""
        return len(self.head) + file_bytes + len(self.tail)


def around(fields: Sequence[tuple[str, str]], filename: str, *, boundary: str) -> Form:
    """Form what surrounds the file, which is the last part, `content`.

    Names of fields and the filename are of letters that need no quoting (`overlay.domain.filenames`); `boundary` is
    random, so that it occurs in none of the values and not in the file.
    """
    parts = [f"{_opening(boundary, name)}\r\n\r\n{value}\r\n" for name, value in fields]
    opening = _opening(boundary, "content")
    parts.append(f'{opening}; filename="{filename}"\r\nContent-Type: application/octet-stream\r\n\r\n')
    return Form(
        content_type=f"multipart/form-data; boundary={boundary}",
        head="".join(parts).encode(),
        tail=f"\r\n--{boundary}--\r\n".encode(),
    )


def _opening(boundary: str, name: str) -> str:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
