"""The upload API: every row of the table in design §6, and what a client is shown."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from overlay.config.tables import Config, UploadsConfig
from tests.builders import sdist, wheel
from tests.clock import Clock
from tests.fakes.index import ScriptedIndex
from tests.running import ADMIN, Answer, Running, basic, config_for, form, running
from tests.staged import freeze_of

LIVE = wheel("demo", "0.9")
NEW = wheel("demo", "1.0")
CHANGED = wheel("demo", "1.0", payload=b"changed")


@pytest.fixture
async def index() -> AsyncIterator[ScriptedIndex]:
    async with ScriptedIndex() as made:
        made.add(LIVE)
        yield made


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def config(index: ScriptedIndex, store: Path) -> Config:
    return config_for(store, index.simple_url)


@pytest.fixture
async def overlay(config: Config) -> AsyncIterator[Running]:
    async with running(config) as made:
        yield made


def blobs(store: Path) -> list[str]:
    return sorted(path.name for path in (store / "blobs").rglob("*") if path.is_file())


def records(store: Path) -> list[Path]:
    return sorted((store / "records").rglob("*.json")) if (store / "records").exists() else []


async def staged(overlay: Running) -> list[dict[str, object]]:
    async with overlay.get("/api/v1/staged") as response:
        files: list[dict[str, object]] = json.loads(await response.read())["files"]
        return files


async def test_a_new_file_is_staged(overlay: Running, store: Path, index: ScriptedIndex) -> None:
    """200 with an empty body, as from PyPI; bytes, sidecar and record are there; upstream got nothing."""
    answer = await overlay.upload(NEW)
    assert (answer.status, answer.reason) == (200, "OK")
    assert blobs(store) == [NEW.filename, NEW.filename + ".metadata"]
    (record,) = records(store)
    kept = json.loads(record.read_bytes())
    assert kept["file"]["sha256"] == NEW.sha256
    assert kept["file"]["who"] == "operator"
    assert ["filetype", "bdist_wheel"] in kept["form"]
    assert not [asked for asked in index.requests if asked.method not in {"GET", "HEAD"}]


async def test_the_same_bytes_again_change_nothing(overlay: Running, store: Path) -> None:
    """Idempotent: twine repeats after a 5xx or a lost answer."""
    await overlay.upload(NEW)
    before = await staged(overlay)
    assert (await overlay.upload(NEW)).status == 200
    assert await staged(overlay) == before
    assert len(blobs(store)) == 2


async def test_other_bytes_replace(overlay: Running, store: Path) -> None:
    """The old digest stays in the history, its record goes."""
    await overlay.upload(NEW)
    assert (await overlay.upload(CHANGED)).status == 200
    (file,) = await staged(overlay)
    assert file["sha256"] == CHANGED.sha256
    async with overlay.get("/api/v1/projects/demo/history") as response:
        (ended,) = json.loads(await response.read())["entries"]
    assert ended["reason"] == "replaced"
    assert NEW.sha256 in json.dumps(ended)
    assert len(records(store)) == 1


async def test_replacing_may_be_forbidden(index: ScriptedIndex, store: Path) -> None:
    """400 with the words that twine, poetry and pdm look for; nothing changes and nothing is left."""
    config = config_for(store, index.simple_url, uploads=UploadsConfig(replace=False))
    async with running(config) as overlay:
        await overlay.upload(NEW)
        refused = await overlay.upload(CHANGED)
        assert refused.status == 400
        assert refused.reason.startswith("File already exists (")
        assert NEW.sha256 in refused.reason
        assert (await overlay.upload(NEW)).status == 200
    assert len(blobs(store)) == 2


async def test_an_add_only_token_replaces_nothing(overlay: Running) -> None:
    """It may bring new names, also beside another's files."""
    adder = await overlay.token("add")
    await overlay.upload(NEW)
    assert (await overlay.upload(CHANGED, token=adder)).status == 400
    assert (await overlay.upload(sdist("demo", "1.0"), token=adder)).status == 200


