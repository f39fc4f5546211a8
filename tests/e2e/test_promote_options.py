"""What `overlay promote` is told on its command line, down to what it changes at upstream."""

import json
from pathlib import Path

from tests.e2e.promoting import demo, scripted
from tests.pypi.attestations import attestation
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import TOKEN, Lag, OpenGate, Project, Publisher, Status
from tests.pypi.orders import Job as Identity

WHEEL, SDIST = BUILT = demo()
ARCHIVED = "project-archived"


def write_signer(folder: Path, body: str) -> None:
    """Write what stands in for the package that has Sigstore sign: it makes this attestation of any file."""
    (folder / "pypi_attestations.py").write_text(
        "import pathlib, sys\n"
        "word, path = sys.argv[1], pathlib.Path(sys.argv[2])\n"
        "assert word == 'sign'\n"
        f"path.with_name(path.name + '.publish.attestation').write_text({body!r})\n"
    )


async def test_attest_makes_attestations_that_go_along(tmp_path: Path) -> None:
    """Of this job's identity and of this very file, or the index would not take them. Without it there are none."""
    identity = Identity()
    pending = Publisher(projects=("demo",), pending=True)
    async with scripted(tmp_path, [WHEEL], pending) as (pypi, stage):
        job = stage.job(WHEEL, **await pypi.job(identity))
        write_signer(job.folder, json.dumps(attestation(WHEEL.filename, WHEEL.sha256, identity)))
        ran = await job.run("--json", "--attest", *job.dist)
        assert ran.code == 0, ran.report.problem
        assert [post.attested for post in (await pypi.recording()).posts()] == [True]


async def test_a_rule_that_is_ignored_lets_its_files_go_out(tmp_path: Path) -> None:
    """The receipt names it. Here the project is no longer archived once upstream decides; else that decides."""
    archived = Project(name="demo"), Status("demo", "archived")
    async with scripted(tmp_path, BUILT, *archived) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert (ran.code, [refusal.rule for refusal in ran.report.refusals]) == (3, [ARCHIVED])
        await pypi.do(Fault(at=Point.ARRIVED, action=Hang("here")))
        await job.start("--json", "--ignore-rule", ARCHIVED, *job.dist)
        await pypi.reached("here")
        await pypi.do(Status("demo", "active"), OpenGate("here"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
        assert [ignored.rule for ignored in ran.report.ignored] == [ARCHIVED]
        (receipt,) = await stage.promotions("demo==1.1")
        assert receipt.ignored == ran.report.ignored


async def test_a_page_that_lags_is_waited_for_no_longer_than_the_timeout(tmp_path: Path) -> None:
    """Upstream accepted all of it; without the option this would take ten minutes."""
    async with scripted(tmp_path, BUILT, Lag(None)) as (pypi, stage):
        job = stage.job(*BUILT, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", "--timeout", "1", *job.dist)
        assert ran.code == 1, ran.report.problem
        assert (await pypi.recording()).stored() == [WHEEL.filename, SDIST.filename]
        assert [file.state for file in ran.report.files] == ["pushed", "pushed"]
        assert SDIST.filename in ran.report.problem
