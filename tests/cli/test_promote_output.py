"""What `overlay promote` shows while it works and when it ended, as people, scripts and GitHub read it."""

import io
import json
from dataclasses import replace
from pathlib import Path
from unicodedata import category

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from overlay.cli.manage import json_text
from overlay.cli.outlet import Outlet
from overlay.cli.promote_progress import Lines, shown
from overlay.cli.promote_report import PromoteReport, closing, report, summarize, summary_of
from overlay.cli.runner import Runner
from overlay.domain.promotion import FileState
from overlay.domain.wire_promotions import IgnoredView, LiveFileView, PlanView, PromotedFileView, PromotionView
from overlay.promote.errors import Ending
from overlay.promote.result import FileResult, Result

SCHEMA = Path(__file__).parents[2] / "deploy" / "ci" / "promote.schema.json"
WHEEL, SDIST = "demo-1.1-py3-none-any.whl", "demo-1.1.tar.gz"


def file(filename: str = WHEEL, state: FileState = FileState.LIVE, **more: object) -> FileResult:
    facts: dict[str, object] = {"project": "demo", "version": "1.1", "filename": filename, "sha256": "a" * 64}
    return FileResult(**{**facts, "state": state, **more})  # type: ignore[arg-type]


def result(*files: FileResult, ending: Ending = Ending.DONE, problem: str = "", dry_run: bool = False) -> Result:
    return Result(
        ending=ending,
        promotion="1" * 32,
        target="https://upload.example/legacy/",
        files=files,
        problem=problem,
        dry_run=dry_run,
    )


def plan(*states: str) -> PlanView:
    files = tuple(
        PromotedFileView(
            project="demo",
            version="1.1",
            filename=filename,
            kind="wheel",
            upload_id=str(number) * 32,
            sha256="b" * 64,
            size_bytes=2048,
            wave=number,
            url="http://127.0.0.1/files/x",
            state=state,
        )
        for number, (filename, state) in enumerate(zip((WHEEL, SDIST), states, strict=False))
    )
    promotion = PromotionView(
        id="1" * 32,
        stage="main",
        target="https://upload.example/legacy/",
        who="ci",
        planned_at="2026-01-31T08:15:00Z",
        state="running",
        files=files,
    )
    return PlanView(
        promotion=promotion if states else None,
        already_live=() if states else (LiveFileView(filename=WHEEL, sha256="b" * 64, url="https://x.example/w"),),
        warnings=(),
        new_projects=(),
        upstream="https://upload.example/simple/",
        fence=1,
        lease_s=60,
        absent_s=90,
    )


@pytest.mark.parametrize(
    ("ended", "outcome", "sentence"),
    [
        (result(file(url="https://x.example/w")), "live", "All files are live."),
        (result(file(state=FileState.PUSHED)), "accepted", "accepted all files"),
        (result(file(state=FileState.PLANNED), dry_run=True), "planned", "nothing was pushed (--dry-run)"),
        (result(file(state=FileState.PLANNED), ending=Ending.REFUSED, problem="No."), "refused", "Nothing was pushed."),
        (
            result(
                file(), file(SDIST, FileState.PUSHING, status=500, said="Oops"), ending=Ending.FAILED, problem="No."
            ),
            "failed",
            "The same command goes on",
        ),
        (
            result(file(), file(SDIST, FileState.PLANNED), ending=Ending.FAILED, problem="No."),
            "failed",
            "The files shown as live are out; nothing else is.",
        ),
    ],
)
def test_the_end_says_what_is_out_and_what_is_not(ended: Result, outcome: str, sentence: str) -> None:
    """In words and in JSON."""
    assert report(ended).outcome == outcome
    assert report(ended).exit_code == ended.ending
    assert sentence in closing(ended)
    assert all(one.filename in closing(ended) for one in ended.files)


def test_without_a_plan_only_of_this_run_is_said_what_it_pushed() -> None:
    """An earlier one may have got far; whoever asks the overlay learns how far."""
    ended = Result(ending=Ending.REFUSED, promotion=None, target="", files=(), problem="Another run goes on.")
    assert closing(ended) == "Another run goes on.\nThis run pushed nothing.\n"
    releases = ("demo==1.1", "other==1.0")
    assert closing(replace(ended, releases=releases[:1])).endswith(
        "This run pushed nothing; `overlay show demo==1.1` says how far an earlier one came.\n"
    )
    assert closing(replace(ended, releases=releases)).endswith(
        "; `overlay show demo==1.1`, `overlay show other==1.0` say how far an earlier one came.\n"
    )