async def test_a_release_that_is_promoted_takes_nothing_new(overlay: Running, store: Path) -> None:
    """400 that says by whom and since when, or in the words for a name that is taken; the same bytes are fine."""
    await overlay.upload(NEW)
    ledger = overlay.wired.services.ledger
    (file,) = (await ledger.index()).files
    until_us = int(overlay.wired.now_s() * 1e6) + 60_000_000
    await ledger.freeze(freeze_of(file, since_us=file.staged_at_us, until_us=until_us))
    added = await overlay.upload(sdist("demo", "1.0"))
    assert added.status == 400
    assert added.reason.startswith("Release demo==1.0 is being promoted by ci since 20")
    assert added.reason.endswith("`overlay promote --abandon demo==1.0` gives it up.")
    changed = await overlay.upload(CHANGED)
    assert changed.status == 400
    assert changed.reason.startswith("File already exists (")
    assert changed.reason.endswith("is staged here and being promoted by ci).")
    assert (await overlay.upload(NEW)).status == 200
    async with overlay.session.delete(f"{overlay.url}/api/v1/projects/demo/1.0", headers=basic(ADMIN)) as response:
        assert response.status == 409
        assert "is being promoted by ci since 20" in (await response.json(content_type=None))["detail"]
    assert len(await staged(overlay)) == len(records(store)) == 1
    assert len(blobs(store)) == 2


async def test_what_is_live_with_the_same_bytes_is_not_staged(overlay: Running, store: Path) -> None:
    """200: the release job may run again."""
    assert (await overlay.upload(LIVE)).status == 200
    assert await staged(overlay) == []
    assert blobs(store) == []


async def test_what_is_live_with_other_bytes_is_refused(overlay: Running, store: Path) -> None:
    """PyPI would refuse it too."""
    refused = await overlay.upload(wheel("demo", "0.9", payload=b"other"))
    assert refused.status == 400
    assert refused.reason.startswith("File already exists (")
    assert LIVE.sha256 in refused.body
    assert blobs(store) == []


@pytest.mark.parametrize(
    ("token", "status", "said"),
    [
        ("", 401, "needs a token"),
        ("ovl_" + "x" * 46, 401, "checksum"),
        ("ovl_unknown", 401, "does not know"),
        ("pypi-AgEIcHlwaS5vcmcCJDAw", 403, "revoke it"),
    ],
)
async def test_a_wrong_credential_is_refused_before_the_body(
    overlay: Running, store: Path, token: str, status: int, said: str
) -> None:
    """401 with a challenge; a token of pypi.org gets told to be revoked. Never quoted."""
    answer = await overlay.upload(NEW, token=token)
    assert answer.status == status
    assert said in answer.body
    assert ("WWW-Authenticate" in answer.headers) is (status == 401)
    assert len(token) < 12 or token not in answer.body + answer.reason
    assert blobs(store) == []


async def test_a_token_stages_only_what_it_was_given(overlay: Running, store: Path) -> None:
    """403 naming the project, the token's grants, and the command that would grant it."""
    other = await overlay.token("stage", projects=("other",))
    refused = await overlay.upload(NEW, token=other)
    assert refused.status == 403
    for word in ("'demo'", "other", "overlay token create", "--project demo"):
        assert word in refused.reason
    reader = await overlay.token("read")
    assert (await overlay.upload(NEW, token=reader)).status == 403
    assert blobs(store) == []


async def test_a_revoked_or_expired_token_is_nobody(config: Config) -> None:
    """From the next request on."""
    clock = Clock()
    async with running(config, now_s=clock) as overlay:
        text = await overlay.token("stage")
        assert (await overlay.upload(NEW, token=text)).status == 200
        (token,) = await overlay.wired.services.access.tokens()
        await overlay.wired.services.access.revoke(token.id)
        assert (await overlay.upload(NEW, token=text)).status == 401


