"""Where Redis is, in one URL: a single server, Sentinels, or a cluster.

    redis://[user:password@]host[:port][/db]          rediss:// for TLS
    unix://[user:password@]/path/to/socket[?db=0]
    redis+sentinel://[user:password@]host[:port],host[:port]/SERVICE[/db]     rediss+sentinel://
    redis+cluster://[user:password@]host[:port],host[:port]                   rediss+cluster://

After a question mark: `ca_file` (TLS), `db` (unix), `sentinel_username` and `sentinel_password`. Names and passwords
are percent-encoded. No error, text or `repr` ever shows a password; errors quote nothing of a URL, because one that is
misread may have it anywhere.
"""

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Final
from urllib.parse import parse_qsl, unquote

from overlay.domain.errors import InvalidConfig

_URL: Final = re.compile(
    r"(?P<scheme>[a-z+]+)://(?:(?P<login>[^@/]*)@)?(?P<hosts>[^/?]*)(?P<path>/[^?]*)?(?:\?(?P<query>.*))?"
)
_HOST: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+)(?::(?P<port>\d{1,5}))?")
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_HIGHEST_PORT: Final = 65535


class Form(Enum):
    """How the primary is found."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class Address:
    """Where one server listens: a host and port, or the path of a socket."""

    host: str
    port: int
    socket_path: str = ""

    def __str__(self) -> str:
        return self.socket_path or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Login:
    """A user name and a password, each "" when there is none."""

    username: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTarget:
    """What a URL says. `addresses` are the server's own, the Sentinels' or some of the cluster's nodes."""

    form: Form
    addresses: tuple[Address, ...]
    db: int = 0
    service: str = ""
    """The name that the Sentinels know the primary by."""
    login: Login = Login()
    sentinel_login: Login = Login()
    tls: bool = False
    ca_file: str = ""

    def __str__(self) -> str:
        scheme = "unix" if self.addresses[0].socket_path else "rediss" if self.tls else "redis"
        kind = "" if self.form is Form.SINGLE else f"+{self.form.value}"
        login = "…@" if self.login.password or self.login.username else ""
        service = f"/{self.service}" if self.service else ""
        return f"{scheme}{kind}://{login}{','.join(map(str, self.addresses))}{service}"


@dataclass(frozen=True, slots=True)
class _Scheme:
    form: Form
    tls: bool = False
    options: frozenset[str] = frozenset()
    port: int = _PORT
    socket: bool = False


_SCHEMES: Final = {
    "redis": _Scheme(Form.SINGLE),
    "rediss": _Scheme(Form.SINGLE, tls=True, options=frozenset({"ca_file"})),
    "unix": _Scheme(Form.SINGLE, options=frozenset({"db"}), socket=True),
    "redis+sentinel": _Scheme(
        Form.SENTINEL, options=frozenset({"sentinel_username", "sentinel_password"}), port=_SENTINEL_PORT
    ),
    "rediss+sentinel": _Scheme(
        Form.SENTINEL,
        tls=True,
        options=frozenset({"ca_file", "sentinel_username", "sentinel_password"}),
        port=_SENTINEL_PORT,
    ),
    "redis+cluster": _Scheme(Form.CLUSTER),
    "rediss+cluster": _Scheme(Form.CLUSTER, tls=True, options=frozenset({"ca_file"})),
}


def parse(url: str) -> RedisTarget:
    """Read a URL. Raises InvalidConfig."""
    matched = _URL.fullmatch(url)
    scheme = _SCHEMES.get(matched["scheme"]) if matched is not None else None
    if matched is None or scheme is None:
        raise _invalid(f"it must begin with one of {', '.join(f'{name}://' for name in _SCHEMES)}")
    if "@" in url[matched.start("hosts") :]:
        raise _invalid(
            "only one @ may stand in it, before the hosts; percent-encode the password (%40 for @, %2F for /)"
        )
    options = _options(matched["query"] or "", scheme)
    path = unquote(matched["path"] or "")
    service, db = _service_and_db(path, scheme, options)
    return RedisTarget(
        form=scheme.form,
        addresses=_addresses(matched["hosts"], path, scheme),
        db=db,
        service=service,
        login=_login(matched["login"] or ""),
        sentinel_login=Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        tls=scheme.tls,
        ca_file=options.get("ca_file", ""),
    )


def _options(query: str, scheme: _Scheme) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    if not set(options) <= scheme.options:
        raise _invalid(f"after a question mark it may have {', '.join(sorted(scheme.options)) or 'nothing'}")
    return options


def _login(login: str) -> Login:
    username, colon, password = login.partition(":")
    if login and not colon:
        raise _invalid("what stands before the @ must be user:password or :password")
    return Login(unquote(username), unquote(password))


def _addresses(hosts: str, path: str, scheme: _Scheme) -> tuple[Address, ...]:
    if scheme.socket:
        if hosts or len(path) < 2:  # noqa: PLR2004 - a slash and at least one character
            raise _invalid("a unix:// URL names the absolute path of a socket, as unix:///run/redis.sock")
        return (Address("", 0, path),)
    addresses = tuple(_address(host, scheme.port) for host in hosts.split(","))
    if scheme.form is Form.SINGLE and len(addresses) > 1:
        raise _invalid("several hosts need redis+sentinel:// or redis+cluster://")
    return addresses


def _address(text: str, port: int) -> Address:
    matched = _HOST.fullmatch(text)
    number = int(matched["port"] or port) if matched is not None else 0
    if matched is None or not 0 < number <= _HIGHEST_PORT:
        raise _invalid("its hosts must be host or host:port, with commas between them")
    return Address(unquote(matched["host"]).strip("[]"), number)


def _service_and_db(path: str, scheme: _Scheme, options: dict[str, str]) -> tuple[str, int]:
    if scheme.socket:
        return "", _db(options.get("db", "0"))
    parts = path.strip("/").split("/") if path.strip("/") else []
    if scheme.form is Form.CLUSTER:
        if parts and parts != ["0"]:
            raise _invalid("a cluster has only the database 0, so nothing may follow the hosts")
        return "", 0
    if scheme.form is Form.SINGLE:
        if len(parts) > 1:
            raise _invalid("only the number of a database may follow the host")
        return "", _db(parts[0] if parts else "0")
    if len(parts) not in {1, 2}:
        raise _invalid(
            "the Sentinels' name of the service must follow the hosts, as redis+sentinel://h:p,h:p/SERVICE/0"
        )
    return parts[0], _db(parts[1] if len(parts) > 1 else "0")


def _db(text: str) -> int:
    if not text.isdecimal():
        raise _invalid("the number of a database must be a number")
    return int(text)


def _invalid(why: str) -> InvalidConfig:
    return InvalidConfig((f"[ledger] url is not a Redis URL that can be used: {why}.",))
