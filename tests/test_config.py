"""Configuration: every problem at once, the nearest known key named, secrets redacted."""

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from overlay.config.loading import load, parse
from overlay.config.showing import shown, without_userinfo
from overlay.config.tables import Config
from overlay.domain.errors import InvalidConfig
from overlay.packed import packed

TOKEN = "ovl_" + "x" * 40
DISTRIBUTED = '[store]\nkind = "s3"\nbucket = "b"\n[ledger]\nkind = "redis"'


def problems(text: str, **environ: str) -> str:
    with pytest.raises(InvalidConfig) as refused:
        parse(tomllib.loads(text), environ, source="config.toml")
    return "\n".join(refused.value.problems)


def test_the_packed_file_names_every_key_with_its_default() -> None:
    """It is the list of what exists, so neither it nor the code may know more."""
    raw = tomllib.loads(packed("config.toml").read_text())
    default = Config()
    assert load(packed("config.toml"), {}) == default
    tables = {one.name for one in fields(Config)} - {"public_url", "admin_token"}
    assert set(raw) - {"public_url"} == tables
    for name in tables:
        assert set(raw[name]) == {one.name for one in fields(getattr(default, name))}


def test_an_empty_file_is_the_default() -> None:
    """Nothing must be set."""
    assert parse({}, {}, source="x") == Config()


def test_keys_of_the_other_kind_are_ignored() -> None:
    """So that one file can show both forms, and the environment chooses."""
    parse(tomllib.loads('[store]\nbucket = ""\ndownloads = "cdn"\n[ledger]\nurl = ""'), {}, source="x")
    config = parse(
        tomllib.loads(f'{DISTRIBUTED}\n[server]\nworkers = 4\ntrusted_proxies = ["10.0.0.0/8"]'), {}, source="x"
    )
    assert config.server.trusted_proxies == ("10.0.0.0/8",)


def test_every_problem_is_said_at_once() -> None:
    """With the nearest known key, the expected kind, and where it stands."""
    text = '[server]\nprot = 1\nhost = 5\n[uploads]\nreplace = "yes"\n[sever]\nx = 1\n'
    said = problems(text, OVERLAY_SERVER_PROT="1")
    assert "unknown key prot in [server] (did you mean port?)" in said
    assert "[server] host must be a string, not 5" in said
    assert "[uploads] replace must be true or false" in said
    assert "unknown key sever (did you mean server?)" in said
    assert "OVERLAY_SERVER_PROT (did you mean OVERLAY_SERVER_PORT?)" in said


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[server]\nworkers = 2", "the memory ledger lives in one process"),
        ("[server]\nworkers = 0", "[server] workers must be between 1 and 256"),
        ("[server]\nport = 70000", "between 0 and 65535"),
        ('[server]\nlog = "xml"', '[server] log \'xml\' is unknown; it is "text" or "json".'),
        ('[server]\ntrusted_proxies = ["nginx"]', "'nginx' is no address and no network"),
        ('[server]\ntrusted_proxies = "10.0.0.1"', "trusted_proxies must be a list of strings"),
        ("[server]\ntrusted_proxies = [1]", "trusted_proxies must be a list of strings"),
        ('[store]\nkind = "s3"\nbucket = "b"', 'needs [ledger] kind "redis"'),
        ('[ledger]\nkind = "redis"', 'needs [store] kind "s3"'),
        (f"{DISTRIBUTED}\n[read]\nopen = 3", "[read] open must be true or false"),
        ('[store]\nkind = "s3"\n[ledger]\nkind = "redis"', "[store] bucket must be named"),
        (f'{DISTRIBUTED}\nurl = ""', "[ledger] url or url_file must be given"),
        (f"{DISTRIBUTED}\nwait_replicas = -1", "wait_replicas must not be negative"),
        (f"{DISTRIBUTED}\nreconcile_s = 0", "reconcile_s must be greater than 0"),
        (DISTRIBUTED.replace('bucket = "b"', 'bucket = "b"\ndownloads = "cdn"'), "[store] downloads 'cdn' is unknown"),
        (DISTRIBUTED.replace('bucket = "b"', 'bucket = "b"\nkms_key_id = "k"'), "kms_key_id goes with"),
        (DISTRIBUTED.replace('bucket = "b"', 'bucket = "b"\nendpoint_url = "s3"'), "[store] endpoint_url must be"),
        ("[uploads]\ntoken_quota_bytes = -1", "token_quota_bytes must not be negative"),
        ('[store]\nkind = "s4"', "[store] kind 's4' is unknown"),
        ('[ledger]\nkind = "post"', "[ledger] kind 'post' is unknown"),
        ('public_url = "index.example"', "public_url must begin with http"),
        ('[upstream]\nurl = "pypi.org"', "must be the http(s) URL"),
        ('[upstream]\nusername = "ada"', "belong together"),
        ("[upstream]\nfresh_s = 0", "fresh_s must be greater than 0"),
        ('[upstream]\nupload_url = "upload.example"', "upload_url must be the http(s) URL"),
        ('[upstream]\nupload_url = "https://ada:s3cret@upload.example/"', "upload_url must not hold a credential"),
        ('[upstream]\nupload_url = "http://upload.example/"', "upload_url must begin with https://"),
        ('[upstream]\nrules = "strict"', '[upstream] rules \'strict\' is unknown; it is "" or "pypi" or "plain".'),
        ("[promote]\nlease_s = 0", "[promote] lease_s must be greater than 0"),
        ("[promote]\nabsent_s = -1", "[promote] absent_s must not be negative"),
        ("public_url = 5", "public_url must be a string"),
        ('public_url = "https://"', "public_url must name a host"),
        ('public_url = "https:///next"', "public_url must name a host"),
        ('public_url = "https://[::1"', "public_url must name a host"),
        ('public_url = "https://index.example/?x=1"', "without query"),
        ('public_url = "https://index.example/#x"', "without query"),
        ('public_url = "https://index.example/{stage}"', "without query"),
        ('public_url = "https://t0ken@index.example"', "public_url must not hold a credential"),
        ('[upstream]\nurl = "https://[::1/simple/"', "must be the http(s) URL"),
        ('[upstream]\nurl = "https://index.example:99999/simple/"', "must be the http(s) URL"),
        ('[upstream]\nproxy = "ada:hunter2@proxy.example:3128"', "[upstream] proxy must be"),
        ("[upstream]\nstale_s = -1", "[upstream] stale_s must not be negative"),
        ("[uploads]\nquota_bytes = -1", "[uploads] quota_bytes must not be negative"),
        ("[uploads]\ngrace_s = -1", "[uploads] grace_s must be at least 60: sweep deletes"),
        ("[uploads]\ngrace_s = 59", "[uploads] grace_s must be at least 60: sweep deletes"),
    ],
)
def test_what_cannot_work_is_refused(text: str, sentence: str) -> None:
    """Before anything is opened."""
    assert sentence in problems(text)


