"""The configuration as frozen values, with every default; `config.toml` says what each means."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_PYPI: Final = "https://pypi.org/simple/"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """`[server]`: where it listens, and how it runs there."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    trusted_proxies: tuple[str, ...] = ()
    local_path: str = ""
    log: str = "text"
    access_log: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """`[upstream]`: the index we overlay."""

    url: str = _PYPI
    upload_url: str = ""
    rules: str = ""
    fresh_s: int = 60
    stale_s: int = 86_400
    timeout_s: int = 10
    username: str = ""
    password_file: str = ""
    ca_file: str = ""
    proxy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """`[store]`: where bytes and documents lie. What the other kind needs is ignored."""

    kind: str = "directory"
    path: str = "data"
    bucket: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    region: str = ""
    addressing: str = "auto"
    encryption: str = ""
    kms_key_id: str = ""
    storage_class: str = ""
    downloads: str = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """`[ledger]`: where what is staged is indexed. What the other kind needs is ignored."""

    kind: str = "memory"
    url: str = "redis://127.0.0.1:6379/0"
    url_file: str = ""
    prefix: str = "default"
    wait_replicas: int = 0
    reconcile_s: int = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConfig:
    """`[read]`: who may read."""

    open: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadsConfig:
    """`[uploads]`: what may be staged."""

    replace: bool = True
    strict: bool = False
    limit_bytes: int = 1_073_741_824
    quota_bytes: int = 0
    token_quota_bytes: int = 0
    token_uploads_per_minute: int = 0
    grace_s: int = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class PromoteConfig:
    """`[promote]`: how long a run of `overlay promote` may be silent, and upstream's page lack what it accepted."""

    lease_s: int = 60
    absent_s: int = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """`[cache]`: how much memory and disk pages may take."""

    page_bytes: int = 268_435_456
    disk_bytes: int = 1_073_741_824


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfig:
    """`[web]`: the pages for people."""

    templates: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `admin_token` comes from the environment only."""

    public_url: str = ""
    server: ServerConfig = field(default_factory=ServerConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    uploads: UploadsConfig = field(default_factory=UploadsConfig)
    promote: PromoteConfig = field(default_factory=PromoteConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    web: WebConfig = field(default_factory=WebConfig)
    admin_token: str = field(default="", repr=False)


TABLES: Final[Mapping[str, type]] = {
    "server": ServerConfig,
    "upstream": UpstreamConfig,
    "store": StoreConfig,
    "ledger": LedgerConfig,
    "read": ReadConfig,
    "uploads": UploadsConfig,
    "promote": PromoteConfig,
    "cache": CacheConfig,
    "web": WebConfig,
}
