"""The overlay as its pages name it, and where they lead."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from overlay.web.models import Link

_PEOPLE_PAGES: Final = {
    "https://pypi.org/simple/": "https://pypi.org/project/",
    "https://test.pypi.org/simple/": "https://test.pypi.org/project/",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The overlay as its pages name it."""

    root: str
    """The public URL without a slash at its end."""
    prefix: str
    upstream_url: str
    """Without credentials."""
    version: str
    read_open: bool


def project_href(site: Site, project: str) -> str:
    """Return the path of a project's page."""
    return f"{site.prefix}/project/{quote(project, safe='')}/"


def release_href(site: Site, project: str, version: str) -> str:
    """Return the path of a release's page."""
    return f"{project_href(site, project)}{quote(version, safe='+!')}/"


def live_link(site: Site, project: str) -> Link:
    """Return where upstream shows the project: its page for people where it is known, else its simple page."""
    upstream = site.upstream_url.rstrip("/") + "/"
    base = _PEOPLE_PAGES.get(upstream, upstream)
    return Link(f"{project} on {urlsplit(upstream).hostname or upstream}", f"{base}{quote(project, safe='')}/")
