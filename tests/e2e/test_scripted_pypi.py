"""Real clients take the scripted PyPI of the tests for an index: they upload to it, mint at it and read it."""

from pathlib import Path

from tests.builders import sdist, wheel
from tests.clients import Clients, installed, write_files, write_project
from tests.pypi.builders import FLAG_DAY, flag_day
from tests.pypi.orders import TOKEN, Job, Project, Publisher
from tests.pypi.server import pypi


async def test_twine_uploads_a_release(clients: Clients, tmp_path: Path) -> None:
    """Twine uploads wheel and sdist, and the recording shows what it sent; an unknown token is refused in words."""
    files = write_files(tmp_path / "dist", sdist("demo", "1.0", requires=["flag>=1"]), wheel("demo", "1.0"))
    async with pypi() as index:
        ran = await clients.twine_upload(index.upload_url, TOKEN, *files)
        assert ran.code == 0, ran.output
        recording = await index.recording()
        assert recording.stored() == ["demo-1.0-py3-none-any.whl", "demo-1.0.tar.gz"]
        assert recording.early_sdists() == []
        post = recording.posts("demo-1.0.tar.gz")[0]
        assert (post.credential, post.account, post.status) == ("token", "ada", 200)
        assert post.content_length == post.body_bytes
        assert post.fields["requires_dist"] == ["flag>=1"]
        refused = await clients.twine_upload(index.upload_url, "pypi-unknown", *files)
        assert "Invalid or non-existent authentication information." in refused.output
        assert (await index.recording()).posts()[-1].credential == "token"


async def test_pdm_publishes_as_a_job(clients: Clients, tmp_path: Path) -> None:
    """PDM, with the package `id`, takes the environment of a job for GitHub's, mints and uploads."""
    folder = write_project(tmp_path / "demo", "demo", "1.0", files=[wheel("demo", "1.0")])
    async with pypi() as index:
        await index.do(Project(name="demo"), Publisher(projects=("demo",)))
        environment = await index.job(Job())
        ran = await clients.run(
            "pdm", "publish", "--no-build", "--repository", index.upload_url, folder=folder, extra=environment
        )
        assert ran.code == 0, ran.output
        recording = await index.recording()
    assert [request.path for request in recording.requests] == [
        "/_/oidc/audience",
        "/ambient/token",
        "/_/oidc/mint-token",
        "/legacy/",
    ]
    assert recording.posts()[0].account == "github:octo/demo"


async def test_the_flag_day_installs(clients: Clients, tmp_path: Path) -> None:
    """Forty files of five projects are valid uploads, and pip and uv install what needs all of them."""
    built = flag_day()
    files = write_files(tmp_path / "dist", *(file for files in built.values() for file in files))
    assert len(files) == 40
    async with pypi() as index:
        ran = await clients.twine_upload(index.upload_url, TOKEN, *files)
        assert ran.code == 0, ran.output
        assert len((await index.recording()).stored()) == 40
        ran = await clients.pip_install(index.simple_url, "flag-all", tmp_path / "by-pip")
        assert ran.code == 0, ran.output
        ran = await clients.uv_pip_install(index.simple_url, "flag-all", tmp_path / "by-uv")
        assert ran.code == 0, ran.output
    everything = dict.fromkeys(FLAG_DAY, "2.0")
    assert installed(tmp_path / "by-pip") == installed(tmp_path / "by-uv") == everything