async def test_any_user_name_will_do(overlay: Running) -> None:
    """Beside a token; or Bearer; or the token as the user name."""
    for headers in (
        {"Authorization": f"Bearer {ADMIN}"},
        {"Authorization": aiohttp.encode_basic_auth("ada", ADMIN)},
        {"Authorization": aiohttp.encode_basic_auth(ADMIN, "")},
    ):
        async with overlay.session.post(overlay.legacy, data=form(NEW), headers=headers) as response:
            assert response.status == 200


async def test_too_large_is_413(index: ScriptedIndex, store: Path) -> None:
    """By Content-Length at once, or while the bytes arrive; and by the quota of everything."""
    large = wheel("demo", "1.0", files={"blob.bin": bytes(range(256)) * 64 * 8})
    limited = config_for(store, index.simple_url, uploads=UploadsConfig(limit_bytes=1000))
    async with running(limited) as overlay:
        answer = await overlay.upload(large)
        assert answer.status == 413
        assert "Retry-After" not in answer.headers
        assert "1,000 bytes" in answer.reason
    quota = config_for(store, index.simple_url, uploads=UploadsConfig(quota_bytes=len(NEW.body) + 10))
    async with running(quota) as overlay:
        assert (await overlay.upload(NEW)).status == 200
        assert (await overlay.upload(sdist("demo", "1.0"))).status == 413
    assert blobs(store) == [NEW.filename, NEW.filename + ".metadata"]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sha256_digest": "0" * 64}, "does not match"),
        ({"md5_digest": "0" * 32}, "md5_digest"),
        ({"blake2_256_digest": "0" * 64}, "blake2_256_digest"),
        ({"sha256_digest": ""}, "no digest"),
        ({"name": "other"}, "other"),
        ({"version": "2.0"}, "2.0"),
        ({"name": ""}, "'name'"),
        ({"filetype": "sdist"}, "filetype"),
        ({"protocol_version": "2"}, "Unknown protocol version"),
        ({":action": "fly"}, "Unknown :action"),
    ],
)
async def test_a_form_that_lies_is_refused(overlay: Running, store: Path, fields: dict[str, str], said: str) -> None:
    """400, the sentence in the reason phrase, nothing left behind."""
    answer = await overlay.upload(NEW, fields=fields)
    assert answer.status == 400
    assert said in answer.reason
    assert blobs(store) == []


@pytest.mark.parametrize("action", ["submit", "submit_pkg_info", "doc_upload"])
async def test_retired_actions_are_gone(overlay: Running, action: str) -> None:
    """410 with PyPI's words."""
    assert (await overlay.upload(NEW, fields={":action": action})).status == 410


async def test_digests_in_any_case_and_of_all_kinds(overlay: Running) -> None:
    """Upper-case hex is the same digest; md5 is looked at when it is sent."""
    fields = {
        "sha256_digest": NEW.sha256.upper(),
        "md5_digest": hashlib.md5(NEW.body).hexdigest(),
        "blake2_256_digest": hashlib.blake2b(NEW.body, digest_size=32).hexdigest(),
    }
    assert (await overlay.upload(NEW, fields=fields)).status == 200


async def test_fields_may_come_in_any_order(overlay: Running) -> None:
    """The file first, its digest last; no part has a Content-Type (uv and flit send none)."""
    boundary = "b0undary"
    parts = [
        ("content", NEW.body, f'; filename="{NEW.filename}"'),
        ("name", b"demo", ""),
        ("md5_digest", hashlib.md5(NEW.body).hexdigest().encode(), ""),
        ("version", b"1.0", ""),
    ]
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
        for name, value, extra in parts
    )
    headers = basic(ADMIN) | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    async with overlay.session.post(
        overlay.legacy, data=body + f"--{boundary}--\r\n".encode(), headers=headers
    ) as response:
        assert response.status == 200, await response.text()


