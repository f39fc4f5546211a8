"""/api/v1: what is served is what its document describes, to whom it says."""

import asyncio
import dataclasses
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from overlay import __version__
from overlay.config.tables import Config
from overlay.domain.names import NormalizedName
from overlay.domain.rights import Right
from overlay.domain.wire import API
from overlay.web.api import OPERATIONS
from overlay.web.app import application
from overlay.web.context import Lifecycle
from overlay.web.openapi import document
from overlay.web.operations import BODY_LIMIT_BYTES, Operation
from tests.builders import sdist, wheel
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, Running, basic

DOCUMENT: Final[dict[str, Any]] = document(OPERATIONS, __version__, "http://overlay.example/api/v1")
DEMO: Final = wheel("demo", "1.0")
GUARDED: Final = [operation for operation in OPERATIONS if operation.right not in {None, Right.READ}]
# A promotion has to be made before it can be read: tests/web/test_api_promotions.py does so.
READING: Final = [
    operation for operation in OPERATIONS if operation.right is Right.READ and "{id}" not in operation.path
]


@dataclass(frozen=True)
class Said:
    status: int
    headers: dict[str, str]
    body: Any


async def call(
    overlay: Running,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: object = None,
    raw: bytes | None = None,
    content_type: str = "application/json",
) -> Said:
    """Make a call below /api/v1, and hold its answer against the document."""
    headers = {} if token is None else basic(token)
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = content_type
    url = f"{overlay.url}{API}{path}"
    async with overlay.session.request(method, url, data=data, headers=headers, allow_redirects=False) as response:
        answered = await response.read()
        said = Said(response.status, dict(response.headers), json.loads(answered) if answered else None)
    check_described(method, path.partition("?")[0], said)
    return said


