"""deploy/ci/gitlab-ci.yml: the script of its promoting job, run as GitLab runs it, on a repository of this machine."""

import asyncio
import shutil
import subprocess
from pathlib import Path

from tests.builders import sdist, wheel
from tests.deploy.ci_steps import CI, GITLAB, read, runner
from tests.e2e.promoting import staged
from tests.pypi.orders import Job as Identity
from tests.pypi.orders import Publisher
from tests.pypi.process import pypi_process
from tests.running import ADMIN

CONFIGURATION = ".gitlab-ci.yml"


def commit_of(repository: Path) -> str:
    """Commit our scripts to a repository of their own; return the commit's id."""
    shutil.copytree(CI, repository / "deploy" / "ci")
    author = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    for words in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "one")):
        subprocess.run(["git", *words], cwd=repository, check=True)
    asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    return asked.stdout.strip()


async def test_the_job_promotes_by_its_identity(tmp_path: Path) -> None:
    """All lines of it, with one identity for both files; REF is a full commit id, which no clone takes."""
    built = [wheel("demo", "1.1"), sdist("demo", "1.1")]
    commit = await asyncio.to_thread(commit_of, tmp_path / "repository")
    job = read(GITLAB)["promote"]
    assert job["id_tokens"] == {"PYPI_ID_TOKEN": {"aud": "pypi"}}
    lines = "\n".join(job["script"])
    lines = lines.replace("https://example.com/OWNER/overlay.git", (tmp_path / "repository").as_uri())
    lines = lines.replace("REF", commit)
    identity = Identity(kind="gitlab", workflow=CONFIGURATION)
    publisher = Publisher(projects=("demo",), kind="gitlab", workflow=CONFIGURATION, pending=True)
    async with pypi_process() as pypi:
        await pypi.do(publisher)
        folder = tmp_path / "job"
        folder.mkdir()
        made = runner(folder, pypi, built)
        for name in ("TWINE_PASSWORD", "RUNNER_TEMP", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "FILES"):
            del made.environment[name]
        made.environment |= await pypi.job(identity)
        async with staged(tmp_path, pypi.simple_url, pypi.upload_url, built) as stage:
            code, said = await made.step(lines, OVERLAY_URL=stage.served.url, INDEX_PROMOTE_TOKEN=ADMIN)
            assert code == 0, said
            (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "live"
        recording = await pypi.recording()
        assert recording.stored() == [one.filename for one in built]
        assert len(recording.minted()) == 1
