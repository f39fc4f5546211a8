"""What the scripted PyPI says of files (steps 30 to 40 of legacy-upload §3), of forms, and how it says it."""

import dataclasses
import json

import aiohttp
import pytest

from tests.builders import Built, metadata, sdist, tar_of, wheel, zip_of
from tests.pypi import orders
from tests.pypi.attestations import PROVENANCE, attestation
from tests.pypi.orders import DAY_S, TOKEN, Job, Project, Publisher
from tests.pypi.sending import Sending, minted, page_files
from tests.pypi.server import pypi

SDIST = sdist("demo", "1.0")


def odd_wheel(filename: str = "demo-1.0-py3-none-any.whl", **members: bytes | None) -> Built:
    """Build a wheel with members replaced, or left out (None); `__` stands for a dot or slash in their names."""
    held: dict[str, bytes] = {
        "demo-1.0.dist-info/METADATA": metadata("demo", "1.0"),
        "demo-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\n",
        "demo-1.0.dist-info/RECORD": b"",
    }
    for name, body in members.items():
        path = f"demo-1.0.dist-info/{name}"
        held = {kept: text for kept, text in held.items() if kept != path} | ({} if body is None else {path: body})
    return Built(filename, zip_of(held))


WHEEL = odd_wheel()
WHEELS = {
    "35 no zip": (Built(WHEEL.filename, b"nothing"), "Invalid distribution file. File is not a zipfile"),
    "35 both": (
        Built(WHEEL.filename, tar_of({"a": b""}) + WHEEL.body),
        "Invalid distribution file. File is both a zip",
    ),
    "35 WHEEL": (odd_wheel(WHEEL=None), "Invalid distribution file. WHEEL not found at demo-1.0.dist-info/WHEEL"),
    "35 ratio": (odd_wheel(zeros=bytes(70 * 2**20)), "Invalid distribution file. File exceeds compression ratio of 50"),
    "35 before": (Built(WHEEL.filename, b"x" + WHEEL.body), "Invalid distribution file. ZIP archive not accepted: "),
    "35 after": (Built(WHEEL.filename, WHEEL.body + b"x"), "Invalid distribution file. ZIP archive not accepted: "),
    "38 name": (odd_wheel("demo-1.0-py3-any.whl"), "Invalid wheel filename (wrong number of parts)"),
    "38 platform": (
        odd_wheel("demo-1.0-cp311-cp311-linux_x86_64.whl"),
        "Binary wheel 'demo-1.0-cp311-cp311-linux_x86_64.whl' has an unsupported platform tag 'linux_x86_64'.",
    ),
    "38 project": (wheel("other", "1.0"), "Start filename for 'demo' with 'demo'."),
    "38 version": (wheel("demo", "2.0"), "Version in filename should be '1.0' not '2.0'."),
    "39 RECORD": (
        odd_wheel(RECORD=None),
        "Wheel 'demo-1.0-py3-none-any.whl' does not contain the required RECORD file",
    ),
    "39 METADATA": (
        odd_wheel(METADATA=None),
        "Wheel 'demo-1.0-py3-none-any.whl' does not contain the required METADATA",
    ),
}


@pytest.mark.parametrize(("built", "starts"), WHEELS.values(), ids=WHEELS)
async def test_a_bad_wheel_is_refused(built: Built, starts: str) -> None:
    """Steps 35, 38 and 39 look at the archive and its name, before 40 looks at attestations."""
    sending = Sending.of(WHEEL).with_file(built).but(attestations="[]")
    async with pypi() as index:
        answered = await sending.to(index.upload_url)
        assert (answered.status, answered.message[: len(starts)]) == (400, starts)
        assert (await index.recording()).posts()[0].outcome == "refused"
        assert (await Sending.of(WHEEL).to(index.upload_url)).status == 200


async def test_more_of_the_table() -> None:
    """What the chain of one sdist cannot meet: spelled names, entry points, a licence, a stdlib name, an old sdist."""
    spelled = Built("Demo-1.0-py3-none-any.whl", zip_of({"Demo-1.0.dist-info/WHEEL": b""}))
    members: dict[str, bytes | None] = {"entry_points.txt": b"[console_scripts\nx = y"}
    bad_points = odd_wheel("demo-1.0-py3-none-any.whl", **members)
    licensed = Sending.of(WHEEL).but(metadata_version="2.4", license_file="LICENSE")
    cases = [
        (Sending.of(WHEEL).with_file(spelled), "Filename 'Demo-1.0-py3-none-any.whl' should contain the normalized "),
        (Sending.of(WHEEL).with_file(bad_points), "Wheel 'demo-1.0-py3-none-any.whl' has invalid entry points "),
        (licensed, "License-File LICENSE does not exist in distribution file demo-1.0-py3-none-any.whl"),
        (Sending.of(sdist("json", "1.0")), "The name 'json' isn't allowed (conflict with Python Standard Library "),
        (Sending.of(SDIST).with_file(Built("demo-1.0.zip", WHEEL.body)), "Filename 'demo-1.0.zip' is invalid, should "),
        (Sending.of(SDIST).with_file(Built(SDIST.filename, tar_of({"a/PKG-INFO": b"", "b/x": b""}))), "Invalid distr"),
        (Sending.of(WHEEL).but(requires_dist="x @ https://index.example/x.whl"), "Can't have direct dependency: "),
        (Sending.of(WHEEL).but(classifiers="No :: Such"), "'No :: Such' is not a valid classifier. See "),
        (Sending.of(WHEEL).but(project_urls="Home, ftp://index.example"), "'ftp://index.example' is not a valid url"),
        (Sending.of(WHEEL).but(author_email="nobody"), "'nobody' is not a valid email address"),
        (Sending.of(WHEEL).but(summary=["a", "b"]), "'summary' has invalid data"),
        (Sending.of(WHEEL).but(pyversion=[]), "Invalid value for pyversion. Error: Python version is required "),
    ]
    async with pypi() as index:
        for sending, starts in cases:
            answered = await sending.to(index.upload_url)
            assert (answered.status, answered.message[: len(starts)]) == (400, starts)
        assert (await index.recording()).stored() == []


