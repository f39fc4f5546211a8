"""`overlay promote` against a scripted PyPI: a release goes live, exactly its bytes, without a gap."""

import asyncio
import hashlib
from dataclasses import replace
from pathlib import Path

from overlay.config.tables import LedgerConfig, StoreConfig
from tests.builders import Built, wheel
from tests.e2e.promoting import demo, scripted
from tests.pypi.builders import FLAG_DAY, flag_day
from tests.pypi.orders import TOKEN, WrongDigest, live
from tests.redis_servers import RedisServer
from tests.s3_server import S3Server


async def test_a_release_goes_live_as_it_was_staged(tmp_path: Path) -> None:
    """The wheel first; each file once; the report and the receipt say so."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        wanted = {one.filename: one.sha256 for one in built}
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.err + ran.out
        assert ran.report.outcome == "live"
        assert {file.filename: file.sha256 for file in ran.report.files} == wanted
        recording = await pypi.recording()
        assert recording.stored() == [built[0].filename, built[1].filename]
        assert len(recording.posts()) == 2
        (promotion,) = await stage.promotions("demo==1.1")
        assert promotion.state == "live"


# Other bytes


async def test_a_file_that_was_built_again_is_refused(tmp_path: Path) -> None:
    """With the usual cause and its mend; nothing is pushed or frozen."""
    built = demo()
    other = Built(built[0].filename, wheel("demo", "1.1", files={"demo/other.py": b"other"}).body)
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(other, built[1], TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3
        assert ran.report.outcome == "refused"
        assert "built again" in ran.report.problem
        assert not (await pypi.recording()).posts()
        assert await stage.promotions("demo==1.1") == ()
        await stage.put(other)  # nothing is frozen


async def test_bytes_that_changed_in_the_store_are_not_pushed(tmp_path: Path) -> None:
    """What is pushed was hashed on its way out of the store."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        (blob,) = (stage.served.store / "blobs").glob(f"*/{built[1].filename}")
        blob.chmod(0o644)
        blob.write_bytes(built[1].body[:-1] + bytes([built[1].body[-1] ^ 1]))
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3, ran.err
        assert hashlib.sha256(blob.read_bytes()).hexdigest() in ran.report.problem
        assert not (await pypi.recording()).posts()


async def test_bytes_that_changed_in_the_bucket_are_not_pushed(
    tmp_path: Path, s3_server: S3Server, s3_store: StoreConfig, valkey_server: RedisServer
) -> None:
    """Likewise with files in S3: what the bucket says of an object is not asked."""
    built, prefix = demo(), tmp_path.name
    store = replace(s3_store, path=str(tmp_path / "overlay"))
    ledger = LedgerConfig(kind="redis", url=valkey_server.url, prefix=prefix)
    async with scripted(tmp_path, built, store=store, ledger=ledger) as (pypi, stage):
        altered = await asyncio.to_thread(alter, s3_server, f"{prefix}/blobs/", built[1])
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3, ran.err
        assert altered in ran.report.problem
        assert not (await pypi.recording()).posts()


def alter(server: S3Server, prefix: str, built: Built) -> str:
    """Change one bit of a file's object; return its new sha256."""
    bucket = server.session.resource("s3", endpoint_url=server.endpoint_url).Bucket(server.bucket)
    (blob,) = (found for found in bucket.objects.filter(Prefix=prefix) if found.key.endswith(f"/{built.filename}"))
    body = built.body[:-1] + bytes([built.body[-1] ^ 1])
    bucket.put_object(Key=blob.key, Body=body)
    return hashlib.sha256(body).hexdigest()


async def test_a_name_that_is_live_with_other_bytes_is_refused(tmp_path: Path) -> None:
    """PyPI never lets a filename be used twice."""
    built = demo()
    other = Built(built[0].filename, wheel("demo", "1.1", files={"demo/other.py": b"other"}).body)
    async with scripted(tmp_path, built) as (pypi, stage):
        await pypi.do(live(other))
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3, ran.out
        assert built[0].filename in ran.report.problem
        assert not (await pypi.recording()).posts()


async def test_a_page_that_shows_another_digest_is_told_at_once(tmp_path: Path) -> None:
    """It is out, and not as it was tested: exit 1, with both digests."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        await pypi.do(WrongDigest(built[0].filename, "f" * 64))
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 1, ran.out
        assert "f" * 64 in ran.report.problem
        assert built[0].sha256 in ran.report.problem


async def test_what_is_live_already_is_not_pushed_again(tmp_path: Path) -> None:
    """With the pledged digest it counts as done; the command may be repeated for ever."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        await pypi.do(live(built[0]))
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        assert (await job.run(*job.dist)).code == 0
        assert (await pypi.recording()).stored() == [built[1].filename]
        again = await job.run("--json", *job.dist)
        assert again.code == 0, again.err
        assert len((await pypi.recording()).posts()) == 1