def test_upstreams_words_are_shown_with_a_file_that_did_not_go_out() -> None:
    """With its status; and not with one that did."""
    refused = file(SDIST, FileState.PUSHING, status=400, said="Only one sdist may be uploaded per release.")
    words = closing(result(file(status=200, said="fine"), refused, ending=Ending.FAILED, problem="No."))
    assert "not known to be out (400 Only one sdist may be uploaded per release.)" in words
    assert "fine" not in words


def test_the_step_summary_links_live_files_and_is_appended(tmp_path: Path) -> None:
    """GitHub gives each step the name of a file that may have something in it."""
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    summarize(result(file(url="https://x.example/w")), {"GITHUB_STEP_SUMMARY": str(summary)})
    text = summary.read_text()
    assert text.startswith("before\n### overlay promote: live\n")
    assert "(https://x.example/w) | live |" in text


def test_an_address_cannot_leave_its_cell() -> None:
    """It is the index's, too; what is encoded in it stays as it is."""
    text = summary_of(result(file(url="https://x.example/a%2Bb.whl) | <img src=y> [z](https://evil.example")))
    (row,) = [line for line in text.splitlines() if "evil" in line]
    assert "(https://x.example/a%2Bb.whl%29%20%7C%20%3Cimg%20src=y%3E%20%5Bz%5D%28https://evil.example) | live |" in row


def test_who_promoted_when_and_against_which_rules_is_told() -> None:
    """The receipt, in words, as JSON and in the summary."""
    ignored = IgnoredView(rule="local-version", filename=WHEEL, sentence="PyPI takes no local versions.")
    ended = replace(result(file()), who="ci", planned_at="2026-01-31T08:15:00Z", ignored=(ignored,))
    assert "Ignored by wish (local-version): PyPI takes no local versions.\n" in closing(ended)
    assert "Ignored by wish (local-version): PyPI" in summary_of(ended)
    planned = f"Promotion {'1' * 32}, planned by ci, 2026-01-31T08:15:00Z.\n"
    assert planned in closing(ended)
    assert planned in summary_of(ended)
    told = report(ended)
    assert (told.ignored, told.who, told.planned_at) == ((ignored,), "ci", "2026-01-31T08:15:00Z")
    assert told.receipt is None


def test_where_the_receipt_is_is_told_once_there_is_one() -> None:
    """In words, as JSON and in the summary."""
    url = f"https://overlay.test/api/v1/promotions/{'1' * 32}"
    ended = replace(result(file()), who="ci", planned_at="2026-01-31T08:15:00Z", receipt=url)
    assert f" Receipt: {url}\n" in closing(ended)
    assert f" Receipt: {url}\n" in summary_of(ended)
    assert report(ended).receipt == url


@given(st.text())
def test_what_others_say_cannot_leave_its_cell(said: str) -> None:
    """Upstream's words are upstream's: no row, no link, no heading of theirs."""
    ended = result(file(state=FileState.PUSHING, status=400, said=said), ending=Ending.FAILED, problem=said)
    lines = summary_of(ended).splitlines()
    (row,) = [line for line in lines if line.startswith("| demo")]
    assert row.replace("\\|", "").count("|") == 4
    assert len(lines) == len(summary_of(result(file(), ending=Ending.FAILED, problem="x")).splitlines())


def test_a_log_has_one_line_a_step() -> None:
    """And does not repeat what it waits for."""
    out = io.StringIO()
    lines = Lines(Outlet(out), Runner(is_github=False))
    lines.planned(plan("planned", "pushed"))
    for done_bytes in (0, 1024, 2048):
        lines.fetched(WHEEL, done_bytes)
    for done_bytes in (0, 1024, 2048):
        lines.pushing(WHEEL, done_bytes)
    lines.pushed(WHEEL)
    for _ in range(3):
        lines.waiting([WHEEL], "not there yet")
    lines.live(WHEEL, "https://x.example/w")
    lines.mask("secret")
    assert out.getvalue().splitlines() == [
        "Promoting demo==1.1 (2 files) to https://upload.example/legacy/",
        f"  {WHEEL}  2.0 KiB  sha256:{'b' * 64}",
        f"  {SDIST}  2.0 KiB  sha256:{'b' * 64}  (pushed before)",
        f"fetching {WHEEL} from the overlay",
        f"pushing {WHEEL} (2.0 KiB)",
        f"accepted {WHEEL}",
        f"waiting for {WHEEL}: not there yet",
        f"live {WHEEL}  https://x.example/w",
    ]


def test_githubs_runner_is_told_of_warnings_and_secrets() -> None:
    """In the form that it reads; a warning of two lines is two."""
    out = io.StringIO()
    lines = Lines(Outlet(out), Runner(is_github=True))
    lines.mask("pypi-secret")
    lines.warned("one\ntwo")
    assert out.getvalue() == "::add-mask::pypi-secret\n::warning::one\n::warning::two\n"


