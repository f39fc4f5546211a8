"""One upload on its way through the checks."""

from dataclasses import dataclass

from packaging.version import Version

from tests.pypi.accounts import Credential
from tests.pypi.form import Content, Form
from tests.pypi.shelves import Release, ShelvedProject
from tests.pypi.world import World


@dataclass(kw_only=True)
class Attempt:
    """A form, who sends it, and the index that it is for."""

    form: Form
    credential: Credential
    world: World

    @property
    def name(self) -> str:
        return self.form.one("name")

    @property
    def version(self) -> Version:
        """The version; call it after the checks of the metadata."""
        return Version(self.form.one("version"))

    @property
    def project(self) -> ShelvedProject | None:
        """The project; None: it would be new."""
        return self.world.shelves.project(self.name)

    @property
    def release(self) -> Release | None:
        return None if self.project is None else self.project.releases.get(self.version)

    @property
    def shown_name(self) -> str:
        """The project's name in messages."""
        return self.project.name if self.project is not None else self.name

    @property
    def user(self) -> str:
        """Who uploads; "" for a trusted publisher."""
        return self.credential.token.user if self.credential.token is not None else ""

    @property
    def content(self) -> Content:
        """The file; call it after the check that there is one."""
        assert self.form.content is not None
        return self.form.content

    @property
    def is_sdist(self) -> bool:
        return self.form.one("filetype") == "sdist"