async def test_an_error_speaks_the_clients_language(overlay: Running) -> None:
    """JSON with exactly application/json for uv, text for the rest; PyPI's three keys."""
    headers = basic(ADMIN) | {"Accept": "application/json;q=0.9, text/plain;q=0.8, text/html;q=0.7"}
    async with overlay.session.post(
        overlay.legacy, data=form(NEW, {"sha256_digest": "0" * 64}), headers=headers
    ) as response:
        assert response.headers["Content-Type"] == "application/json"
        body = json.loads(await response.read())
    assert set(body) == {"message", "code", "title"}
    assert body["code"] == f"400 {body['message']}"
    assert (
        (await overlay.upload(NEW, fields={"sha256_digest": "0" * 64})).headers["Content-Type"].startswith("text/plain")
    )


async def test_attestations_are_kept_verbatim_and_not_advertised(overlay: Running, store: Path) -> None:
    """PEP 740: not verified here, so not shown as provenance."""
    attestations = '[{"version": 1, "verification_material": {}, "envelope": {}}]'
    assert (await overlay.upload(NEW, fields={"attestations": attestations})).status == 200
    (record,) = records(store)
    assert json.loads(record.read_bytes())["attestations"] == attestations
    async with overlay.get("/simple/demo/", Accept="application/vnd.pypi.simple.v1+json") as response:
        assert "provenance" not in json.loads(await response.read())["files"][-1]


async def test_what_pypi_would_refuse_is_a_warning_or_strict_a_refusal(index: ScriptedIndex, store: Path) -> None:
    """In the body of the 200, one a line; with `[uploads] strict` a 400 that leaves nothing."""
    local = wheel("demo", "1.0+cpu")
    strict = config_for(store / "strict", index.simple_url, uploads=UploadsConfig(strict=True))
    async with running(strict) as overlay:
        refused = await overlay.upload(local)
        assert refused.status == 400
        assert "local" in refused.reason
        assert blobs(store / "strict") == []
    async with running(config_for(store / "lax", index.simple_url)) as overlay:
        answer = await overlay.upload(local)
        assert answer.status == 200
        assert answer.body.startswith("error: ")


async def test_racing_uploads_of_one_name_leave_one_whole_winner(overlay: Running, store: Path) -> None:
    """All are answered 200; what is listed is one of them, whole; the others are in the history."""
    files = [wheel("demo", "1.0", payload=bytes([number]) * 1000) for number in range(12)]
    answers: list[Answer] = await asyncio.gather(*(overlay.upload(file) for file in files))
    assert {answer.status for answer in answers} == {200}
    (winner,) = await staged(overlay)
    body = next(file.body for file in files if file.sha256 == winner["sha256"])
    async with overlay.session.get(str(winner["url"])) as response:
        assert await response.read() == body
    async with overlay.get("/api/v1/projects/demo/history") as response:
        assert len(json.loads(await response.read())["entries"]) == 11
    assert len(records(store)) == 1


async def test_racing_uploads_of_the_same_bytes_are_one_upload(overlay: Running) -> None:
    """Whoever comes second changes nothing."""
    answers: list[Answer] = await asyncio.gather(*(overlay.upload(NEW) for _ in range(8)))
    assert {answer.status for answer in answers} == {200}
    assert len(await staged(overlay)) == 1


async def test_every_door_of_the_upload_api_is_the_same(overlay: Running) -> None:
    """With and without the slash: nobody follows a redirect on POST."""
    for path in ("/legacy", "/legacy/"):
        assert (await overlay.upload(NEW, path=path)).status == 200


async def test_draft_headers_and_fields_change_nothing(overlay: Running) -> None:
    """Uploads always stage; there is no switch to ask for it."""
    headers = basic(ADMIN) | {"Is-Draft": "true"}
    async with overlay.session.post(overlay.legacy, data=form(NEW, {"staged": "0"}), headers=headers) as response:
        assert response.status == 200
    assert len(await staged(overlay)) == 1


