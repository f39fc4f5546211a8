"""From upstream's page and listable staged files to the bytes of a page; pure, so the key determines the bytes."""

from collections.abc import Sequence
from typing import Final

from overlay.domain import simple_html, simple_json
from overlay.domain.encodings import compress
from overlay.domain.merge import merge, shown, union
from overlay.domain.page import Encoding, File, Format, PageKey, ProjectPage, UpstreamPage
from overlay.domain.page_facts import PageFacts
from overlay.domain.stage import StagedFile

VERSION: Final = "1"
"""Part of every key: raise it with any change of the rendered bytes, so that ETags of two programs differ."""


def render(
    key: PageKey,
    upstream: UpstreamPage | None,
    facts: PageFacts | None,
    staged: Sequence[StagedFile],
    files_base: str,
) -> bytes:
    """Form the page's bytes. `upstream` without body, or None, stands for a page with only the staged files."""
    body = upstream.body if upstream is not None else None
    if body is not None and not staged and key.format is Format.JSON:
        if key.encoding is Encoding.GZIP and upstream is not None and upstream.gzip is not None:
            return upstream.gzip
        return compress(body, key.encoding)
    yanked = facts.yanked if facts is not None and staged else {}
    files = [shown(file, files_base, yanked) for file in staged]
    versions = [file.version for file in staged]
    return compress(_plain(key, body, files, versions), key.encoding)


def _plain(key: PageKey, body: bytes | None, files: Sequence[File], versions: Sequence[str]) -> bytes:
    if body is None:
        page = ProjectPage(name=key.project, files=tuple(files), versions=union((), versions))
        return simple_json.encode(page) if key.format is Format.JSON else simple_html.render(page)
    if key.format is Format.JSON:
        return simple_json.splice(body, files, versions)
    return simple_html.render(merge(simple_json.decode(body), files, versions))
