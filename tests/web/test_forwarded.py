"""What proxies say about their clients: believed from trusted addresses, and from nobody else."""

import dataclasses
import json
from collections.abc import Sequence
from io import StringIO
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from overlay.config.tables import Config
from overlay.web.forwarded import Origin, believed, networks
from tests.running import running

PROXIES = networks(("10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"))
PROXY = Origin("10.1.2.3", "http", "10.9.9.9:8080")

SCHEMES = ("http", "https", "HTTPS", "ftp", "", "https, http", "javascript")
HOSTS = ("index.example", "index.example:8443", "[2001:db8::7]:80", "evil.example/path", "", "a b", "evil<x>", "a, b")
HOPS = ("203.0.113.7", "10.1.1.1", "192.0.2.1", "[2001:db8::7]:4711", "unknown", "unix:", "203.0.113.7:80", "", "::1")


def headers(forwarded_for: Sequence[str] = (), proto: Sequence[str] = (), host: Sequence[str] = ()) -> CIMultiDict[str]:
    made = CIMultiDict[str]()
    for name, values in (("For", forwarded_for), ("Proto", proto), ("Host", host)):
        for value in values:
            made.add(f"X-Forwarded-{name}", value)
    return made


def client_of(*forwarded_for: str) -> str:
    return believed(PROXY, headers(forwarded_for), PROXIES).client


def stranger(address: IPv4Address | IPv6Address) -> bool:
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    return not any(plain in network for network in PROXIES)


@given(
    st.ip_addresses().filter(stranger).map(str) | st.sampled_from(("", "-", "unix:")),
    st.lists(st.lists(st.sampled_from(HOPS)).map(", ".join)),
    st.lists(st.sampled_from(SCHEMES)),
    st.lists(st.sampled_from(HOSTS)),
)
def test_forged_headers_of_an_untrusted_peer_change_nothing(
    peer: str, hops: list[str], schemes: list[str], hosts: list[str]
) -> None:
    """Whatever it sends, the connection's own address, scheme and Host count."""
    seen = Origin(peer, "http", "index.example")
    assert believed(seen, headers(hops, schemes, hosts), PROXIES) == seen
    assert believed(seen, headers(hops, schemes, hosts), ()) == seen


@given(
    st.lists(st.sampled_from(HOPS)),
    st.ip_addresses(v=4, network="203.0.113.0/24"),
    st.lists(st.sampled_from(HOPS[1:3])),
)
def test_a_client_cannot_hide_behind_its_own_list(forged: list[str], client: object, proxies: list[str]) -> None:
    """What the first trusted proxy appended is the client, whatever stood in the header when it came."""
    assert client_of(", ".join([*forged, str(client), *proxies])) == str(client)


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_garbage_of_a_trusted_proxy_is_survived(forwarded_for: str, proto: str, host: str) -> None:
    """The client stays an address, the scheme one of two, and the Host one that may be shown again."""
    origin = believed(PROXY, headers([forwarded_for], [proto], [host]), PROXIES)
    ip_network(origin.client)
    assert origin.scheme in {"http", "https"}
    assert not set(origin.host) & set(" <>\"'/\\\r\n@")


@pytest.mark.parametrize(
    ("forwarded_for", "client"),
    [
        ([], "10.1.2.3"),
        ([""], "10.1.2.3"),
        (["203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1", "203.0.113.7, 10.0.0.9"], "203.0.113.7"),
        (["203.0.113.7,192.0.2.1"], "203.0.113.7"),
        (["203.0.113.7,192.0.2.2"], "192.0.2.2"),
        (["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        (["203.0.113.7, unknown, 10.0.0.8"], "10.0.0.8"),
        (["203.0.113.7, unix:"], "10.1.2.3"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["2001:DB8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:4711, 2001:db8:1::1"], "2001:db8::7"),
        (["203.0.113.7, ::ffff:10.0.0.8"], "203.0.113.7"),
        (["203.0.113.7, 999.1.1.1"], "10.1.2.3"),
        (["fe80::1%<script>"], "10.1.2.3"),
    ],
)
def test_the_first_untrusted_address_from_the_right_is_the_client(forwarded_for: list[str], client: str) -> None:
    """Several headers are one list, ports and brackets aside; what is no address ends the walk at the last good one."""
    assert client_of(*forwarded_for) == client


def test_the_last_value_is_the_one_the_nearest_proxy_wrote() -> None:
    """Of scheme and Host, whether in one header or in several."""
    origin = believed(
        PROXY, headers((), ["https", "ftp, HTTPS"], ["evil.example", "older.example, index.example:8443"]), PROXIES
    )
    assert (origin.scheme, origin.host) == ("https", "index.example:8443")


@pytest.mark.parametrize("host", ["", "evil.example/path", 'x"onclick="', "a b", "user@evil.example"])
def test_what_is_no_host_and_no_scheme_is_passed_over(host: str) -> None:
    """Then the connection's own counts."""
    origin = believed(PROXY, headers((), ["gopher"], [host]), PROXIES)
    assert (origin.scheme, origin.host) == ("http", "10.9.9.9:8080")


def test_a_proxy_on_a_dual_socket_is_known_by_its_ipv4_address() -> None:
    """The kernel shows it as ::ffff:10.1.2.3."""
    seen = Origin("::ffff:10.1.2.3", "http", "x")
    assert believed(seen, headers(["203.0.113.7"]), PROXIES).client == "203.0.113.7"


def behind(config: Config, *proxies: str) -> Config:
    """Trust these proxies."""
    return dataclasses.replace(config, server=dataclasses.replace(config.server, trusted_proxies=proxies))


FORGED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "index.example",
    "Forwarded": "for=203.0.113.8;proto=https;host=index.example",
}


@pytest.mark.parametrize(
    ("proxies", "root", "client"),
    [
        (("127.0.0.0/8",), "https://index.example", "203.0.113.7"),
        (("127.0.0.1", "10.0.0.0/8"), "https://index.example", "203.0.113.7"),
        (("10.0.0.0/8",), None, "127.0.0.1"),
        ((), None, "127.0.0.1"),
    ],
)
async def test_a_server_believes_only_its_own_proxies(
    config: Config, proxies: tuple[str, ...], root: str | None, client: str
) -> None:
    """Links, receipts and the access log follow a trusted proxy; from any other address nothing changes."""
    log = StringIO()
    async with running(behind(config, *proxies), access_log=log) as overlay:
        async with overlay.get("/api/v1/info", **FORGED) as response:
            info = json.loads(await response.read())
        async with overlay.get("/help", **FORGED) as response:
            help_page = await response.text()
        async with overlay.session.post(f"{overlay.url}/simple/", headers=FORGED) as response:
            advice = await response.text()
        own_url = overlay.url
    assert info["public_url"] == (root or own_url)
    assert f"{root or own_url}/legacy/" in help_page
    assert f"{root or own_url}/legacy/" in advice
    assert ("index.example" in help_page) == (root is not None)
    assert {line.split("overlay.access: ")[1].split()[0] for line in log.getvalue().splitlines()} == {client}


async def test_the_operators_own_url_is_above_all_headers(config: Config) -> None:
    """`public_url` is what pages show, whoever asks."""
    url = "https://configured.example"
    async with (
        running(dataclasses.replace(behind(config, "127.0.0.1"), public_url=url)) as overlay,
        overlay.get("/api/v1/info", **FORGED) as response,
    ):
        assert json.loads(await response.read())["public_url"] == url
