"""/api/v1/promotions over HTTP: what a run of `overlay promote` asks, and what everybody may read."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from overlay.config.tables import Config, PromoteConfig, ReadConfig, UpstreamConfig
from tests.builders import Built, sdist, wheel
from tests.clock import Clock
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, UPSTREAM_S, Running, config_for, running
from tests.staged import GIVEN_UP
from tests.web.test_api import Said, call

WHEEL = wheel("demo", "1.0")
SOURCE = sdist("demo", "1.0")
TARGET = "http://127.0.0.1:3141/legacy/"
RUN = "a" * 32
NOBODY = "f" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path, index: ScriptedIndex) -> Config:
    upstream = UpstreamConfig(url=index.simple_url, upload_url=TARGET, timeout_s=UPSTREAM_S)
    return config_for(tmp_path / "store", "", upstream=upstream, promote=PromoteConfig(lease_s=30, absent_s=45))


@pytest.fixture
async def overlay(config: Config, clock: Clock) -> AsyncIterator[Running]:
    async with running(config, now_s=clock) as served:
        for built in (WHEEL, SOURCE):
            assert (await served.upload(built)).status == 200
        yield served


def order(*files: Built, release: str = "demo==1.0", holder: str = RUN, **changes: object) -> dict[str, object]:
    pledges = [{"filename": file.filename, "sha256": file.sha256} for file in files]
    return {"releases": [release], "pledges": pledges, "holder": holder, **changes}


async def plan(overlay: Running, *files: Built, token: str = ADMIN, **changes: object) -> Said:
    return await call(overlay, "POST", "/promotions", token=token, body=order(*files, **changes))  # type: ignore[arg-type]


async def planned(overlay: Running) -> dict[str, Any]:
    said = await plan(overlay, WHEEL, SOURCE)
    assert said.status == 201
    found: dict[str, Any] = said.body["promotion"]
    return found


async def journal(overlay: Running, promotion: dict[str, Any], number: int, state: str, **changes: object) -> Said:
    path = f"/promotions/{promotion['id']}/files/{promotion['files'][number]['upload_id']}"
    return await call(overlay, "PUT", path, token=ADMIN, body={"fence": 1, "state": state, **changes})


async def test_a_plan_says_all_that_a_run_needs(overlay: Running, index: ScriptedIndex) -> None:
    """What to push where, in which order, and for how long it may be silent."""
    said = await plan(overlay, WHEEL, SOURCE)
    assert (said.status, said.headers["Cache-Control"]) == (201, "no-store")
    body = said.body
    assert (body["upstream"], body["fence"], body["lease_s"], body["absent_s"]) == (index.simple_url, 1, 30, 45)
    assert (body["new_projects"], body["already_live"], body["warnings"]) == (["demo"], [], [])
    promotion = body["promotion"]
    assert (promotion["target"], promotion["state"], promotion["stage"]) == (TARGET, "running", "main")
    assert promotion["leased_until"] > promotion["planned_at"]
    assert [(file["filename"], file["wave"], file["state"]) for file in promotion["files"]] == [
        (WHEEL.filename, 0, "planned"),
        (SOURCE.filename, 1, "planned"),
    ]
    for file, built in zip(promotion["files"], (WHEEL, SOURCE), strict=True):
        async with overlay.session.get(file["url"]) as response:
            assert await response.read() == built.body


async def test_what_is_live_is_said_with_its_address(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """All of it: there is no promotion."""
    index.add(WHEEL, SOURCE)
    clock.now_s += 61
    said = await plan(overlay, WHEEL, SOURCE)
    assert (said.status, said.body["promotion"], said.body["fence"]) == (201, None, 0)
    assert [live["filename"] for live in said.body["already_live"]] == [WHEEL.filename, SOURCE.filename]
    async with overlay.session.get(said.body["already_live"][0]["url"]) as response:
        assert await response.read() == WHEEL.body


async def test_a_promotion_says_what_was_live_before(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """With digest and address, for as long as it is known."""
    index.add(WHEEL)
    clock.now_s += 61
    said = await plan(overlay, WHEEL, SOURCE)
    (live,) = said.body["already_live"]
    assert (live["filename"], live["sha256"]) == (WHEEL.filename, WHEEL.sha256)
    held = await call(overlay, "GET", f"/promotions/{said.body['promotion']['id']}")
    assert held.body["already_live"] == [live]


async def test_a_refusal_says_every_reason(overlay: Running) -> None:
    """As a problem with a type of its own."""
    rebuilt = sdist("demo", "1.0", payload=b"built again")
    said = await plan(overlay, rebuilt)
    assert said.status == 409
    assert said.body["type"] == "urn:overlay:promotion-refused"
    assert [(refusal["rule"], refusal["filename"]) for refusal in said.body["refusals"]] == [
        ("pledge-differs", SOURCE.filename),
        ("not-named", WHEEL.filename),
    ]
    assert said.body["detail"] == "\n".join(refusal["sentence"] for refusal in said.body["refusals"])
    assert (await call(overlay, "GET", "/promotions")).body == {"promotions": []}


async def test_another_run_is_told_until_when(overlay: Running, clock: Clock) -> None:
    """And takes the promotion up after that; the run before is told that it is lost."""
    promotion = await planned(overlay)
    said = await plan(overlay, WHEEL, SOURCE, holder="b" * 32)
    assert (said.status, said.body["type"]) == (409, "urn:overlay:promotion-running")
    assert said.body["leased_until"] == promotion["leased_until"]
    await journal(overlay, promotion, 0, "pushing")
    clock.now_s += 31
    taken = await plan(overlay, WHEEL, SOURCE, holder="b" * 32)
    assert (taken.body["promotion"]["id"], taken.body["fence"]) == (promotion["id"], 2)
    lost = await call(overlay, "POST", f"/promotions/{promotion['id']}/lease", token=ADMIN, body={"fence": 1})
    assert (lost.status, lost.body["type"]) == (409, "urn:overlay:promotion-lost")


async def test_uploads_to_a_frozen_release_are_refused(overlay: Running) -> None:
    """With who promotes it and what to do."""
    await planned(overlay)
    refused = await overlay.upload(wheel("demo", "1.0", tag="py2-none-any"))
    assert refused.status == 400
    assert "is being promoted by operator" in refused.body
    assert (await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)).status == 409


async def test_a_run_from_its_plan_to_its_receipt(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """Each step is there for everybody to read."""
    promotion = await planned(overlay)
    name = promotion["id"]
    leased = await call(overlay, "POST", f"/promotions/{name}/lease", token=ADMIN, body={"fence": 1})
    assert leased.body == {"leased_until": promotion["leased_until"]}
    for number, built in enumerate((WHEEL, SOURCE)):
        assert (await journal(overlay, promotion, number, "pushing")).body["state"] == "pushing"
        index.add(built)
        pushed = await journal(overlay, promotion, number, "pushed", status=200, said="OK")
        assert (pushed.body["state"], pushed.body["status"], pushed.body["said"]) == ("pushed", 200, "OK")
    (seen,) = (await call(overlay, "GET", "/promotions")).body["promotions"]
    assert [file["state"] for file in seen["files"]] == ["pushed", "pushed"]
    clock.now_s += 2
    looked = await call(overlay, "POST", f"/promotions/{name}/look", token=ADMIN, body={"fence": 1})
    assert looked.body["ended"] is True
    assert [(file["seen"], file["sha256"]) for file in looked.body["files"]] == [
        ("live", WHEEL.sha256),
        ("live", SOURCE.sha256),
    ]
    receipt = (await call(overlay, "GET", f"/promotions/{name}")).body
    assert (receipt["state"], receipt["ended_by"], receipt["leased_until"]) == ("live", "operator", None)
    assert [file["state"] for file in receipt["files"]] == ["live", "live"]
    assert (await call(overlay, "GET", "/promotions?limit=0")).body == {"promotions": []}
    for query in ("limit=1000", "project=Demo", "release=Demo==v1.0", "release=other==1&release=demo==1.0"):
        assert (await call(overlay, "GET", f"/promotions?{query}")).body == {"promotions": [receipt]}
    for query in ("project=other", "release=demo==1.0&stage=flag-day"):
        assert (await call(overlay, "GET", f"/promotions?{query}")).body == {"promotions": []}


async def test_a_run_that_ends_before_a_push_thaws_and_one_that_ends_later_waits(overlay: Running) -> None:
    """Giving up needs no fence."""
    first = await planned(overlay)
    ended = await call(overlay, "POST", f"/promotions/{first['id']}/end", token=ADMIN, body={"fence": 1})
    assert (ended.status, ended.body["state"]) == (200, "abandoned")
    assert (await call(overlay, "GET", f"/promotions/{first['id']}")).status == 404
    second = await planned(overlay)
    await journal(overlay, second, 0, "pushing")
    ended = await call(overlay, "POST", f"/promotions/{second['id']}/end", token=ADMIN, body={"fence": 1})
    assert (ended.body["state"], ended.body["leased_until"]) == ("waiting", None)
    given_up = await call(overlay, "DELETE", f"/promotions/{second['id']}", token=ADMIN)
    assert (given_up.status, given_up.body["state"]) == (200, "abandoned")
    assert [file["state"] for file in given_up.body["files"]] == ["pushing", "planned"]
    assert (await call(overlay, "GET", f"/promotions/{second['id']}")).body == given_up.body


async def test_a_release_shows_the_promotion_that_it_is_in(overlay: Running) -> None:
    """In the API and on its page, file by file; another release does not."""
    await overlay.upload(wheel("demo", "2.0"))
    assert (await call(overlay, "GET", "/projects/demo/1.0")).body["promotion"] is None
    promotion = await planned(overlay)
    await journal(overlay, promotion, 0, "pushing")
    shown = (await call(overlay, "GET", "/projects/demo/1.0")).body["promotion"]
    assert shown == {
        "id": promotion["id"],
        "state": "running",
        "who": "operator",
        "since": promotion["planned_at"],
        "files": [
            {"filename": WHEEL.filename, "state": "pushing"},
            {"filename": SOURCE.filename, "state": "planned"},
        ],
        "others": [],
        "target": TARGET,
        "leased_until": promotion["leased_until"],
        "ended_at": None,
        "ended_by": None,
        "url": f"{overlay.url}/api/v1/promotions/{promotion['id']}",
    }
    async with overlay.get("/project/demo/1.0/") as response:
        page = await response.text()
    for words in ("<h2>Promotion</h2>", "operator since", f"{WHEEL.filename}: pushing", f"{SOURCE.filename}: planned"):
        assert words in page
    assert (await call(overlay, "GET", "/projects/demo/2.0")).body["promotion"] is None
    async with overlay.get("/project/demo/2.0/") as response:
        assert "Promotion" not in await response.text()


async def test_a_release_shows_how_its_last_promotion_ended(overlay: Running) -> None:
    """When, by whom, and where its receipt is; a later one that is under way comes first."""
    other = wheel("other", "2.0")
    await overlay.upload(other)
    said = await plan(overlay, WHEEL, SOURCE, other, releases=["demo==1.0", "other==2.0"])
    first = said.body["promotion"]
    await journal(overlay, first, 0, "pushing")
    ended = (await call(overlay, "DELETE", f"/promotions/{first['id']}", token=ADMIN)).body
    shown = (await call(overlay, "GET", "/projects/demo/1.0")).body["promotion"]
    assert (shown["state"], shown["ended_at"], shown["ended_by"]) == ("abandoned", ended["ended_at"], "operator")
    assert (shown["others"], shown["target"]) == (["other==2.0"], TARGET)
    async with overlay.session.get(shown["url"]) as response:
        assert await response.json() == ended
    async with overlay.get("/project/demo/1.0/") as response:
        page = " ".join((await response.text()).split())
    for words in (
        "</time> by operator. It was given up;",
        f'<a href="/api/v1/promotions/{first["id"]}">Receipt</a>',
        "with other==2.0.",
    ):
        assert words in page
    second = await planned(overlay)
    assert (await call(overlay, "GET", "/projects/demo/1.0")).body["promotion"]["id"] == second["id"]


async def test_once_nothing_is_staged_the_last_promotion_is_still_found(overlay: Running) -> None:
    """What was promoted leaves the stage some day, or is withdrawn: then this is what people look for."""
    first = await planned(overlay)
    await journal(overlay, first, 0, "pushing")
    await call(overlay, "DELETE", f"/promotions/{first['id']}", token=ADMIN)
    assert (await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)).status == 200
    said = await call(overlay, "GET", "/projects/demo/1.0")
    url = f"{overlay.url}/api/v1/promotions/{first['id']}"
    assert (said.status, said.body["detail"]) == (
        404,
        f"Nothing is staged for demo==1.0. Its last promotion (abandoned, by operator): {url}",
    )
    async with overlay.get("/project/demo/1.0/") as response:
        assert response.status == 404
        assert f'<a href="/api/v1/promotions/{first["id"]}">' in await response.text()
    assert (await call(overlay, "GET", "/projects/demo/9.9")).body["detail"] == "Nothing is staged for demo==9.9."


class OldEvent(msgspec.Struct):
    """An event as clients knew it before there were promotions: all of it is there, and is text."""

    number: int
    at: str
    kind: str
    stage: str
    project: str
    version: str
    filename: str
    sha256: str
    who: str


async def test_the_feed_tells_of_promotions(overlay: Running) -> None:
    """With the id that finds the rest, and in a form that older clients read."""
    promotion = await planned(overlay)
    await call(overlay, "DELETE", f"/promotions/{promotion['id']}", token=ADMIN)
    events = (await call(overlay, "GET", "/events")).body["events"]
    assert [event["promotion"] for event in events] == [None, None, promotion["id"], promotion["id"]]
    old = msgspec.convert(events, list[OldEvent])
    assert [event.kind for event in old] == ["staged", "staged", "promoting", "abandoned"]
    assert {(event.project, event.version, event.filename, event.sha256) for event in old[2:]} == {
        ("demo", "1.0", "", "")
    }


async def test_what_a_run_may_be_told_is_described(overlay: Running) -> None:
    """An id that names nothing any more is lost to a run; what is no id at all is not found, anywhere."""
    described = (await call(overlay, "GET", "/openapi.json")).body
    problem = described["components"]["schemas"]["LostProblem"]
    assert problem["properties"]["type"]["enum"] == ["urn:overlay:promotion-lost"]
    for method, what, body in (
        ("POST", "lease", {"fence": 1}),
        ("POST", "look", {"fence": 1}),
        ("POST", "end", {"fence": 1}),
        ("PUT", "files/{upload}", {"fence": 1, "state": "pushing"}),
    ):
        answers = described["paths"][f"/promotions/{{id}}/{what}"][method.lower()]["responses"]
        schema = answers["409"]["content"]["application/problem+json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/LostProblem"}
        tail = what.format(upload=NOBODY)
        lost = await call(overlay, method, f"/promotions/{NOBODY}/{tail}", token=ADMIN, body=body)
        assert (lost.status, lost.body["type"]) == (409, "urn:overlay:promotion-lost")
        assert "404" in answers
        assert (await call(overlay, method, f"/promotions/X/{tail}", token=ADMIN, body=body)).status == 404


async def test_a_token_promotes_only_its_projects(overlay: Running) -> None:
    """The sentence names the right."""
    stranger = await overlay.token("promote", projects=("another",))
    said = await plan(overlay, WHEEL, SOURCE, token=stranger)
    assert said.status == 403
    assert "may not promote 'demo'" in said.body["detail"]
    assert "--right promote" in said.body["detail"]
    assert (await plan(overlay, WHEEL, SOURCE, token=await overlay.token("promote"))).status == 201


async def test_attestations_come_with_the_plan_only(overlay: Running) -> None:
    """As they were staged, for the run to judge."""
    attested = wheel("demo", "2.0")
    await overlay.upload(attested, fields={"attestations": '[{"version": 1}]'})
    said = await plan(overlay, attested, release="demo==2.0")
    (file,) = said.body["promotion"]["files"]
    assert file["attestations"] == '[{"version": 1}]'
    shown = (await call(overlay, "GET", f"/promotions/{said.body['promotion']['id']}")).body
    assert shown["files"][0]["attestations"] is None


async def test_closed_reading_needs_a_token_that_may_read(config: Config, clock: Clock) -> None:
    """For promotions as for everything."""
    async with running(dataclasses.replace(config, read=ReadConfig(open=False)), now_s=clock) as overlay:
        for built in (WHEEL, SOURCE):
            await overlay.upload(built)
        path = f"/promotions/{(await planned(overlay))['id']}"
        assert (await call(overlay, "GET", path)).status == 401
        said = await call(overlay, "GET", path, token=await overlay.token("read"))
        assert (said.status, said.headers["Cache-Control"]) == (200, "no-cache, private")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"releases": ["demo"]}, "PROJECT==VERSION"),
        ({"releases": ["demo==not-a-version"]}, "PROJECT==VERSION"),
        ({"releases": ["-demo==1.0"]}, "project name"),
        ({"releases": []}, "$.releases"),
        ({"pledges": []}, "$.pledges"),
        ({"pledges": [{"filename": "demo-1.0.tar.gz", "sha256": "abc"}]}, "$.pledges[0].sha256"),
        ({"pledges": [{"filename": "../demo-1.0.tar.gz", "sha256": "0" * 64}]}, "slash"),
        ({"pledges": [{"filename": "demo-1.0.tar.gz", "sha256": digit * 64} for digit in "01"]}, "pledged twice"),
        ({"holder": "x"}, "$.holder"),
        ({"stage": "No Stage"}, "stage name"),
        ({"partal": True}, "partal"),
    ],
)
async def test_an_order_that_is_wrong_is_refused_naming_the_place(
    overlay: Running, changes: dict[str, object], words: str
) -> None:
    """And nothing is frozen."""
    said = await call(overlay, "POST", "/promotions", token=ADMIN, body=order(WHEEL, SOURCE) | changes)
    assert said.status == 400
    assert words in said.body["detail"]
    assert (await call(overlay, "GET", "/promotions")).body == {"promotions": []}


async def test_an_order_may_have_a_thousand_files(overlay: Running) -> None:
    """It is larger than other orders may be."""
    long = [{"filename": f"demo-1.0-{number}-{'x' * 120}-none-any.whl", "sha256": "0" * 64} for number in range(1000)]
    said = await call(overlay, "POST", "/promotions", token=ADMIN, body=order() | {"pledges": long})
    assert said.status == 409
    assert len(said.body["refusals"]) == 1002  # those, and the two that are staged
    too_many = await call(overlay, "POST", "/promotions", token=ADMIN, body=order() | {"pledges": [*long, long[0]]})
    assert too_many.status == 400


CALLS: dict[tuple[str, str], dict[str, object] | None] = {
    ("GET", ""): None,
    ("POST", "/lease"): {"fence": 1},
    ("POST", "/look"): {"fence": 1},
    ("POST", "/end"): {"fence": 1},
    ("PUT", "/files/" + NOBODY): {"fence": 1, "state": "pushing"},
    ("DELETE", ""): None,
}


@pytest.mark.parametrize("name", ["x", "..%2F..%2Fstore", "F" * 32])
@pytest.mark.parametrize(("method", "tail"), CALLS)
async def test_what_is_no_promotion_s_id_is_not_found(overlay: Running, method: str, tail: str, name: str) -> None:
    """However it is spelled: no other document is reached."""
    said = await call(overlay, method, f"/promotions/{name}{tail}", token=ADMIN, body=CALLS[method, tail])
    assert said.status == 404


@pytest.mark.parametrize(("method", "tail"), CALLS)
async def test_a_promotion_that_is_gone_is_not_found_and_its_run_is_lost(
    overlay: Running, method: str, tail: str
) -> None:
    """A run that speaks knows that it was there."""
    said = await call(overlay, method, f"/promotions/{NOBODY}{tail}", token=ADMIN, body=CALLS[method, tail])
    if tail:
        assert (said.status, said.body["type"]) == (409, "urn:overlay:promotion-lost")
    else:
        assert said.status == 404


async def test_a_file_of_another_promotion_is_not_found(overlay: Running) -> None:
    """Nothing is written down about it."""
    promotion = await planned(overlay)
    path = f"/promotions/{promotion['id']}/files/{NOBODY}"
    assert (await call(overlay, "PUT", path, token=ADMIN, body={"fence": 1, "state": "pushing"})).status == 404


async def test_a_plan_needs_upstream(overlay: Running, index: ScriptedIndex, clock: Clock) -> None:
    """502, and the same command goes on later; a look likewise."""
    promotion = await planned(overlay)
    index.down = True
    clock.now_s += 61
    assert (await plan(overlay, WHEEL, SOURCE)).status == 502
    await overlay.wired.services.ledger.thaw(promotion["id"], GIVEN_UP)
    index.down = False
    again = await planned(overlay)
    index.down = True
    clock.now_s += 2
    assert (
        await call(overlay, "POST", f"/promotions/{again['id']}/look", token=ADMIN, body={"fence": 1})
    ).status == 502


async def test_a_file_that_ended_as_live_is_redirected_to_upstream(
    overlay: Running, index: ScriptedIndex, clock: Clock
) -> None:
    """302 from the address that lock files have; HEAD as GET, and the sidecar beside it."""
    (file, _) = (await planned(overlay))["files"]
    clock.now_s += 3601
    index.add(WHEEL)
    settling = overlay.wired.services.settling
    await settling.notice()
    clock.now_s += 86_400
    await settling.notice()
    path = file["url"].removeprefix(overlay.url)
    for suffix in ("", ".metadata"):
        async with overlay.get(path + suffix) as response:
            assert response.status == 302
            assert response.headers["Cache-Control"] == "no-cache"
            location = response.headers["Location"]
            assert location.startswith(index.url)
            assert location.endswith(WHEEL.filename + suffix)
    async with overlay.session.get(file["url"]) as response:
        assert await response.read() == WHEEL.body
    async with overlay.session.head(file["url"], allow_redirects=False) as response:
        assert response.status == 302
