"""`overlay promote` by Trusted Publishing: a scripted platform and mint, tokens that run out, refusals in words."""

import json
from pathlib import Path

from tests.e2e.promoting import demo, scripted
from tests.pypi.attestations import attestation
from tests.pypi.faults import Fault, Hang, Point
from tests.pypi.orders import Advance, OpenGate, Publisher, Rules
from tests.pypi.orders import Job as Identity
from tests.running import ADMIN, basic, form

BUILT = demo()
PENDING = Publisher(projects=("demo",), pending=True)


async def test_a_job_promotes_with_its_own_identity(tmp_path: Path) -> None:
    """One identity token, one upload token for all files; GitHub is told to hide both. A pending publisher makes it."""
    async with scripted(tmp_path, BUILT, PENDING) as (pypi, stage):
        environment = await pypi.job(Identity())
        summary = tmp_path / "summary.md"
        summary.touch()
        job = stage.job(*BUILT, GITHUB_STEP_SUMMARY=str(summary), **environment)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.report.problem
        recording = await pypi.recording()
        assert len(recording.minted()) == 1
        assert recording.stored() == [one.filename for one in BUILT]
        assert ran.err.count("::add-mask::") == 2
        assert "overlay promote: live" in summary.read_text()


async def test_attestations_go_along_unless_they_are_not_wanted(tmp_path: Path) -> None:
    """The sentence at the end says that they were left out, and why; the two options exclude each other."""
    wheel, identity = BUILT[0], Identity()
    text = json.dumps([attestation(wheel.filename, wheel.sha256, identity)])
    for words, attested in (((), True), (("--no-attestations",), False)):
        async with scripted(tmp_path / str(attested), (), PENDING) as (pypi, stage):
            upload = form(wheel, {"attestations": text})
            async with stage.session.post(f"{stage.served.url}/legacy/", data=upload, headers=basic(ADMIN)) as answer:
                assert answer.status == 200
            job = stage.job(wheel, **await pypi.job(identity))
            ran = await job.run(*words, *job.dist)
            assert ran.code == 0, ran.out
            (post,) = (await pypi.recording()).posts()
            assert post.attested == attested
            left_out = f"{wheel.filename}: its attestations are left out (--no-attestations)"
            assert (left_out in ran.out.splitlines()) is not attested
            assert (await job.run("--attest", "--no-attestations", *job.dist)).code == 2


async def test_a_token_that_runs_out_is_renewed_with_a_new_identity(tmp_path: Path) -> None:
    """Twenty seconds are less than a push may take, so each push has a token of its own."""
    async with scripted(tmp_path, BUILT, PENDING, Rules(mint_life_s=20)) as (pypi, stage):
        environment = await pypi.job(Identity(life_s=20))
        job = stage.job(*BUILT, **environment)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.report.problem
        assert len((await pypi.recording()).minted()) == len(BUILT)


async def test_a_token_that_ends_in_mid_upload_is_renewed_with_a_new_identity(tmp_path: Path) -> None:
    """Upstream refuses the file with 403 once it has read it; with a new token it is sent again, and stored once."""
    wheel = BUILT[0].filename
    # The job's clock is not put on: five seconds before its end it takes a token for over.
    hang = Fault(at=Point.BODY, action=Hang("slow"), subject=wheel)
    async with scripted(tmp_path, BUILT, PENDING, Rules(mint_life_s=5), hang) as (pypi, stage):
        job = stage.job(*BUILT, **await pypi.job(Identity(life_s=20)))
        await job.start("--json", *job.dist)
        await pypi.reached("slow")
        await pypi.do(Advance(6), OpenGate("slow"))
        ran = await job.ended()
        assert ran.code == 0, ran.report.problem
        recording = await pypi.recording()
        assert [post.status for post in recording.posts(wheel)] == [403, 200]
        assert [minted.status for minted in recording.minted()] == [200, 200, 200]  # of an identity token each
        assert recording.stored() == [one.filename for one in BUILT]


async def test_where_the_platform_gives_one_identity_the_end_of_its_token_is_told_in_time(tmp_path: Path) -> None:
    """GitLab: not by a refusal in the middle of a file. The next job goes on."""
    publisher = Publisher(projects=("demo",), kind="gitlab", workflow=".gitlab-ci.yml", pending=True)
    async with scripted(tmp_path, BUILT, publisher, Rules(mint_life_s=20)) as (pypi, stage):
        first = stage.job(*BUILT, **await pypi.job(Identity(kind="gitlab", workflow=".gitlab-ci.yml")))
        ran = await first.run("--json", *first.dist)
        assert ran.code == 1, ran.out
        assert (await pypi.recording()).stored() == [BUILT[0].filename]
        assert "identity token" in ran.report.problem
        assert "again" in ran.report.problem
        second = stage.job(*BUILT, **await pypi.job(Identity(kind="gitlab", workflow=".gitlab-ci.yml")))
        ran = await second.run("--json", *second.dist)
        assert ran.code == 0, ran.report.problem
        recording = await pypi.recording()
        assert recording.stored() == [one.filename for one in BUILT]
        assert len(recording.posts()) == len(recording.minted()) == len(BUILT)


async def test_a_job_without_the_permission_is_told_what_to_add(tmp_path: Path) -> None:
    """Before anything is pushed."""
    async with scripted(tmp_path, BUILT, PENDING) as (pypi, stage):
        job = stage.job(*BUILT, **await pypi.job(Identity(permitted=False)))
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3
        assert "id-token: write" in ran.report.problem


async def test_a_refused_identity_is_shown_with_what_the_publisher_must_name(tmp_path: Path) -> None:
    """PyPI's own words, and the job's claims."""
    async with scripted(tmp_path, BUILT, PENDING) as (pypi, stage):
        job = stage.job(*BUILT, **await pypi.job(Identity(repository="octo/other")))
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3
        assert ran.report.outcome == "refused"
        assert "octo/other" in ran.report.problem
        assert not (await pypi.recording()).stored()