def check_described(method: str, path: str, said: Said) -> None:
    responses = described(method, path)["responses"]
    response = responses.get(str(said.status), responses["default"])
    if "content" not in response:
        assert said.body is None
        return
    content_type = said.headers["Content-Type"]
    schema = {**response["content"][content_type]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(said.body)


def described(method: str, path: str) -> dict[str, Any]:
    for template, methods in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found
    raise AssertionError(f"{method} {path} is not in the document")


def filled(operation: Operation) -> str:
    """A path of the operation that names something."""
    return operation.path.format_map({"project": "demo", "version": "1.0", "id": "0" * 32, "upload": "0" * 32})


def named(operations: Sequence[Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.handler.__name__)


# The document


async def test_the_document_describes_every_route_and_nothing_else(overlay: Running) -> None:
    app = application(overlay.wired.services, overlay.wired.web, Lifecycle(), now_s=time.time)
    served = {
        (route.method, route.resource.canonical.removeprefix(API))
        for route in app.router.routes()
        if route.resource is not None and route.resource.canonical.startswith(API)
        if route.method != "HEAD"  # comes with every GET (RFC 9110 §9.3.2)
    }
    assert served == {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}


async def test_the_document_is_served_to_everybody(closed_overlay: Running) -> None:
    said = await call(closed_overlay, "GET", "/openapi.json")
    assert said.body["servers"] == [{"url": f"{closed_overlay.url}{API}"}]
    assert said.body["paths"] == DOCUMENT["paths"]


def test_every_reference_of_the_document_leads_somewhere() -> None:
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert references
    assert references <= set(DOCUMENT["components"]["schemas"])
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_every_operation_has_its_own_id_and_declares_the_parameters_of_its_path() -> None:
    ids = [operation.handler.__name__ for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    for operation in OPERATIONS:
        declared = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
        assert declared == set(re.findall(r"\{(\w+)\}", operation.path))


# Rights


@named(GUARDED)
async def test_what_needs_a_right_answers_401_without_token(overlay: Running, operation: Operation) -> None:
    said = await call(overlay, operation.method, filled(operation), body={})
    assert said.status == 401
    assert said.headers["WWW-Authenticate"].startswith("Basic ")


@named(GUARDED)
async def test_what_needs_a_right_answers_403_to_a_token_without_it(overlay: Running, operation: Operation) -> None:
    said = await call(overlay, operation.method, filled(operation), token=await overlay.token("read"), body={})
    assert said.status == 403
    assert str(operation.right) in said.body["detail"]


@named(READING)
async def test_reading_is_open_to_everybody(overlay: Running, operation: Operation) -> None:
    await overlay.upload(DEMO)
    said = await call(overlay, operation.method, filled(operation))
    assert said.status == 200
    assert said.headers["Cache-Control"] == "no-cache"


@named(READING)
async def test_closed_reading_needs_a_token_that_may_read(closed_overlay: Running, operation: Operation) -> None:
    await closed_overlay.upload(DEMO)
    path = filled(operation)
    assert (await call(closed_overlay, operation.method, path)).status == 401
    writer = await closed_overlay.token("stage")
    assert (await call(closed_overlay, operation.method, path, token=writer)).status == 403
    reader = await closed_overlay.token("read")
    said = await call(closed_overlay, operation.method, path, token=reader)
    assert said.status == 200
    assert said.headers["Cache-Control"] == "no-cache, private"


async def test_a_token_for_another_project_cannot_withdraw(overlay: Running) -> None:
    await overlay.upload(DEMO)
    said = await call(
        overlay, "DELETE", "/projects/demo/1.0", token=await overlay.token("stage", projects=("another",))
    )
    assert said.status == 403
    assert len((await call(overlay, "GET", "/staged")).body["files"]) == 1


# What is staged


async def test_info_names_upstream_and_this_server(overlay: Running, index: ScriptedIndex) -> None:
    said = await call(overlay, "GET", "/info")
    assert said.body == {
        "version": __version__,
        "upstream": index.simple_url,
        "public_url": overlay.url,
        "read_open": True,
        "ephemeral": False,
    }


async def test_the_list_is_of_all_projects_or_of_one_in_any_spelling(overlay: Running) -> None:
    other = wheel("other_thing", "2.0")
    for built in (DEMO, other):
        assert (await overlay.upload(built)).status == 200
    everything = await call(overlay, "GET", "/staged")
    assert [file["filename"] for file in everything.body["files"]] == [DEMO.filename, other.filename]
    one = await call(overlay, "GET", "/staged?project=Other.Thing")
    assert [file["filename"] for file in one.body["files"]] == [other.filename]
    assert (await call(overlay, "GET", "/staged?project=nothing")).body == {"files": []}


async def test_a_list_names_each_file_as_its_caller_names_the_server(overlay: Running) -> None:
    """Though they share what is read."""
    await overlay.upload(DEMO)

    async def ask(host: str) -> str:
        async with overlay.get(f"{API}/staged", Host=host) as response:
            (file,) = (await response.json())["files"]
        return str(file["url"]).partition("/files/")[0]

    hosts = ["one.example", "two.example", "one.example", "three.example"]
    assert await asyncio.gather(*map(ask, hosts)) == [f"http://{host}" for host in hosts]


async def test_a_release_that_is_not_staged_is_unknown_also_while_the_store_is_silent(
    overlay: Running, config: Config
) -> None:
    """The ledger knows; where its promotion is told of is beside the point."""
    Path(config.store.path, "receipts").touch()  # no folder: listing it fails
    assert (await call(overlay, "GET", "/projects/demo/1.0")).status == 404
    async with overlay.get("/project/demo/1.0/") as response:
        assert response.status == 404
    await overlay.upload(DEMO)
    assert (await call(overlay, "GET", "/projects/demo/1.0")).status == 503


async def test_a_release_is_found_in_any_spelling_with_its_report(overlay: Running) -> None:
    staged = wheel("demo", "1.0rc1")
    await overlay.upload(staged)
    said = await call(overlay, "GET", "/projects/Demo/1.0-rc.1")
    assert said.status == 200
    (file,) = said.body["files"]
    assert file["sha256"] == staged.sha256
    assert file["standing"] == "staged"
    assert file["findings"] is not None
    async with overlay.session.get(file["url"]) as response:
        assert await response.read() == staged.body


async def test_a_file_that_became_live_is_said_to_be(overlay: Running, index: ScriptedIndex) -> None:
    await overlay.upload(DEMO)
    index.add(DEMO)
    await overlay.wired.services.upstream.page(NormalizedName("demo"), no_older_than_s=0)
    said = await call(overlay, "GET", "/projects/demo/1.0")
    assert [file["standing"] for file in said.body["files"]] == ["live"]


async def test_withdrawing_a_file_leaves_the_others_and_enters_the_history(overlay: Running) -> None:
    source = sdist("demo", "1.0")
    for built in (DEMO, source):
        await overlay.upload(built)
    path = f"/projects/demo/1.0?filename={quote(DEMO.filename)}"
    said = await call(overlay, "DELETE", path, token=await overlay.token("stage", label="grace"))
    assert [file["filename"] for file in said.body["files"]] == [DEMO.filename]
    left = (await call(overlay, "GET", "/staged")).body["files"]
    assert [file["filename"] for file in left] == [source.filename]
    (entry,) = (await call(overlay, "GET", "/projects/demo/history")).body["entries"]
    assert (entry["reason"], entry["who"], entry["sha256"]) == ("withdrawn", "grace", DEMO.sha256)


async def test_withdrawing_a_release_ends_all_its_files(overlay: Running) -> None:
    for built in (DEMO, sdist("demo", "1.0"), wheel("demo", "1.1")):
        await overlay.upload(built)
    said = await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)
    assert len(said.body["files"]) == 2
    left = (await call(overlay, "GET", "/staged")).body["files"]
    assert [file["version"] for file in left] == ["1.1"]


async def test_what_is_live_by_now_stays_and_is_named(overlay: Running) -> None:
    """Where nothing else is left to withdraw the answer says what to do instead."""
    for built in (DEMO, sdist("demo", "1.0")):
        await overlay.upload(built)
    ledger = overlay.wired.services.ledger
    (upload,) = [file.upload_id for file in (await ledger.index()).files if file.filename == DEMO.filename]
    await ledger.mark_live([upload])
    said = await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)
    assert ([file["filename"] for file in said.body["files"]], said.body["live"]) == (
        [sdist("demo", "1.0").filename],
        [DEMO.filename],
    )
    said = await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)
    assert said.status == 409
    assert "demo==1.0 is live upstream: yank or delete it there." in said.body["detail"]
    assert [file["filename"] for file in (await call(overlay, "GET", "/staged")).body["files"]] == [DEMO.filename]


