"""Whether PyPI can render a description (step 22)."""

from collections.abc import Iterator
from email.message import EmailMessage
from typing import Final

from overlay.domain.findings import Finding, error, note
from overlay.domain.metadata import CoreMetadata

# docutils takes some ten seconds for a mebibyte and more for a hostile one; comrak, written in Rust, takes one.
LONGEST_RST: Final = 2**18
LONGEST_MARKDOWN: Final = 2**22


def judge(core: CoreMetadata) -> Iterator[Finding]:
    """Report a description that does not render; slow for long ones."""
    if not core.description or not core.description.strip():
        return
    kind = _content_type(core.description_content_type)
    if kind is None or kind == "text/plain":
        return  # an invalid type is packaging's finding; plain text always renders
    longest = LONGEST_RST if kind == "text/x-rst" else LONGEST_MARKDOWN
    if len(core.description) > longest:
        yield note(
            "description", f"The description is too long to be rendered here (more than {longest:,} characters)."
        )
    elif not _renders(core.description, kind):
        given = f"for '{kind}'" if core.description_content_type else "in the default format of reStructuredText"
        yield error(
            "description", f"PyPI: 'The description failed to render {given}.' `twine check` shows the line (step 22)."
        )


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
    except RecursionError:  # docutils, for thousands of nested blocks
        return False
