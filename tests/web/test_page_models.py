"""Every template renders with every kind of model, however hostile what is staged may be."""

import dataclasses
import json
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import aiohttp_jinja2
import pytest
from aiohttp import web
from jinja2 import Environment, TemplateNotFound, UndefinedError, nodes

from overlay.domain.findings import Severity
from overlay.domain.listing import Standing
from overlay.domain.names import NormalizedName
from overlay.domain.promotion import FileState, Outcome
from overlay.domain.rules import Finding
from overlay.domain.stage import LatestProject, StagedFile
from overlay.domain.to_wire_promotions import IS_RUNNING, IS_WAITING
from overlay.domain.wire import PromotingFileView, ReleasePromotionView
from overlay.packed import packed
from overlay.services.releases import Latest, ListedProject, Release, ReportedEntry, StagedEntry
from overlay.web import page_models
from overlay.web.context import WebSettings
from overlay.web.models import ErrorModel, HelpModel, HomeModel, ProjectModel, ReleaseModel
from overlay.web.page_models import HEADINGS, MOST_VERSIONS, STANDINGS
from overlay.web.page_promotions import FILE_STATES, PROMOTIONS
from overlay.web.pages import setup_templates
from overlay.web.site import Site, live_link
from tests.ledgers import NOW_US
from tests.staged import staged_file

HOSTILE = '"><script src=//evil.example></script><a href="javascript:alert(1)">x</a>{{ 7*7 }}&'
SITE = Site(
    root="https://overlay.example/next",
    prefix="/next",
    upstream_url="https://pypi.org/simple/",
    version="1.0",
    read_open=True,
)
Model = HomeModel | ProjectModel | ReleaseModel | HelpModel | ErrorModel
TEMPLATES = sorted(path.name for path in packed("templates").iterdir())


def settings(templates: str = "") -> WebSettings:
    return WebSettings(
        public_url="",
        prefix="",
        upstream_url="",
        read_open=True,
        grace_s=0,
        upload_limit_bytes=0,
        templates=templates,
    )


def environment(templates: str = "") -> Environment:
    app = web.Application()
    setup_templates(app, settings(templates))
    return aiohttp_jinja2.get_env(app)