async def test_the_same_bytes_by_a_stronger_grant_are_shown(config: Config, index: ScriptedIndex, store: Path) -> None:
    """What a `*` token staged is hidden beside a foreign project of the name; the owner's own upload lists it."""
    clock, mine = Clock(), wheel("mine", "1.0")
    async with running(config, now_s=clock) as overlay:
        everything = await overlay.token("stage", projects=("*",), label="everything")
        owner = await overlay.token("add", projects=("mine",), label="owner")
        assert (await overlay.upload(mine, token=everything)).status == 200
        index.add(wheel("mine", "0.5"))
        clock.now_s += 1000
        assert await _listed(overlay, "mine") == ["mine-0.5-py3-none-any.whl"]
        assert (await overlay.upload(mine, token=owner)).status == 200
        assert mine.filename in await _listed(overlay, "mine")
        (file,) = await staged(overlay)
        assert file["grant"] == "mine"
    assert len(records(store)) == 1
    async with running(config, now_s=clock) as overlay:  # and a rebuild finds the same
        assert mine.filename in await _listed(overlay, "mine")


async def _listed(overlay: Running, project: str) -> list[str]:
    async with overlay.get(f"/simple/{project}/", Accept="application/vnd.pypi.simple.v1+json") as response:
        return [file["filename"] for file in json.loads(await response.read())["files"]]


async def test_the_form_is_bounded_with_the_names_of_its_fields(overlay: Running, store: Path) -> None:
    """Whatever the record keeps is held in memory and read at every start: 400 and 413, nothing left behind."""
    assert (await overlay.upload(NEW, fields={"x" * 100: "1"})).status == 200
    too_long = await overlay.upload(CHANGED, fields={"x" * 101: "1"})
    assert too_long.status == 400
    assert "more than 100 characters" in too_long.reason
    for name in ("keywords", "attestations"):
        too_much = await overlay.upload(CHANGED, fields={name: "x" * 256 * 1024})
        assert too_much.status == 413
        assert "262,144 bytes" in too_much.reason
    assert (await overlay.upload(CHANGED, fields={"description": "x" * 1024 * 1024})).status == 200
    assert len(blobs(store)) == 4


async def test_a_replaced_file_does_not_count_against_the_quota(index: ScriptedIndex, store: Path) -> None:
    """What is staged afterwards decides, so a full index still takes a mended file."""
    room = max(len(NEW.body), len(CHANGED.body))
    config = config_for(store, index.simple_url, uploads=UploadsConfig(quota_bytes=room))
    async with running(config) as overlay:
        assert (await overlay.upload(NEW)).status == 200
        assert (await overlay.upload(CHANGED)).status == 200
        assert (await overlay.upload(NEW)).status == 200
        assert (await overlay.upload(wheel("demo", "1.0", payload=bytes(range(256)) * 99))).status == 413


async def test_limits_per_token_hold_for_issued_tokens(index: ScriptedIndex, store: Path) -> None:
    """429 says when to come back, 413 what to do; the operator's own token, and another issued one, go on."""
    clock, second = Clock(), wheel("demo", "1.1")
    room = max(len(NEW.body), len(second.body))
    limits = UploadsConfig(token_uploads_per_minute=2, token_quota_bytes=room)
    async with running(config_for(store, index.simple_url, uploads=limits), now_s=clock) as overlay:
        ada, bob = await overlay.token("stage", label="ada"), await overlay.token("stage", label="bob")
        assert (await overlay.upload(NEW, token=ada)).status == 200
        over_quota = await overlay.upload(second, token=ada)
        assert (over_quota.status, over_quota.headers.get("Retry-After")) == (413, None)
        assert "token_quota_bytes" in over_quota.body
        too_many = await overlay.upload(second, token=ada)
        assert (too_many.status, too_many.headers["Retry-After"]) == (429, "30")
        assert "Send this one again in 30 seconds" in too_many.reason
        assert (await overlay.upload(second, token=bob)).status == 200
        for version in ("1.2", "1.3", "1.4"):
            assert (await overlay.upload(wheel("demo", version))).status == 200
        clock.now_s += 30
        assert (await overlay.upload(NEW, token=ada)).status == 200
