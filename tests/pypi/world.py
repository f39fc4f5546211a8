"""The state of the scripted PyPI, and the orders that change it."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

import msgspec
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from tests.pypi import archives, orders
from tests.pypi.accounts import Accounts
from tests.pypi.faults import Fault, Faults
from tests.pypi.orders import Order, Rules
from tests.pypi.publishers import Publishers
from tests.pypi.shelves import Digests, ShelvedFile, ShelvedProject, Shelves


class World:
    """Everything but HTTP."""

    def __init__(self, folder: Path, now_s: Callable[[], float] = time.time) -> None:
        self.shelves = Shelves(folder)
        self.accounts = Accounts()
        self.faults = Faults()
        self.rules = Rules()
        self._began_s = now_s
        self._advanced_s = 0.0
        self.publishers = Publishers(self.now_s)

    def now_s(self) -> float:
        """Return the index's time, in seconds since the epoch."""
        return self._began_s() + self._advanced_s

    def do(self, order: Order) -> None:  # noqa: C901, PLR0912 - a table
        """Carry out an order."""
        match order:
            case orders.Token():
                self.accounts.add(order)
            case orders.Revoke(text=text):
                self.accounts.revoke(text)
            case orders.Publisher():
                self.publishers.add(order)
            case orders.Rules():
                self.rules = order
            case orders.Advance(seconds=seconds):
                self._advanced_s += seconds
            case Fault():
                self.faults.add(order)
            case orders.NoFaults():
                self.faults.clear()
            case orders.OpenGate(gate=gate):
                self.faults.gates.open(gate)
            case orders.Project(name=name, owners=owners):
                self.shelves.create(name, frozenset(owners))
            case orders.Live():
                self._live(order)
            case orders.Delete(filename=filename):
                self._delete(filename)
            case orders.Yank():
                self._yank(order)
            case orders.Status():
                self._status(order)
            case orders.Lag(page_requests=requests):
                self.shelves.lag_requests = requests
            case orders.Show(project=name):
                self._show(name)
            case orders.WrongDigest(filename=filename, sha256=sha256):
                self.shelves.wrong_digests[filename] = sha256
            case _:
                assert_never(order)

    def project(self, name: str) -> ShelvedProject:
        """Return a project that a test speaks of."""
        found = self.shelves.project(name)
        if found is None:
            raise LookupError(f"There is no project {name!r}.")
        return found

    def count_new_project(self) -> None:
        """Note that an upload made a project."""
        if self.rules.new_projects_left is not None:
            self.rules = msgspec.structs.replace(self.rules, new_projects_left=self.rules.new_projects_left - 1)

    def _live(self, order: orders.Live) -> None:
        name, version = named(order.filename)
        project = self.shelves.project(name) or self.shelves.create(name, frozenset({orders.ADA}))
        path = self.shelves.folder / "live"
        path.write_bytes(order.body)
        file = ShelvedFile(
            filename=order.filename,
            path=path,
            size_bytes=len(order.body),
            digests=Digests(
                md5=hashlib.md5(order.body).hexdigest(),
                sha256=hashlib.sha256(order.body).hexdigest(),
                blake2_256=hashlib.blake2b(order.body, digest_size=32).hexdigest(),
            ),
            uploaded_at_s=self.now_s() if order.uploaded_at_s is None else order.uploaded_at_s,
            metadata=archives.metadata_of(path, order.filename),
        )
        self.shelves.put(project, version, file, requires_python=archives.requires_python(file.metadata))

    def _delete(self, filename: str) -> None:
        found = self.shelves.find(filename)
        if found is None:
            raise LookupError(f"There is no file {filename!r}.")
        project, release, _ = found
        del release.files[filename]
        project.releases = {version: kept for version, kept in project.releases.items() if kept.files}
        self.shelves.touch(project)

    def _yank(self, order: orders.Yank) -> None:
        project = self.project(order.project)
        project.releases[Version(order.version)].yanked = order.reason or True
        self.shelves.touch(project)

    def _status(self, order: orders.Status) -> None:
        project = self.project(order.project)
        project.status, project.status_reason = order.status, order.reason
        self.shelves.touch(project)

    def _show(self, name: str) -> None:
        project = self.project(name)
        project.appeared_with = None
        for file in project.files:
            file.visible_from = 0


def named(filename: str) -> tuple[str, Version]:
    """Read project and version from a valid filename."""
    if filename.endswith(".whl"):
        name, version, _, _ = parse_wheel_filename(filename)
        return canonicalize_name(name), version
    return parse_sdist_filename(filename)
