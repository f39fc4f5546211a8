"""Trusted Publishing at the scripted PyPI, by hand: identity tokens, the mint, and each of its refusals."""

import json
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest

from tests.builders import wheel
from tests.pypi.faults import Answer, Fault, Point
from tests.pypi.jobs import AUDIENCE, claims_of
from tests.pypi.orders import Advance, Job, Project, Publisher, Rules
from tests.pypi.sending import minted, page_files, send
from tests.pypi.server import ScriptedPypi, pypi

WHEEL = wheel("demo", "1.0")


@pytest.fixture
async def index() -> AsyncIterator[ScriptedPypi]:
    async with pypi() as index:
        await index.do(Project(name="demo"), Publisher(projects=("demo",)))
        yield index


async def identity(environment: Mapping[str, str], audience: str = AUDIENCE) -> str:
    """Ask for an identity token as a step of a GitHub job does."""
    headers = {"Authorization": f"bearer {environment['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    url = f"{environment['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience={audience}"
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200
        return str((await response.json())["value"])


async def mint(index: ScriptedPypi, body: object) -> tuple[int, dict[str, object]]:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{index.url}/_/oidc/mint-token", json=body) as response,
    ):
        return response.status, json.loads(await response.text())


async def refused(index: ScriptedPypi, token: object) -> tuple[str, str]:
    """Mint, and return the code and the description of the refusal."""
    status, answer = await mint(index, {"token": token})
    assert (status, answer["message"]) == (422, "Token request failed")
    assert isinstance(answer["errors"], list)
    (error,) = answer["errors"]
    return error["code"], error["description"]


async def test_a_job_publishes(index: ScriptedPypi) -> None:
    """Audience, identity, mint, upload: each new identity token is good for one mint, what is minted for 900 s."""
    async with aiohttp.ClientSession() as session, session.get(f"{index.url}/_/oidc/audience") as response:
        assert await response.json() == {"audience": AUDIENCE}
    environment = await index.job(Job())
    status, answer = await mint(index, {"token": await identity(environment)})
    assert (status, answer["success"]) == (200, True)
    assert isinstance(answer["expires"], int)
    assert abs(answer["expires"] - index.world.now_s() - 900) < 60
    token = str(answer["token"])
    assert token.startswith("pypi-")
    assert (await send(WHEEL, index.upload_url, token=token)).status == 200
    recording = await index.recording()
    assert [post.account for post in recording.posts()] == ["github:octo/demo"]
    assert [request.status for request in recording.minted()] == [200]
    await index.do(Advance(901))
    late = await send(wheel("demo", "2.0"), index.upload_url, token=token)
    assert (late.status, late.reason) == (403, "Invalid API Token: token is expired")
    assert (await mint(index, {"token": await identity(environment)}))[0] == 200


async def test_an_identity_token_is_good_once(index: ScriptedPypi) -> None:
    """A second mint with one identity token is refused; GitLab's fixed one is such a token."""
    token = await identity(await index.job(Job()))
    assert (await mint(index, {"token": token}))[0] == 200
    assert await refused(index, token) == ("invalid-reuse-token", "invalid token: already used")
    await index.do(Publisher(kind="gitlab", projects=("demo",), workflow=".gitlab-ci.yml"))
    environment = await index.job(Job(kind="gitlab", workflow=".gitlab-ci.yml"))
    assert (await mint(index, {"token": environment["SCRIPTED_ID_TOKEN"]}))[0] == 200
    assert (await refused(index, environment["SCRIPTED_ID_TOKEN"]))[0] == "invalid-reuse-token"


async def test_short_lives_end(index: ScriptedPypi) -> None:
    """Identity tokens end after their life and 30 s of leeway, minted ones after the life that is set."""
    await index.do(Rules(mint_life_s=20))
    environment = await index.job(Job(life_s=20))
    token, old = await identity(environment), await identity(environment)
    _, answer = await mint(index, {"token": token})
    await index.do(Advance(21))
    late = await send(WHEEL, index.upload_url, token=str(answer["token"]))
    assert late.reason == "Invalid API Token: token is expired"
    await index.do(Advance(30))
    assert await refused(index, old) == ("invalid-token", "malformed or invalid token")


OTHERS = {
    "workflow": Job(workflow="build.yml"),
    "repository": Job(repository="octo/other"),
    "owner": Job(owner_id="666"),
    "event": Job(event="pull_request_target"),
    "platform": Job(kind="gitlab", workflow="release.yml"),
}


@pytest.mark.parametrize("job", OTHERS.values(), ids=OTHERS)
async def test_another_job_is_no_publisher(index: ScriptedPypi, job: Job) -> None:
    """Repository, owner, workflow and event must be those of the publisher."""
    environment = await index.job(job)
    token = environment.get("SCRIPTED_ID_TOKEN") or await identity(environment)
    code, description = await refused(index, token)
    assert code == "invalid-publisher"
    assert description.startswith("valid token, but no corresponding publisher")


async def test_an_environment_counts_where_it_is_named(index: ScriptedPypi) -> None:
    """A publisher with an environment takes that one in any case of letters; one without takes all."""
    await index.do(Project(name="other"), Publisher(projects=("other",), workflow="deploy.yml", environment="Live"))
    assert (await refused(index, await identity(await index.job(Job(workflow="deploy.yml")))))[0] == "invalid-publisher"
    for job in (Job(workflow="deploy.yml", environment="live"), Job(environment="any")):
        assert (await mint(index, {"token": await identity(await index.job(job))}))[0] == 200


async def test_what_is_no_identity_is_refused(index: ScriptedPypi) -> None:
    """Each code of §2 that is about the token itself."""
    good = await identity(await index.job(Job()))
    head, claims, signature = good.split(".")
    assert (await refused(index, 7))[0] == "invalid-payload"
    assert await refused(index, "no.jwt") == ("invalid-payload", "malformed JWT")
    elsewhere = await identity(await index.job(Job(issuer="https://issuer.example")))
    assert await refused(index, elsewhere) == ("invalid-payload", "unknown trusted publishing issuer")
    for token in (
        await identity(await index.job(Job(forged=True))),
        await identity(await index.job(Job(algorithm="none"))),
        await identity(await index.job(Job()), audience="testpypi"),
        f"{head}.{claims}.{signature[:-8]}AAAAAAAA",
        f"{head}.{claims}.",
    ):
        assert await refused(index, token) == ("invalid-token", "malformed or invalid token")
    await index.do(Rules(issuers_off=("github",)))
    assert (await refused(index, good))[0] == "not-enabled"
    await index.do(Rules(trusted_publishing=False))
    async with aiohttp.ClientSession() as session, session.get(f"{index.url}/_/oidc/audience") as response:
        assert response.status == 403


async def test_a_pending_publisher_creates_its_project(index: ScriptedPypi) -> None:
    """The mint creates the project; a file of another name is refused, as is a project that exists by now."""
    await index.do(Publisher(projects=("New.Name",), workflow="new.yml", pending=True))
    token = await minted(index, Job(workflow="new.yml"))
    assert await page_files(index, "new-name") == {}
    wrong = await send(wheel("newname2", "1.0"), index.upload_url, token=token)
    assert wrong.reason.startswith("Non-user identities cannot create new projects.")
    assert (await send(wheel("new_name", "1.0"), index.upload_url, token=token)).status == 200
    await index.do(Publisher(projects=("demo",), workflow="late.yml", pending=True))
    late = await refused(index, await identity(await index.job(Job(workflow="late.yml"))))
    assert late == ("invalid-pending-publisher", "valid token, but project already exists")
    await index.do(Publisher(projects=("json",), workflow="bad.yml", pending=True))
    code, description = await refused(index, await identity(await index.job(Job(workflow="bad.yml"))))
    assert (code, description[:24]) == ("invalid-payload", "The name 'json' isn't al")


async def test_a_minted_token_is_for_its_projects(index: ScriptedPypi) -> None:
    """Another project that exists is refused with the words of an OIDC token."""
    await index.do(Project(name="other"))
    answered = await send(wheel("other", "1.0"), index.upload_url, token=await minted(index, Job()))
    assert answered.reason == "Invalid API Token: OIDC scoped token is not valid for project 'other'"


async def test_a_job_without_permission_has_no_identity(index: ScriptedPypi) -> None:
    """Its environment lacks the variables; a secret that is none gets 401; the endpoint can fail."""
    assert "ACTIONS_ID_TOKEN_REQUEST_URL" not in await index.job(Job(permitted=False))
    assert "SCRIPTED_ID_TOKEN" not in await index.job(Job(kind="gitlab", permitted=False))
    environment = await index.job(Job())
    url = environment["ACTIONS_ID_TOKEN_REQUEST_URL"]
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            assert response.status == 401
        for point in (Point.AUDIENCE, Point.AMBIENT, Point.MINT):
            await index.do(Fault(point, Answer(500)))
        async with session.get(url) as response:
            assert response.status == 500
        async with session.get(f"{index.url}/_/oidc/audience") as response:
            assert response.status == 500
        async with session.post(f"{index.url}/_/oidc/mint-token", json={}) as response:
            assert response.status == 500


def test_claims_name_the_job() -> None:
    """A job's claims are those that the documentation of its platform names."""
    claims = claims_of(Job(environment="live"), audience=AUDIENCE, jti="1", now_s=1000.9)
    assert claims["sub"] == "repo:octo/demo:environment:live"
    assert claims["job_workflow_ref"] == "octo/demo/.github/workflows/release.yml@refs/heads/main"
    assert (claims["iat"], claims["exp"]) == (1000, 1300)