async def test_a_withdrawal_that_names_an_unknown_file_changes_nothing(overlay: Running) -> None:
    await overlay.upload(DEMO)
    said = await call(overlay, "DELETE", "/projects/demo/1.0?filename=demo-9.tar.gz", token=ADMIN)
    assert said.status == 404
    assert "demo-9.tar.gz" in said.body["detail"]
    assert len((await call(overlay, "GET", "/staged")).body["files"]) == 1


async def test_events_go_on_after_a_number(overlay: Running) -> None:
    await overlay.upload(DEMO)
    await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)
    first, second = (await call(overlay, "GET", "/events")).body["events"]
    assert (first["kind"], second["kind"]) == ("staged", "withdrawn")
    feed = (await call(overlay, "GET", f"/events?after={first['number']}")).body
    assert feed["events"] == [second]


# Tokens and the sweep


async def test_a_created_token_works_is_listed_without_its_text_and_ends_when_revoked(overlay: Running) -> None:
    order = {"label": "ci", "rights": ["stage"], "projects": ["Demo"], "expires_in_s": 60}
    created = await call(overlay, "POST", "/tokens", token=ADMIN, body=order)
    assert created.status == 201
    assert created.headers["Cache-Control"] == "no-store"
    text, token = created.body["text"], created.body["token"]
    assert token["projects"] == ["demo"]
    assert token["expires_at"] > token["created_at"]
    assert (await overlay.upload(DEMO, token=text)).status == 200

    listed = await call(overlay, "GET", "/tokens", token=ADMIN)
    assert listed.headers["Cache-Control"] == "no-store"
    assert token in listed.body["tokens"]
    assert text not in json.dumps(listed.body)

    revoked = await call(overlay, "DELETE", f"/tokens/{token['id']}", token=ADMIN)
    assert revoked.status == 204
    assert (await overlay.upload(wheel("demo", "1.1"), token=text)).status == 401
    assert (await call(overlay, "DELETE", f"/tokens/{token['id']}", token=ADMIN)).status == 404


