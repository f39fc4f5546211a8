"""deploy/compose.yaml: that its services fit each other, the image, nginx.conf and the overlay."""

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from overlay.cli import worker_process
from overlay.config.loading import load
from overlay.config.tables import Config
from tests.deploy.compose import COMPOSE, SECRETS, VARIABLE, environment, services
from tests.deploy.containerfile import stages
from tests.deploy.documents import DEPLOY, Value, at, documents, mapping, sequence, text, texts
from tests.nginx import CONFIGURATION

SERVICES = services()
OVERLAYS = sorted(name for name in SERVICES if name.startswith("overlay-"))
EXAMPLE = (DEPLOY / ".env.example").read_text(encoding="utf-8")
IMAGE = stages(DEPLOY / "Containerfile")[1][-1]


def config_of(name: str) -> Config:
    """Load the configuration of an overlay as it would."""
    environ = environment(SERVICES[name])
    return load(mounted(SERVICES[name])[environ["OVERLAY_CONFIG"]], environ)


def mounted(service: Value) -> dict[str, Path]:
    """Return what is mounted from this folder, by its place in the container."""
    split = [mount.split(":") for mount in texts(service, "volumes")]
    return {place: DEPLOY / source for source, place, *_ in split if source.startswith(".")}


def address(name: str) -> str:
    return text(SERVICES[name], "networks", "front", "ipv4_address")


def test_a_missing_secret_is_named() -> None:
    """Compose stops with the variable's name and where to look; .env.example has every variable there is."""
    for name in SECRETS:
        with pytest.raises(KeyError, match=rf"{name} is missing; see .env.example"):
            services({**SECRETS, name: ""})
    used = {found["name"] for found in VARIABLE.finditer(COMPOSE.read_text(encoding="utf-8"))}
    assert set(re.findall(r"^([A-Z_0-9]+)=", EXAMPLE, re.MULTILINE)) == used
    assert all(f"\n{name}=\n" in EXAMPLE for name in SECRETS)


def test_what_is_mounted_is_there() -> None:
    """Docker would make a folder of a file that is not."""
    files = [
        file for service in SERVICES.values() if "volumes" in mapping(service) for file in mounted(service).values()
    ]
    assert CONFIGURATION in files
    assert all(file.is_file() for file in files)


def test_two_overlays_differ_in_nothing_but_their_place() -> None:
    """Each has a local folder and an address of its own."""
    assert len(OVERLAYS) == 2
    one, two = (dict(mapping(SERVICES[name])) for name in OVERLAYS)
    assert one.pop("networks") != two.pop("networks")
    assert one.pop("volumes") != two.pop("volumes")
    assert one == two


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_finds_the_others(name: str) -> None:
    """Redis, S3 with its bucket and its keys, and the one proxy that it believes."""
    config = config_of(name)
    assert urlsplit(config.ledger.url).hostname in SERVICES
    assert urlsplit(config.store.endpoint_url).hostname in SERVICES
    assert f'Bucket="{config.store.bucket}"' in texts(SERVICES["bucket"], "command")[0]
    assert config.server.trusted_proxies == (address("nginx"),)
    assert config.admin_token == SECRETS["OVERLAY_ADMIN_TOKEN"]
    keys = environment(SERVICES["s3"])
    assert keys == {key: environment(SERVICES[name])[key] for key in keys}
    assert keys == {key: environment(SERVICES["bucket"])[key] for key in keys}


def test_nginx_finds_the_overlays() -> None:
    """By their names and the port they listen on, in both of its lists; and is itself reached on its own."""
    names = re.findall(r"^ *server (\S+):(\d+) max_fails=0;$", CONFIGURATION.read_text(), re.MULTILINE)
    assert names == [(name, str(config_of(name).server.port)) for name in OVERLAYS] * 2
    (port,) = texts(SERVICES["nginx"], "ports")
    assert f"listen {port.rpartition(':')[2]};" in CONFIGURATION.read_text()


def test_addresses_stay() -> None:
    """They are fixed and lie in the network that Compose makes."""
    networks = mapping(documents(COMPOSE)[0], "networks")
    network = ipaddress.ip_network(text(networks, "front", "ipam", "config", 0, "subnet"))
    found = [address(name) for name in ("nginx", *OVERLAYS)]
    assert len(set(found)) == 3
    assert all(ipaddress.ip_address(one) in network for one in found)
    assert at(networks, "back", "internal") is True


@pytest.mark.parametrize("name", OVERLAYS)
def test_uploads_under_way_may_end(name: str) -> None:
    """Docker kills later than the overlay itself would; nginx waits as long."""
    seconds = int(text(SERVICES[name], "stop_grace_period").removesuffix("s"))
    assert seconds > worker_process.STOP_S
    assert text(SERVICES["nginx"], "stop_grace_period") == f"{seconds}s"


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_root_file_system_is_read_only(name: str) -> None:
    """All that is written to is mounted, and was made for the image's user."""
    service = SERVICES[name]
    assert at(service, "read_only") is True
    places = [mount.split(":")[1] for mount in texts(service, "volumes") if not mount.endswith(":ro")]
    assert places == [config_of(name).server.local_path]
    assert places[0] in IMAGE.one("RUN").split()
    assert texts(service, "tmpfs") == ["/tmp"]


def test_everything_waits_for_what_it_needs() -> None:
    """For health, or for the end of what has to be done once; and what is waited for says how it is."""
    for service in SERVICES.values():
        for needed, condition in mapping(service).get("depends_on", {}).items():  # type: ignore[union-attr]
            wanted = "service_completed_successfully" if needed == "bucket" else "service_healthy"
            assert condition == {"condition": wanted}
            assert needed == "bucket" or sequence(SERVICES[needed], "healthcheck", "test")
    assert set(mapping(SERVICES["nginx"], "depends_on")) == set(OVERLAYS)