class Seen(HTMLParser):
    """The tags and the links of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src", "action", "srcset"}]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile_file(number: int = 1, version: str = "1.0") -> StagedFile:
    file = staged_file(number, version=version, filename=f"demo-{version}-{number}{HOSTILE}.whl", who=HOSTILE)
    return dataclasses.replace(file, requires_python=HOSTILE)


def hostile_release() -> Release:
    findings = tuple(Finding(HOSTILE, severity, HOSTILE) for severity in Severity)
    entries = tuple(ReportedEntry(hostile_file(number), standing, findings) for number, standing in enumerate(Standing))
    return Release(NormalizedName("demo"), "1.0", entries, upstream_known=False)


def plain_release() -> Release:
    return Release(
        NormalizedName("demo"), "1.0", (ReportedEntry(staged_file(), Standing.STAGED, ()),), upstream_known=True
    )


def hostile_entries() -> list[StagedEntry]:
    return [StagedEntry(hostile_file(number), standing) for number, standing in enumerate(Standing)]


def promotion(state: str = "waiting", *names: str) -> ReleasePromotionView:
    files = tuple(
        PromotingFileView(filename=name, state=one.value) for name, one in zip(names, FileState, strict=False)
    )
    return ReleasePromotionView(
        id=HOSTILE,
        state=state,
        who=HOSTILE,
        since="2026-01-31T08:15:02.000000Z",
        files=files,
        others=(HOSTILE,),
        target=HOSTILE,
        ended_at="2026-01-31T08:17:02.000000Z" if state == "live" else None,
        ended_by=HOSTILE,
    )


def listed(*entries: StagedEntry) -> ListedProject:
    files = tuple(entry.file for entry in entries)
    staged_at_us = max(file.staged_at_us for file in files)
    project = LatestProject(project=files[0].project, staged_at_us=staged_at_us, file_count=len(files), files=files)
    return ListedProject(project, entries)


MODELS: Mapping[str, tuple[str, Model]] = {
    "home, empty": ("home.html", page_models.home(SITE, Latest((), 0))),
    "home, hostile": ("home.html", page_models.home(SITE, Latest((listed(*hostile_entries()),), 1))),
    "project": ("project.html", page_models.project(SITE, "demo", [StagedEntry(staged_file(), Standing.STAGED)])),
    "project, hostile": ("project.html", page_models.project(SITE, "demo", hostile_entries())),
    "release": ("release.html", page_models.release(SITE, plain_release())),
    "release, hostile": ("release.html", page_models.release(SITE, hostile_release())),
    "release, being promoted": ("release.html", page_models.release(SITE, plain_release(), promotion("running", "a"))),
    "release, promoted": ("release.html", page_models.release(SITE, plain_release(), promotion("live", "a"))),
    "release, promoted by a hostile one": (
        "release.html",
        page_models.release(SITE, plain_release(), promotion(HOSTILE, *[HOSTILE] * len(FileState))),
    ),
    "help": ("help.html", page_models.help_page(SITE)),
    "help, reading closed": ("help.html", page_models.help_page(dataclasses.replace(SITE, read_open=False))),
    "help, hostile Host": ("help.html", page_models.help_page(dataclasses.replace(SITE, root="http://" + HOSTILE))),
    "error": ("error.html", page_models.error(SITE, "Not Found", "There is no such page here.")),
    "error, hostile": (
        "error.html",
        page_models.error(SITE, HOSTILE, HOSTILE, [live_link(SITE, "demo")]),
    ),
}


def rendered(name: str) -> str:
    template, model = MODELS[name]
    return environment().get_template(template).render(page=model)


@pytest.mark.parametrize("name", MODELS)
def test_a_page_renders_without_script_and_links_only_here_and_upstream(name: str) -> None:
    seen = Seen(rendered(name))
    assert not seen.tags & {"script", "img", "iframe", "object", "form", "base", "link"}
    assert "h1" in seen.tags
    assert seen.links
    for link in seen.links:
        assert link.startswith(("/next/", "https://pypi.org/project/demo/"))
        assert '"' not in link


@pytest.mark.parametrize("name", [name for name in MODELS if "hostile" in name and "home" not in name])
def test_hostile_text_is_shown_as_it_is(name: str) -> None:
    assert "<script src=//evil.example></script>" in Seen(rendered(name)).text.replace("'\"'\"'", "'")


def test_every_template_has_a_model() -> None:
    assert {template for template, _ in MODELS.values()} == set(TEMPLATES) - {"base.html"}


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_call_nothing(name: str) -> None:
    tree = environment().parse((packed("templates") / name).read_text())
    calls = [*tree.find_all(nodes.Call), *tree.find_all(nodes.Filter), *tree.find_all(nodes.Test)]
    assert calls == []


def test_a_name_that_a_model_lacks_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "home.html").write_text("{{ page.nonsense }}")
    with pytest.raises(UndefinedError):
        environment(str(tmp_path)).get_template("home.html").render(page=MODELS["home, empty"][1])


def test_own_templates_override_ours_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "home.html").write_text('{% extends "base.html" %}{% block main %}<h1>Ours</h1>{% endblock %}')
    own = environment(str(tmp_path))
    home = own.get_template("home.html").render(page=MODELS["home, empty"][1])
    assert "<h1>Ours</h1>" in home
    assert "in front of https://pypi.org/simple/" in home  # base.html is still ours
    assert "uv publish" in own.get_template("help.html").render(page=MODELS["help"][1])


def test_a_template_that_nobody_has_is_an_error() -> None:
    with pytest.raises(TemplateNotFound):
        environment().get_template("nothing.html")


def test_every_standing_and_every_severity_has_words() -> None:
    assert set(STANDINGS) == set(Standing)
    assert list(HEADINGS) == [Severity.ERROR, Severity.WARNING, Severity.NOTE]
    assert set(HEADINGS) == set(Severity)


def test_every_state_of_a_promotion_has_words() -> None:
    assert set(PROMOTIONS) == {IS_RUNNING, IS_WAITING, *(outcome.value for outcome in Outcome)}
    assert set(FILE_STATES) == {state.value for state in FileState}


def test_a_promotion_that_waits_says_how_to_give_it_up_and_one_that_runs_does_not() -> None:
    waiting = page_models.release(SITE, plain_release(), promotion("waiting", "a.whl", "b.whl")).promotion
    assert waiting is not None
    assert waiting.abandon == "overlay promote --abandon demo==1.0"
    assert waiting.files[1] == ("b.whl", "pushing: it may have been sent")
    running = page_models.release(SITE, plain_release(), promotion("running")).promotion
    assert running is not None
    assert running.abandon == ""
    assert page_models.release(SITE, plain_release()).promotion is None


def test_home_shows_the_latest_projects_first_and_counts_the_rest() -> None:
    entries = [StagedEntry(staged_file(number, project=f"project-{number}"), Standing.STAGED) for number in (1, 3, 2)]
    model = page_models.home(SITE, Latest(tuple(map(listed, entries)), 5))
    assert [project.name for project in model.projects] == ["project-3", "project-2", "project-1"]
    assert (model.project_count, model.more_projects) == ("5 projects", 2)


def test_home_never_counts_fewer_projects_than_it_shows() -> None:
    """They are counted a moment before they are read."""
    entries = [StagedEntry(staged_file(number, project=f"project-{number}"), Standing.STAGED) for number in (1, 2)]
    model = page_models.home(SITE, Latest(tuple(map(listed, entries)), 1))
    assert (model.project_count, model.more_projects) == ("2 projects", 0)


def test_versions_are_ordered_as_versions_and_bounded() -> None:
    entries = [
        StagedEntry(staged_file(number, version=f"1.{number}"), Standing.STAGED) for number in range(MOST_VERSIONS + 2)
    ]
    (project,) = page_models.home(SITE, Latest((listed(*entries),), 1)).projects
    assert [version.label for version in project.versions[:3]] == ["1.11", "1.10", "1.9"]
    assert project.more_versions == 2


def test_home_says_how_files_stand() -> None:
    entries = [
        StagedEntry(staged_file(number), standing)
        for number, standing in enumerate([Standing.LIVE, Standing.STAGED, Standing.STAGED])
    ]
    (project,) = page_models.home(SITE, Latest((listed(*entries),), 1)).projects
    assert project.standings == "2 staged, 1 live"


def test_home_counts_the_files_of_a_project_with_too_many_and_names_its_page() -> None:
    giant = LatestProject(project=NormalizedName("giant"), staged_at_us=NOW_US, file_count=20_000, files=())
    model = page_models.home(SITE, Latest((ListedProject(giant, ()),), 1))
    (project,) = model.projects
    assert (project.standings, project.versions, project.more_versions) == ("20,000 files", (), 0)
    assert project.staged_words == "2023-11-14 22:13 UTC"
    page = environment().get_template("home.html").render(page=model)
    assert f'all on <a href="{project.href}">its page</a>' in page


def test_findings_are_grouped_by_gravity_and_said_once() -> None:
    warning, grave = Finding("w", Severity.WARNING, "Odd."), Finding("e", Severity.ERROR, "Bad.")
    first, second = staged_file(1, filename="a.whl"), staged_file(2, filename="b.whl")
    entries = (
        ReportedEntry(first, Standing.STAGED, (warning, grave)),
        ReportedEntry(second, Standing.STAGED, (grave,)),
    )
    model = page_models.release(SITE, Release(NormalizedName("demo"), "1.0", entries, upstream_known=True))
    said = [(group.heading, [(line.rule, line.filenames) for line in group.lines]) for group in model.findings]
    assert said == [
        (HEADINGS[Severity.ERROR], [("e", ("a.whl", "b.whl"))]),
        (HEADINGS[Severity.WARNING], [("w", ("a.whl",))]),
    ]


@pytest.mark.parametrize("standing", [Standing.CONFLICT, Standing.QUARANTINED, Standing.FOREIGN, Standing.ENDED])
def test_a_file_that_is_not_served_is_not_linked(standing: Standing) -> None:
    model = page_models.project(SITE, "demo", [StagedEntry(staged_file(), standing)])
    assert model.versions[0].files[0].href == ""


@pytest.mark.parametrize(
    ("root", "trusted"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://[::1]:8080", False),
        ("http://localhost:8080", False),
        ("https://index.example", False),
        ("http://index.example:8080", True),
    ],
)
def test_pip_is_told_to_trust_a_host_that_it_would_ignore(root: str, *, trusted: bool) -> None:
    line = page_models.help_page(dataclasses.replace(SITE, root=root)).install.pip
    assert ("--trusted-host index.example" in line) is trusted
    assert f"--index-url {root}/simple/" in line.replace("'", "")


def test_command_lines_are_quoted_for_the_shell() -> None:
    file = staged_file(version="1!2.0")
    release = Release(NormalizedName("demo"), "1!2.0", (ReportedEntry(file, Standing.STAGED, ()),), upstream_known=True)
    assert page_models.release(SITE, release).withdraw == "overlay withdraw 'demo==1!2.0'"


@pytest.mark.parametrize(
    ("upstream", "href"),
    [
        ("https://pypi.org/simple", "https://pypi.org/project/demo/"),
        ("https://test.pypi.org/simple/", "https://test.pypi.org/project/demo/"),
        ("https://devpi.example/root/+simple/", "https://devpi.example/root/+simple/demo/"),
    ],
)
def test_the_live_project_is_linked_where_people_can_read_it(upstream: str, href: str) -> None:
    assert live_link(dataclasses.replace(SITE, upstream_url=upstream), "demo").href == href


def test_help_names_the_addresses_in_full() -> None:
    page = rendered("help")
    for words in ("https://overlay.example/next/legacy/", "https://overlay.example/next/simple/", "/next/api/v1/"):
        assert words in page
    assert json.dumps("https://overlay.example/next/simple/") in Seen(page).text
