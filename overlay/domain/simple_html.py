"""Project pages as HTML (PEP 503, 592, 714, 740, 792), frozen at repository version 1.4 (PEP 833).

One anchor a line, in a stable shape: hatch reads them with a regular expression, and changes of PyPI's white space have
broken other readers.
"""

from collections.abc import Mapping
from html import escape
from typing import Final
from urllib.parse import urldefrag

from overlay.domain.page import File, ProjectPage

REPOSITORY_VERSION: Final = "1.4"

# uv fails the whole page on a fragment with an algorithm it does not know (sha1, sha224).
_FRAGMENTS: Final = ("sha256", "sha512", "sha384", "md5")
_LEGACY_TWINS: Final = ("data-dist-info-metadata", "dist-info-metadata")


def render(page: ProjectPage) -> bytes:
    """Form the page's HTML5; the same page gives the same bytes."""
    title = f"Links for {escape(page.name)}"
    lines = ["<!DOCTYPE html>", "<html>", "  <head>", _meta("pypi:repository-version", REPOSITORY_VERSION)]
    if page.status is not None:
        lines.append(_meta("pypi:project-status", page.status.status))
        if page.status.reason is not None:
            lines.append(_meta("pypi:project-status-reason", page.status.reason))
    lines += [f"    <title>{title}</title>", "  </head>", "  <body>", f"    <h1>{title}</h1>"]
    lines += [_anchor(file) for file in page.files]
    lines += ["  </body>", "</html>", ""]
    return "\n".join(lines).encode()


def _meta(name: str, content: str) -> str:
    return f'    <meta name="{name}" content="{escape(content)}">'


def _anchor(file: File) -> str:
    attributes = [f'<a href="{escape(_href(file))}"']
    if file.requires_python is not None:
        attributes.append(f'data-requires-python="{escape(file.requires_python)}"')
    core_metadata = _core_metadata(file)
    if core_metadata is not None:
        # PEP 714: "data-dist-info-metadata … if emitted MUST equal" the new attribute.
        attributes.append(f'data-dist-info-metadata="{core_metadata}" data-core-metadata="{core_metadata}"')
    if file.gpg_sig is not None:
        attributes.append(f'data-gpg-sig="{"true" if file.gpg_sig else "false"}"')
    if file.yanked:
        attributes.append(f'data-yanked="{"" if file.yanked is True else escape(file.yanked)}"')
    if file.provenance is not None:
        attributes.append(f'data-provenance="{escape(file.provenance)}"')
    return f"{' '.join(attributes)}>{escape(file.filename)}</a><br />"


def _href(file: File) -> str:
    # A url of JSON needs no fragment; one that has it would give the anchor two.
    url = urldefrag(file.url).url if "#" in file.url else file.url
    for algorithm in _FRAGMENTS:
        digest = file.hashes.get(algorithm)
        if digest is not None:
            return f"{url}#{algorithm}={digest}"
    return url


def _core_metadata(file: File) -> str | None:
    """Return the attribute's value, escaped; None where no sidecar is served."""
    said: object = file.core_metadata
    for key in _LEGACY_TWINS:
        if said is None:
            said = file.extra.get(key)
    if isinstance(said, Mapping):
        digest = said.get("sha256")
        return f"sha256={escape(digest)}" if isinstance(digest, str) else "true"
    return "true" if said is True else None