@given(st.sampled_from(["::error::x", "  ::stop-commands::x", "say ##[error]x"]), st.booleans())
def test_nobody_elses_words_command_githubs_runner(said: str, has_two_lines: bool) -> None:  # noqa: FBT001 - drawn
    """It obeys `::` where a line begins and `##[` anywhere; what a plan and an index say goes into our lines."""
    out = io.StringIO()
    lines = Lines(Outlet(out), Runner(is_github=True))
    lines.live(said, None)
    lines.waiting([], said)
    words = f"No.\n{said}" if has_two_lines else said
    text = out.getvalue() + closing(result(ending=Ending.REFUSED, problem=words), Runner(is_github=True))
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in text.splitlines())
    assert said in closing(result(ending=Ending.REFUSED, problem=words))


@example(said="\udcff")
@given(st.text(alphabet=st.sampled_from('#[]:"\\ \n') | st.characters()))
def test_nobody_elses_words_command_githubs_runner_in_json(said: str) -> None:
    """It means the same as everywhere else, and `##[` is nowhere in it; a file's name may have half a character."""

    def told_of(words: str) -> PromoteReport:
        return report(result(file(said=words), ending=Ending.REFUSED, problem=f"##[add-mask]{words}"))

    told = told_of(said)
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("GITHUB_ACTIONS", raising=False)
        plain = json_text(told)
        patched.setenv("GITHUB_ACTIONS", "true")
        text = json_text(told)
    assert "##[add-mask]" in plain
    assert not any(line.lstrip().startswith("::") or "##[" in line for line in text.splitlines())
    expected = told_of("".join("�" if category(char) == "Cs" else char for char in said))
    assert msgspec.json.decode(text, type=PromoteReport) == msgspec.json.decode(plain, type=PromoteReport) == expected


def test_a_warning_is_shown_to_githubs_runner_as_it_is() -> None:
    """It reads %0A as the end of a line."""
    out = io.StringIO()
    lines = Lines(Outlet(out), Runner(is_github=True))
    lines.warned("100%0A::error::x")
    lines.mask("50%25")
    assert out.getvalue() == "::warning::100%250A::error::x\n::add-mask::50%2525\n"


def test_a_wait_for_another_run_is_said_once() -> None:
    """In a log and above the bars, where there is no file to name yet."""
    log, terminal = io.StringIO(), Terminal()
    lines = Lines(Outlet(log), Runner(is_github=False))
    for _ in range(2):
        lines.waiting((), "Another run goes on.")
    assert log.getvalue() == "waiting: Another run goes on.\n"
    with shown(Outlet(terminal), {"TERM": "xterm"}) as progress:
        for _ in range(2):
            progress.waiting((), "Another run goes on.")
    assert terminal.getvalue().count("waiting: Another run goes on.") == 1


def test_nothing_to_do_is_said() -> None:
    """All that was named is live."""
    out = io.StringIO()
    Lines(Outlet(out), Runner(is_github=False)).planned(plan())
    assert out.getvalue() == f"Everything that was named is live already.\n  {WHEEL} is live already\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_plan_and_bars() -> None:
    """And what is live stays to be read above them."""
    out = Terminal()
    with shown(Outlet(out), {"TERM": "xterm"}) as progress:
        progress.planned(plan("planned", "planned"))
        progress.fetched(WHEEL, 2048)
        progress.pushing(WHEEL, 1024)
        progress.pushed(WHEEL)
        progress.waiting([WHEEL], "soon")
        progress.warned("careful")
        progress.live(WHEEL, "https://x.example/w")
        progress.mask("secret")
    text = out.getvalue()
    assert "Promoting demo==1.1 (2 files)" in text
    assert "SHA256 (16 OF 64)" in text
    assert "warning: careful" in text
    assert f"live {WHEEL}" in text
    assert "secret" not in text


def test_ci_gets_lines_even_where_it_pretends_to_be_a_terminal() -> None:
    """Bars would fill its log."""
    out = Terminal()
    with shown(Outlet(out), {"CI": "true"}) as progress:
        progress.pushed(WHEEL)
    assert out.getvalue() == f"accepted {WHEEL}\n"


def test_the_schema_is_of_what_is_printed() -> None:
    """Whoever changes the report writes the schema anew: this value, with two spaces and a newline at the end."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    formed = json.dumps(head | msgspec.json.schema(PromoteReport), indent=2) + "\n"
    assert SCHEMA.read_text() == formed