@pytest.mark.parametrize(
    "url", ["https://upload.example/", "http://127.0.0.1:3141/", "http://[::1]/", "http://localhost/"]
)
def test_uploads_go_where_nobody_else_reads_them(url: str) -> None:
    """By https, or to this machine itself."""
    assert parse({"upstream": {"upload_url": url}}, {}, source="x").upstream.upload_url == url


def test_clients_that_came_by_https_are_not_redirected_to_http() -> None:
    """Installers refuse it, or fetch what anyone on the way could have changed."""
    redirect = DISTRIBUTED.replace("[store]", '[store]\ndownloads = "redirect"\nendpoint_url = "HTTP://s3"')
    public = 'public_url = "https://index.example"\n'
    assert "from https (public_url) to http (endpoint_url)" in problems(public + redirect)
    for fine in (redirect, public + redirect.replace("HTTP", "https"), public + redirect.replace("redirect", "stream")):
        parse(tomllib.loads(f'{fine}\nurl = "redis://h"'), {}, source="x")


def test_the_environment_wins_and_is_parsed_as_toml() -> None:
    """Numbers and booleans as such, everything else as a string."""
    config = parse(
        tomllib.loads('[server]\nport = 1\nhost = "::1"'),
        {
            "OVERLAY_SERVER_PORT": "9000",
            "OVERLAY_READ_OPEN": "false",
            "OVERLAY_STORE_PATH": "/srv/overlay",
            "OVERLAY_PUBLIC_URL": "https://index.example/next/",
            "OVERLAY_URL": "reserved for clients",
            "OVERLAY_TOKEN": "reserved for clients",
            "HOME": "/root",
        },
        source="x",
    )
    assert (config.server.port, config.server.host) == (9000, "::1")
    assert config.read.open is False
    assert config.store.path == "/srv/overlay"
    assert config.public_url == "https://index.example/next"


@pytest.mark.parametrize(
    ("text", "value"),
    [("2026", "2026"), ("true", "true"), ("1e3", "1e3"), ("[x]", "[x]"), ('"a b"', "a b"), ("'7'", "7")],
)
def test_a_string_of_the_environment_may_look_like_anything(text: str, value: str) -> None:
    """A user may be called 12345; quotes are TOML's."""
    assert parse({}, {"OVERLAY_STORE_PATH": text}, source="x").store.path == value


@pytest.mark.parametrize("token", ["short", "ovl_short", "x" * 60])
def test_an_admin_token_of_the_wrong_form_is_refused(token: str) -> None:
    """And not quoted."""
    said = problems("", OVERLAY_ADMIN_TOKEN=token)
    assert "OVERLAY_ADMIN_TOKEN must begin with ovl_" in said
    assert token not in said.replace("OVERLAY_ADMIN_TOKEN must begin with ovl_", "")


def test_what_is_printed_is_valid_and_holds_no_secret() -> None:
    """`overlay config` prints TOML that loads to the same values, without tokens and passwords."""
    config = parse(
        {"upstream": {"proxy": "http://ada:hunter2@proxy.example:3128"}}, {"OVERLAY_ADMIN_TOKEN": TOKEN}, source="x"
    )
    text = shown(config)
    assert TOKEN not in text
    assert "hunter2" not in text
    raw = tomllib.loads(text)
    assert raw["server"]["port"] == 8080
    assert parse(tomllib.loads(shown(Config())), {}, source="x") == Config()
    assert TOKEN not in repr(config)


@pytest.mark.parametrize("userinfo", ["s3cret", "s3cret:", ":s3cret", "ada:s3cret", "ada:s3cr%65t@s3cret"])
def test_no_part_of_a_credential_in_a_url_is_printed(userinfo: str) -> None:
    """A token may stand where the user's name does."""
    upstream = {"url": f"https://{userinfo}@index.example/simple/", "proxy": f"http://{userinfo}@proxy.example:3128"}
    text = shown(parse({"upstream": upstream}, {}, source="x"))
    assert "s3cr" not in text
    assert 'url = "https://********@index.example/simple/"' in text
    assert without_userinfo(upstream["url"]) == "https://index.example/simple/"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, or not TOML."""
    with pytest.raises(InvalidConfig, match=r"nowhere\.toml cannot be read"):
        load(tmp_path / "nowhere.toml", {})
    broken = tmp_path / "broken.toml"
    broken.write_text("port = = 1")
    with pytest.raises(InvalidConfig, match=r"broken\.toml is not valid TOML"):
        load(broken, {})