async def test_duplicates_are_told_apart() -> None:
    """The very file is 200 and stored once, even in an old release; its bytes under another name are 400."""
    same_bytes = Built("demo-1.0-py2.py3-none-any.whl", WHEEL.body)
    async with pypi() as index:
        assert (await Sending.of(WHEEL).to(index.upload_url)).status == 200
        await index.do(orders.Advance(20 * DAY_S))
        assert (await Sending.of(WHEEL).to(index.upload_url)).status == 200
        answered = await Sending.of(same_bytes).to(index.upload_url)
        assert (answered.status, answered.message[:20]) == (400, "File already exists ")
        recording = await index.recording()
        assert [post.outcome for post in recording.posts()] == ["stored", "identical", "refused"]
        assert recording.stored() == [WHEEL.filename]


async def test_unknown_is_dropped_and_old_actions_are_gone() -> None:
    """Step 1, §1's redirect and retired actions, and a wrong method."""
    async with pypi() as index:
        assert (await Sending.of(WHEEL).but(home_page="UNKNOWN").to(index.upload_url)).status == 200
        moved = await Sending.of(WHEEL).to(index.upload_url.removesuffix("/"))
        assert (moved.status, moved.headers["Location"]) == (308, "/legacy/")
        assert (await Sending.of(WHEEL).but(**{":action": "submit"}).to(index.upload_url)).status == 410
        async with aiohttp.ClientSession() as session, session.get(index.upload_url) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/html; charset=UTF-8"),
        ("application/json;q=0.9, text/plain;q=0.8, text/html;q=0.7", "application/json"),
        ("text/plain", "text/plain; charset=UTF-8"),
    ],
)
async def test_a_refusal_comes_as_it_is_accepted(accept: str, kind: str) -> None:
    """The message is in the reason phrase and in a body of the accepted type."""
    async with pypi() as index:
        answered = await dataclasses.replace(Sending.of(WHEEL), headers={}).to(index.upload_url, accept=accept)
    assert answered.headers["Content-Type"] == kind
    assert answered.reason == "Invalid or non-existent authentication information."
    assert answered.reason in answered.body


@pytest.mark.parametrize("scheme", ["Bearer", "token"])
async def test_a_token_may_come_without_basic(scheme: str) -> None:
    """`Authorization: Bearer` and `token` are taken as well (§8)."""
    sending = dataclasses.replace(Sending.of(WHEEL), headers={"Authorization": f"{scheme} {TOKEN}"})
    async with pypi() as index:
        assert (await sending.to(index.upload_url)).status == 200
        assert (await index.recording()).posts()[0].credential == "bearer"


async def test_attestations_belong_to_their_publisher() -> None:
    """Step 40: only with Trusted Publishing, by its workflow, of these bytes, each kind once."""
    job, other = Job(), Job(workflow="build.yml")
    good, proof = (
        attestation(WHEEL.filename, WHEEL.sha256, job),
        attestation(WHEEL.filename, WHEEL.sha256, job, predicate=PROVENANCE),
    )
    bad: dict[str, object] = {
        "other workflow": [attestation(WHEEL.filename, WHEEL.sha256, other)],
        "other file": [attestation("demo-2.0.tar.gz", WHEEL.sha256, job)],
        "other bytes": [attestation(WHEEL.filename, SDIST.sha256, job)],
        "other kind": [attestation(WHEEL.filename, WHEEL.sha256, job, predicate="https://index.example")],
        "twice": [good, good],
        "none": [],
        "no list": good,
        "unsigned": [{**good, "envelope": proof["envelope"]}],
    }
    async with pypi() as index:
        await index.do(Project(name="demo"), Publisher(projects=("Demo",)))
        sending = Sending.of(WHEEL, await minted(index, job))
        for name, value in bad.items():
            answered = await sending.but(attestations=json.dumps(value)).to(index.upload_url)
            assert (answered.status, answered.message[:28]) == (400, "Invalid attestations supplie"), name
        by_user = await Sending.of(WHEEL).but(attestations=json.dumps([good])).to(index.upload_url)
        assert (by_user.status, "Trusted Publishing" in by_user.message) == (400, True)
        assert (await sending.but(attestations=json.dumps([good, proof])).to(index.upload_url)).status == 200
        page = await page_files(index, "demo")
        assert page is not None
        assert str(page[WHEEL.filename]["provenance"]).startswith(index.url)
