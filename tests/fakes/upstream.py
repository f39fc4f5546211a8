"""An upstream in memory: what it lists is set by hand, every answer is fresh, and questions are counted."""

import hashlib
import json

from overlay.domain.errors import OverlayError, UpstreamUnavailable
from overlay.domain.names import ABSENT, NormalizedName, Validator, project_name
from overlay.domain.page import UpstreamPage
from overlay.domain.stage import StagedFile

FILES = "https://files.example/"


class MemoryUpstream:
    """An `Upstream`."""

    trouble = ""

    def __init__(self) -> None:
        self.listed: dict[NormalizedName, dict[str, str | None]] = {}
        """Project to filename to sha256, None where the page does not say it."""
        self.statuses: dict[NormalizedName, str] = {}
        self.down = False
        self.failing: dict[NormalizedName, OverlayError] = {}
        self.asked: list[tuple[NormalizedName, float | None]] = []

    def add(self, file: StagedFile, *, sha256: str | None = "") -> None:
        """List a file, with its own digest unless another one is given."""
        self.listed.setdefault(file.project, {})[file.filename] = file.sha256 if sha256 == "" else sha256

    def create(self, project: str) -> None:
        """Have a project without files."""
        self.listed.setdefault(project_name(project), {})

    async def page(self, project: NormalizedName, *, no_older_than_s: float | None = None) -> UpstreamPage:
        self.asked.append((project, no_older_than_s))
        if self.down:
            raise UpstreamUnavailable("The test's upstream is down.")
        if project in self.failing:
            raise self.failing[project]
        body = self._body(project)
        validator = ABSENT if body is None else Validator(hashlib.sha256(body).hexdigest())
        return UpstreamPage(project=project, body=body, validator=validator, fetched_at_s=0)

    def in_hand(self, project: NormalizedName) -> UpstreamPage | None:  # noqa: ARG002
        return None

    async def known(self, project: NormalizedName) -> UpstreamPage | None:
        return None if self.down else await self.page(project)

    def _body(self, project: NormalizedName) -> bytes | None:
        if project not in self.listed:
            return None
        files = [
            {"filename": name, "url": FILES + name, "hashes": {} if sha256 is None else {"sha256": sha256}}
            for name, sha256 in sorted(self.listed[project].items())
        ]
        status = {"status": self.statuses.get(project, "active")}
        return json.dumps({"name": project, "files": files, "project-status": status}).encode()
