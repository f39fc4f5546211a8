"""The scripted PyPI refuses what legacy-upload §3 says, in its order."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from tests.builders import Built, sdist, tar_of, wheel
from tests.pypi import orders
from tests.pypi.orders import TOKEN, Job, Order, Project, Publisher, Rules, Token, live, pypi_token
from tests.pypi.sending import Sending, minted
from tests.pypi.server import pypi
from tests.running import basic

SDIST = sdist("demo", "1.0")
EXPIRED = pypi_token("expired")
ELSEWHERE = pypi_token("elsewhere")
MINTED_FOR = "other"


def no_change(sending: Sending) -> Sending:
    return sending


@dataclass(frozen=True)
class Step:
    """What is refused first, and what mends it; `orders` change the index for the next step."""

    number: str
    status: int
    starts: str
    mend: Callable[[Sending], Sending] = no_change
    orders: tuple[Order, ...] = ()


def with_token(text: str) -> Callable[[Sending], Sending]:
    return lambda sending: dataclasses.replace(sending, headers=basic(text))


def but(**fields: str | list[str]) -> Callable[[Sending], Sending]:
    return lambda sending: sending.but(**fields)


def named(filename: str) -> Callable[[Sending], Sending]:
    return lambda sending: dataclasses.replace(sending, filename=filename)


def filled(built: Built, **fields: str) -> Callable[[Sending], Sending]:
    return lambda sending: sending.with_file(built).but(**fields)


def everything_wrong() -> Sending:
    """An upload that nearly every step refuses."""
    sending = Sending.of(SDIST).but(
        protocol_version="2",
        name="-demo-",
        filetype="bdist_egg",
        sha256_digest=[],
        blake2_256_digest=[],
        pyversion="py3",
        metadata_version="7.0",
        version="1.0+local",
        summary="two\nlines",
        description="`broken",
        license_file="LICENSE",
        attestations="[]",
    )
    return dataclasses.replace(sending, body=None, headers={}, as_file="comment", part_type="image/png")


UNVERIFIED = Rules(unverified=("ada",), inactive=("demo",))
PICTURE = sdist("demo", "1.0", payload=b"picture")
CHAIN = (
    Step("2", 400, "comment: Should not be a tuple.", lambda sending: dataclasses.replace(sending, as_file="")),
    Step("3", 403, "Read-only mode: Uploads are temporarily disabled.", orders=(Rules(uploads_disabled=True),)),
    Step("4", 403, "New uploads are temporarily disabled.", orders=(Rules(),)),
    Step(
        "5",
        403,
        "Invalid or non-existent authentication information.",
        lambda sending: dataclasses.replace(sending, headers={"Authorization": aiohttp.encode_basic_auth("ada", "x")}),
    ),
    # The token that the test mints is put in by the test.
    Step("6", 403, "Username/Password authentication is no longer supported."),
    Step("7", 400, "Unknown protocol version.", but(protocol_version="1")),
    Step("8", 400, "'-demo-' is an invalid value for Name. Error: ", but(name="demo")),
    Step("9", 400, "Invalid value for filetype. Error: ", but(filetype="sdist", sha256_digest="abc")),
    Step("9", 400, "Invalid value for sha256_digest. Error: ", but(sha256_digest=[])),
    Step("9", 400, "Invalid value for pyversion. Error: ", but(pyversion="source")),
    Step("10", 400, "Error: Include at least one message digest.", but(sha256_digest="0" * 64)),
    Step("11", 400, "'7.0' is not a valid metadata version", but(metadata_version="2.4")),
    Step("11", 400, "'summary' must be a single line", but(summary="one line")),
    Step("11", 400, "The use of local versions in '1.0+local' is not allowed. See ", but(version="1.0")),
    Step(
        "12",
        400,
        "Upload payload does not have a file.",
        lambda sending: dataclasses.replace(sending, body=PICTURE.body, filename="a\x01/b.exe"),
    ),
    Step(
        "13", 400, "Non-user identities cannot create new projects.", with_token(EXPIRED), (Rules(unverified=("ada",)),)
    ),
    Step(
        "20",
        403,
        "User 'ada', associated with the API token used, does not have ",
        orders=(Rules(new_projects_left=0, registration_disabled=True),),
    ),
    Step("16", 429, "Too many new projects created", orders=(Rules(registration_disabled=True),)),
    Step("17", 403, "New project registration temporarily disabled.", orders=(Rules(contested=("DEMO",)),)),
    Step("15", 409, "The name 'demo' conflicts with an existing project.", orders=(Rules(prohibited=("demo",)),)),
    Step("14", 400, "The name 'demo' isn't allowed", orders=(Rules(), Project(name="de-m0"))),
    Step(
        "14", 400, "The name 'demo' is too similar to an existing project.", orders=(Project(name="demo", owners=()),)
    ),
    Step("18", 403, "Invalid API Token: token is expired", with_token(ELSEWHERE)),
    Step("18", 403, "Invalid API Token: project-scoped token is not valid for project: 'demo'", with_token(TOKEN)),
    Step(
        "19",
        403,
        "The user 'ada' isn't allowed to upload to project 'demo'.",
        orders=(Project(name="demo"), orders.Status("demo", "archived"), UNVERIFIED),
    ),
    Step(
        "19",
        403,
        "The user 'ada' isn't allowed to upload to project 'demo'.",
        orders=(orders.Status("demo", "active"),),
    ),
    Step("20", 403, "User 'ada', associated with ", orders=(Rules(inactive=("demo",), file_limit_bytes=100),)),
    Step(
        "21",
        400,
        "Organization account owning this project is inactive.",
        orders=(Rules(file_limit_bytes=100, project_limit_bytes=100),),
    ),
    Step("22", 400, "The description failed to render in the default format ", but(description="fine")),
    Step("23", 400, "Cannot upload a file with non-printable characters ", named("a/b.exe")),
    Step("24", 400, "Cannot upload a file with '/' or '\\' in the name.", named("b.exe")),
    Step("25", 400, "Invalid file extension: ", named("demo-1.0-py3-none-any.whl")),
    Step("25", 400, "Invalid file extension: Extension .whl is invalid for filetype sdist", named("demo-1.0.tar.gz")),
    Step("26", 400, "Invalid distribution file.", lambda sending: dataclasses.replace(sending, part_type="")),
    Step("27", 400, "File too large. Limit for project 'demo' is 0 MB.", orders=(Rules(project_limit_bytes=100),)),
    Step(
        "28",
        400,
        "Project size too large. Limit for project 'demo' total size is 0 GB.",
        orders=(Rules(), live(SDIST), live(wheel("demo", "2.0"), uploaded_at_s=0.0), live(sdist("demo", "3.0.0"))),
    ),
    Step("29", 400, "The digest supplied does not match a digest calculated ", filled(PICTURE)),
    Step(
        "31",
        400,
        "File already exists ('demo-1.0.tar.gz', with blake2_256 hash '",
        orders=(orders.Delete(SDIST.filename),),
    ),
    Step(
        "32",
        400,
        "This filename was previously used by a file that has since ",
        filled(Built("demo-2.0.tar.gz", b"no archive, too old"), version="2.0"),
    ),
    Step(
        "33",
        400,
        "Uploading new files to releases older than 14 days is not allowed.",
        filled(Built("demo-3.0.tar.gz", b"no archive, the second sdist"), version="3.0"),
    ),
    Step(
        "34",
        400,
        "Only one sdist may be uploaded per release.",
        filled(Built("demo-4-0.tar.gz", b"no archive"), version="4.0"),
    ),
    Step(
        "35",
        400,
        "Invalid distribution file. File is not a tarfile",
        filled(Built("demo-4-0.tar.gz", tar_of({"demo-4.0/PKG-INFO": b""}))),
    ),
    Step("36", 400, "Start filename for 'demo' with 'demo'.", named("Demo-4.0.tar.gz")),
    Step("36", 400, "Filename 'Demo-4.0.tar.gz' is invalid, should be 'demo-4.0.tar.gz'.", named("demo-4.0.tar.gz")),
    Step("37", 400, "License-File LICENSE does not exist in distribution file demo-4.0.tar.gz", but(license_file=[])),
    Step("40", 400, "Invalid attestations supplied during upload: ", but(attestations=[])),
)


async def test_every_step_refuses_before_the_next_one() -> None:
    """An upload with every fault is refused in the order of the table, mend by mend, until it is stored."""
    async with pypi() as index:
        await index.do(
            Rules(read_only=True, uploads_disabled=True),
            Token(text=EXPIRED, expires_at_s=1.0, projects=(MINTED_FOR,)),
            Token(text=ELSEWHERE, projects=(MINTED_FOR,)),
            Project(name=MINTED_FOR),
            Publisher(projects=(MINTED_FOR,)),
        )
        minted_token = await minted(index, Job())
        sending = everything_wrong()
        for step in CHAIN:
            answered = await sending.to(index.upload_url)
            assert (answered.status, answered.message[: len(step.starts)]) == (step.status, step.starts), step.number
            assert answered.reason.startswith(step.starts), step.number
            sending = with_token(minted_token)(sending) if step.number == "6" else step.mend(sending)
            await index.do(*step.orders)
        assert (await index.recording()).stored() == []
        assert (await sending.to(index.upload_url)).status == 200
        assert (await index.recording()).stored() == ["demo-4.0.tar.gz"]
