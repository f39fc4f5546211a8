"""Pages for people: what is staged, how to use it, what PyPI would refuse. No JavaScript, nothing from elsewhere."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Final, NoReturn, TypeVar

import aiohttp_jinja2
from aiohttp import web
from jinja2 import ChoiceLoader, FileSystemLoader, StrictUndefined
from yarl import URL

from overlay import __version__
from overlay.domain.errors import UnknownProject, UnknownRelease
from overlay.domain.names import NormalizedName, ReleaseName, project_name
from overlay.domain.wire import ReleasePromotionView
from overlay.packed import packed
from overlay.web import page_models
from overlay.web.api_staged import last_promotion_of, promotion_of
from overlay.web.auth import check_reader
from overlay.web.context import SERVICES, SETTINGS, WebSettings, public_root
from overlay.web.errors import Door, status_of
from overlay.web.formed import formed
from overlay.web.models import ErrorModel, HelpModel, HomeModel, ProjectModel, ReleaseModel
from overlay.web.operations import caching, normalized_version
from overlay.web.page_promotions import promotion_link
from overlay.web.site import Site, live_link, project_href, release_href

Read = TypeVar("Read")

HTML_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
"""On every page: the style stands in the page itself, and a text that escaped its escaping could still load nothing."""


def setup_templates(app: web.Application, settings: WebSettings) -> None:
    """Set the templates up: the operator's override ours, file by file."""
    own = [FileSystemLoader(settings.templates)] if settings.templates else []
    loader = ChoiceLoader([*own, FileSystemLoader(packed("templates"))])
    aiohttp_jinja2.setup(
        app,
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        default_helpers=False,  # templates call nothing
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def routes() -> list[web.RouteDef]:
    """Form the routes, without the prefix of the public URL."""
    return [
        web.get("/", home),
        web.get("/help", help_page),
        web.get("/project/{project}", project_page),
        web.get("/project/{project}/", project_page),
        web.get("/project/{project}/{version}", release_page),
        web.get("/project/{project}/{version}/", release_page),
        # hatch prints the repository's URL with the release behind it.
        web.get("/legacy/{project}/{version}", uploaded),
        web.get("/legacy/{project}/{version}/", uploaded),
    ]


async def home(request: web.Request) -> web.Response:
    """Answer `/`."""
    await check_reader(request)
    site, latest = _site(request), await request.app[SERVICES].releases.latest()
    return await _formed(request, "home.html", latest, site, lambda read: page_models.home(site, read))


async def help_page(request: web.Request) -> web.Response:
    """Answer `/help`, which is open to everybody."""
    return _html(request, "help.html", page_models.help_page(_site(request)))


async def project_page(request: web.Request) -> web.Response:
    """Answer `/project/<project>/`."""
    site, project = _site(request), project_name(request.match_info["project"])
    _redirect_unless_at(request, project_href(site, project))
    await check_reader(request)
    entries = await request.app[SERVICES].releases.staged(project)
    if not entries:
        return _nothing_staged(request, project, UnknownProject(project), f"Nothing is staged for {project}.")
    return await _formed(request, "project.html", entries, site, lambda read: page_models.project(site, project, read))


async def release_page(request: web.Request) -> web.Response:
    """Answer `/project/<project>/<version>/`."""
    site, project = _site(request), project_name(request.match_info["project"])
    version = normalized_version(request.match_info["version"])
    if version is None:
        raise UnknownRelease(project, request.match_info["version"][:100])
    _redirect_unless_at(request, release_href(site, project, version))
    await check_reader(request)
    try:
        release = await request.app[SERVICES].releases.release(project, version)
    except UnknownRelease as err:
        ended = await last_promotion_of(request, ReleaseName(project, version))
        return _nothing_staged(request, project, err, str(err), ended)
    promotion = await promotion_of(request, ReleaseName(project, version))
    return _html(request, "release.html", page_models.release(site, release, promotion))


async def uploaded(request: web.Request) -> web.Response:
    """Redirect what upload clients print as the release's address to its page."""
    site, project = _site(request), project_name(request.match_info["project"])
    version = normalized_version(request.match_info["version"])
    if version is None:
        raise UnknownRelease(project, request.match_info["version"][:100])
    raise web.HTTPFound(release_href(site, project, version))


def error_page(request: web.Request, response: web.Response, sentence: str) -> web.Response:
    """Form an error's page for people, with the status and the other headers of the plain answer."""
    model = page_models.error(_site(request), HTTPStatus(response.status).phrase, sentence)
    page = _html(request, "error.html", model, status=response.status)
    kept = {name: value for name, value in response.headers.items() if not name.startswith("Content-")}
    page.headers.update(kept)
    return page


def _nothing_staged(
    request: web.Request,
    project: NormalizedName,
    err: UnknownProject | UnknownRelease,
    sentence: str,
    promotion: ReleasePromotionView | None = None,
) -> web.Response:
    site = _site(request)
    links = [live_link(site, project)]
    if promotion is not None:
        links.append(promotion_link(site, promotion))
    model = page_models.error(site, sentence.rstrip("."), "If the project is live, upstream shows it:", links)
    return _html(request, "error.html", model, status=status_of(err, Door.PAGE))


def _redirect_unless_at(request: web.Request, href: str) -> None:
    """Redirect to the page's one address: names and versions normalized, with the slash."""
    if URL(href, encoded=True).path != request.path:
        _moved(href)


def _moved(href: str) -> NoReturn:
    raise web.HTTPMovedPermanently(href, headers={"Cache-Control": "no-cache"})


async def _formed(
    request: web.Request,
    template: str,
    read: Read,
    site: Site,
    model: Callable[[Read], HomeModel | ProjectModel],
) -> web.Response:
    """Form a page that may be large; `model` is a function of what was read and of the site alone."""
    page = aiohttp_jinja2.get_env(request.app).get_template(template)
    body = await formed(request.app, read, site, lambda held: page.render(page=model(held)).encode())
    return _answer(request, web.Response(body=body, content_type="text/html", charset="utf-8"))


def _html(
    request: web.Request,
    template: str,
    model: ReleaseModel | HelpModel | ErrorModel,
    *,
    status: int = HTTPStatus.OK,
) -> web.Response:
    return _answer(request, aiohttp_jinja2.render_template(template, request, {"page": model}, status=status))


def _answer(request: web.Request, response: web.Response) -> web.Response:
    response.headers.update(HTML_HEADERS)
    response.headers["Cache-Control"] = caching(request)
    return response


def _site(request: web.Request) -> Site:
    settings = request.app[SETTINGS]
    return Site(
        root=public_root(request),
        prefix=settings.prefix,
        upstream_url=str(URL(settings.upstream_url).with_user(None)),
        version=__version__,
        read_open=settings.read_open,
    )