# What can be said on the command line


async def test_files_that_are_staged_and_not_named_are_refused_unless_it_is_meant(tmp_path: Path) -> None:
    """A forgotten wheel is noticed before its release is out."""
    built = [*demo(), wheel("demo", "1.1", tag="cp313-cp313-win_amd64")]
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(*built[:2], TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3
        assert built[2].filename in ran.report.problem
        assert (await job.run("--partial", *job.dist)).code == 0
        assert built[2].filename not in (await pypi.recording()).stored()


async def test_a_release_is_named_with_its_expected_digests(tmp_path: Path) -> None:
    """For a job without the files; without digests nothing is promoted."""
    built = demo()
    async with scripted(tmp_path, built) as (_, stage):
        job = stage.job(TWINE_PASSWORD=TOKEN)
        without = await job.run("demo==1.1")
        assert without.code == 2
        assert "--expect" in without.out + without.err
        (job.folder / "SHA256SUMS").write_text(f"{built[0].sha256}  {built[0].filename}\n")
        ran = await job.run(
            "demo==1.1", "--expect", "SHA256SUMS", "--expect", f"{built[1].filename}=sha256:{built[1].sha256}"
        )
        assert ran.code == 0, ran.err


async def test_a_dry_run_pushes_nothing_and_freezes_nothing(tmp_path: Path) -> None:
    """It fetches and proves, and says that nothing speaks against it."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--dry-run", *job.dist)
        assert ran.code == 0, ran.err
        assert "nothing was pushed" in ran.out
        assert not (await pypi.recording()).posts()
        await stage.put(wheel("demo", "1.1", files={"demo/other.py": b"other"}))


async def test_what_is_no_distribution_file_is_skipped_and_said(tmp_path: Path) -> None:
    """dist/* has a .gitignore and attestations, too."""
    built = demo()
    async with scripted(tmp_path, built) as (_, stage):
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        (job.folder / "dist" / ".gitignore").write_text("*")
        ran = await job.run(*job.dist)
        assert ran.code == 0
        assert "skipped .gitignore" in ran.err


async def test_no_credential_is_found_before_anything_is_pushed(tmp_path: Path) -> None:
    """An overlay's token is passed over with a warning."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(*built, TWINE_PASSWORD="ovl_" + "x" * 40)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 3, ran.out
        assert "ovl_" in ran.err
        assert "x" * 40 not in ran.err + ran.out
        assert not (await pypi.recording()).posts()


async def test_a_refused_credential_is_explained(tmp_path: Path) -> None:
    """With upstream's words; nothing was stored, and nothing stays frozen for good."""
    built = demo()
    async with scripted(tmp_path, built) as (pypi, stage):
        job = stage.job(*built, TWINE_PASSWORD=TOKEN.replace("pypi-", "pypi-A"))
        ran = await job.run("--json", *job.dist)
        assert ran.code == 1, ran.out
        assert "TWINE_PASSWORD" in ran.report.problem
        assert not (await pypi.recording()).stored()
        again = await stage.job(*built, TWINE_PASSWORD=TOKEN).run(*job.dist)
        assert again.code == 0, again.err


# Several projects


async def test_on_flag_day_all_of_it_goes_out_in_the_order_of_need_or_nothing(tmp_path: Path) -> None:
    """Five projects, 40 files: one that would be refused keeps all back; mended, each is live before who needs it."""
    releases = flag_day()
    built = [one for files in releases.values() for one in files]
    bad = Built(built[0].filename, built[0].body[:-1] + b"x")
    assert len(built) == 40
    async with scripted(tmp_path, built) as (pypi, stage):
        broken = stage.job(*built[1:], bad, TWINE_PASSWORD=TOKEN)
        assert (await broken.run(*broken.dist)).code == 3
        assert not (await pypi.recording()).posts()
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run("--json", *job.dist)
        assert ran.code == 0, ran.report.problem
        recording = await pypi.recording()
        stored = recording.stored()
        assert sorted(stored) == sorted(one.filename for one in built)
        assert not recording.early_sdists()
        places = {filename.partition("-")[0].replace("_", "-"): place for place, filename in enumerate(stored)}
        firsts: dict[str, int] = {}
        for place, filename in enumerate(stored):
            firsts.setdefault(filename.partition("-")[0].replace("_", "-"), place)
        for project, needs in FLAG_DAY.items():
            assert all(places[other] < firsts[project] for other in needs), project