async def test_a_sweep_deletes_the_bytes_of_what_was_withdrawn_unless_it_is_dry(overlay: Running) -> None:
    await overlay.upload(DEMO)
    await call(overlay, "DELETE", "/projects/demo/1.0", token=ADMIN)
    assert (await call(overlay, "POST", "/sweep", token=ADMIN, body={})).body["blobs"] == 0  # within grace_s
    order = {"older_than_s": 0, "dry_run": True}
    dry = (await call(overlay, "POST", "/sweep", token=ADMIN, body=order)).body
    assert dry["blobs"] == 2  # the file and its core metadata
    assert (await call(overlay, "POST", "/sweep", token=ADMIN, body={"older_than_s": 0})).body == {
        **dry,
        "dry_run": False,
    }
    assert (await call(overlay, "POST", "/sweep", token=ADMIN, body=order)).body["blobs"] == 0


async def test_a_reconcile_puts_back_what_the_ledger_lost(overlay: Running) -> None:
    """Files and tokens alike; the second time there is nothing to do."""
    await overlay.upload(DEMO)
    await overlay.token("stage")
    await overlay.wired.services.ledger.load((), ())
    healed = await call(overlay, "POST", "/reconcile", token=ADMIN)
    assert (healed.status, healed.body) == (200, {"projects": 1, "tokens": 1})
    assert (await call(overlay, "POST", "/reconcile", token=ADMIN)).body == {"projects": 0, "tokens": 0}
    reader = await overlay.token("read")
    assert (await call(overlay, "POST", "/reconcile", token=reader)).status == 403


# What is refused


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"label": 1, "rights": ["read"]}, "$.label"),
        ({"rights": ["read"]}, "label"),
        ({"label": "x", "rights": ["fly"]}, "fly"),
        ({"label": "x", "rights": ["read"], "projects": ["a*"]}, "a*"),
        ({"label": "x", "rights": ["read"], "projects": ["*"], "expire_in_s": 3}, "expire_in_s"),
        ({"label": "x", "rights": ["read"], "projects": ["*"], "expires_in_s": 0}, "$.expires_in_s"),
        ({"label": "x", "rights": ["read"], "projects": ["*"], "expires_in_s": 10**15}, "$.expires_in_s"),
        ([], "array"),
    ],
)
async def test_an_order_that_is_wrong_is_refused_naming_the_place(overlay: Running, body: object, words: str) -> None:
    said = await call(overlay, "POST", "/tokens", token=ADMIN, body=body)
    assert said.status == 400
    assert words in said.body["detail"]


@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b'"\xff"', "application/json", 400),
        (b"", "application/json", 400),
        (b"{}", "application/x-www-form-urlencoded", 400),
        (b" " * (BODY_LIMIT_BYTES + 1), "application/json", 413),
    ],
)
async def test_a_body_that_is_no_order_is_refused(overlay: Running, raw: bytes, content_type: str, status: int) -> None:
    said = await call(overlay, "POST", "/sweep", token=ADMIN, raw=raw, content_type=content_type)
    assert said.status == status
    assert said.body["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/projects/demo/1.0", 404),
        ("/projects/demo/not-a-version", 400),
        ("/projects/demo/" + "1" * 5000, 400),
        ("/projects/-demo/1.0", 400),
        ("/projects/-demo/history", 400),
        ("/staged?project=-demo", 400),
        ("/events?after=-1", 400),
        ("/events?after=x", 400),
        ("/events?after=" + "9" * 30, 400),
        ("/promotions?limit=-1", 400),
        ("/promotions?limit=1001", 400),
        ("/promotions?limit=x", 400),
    ],
)
async def test_a_question_that_cannot_be_answered_is_a_problem(overlay: Running, path: str, status: int) -> None:
    said = await call(overlay, "GET", path)
    assert said.status == status
    assert said.headers["Content-Type"] == "application/problem+json"
    assert said.body["status"] == status


async def test_credentials_in_the_address_of_upstream_are_not_told(overlay: Running) -> None:
    """An operator may have written them there."""
    settings = dataclasses.replace(overlay.wired.web, upstream_url="https://ada:secret@index.example/simple/")
    app = application(overlay.wired.services, settings, Lifecycle(), now_s=time.time)
    async with TestClient[web.Request, web.Application](TestServer(app)) as client:
        for path in (f"{API}/info", "/", "/help"):
            async with client.get(path) as response:
                text = await response.text()
                assert "index.example" in text
                assert "secret" not in text
