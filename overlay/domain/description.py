"""Whether PyPI can render a description (step 22)."""

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Final

from overlay.domain.findings import Finding, error, note
from overlay.domain.metadata import CoreMetadata

# Keep a hostile description within some seconds: docutils took 10 s for 65,000 bullets in 256 KiB, and the renderer of
# Markdown took 155 s for 52,000 equal headings in as much (it looks for a free anchor for each).
LONGEST_CHARACTERS: Final = 2**18
MOST_LINES: Final = 10_000
MOST_HEADINGS: Final = 1_000

_BEFORE_HEADING: Final = " \t>*+-"


def judge(core: CoreMetadata) -> Iterator[Finding]:
    """Report a description that does not render; slow for long ones."""
    if not core.description or not core.description.strip():
        return
    kind = _content_type(core.description_content_type)
    if kind is None or kind == "text/plain":
        return  # an invalid type is packaging's finding; plain text always renders
    if _is_costly(core.description):
        yield note("description", "The description is too long to be rendered here; `twine check` tells if PyPI can.")
    elif not _renders(core.description, kind):
        given = f"for '{kind}'" if core.description_content_type else "in the default format of reStructuredText"
        yield error(
            "description", f"PyPI: 'The description failed to render {given}.' `twine check` shows the line (step 22)."
        )


def _is_costly(text: str) -> bool:
    if len(text) > LONGEST_CHARACTERS or text.count("\n") > MOST_LINES:
        return True
    starts = (line.lstrip(_BEFORE_HEADING)[:1] for line in text.splitlines() if line.strip())
    # "" is a line of dashes, which underlines.
    return sum(start in {"#", "=", ""} for start in starts) > MOST_HEADINGS


def _content_type(raw: str | None) -> str | None:
    # warehouse: absent means "text/x-rst".
    if not raw:
        return "text/x-rst"
    message = EmailMessage()
    try:
        message["content-type"] = raw
    except (ValueError, IndexError):  # what the header parser raises for malformed parameters
        return None
    return message.get_content_type()


def _renders(text: str, kind: str) -> bool:
    # Imported here: docutils and pygments cost a quarter of a second, which only this check should pay.
    from readme_renderer import markdown, rst  # noqa: PLC0415

    try:
        return (rst.render(text) if kind == "text/x-rst" else markdown.render(text)) is not None
    except Exception:  # noqa: BLE001 - the edge to two renderers of hostile text: RecursionError, AttributeError, …
        return False
