"""Where credentials come from, in twine's order, and which of them are refused before anything is sent."""

import base64
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from overlay.domain.wire_promotions import PlanView, PromotionView
from overlay.promote.credentials import Login, Sources, find
from overlay.promote.errors import Ending, Refused
from overlay.promote.hosts import Target, target
from overlay.promote.identity import Identity
from overlay.promote.tools import Credential
from tests.builders import wheel
from tests.promote.macaroons import token
from tests.promote.packages import planned

NOW_S = 1_800_000_000.0
PYPI = target("https://upload.pypi.org/legacy/")
TESTPYPI = target("https://test.pypi.org/legacy/")
PRIVATE = target("https://index.example/legacy/")
LOCAL = target("http://127.0.0.1:8080/legacy/")
OURS = "ovl_0123456789abcdef"
TRUSTED = Login(username="__token__", password="minted", words="Trusted Publishing")
IDENTITY = Identity(issuer="i", repository="r", workflow="w", life_s=None, claims=(("sub", "repo:octo/demo"),))


def plan(*projects: str, new: tuple[str, ...] = ()) -> PlanView:
    """Plan a file of each project."""
    files = tuple(planned(wheel(project, "1.1")) for project in projects or ("demo",))
    promotion = PromotionView(
        id="1", stage="main", target="", who="ada", planned_at="2027-01-15T08:00:00Z", state="running", files=files
    )
    return PlanView(
        promotion=promotion,
        already_live=(),
        warnings=(),
        new_projects=new,
        upstream="https://pypi.org/simple/",
        fence=1,
        lease_s=60,
        absent_s=90,
    )


def named(to: Target) -> dict[str, str]:
    """Let the job say that this index is meant."""
    return {"TWINE_REPOSITORY_URL": str(to)}


@dataclass
class Desk:
    """A job with all four sources."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    keyring: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict, repr=False)
    asked: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    trusted: Credential = TRUSTED

    def pypirc(self, text: str) -> None:
        (self.folder / ".pypirc").write_text(text)

    def ask(self, service: str, username: str) -> tuple[str, str] | None:
        self.asked.append((service, username))
        return self.keyring.get((service, username))

    async def trust(self, _: Target) -> Credential:
        return self.trusted

    @property
    def sources(self) -> Sources:
        return Sources(
            environment=self.environment,
            pypirc=self.folder / ".pypirc",
            keyring=self.ask,
            trusted=self.trust,
            warn=self.warnings.append,
            now_s=lambda: NOW_S,
        )

    async def find(self, to: Target = PYPI, for_: PlanView | None = None) -> Credential:
        return await find(self.sources, to, for_ or plan())

    async def user(self, to: Target = PYPI) -> str:
        """Return what is sent."""
        authorization = await (await self.find(to)).authorization()
        return base64.b64decode(authorization.removeprefix("Basic ")).decode()


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


PYPIRC = """
[distutils]
index-servers = pypi testpypi private

[pypi]
username = somebody
password = {pypi}

[testpypi]
password = {testpypi}

[private]
repository = https://Index.example:443/legacy
username = ada
password = for private
"""


def filled(desk: Desk) -> tuple[str, str, str]:
    """Fill all sources; return the texts of environment, .pypirc and keyring for PyPI."""
    texts = token([3, "env"]), token([3, "pypirc"]), token([3, "keyring"])
    desk.environment["TWINE_PASSWORD"] = texts[0]
    desk.pypirc(PYPIRC.format(pypi=texts[1], testpypi=token(location="test.pypi.org")))
    desk.keyring[(str(PYPI), "__token__")] = ("__token__", texts[2])
    return texts


async def test_the_environment_comes_first(desk: Desk) -> None:
    """TWINE_PASSWORD wins; for PyPI the user name is known."""
    environment, _, _ = filled(desk)
    assert await desk.user() == f"__token__:{environment}"
    assert desk.asked == []


async def test_then_pypirc(desk: Desk) -> None:
    """Without TWINE_PASSWORD the section [pypi] counts; as with twine its user name does not matter for PyPI."""
    _, pypirc, _ = filled(desk)
    del desk.environment["TWINE_PASSWORD"]
    assert await desk.user() == f"__token__:{pypirc}"


async def test_then_the_keyring(desk: Desk) -> None:
    """Then the keyring is asked for the upload URL, as twine does."""
    _, _, keyring = filled(desk)
    desk.environment.clear()
    desk.pypirc("[distutils]\nindex-servers = pypi\n")
    assert await desk.user() == f"__token__:{keyring}"
    assert desk.asked == [("https://upload.pypi.org/legacy/", "__token__")]


async def test_then_trusted_publishing(desk: Desk) -> None:
    """With nothing else the job's own identity is used."""
    assert await desk.find() is TRUSTED


async def test_sections_belong_to_their_target(desk: Desk) -> None:
    """TestPyPI gets the section [testpypi], a private index the one whose repository it is, however it is written."""
    filled(desk)
    desk.environment.clear()
    assert await desk.user(TESTPYPI) == f"__token__:{token(location='test.pypi.org')}"
    assert await desk.user(PRIVATE) == "ada:for private"
    for other in ("https://index.example/other", "https://index.example:8443/legacy/"):
        with pytest.raises(Refused, match=r"neither \.pypirc nor the keyring"):
            await desk.find(target(other))


SECTIONS = """
[pypi]
password = {0}
[demo]
repository = https://upload.pypi.org/legacy/
password = {1}
[other]
repository = https://upload.pypi.org/legacy
password = {2}
"""


@pytest.mark.parametrize(
    ("misfit", "words"),
    [
        (token([1, ["other"]]), "is for other only, not for demo"),
        (token([0, int(NOW_S) - 1, 0]), "has expired"),
        (token(location="test.pypi.org"), "holds a token of test.pypi.org"),
        ("an old password", "begin pypi-"),
        (OURS, "holds a token of an overlay"),
    ],
    ids=["project", "expired", "index", "password", "overlay"],
)
async def test_the_first_section_that_fits_counts(desk: Desk, misfit: str, words: str) -> None:
    """Several sections of one URL have the tokens of several projects; those passed over are said."""
    fits = token([1, ["demo"]])
    desk.pypirc(SECTIONS.format(misfit, fits, token([3, "never read"])))
    assert await desk.user() == f"__token__:{fits}"
    (warning,) = desk.warnings
    assert words in warning
    assert "[pypi] in " in warning
    assert "passed over" in warning
    assert misfit not in warning


async def test_sections_of_which_none_fits_are_all_named(desk: Desk) -> None:
    """And no other source is asked: the target's own credentials are there, and wrong."""
    desk.pypirc(SECTIONS.format(token([1, ["other"]]), token([1, ["third"]]), OURS))
    desk.keyring[(str(PYPI), "__token__")] = ("__token__", token())
    with pytest.raises(Refused) as caught:
        await desk.find()
    assert [f"[{section}] in " in str(caught.value) for section in ("pypi", "demo")] == [True, True]
    assert "for third only, not for demo" in str(caught.value)
    assert desk.asked == []


async def test_a_later_sections_user_may_stand_alone(desk: Desk) -> None:
    """The keyring has the password."""
    section = "[{0}]\nrepository = https://index.example/legacy/\n"
    desk.pypirc(section.format("first") + section.format("second") + "username = ada\n")
    desk.keyring[(str(PRIVATE), "ada")] = ("ada", "kept")
    assert await desk.user(PRIVATE) == "ada:kept"


async def test_a_section_pypi_with_another_repository_is_not_pypis(desk: Desk) -> None:
    """A section that somebody called [pypi] but gave another URL belongs to that URL."""
    desk.pypirc("[pypi]\nrepository = https://index.example/legacy/\nusername = ada\npassword = private\n")
    assert await desk.find(PYPI) is TRUSTED
    assert await desk.user(PRIVATE) == "ada:private"


async def test_other_indexes_take_user_and_password(desk: Desk) -> None:
    """Elsewhere user name and password are sent as they are, where the job names that index."""
    desk.environment = {"TWINE_USERNAME": "ada", "TWINE_PASSWORD": "päss:word"} | named(PRIVATE)
    assert await desk.user(PRIVATE) == "ada:päss:word"


async def test_a_user_name_may_stand_alone(desk: Desk) -> None:
    """TWINE_USERNAME chooses among the keyring's users."""
    desk.environment = {"TWINE_USERNAME": "ada"}
    desk.keyring[(str(PRIVATE), "ada")] = ("ada", "kept")
    assert await desk.user(PRIVATE) == "ada:kept"


@pytest.mark.parametrize(
    "overlay", ["https://overlay.test", "https://Overlay.test:443/", "https://overlay.test/legacy"]
)
async def test_twines_repository_may_name_the_overlay(desk: Desk, overlay: str) -> None:
    """As in a job that stages with twine: then it says nothing about where the overlay's files go."""
    desk.environment = {"OVERLAY_URL": overlay, "TWINE_REPOSITORY_URL": "https://overlay.test/legacy/"}
    filled(desk)
    assert (await desk.user()).startswith("__token__:pypi-")
    with pytest.raises(Refused, match="belongs there"):
        await desk.find(PRIVATE)


@pytest.mark.parametrize(
    "given", [{"TWINE_USERNAME": "ci", "TWINE_PASSWORD": "hunter2"}, {}], ids=["password", "identity"]
)
@pytest.mark.parametrize("to", [PRIVATE, LOCAL, target("https://index.example/other")])
async def test_what_belongs_to_no_index_goes_only_where_the_job_says(
    desk: Desk, given: dict[str, str], to: Target
) -> None:
    """An overlay alone does not decide who gets a password of the environment, or the job's identity."""
    desk.environment = dict(given)
    with pytest.raises(Refused, match="Set TWINE_REPOSITORY_URL to") as caught:
        await desk.find(to)
    assert str(to) in str(caught.value)
    assert "hunter2" not in str(caught.value)
    desk.environment |= named(to)
    assert (await desk.find(to)).words == ("TWINE_PASSWORD" if given else "Trusted Publishing")


@pytest.mark.parametrize(
    ("to", "meant"),
    [
        (PRIVATE, "https://devpi.example/legacy/"),
        (PRIVATE, "https://index.example/legacy/other/"),
        (PRIVATE, "https://eve:hunter2@devpi.example/legacy/"),
        (PRIVATE, "https://["),
        (PRIVATE, "https://overlay.test.evil.test/legacy/"),
        (PRIVATE, "https://overlay.test/rooted-elsewhere/"),
        (PYPI, str(TESTPYPI)),
        (PYPI, "http://test.pypi.org"),
        (PYPI, "https://test.pypi.org./legacy/"),
        (PYPI, "test.pypi.org/legacy/"),
        (PYPI, "https://["),
        (TESTPYPI, str(PYPI)),
        (TESTPYPI, "https://pypi.org/legacy/"),
    ],
)
async def test_a_job_that_means_another_index_is_refused(desk: Desk, to: Target, meant: str) -> None:
    """Whatever credential there is; both URLs are named, and what to set."""
    filled(desk)
    desk.environment |= {"TWINE_REPOSITORY_URL": meant, "OVERLAY_URL": "https://overlay.test/rooted"}
    with pytest.raises(Refused, match=f"files go to {to}, but TWINE_REPOSITORY_URL") as caught:
        await desk.find(to)
    assert f"Set TWINE_REPOSITORY_URL to {to}" in str(caught.value)
    shown = "no URL" if meant in {"https://[", "test.pypi.org/legacy/"} else meant.replace("eve:hunter2@", "")
    assert shown in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("to", [PYPI, TESTPYPI])
@pytest.mark.parametrize(
    ("meant", "shown"),
    [
        ("http://127.0.0.1:8080/legacy/", "http://127.0.0.1:8080/legacy/"),
        ("https://ci:hunter2@overlay.company.example/next/legacy/", "https://overlay.company.example/next/legacy/"),
    ],
)
async def test_an_overlays_other_address_does_not_stop_a_job(desk: Desk, to: Target, meant: str, shown: str) -> None:
    """An overlay has more names than OVERLAY_URL; what goes to the public indexes is bound to them anyway."""
    filled(desk)
    desk.environment = {"TWINE_REPOSITORY_URL": meant, "OVERLAY_URL": "http://localhost:8080"}
    assert (await desk.user(to)).startswith("__token__:pypi-")
    (warning,) = desk.warnings
    assert f"names {shown}; it was passed over, for the overlay's files go to {to}." in warning
    desk.environment |= {"TWINE_USERNAME": "ci", "TWINE_PASSWORD": "hunter2"}
    with pytest.raises(Refused, match="nothing in this job says that TWINE_PASSWORD belongs there"):
        await desk.find(to)


async def test_what_may_be_another_indexs_is_not_sent_to_pypi(desk: Desk) -> None:
    """A password of a private index may look like anything; only what can be read says where it belongs."""
    desk.environment = {"TWINE_REPOSITORY_URL": "https://nexus.corp/legacy/", "TWINE_PASSWORD": "pypi-uploader-secret"}
    with pytest.raises(Refused, match="it was not sent") as caught:
        await desk.find(PYPI)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("meant", ["https://upload.pypi.org/legacy", "https://pypi.org/legacy/"])
async def test_a_job_may_name_pypi(desk: Desk, meant: str) -> None:
    """It need not; each of the public indexes is known by its hosts."""
    filled(desk)
    desk.environment |= {"TWINE_REPOSITORY_URL": meant}
    assert (await desk.user()).startswith("__token__:pypi-")


async def test_an_overlays_token_is_passed_over_everywhere(desk: Desk) -> None:
    """ovl_… in any place is warned of, never sent, and the next place is asked."""
    desk.environment = {"TWINE_USERNAME": "anybody", "TWINE_PASSWORD": OURS}
    desk.pypirc(f"[pypi]\nusername = x\npassword = {OURS}\n")
    desk.keyring[(str(PYPI), "__token__")] = ("__token__", OURS)
    assert await desk.find() is TRUSTED
    assert len(desk.warnings) == 3
    assert not any(OURS in warning for warning in desk.warnings)
    desk.pypirc(f"[pypi]\npassword = {token()}\n")
    assert await desk.user() == f"__token__:{token()}"


@pytest.mark.parametrize(
    ("to", "password"),
    [
        (PYPI, token(location="test.pypi.org")),
        (TESTPYPI, token()),
        (PRIVATE, token()),
        (PRIVATE, token(location="test.pypi.org")),
        (LOCAL, token()),
        (PYPI, token(location="pypi.example")),
        (PYPI, "pypi-AgENdGVzdC5weXBpLm9yZw0123456789abcdef"),
    ],
)
async def test_tokens_of_another_index_are_refused(desk: Desk, to: Target, password: str) -> None:
    """A token goes to no index but its own, whatever the job names."""
    desk.environment = {"TWINE_PASSWORD": password} | named(to)
    with pytest.raises(Refused, match="holds a token of") as caught:
        await desk.find(to)
    assert caught.value.ending is Ending.REFUSED


@pytest.mark.parametrize("to", [LOCAL, PRIVATE])
async def test_other_tokens_go_where_they_are_told(desk: Desk, to: Target) -> None:
    """An index that is neither of the public ones gets its own."""
    password = token(location="index.example")
    desk.environment = {"TWINE_PASSWORD": password} | named(to)
    assert await desk.user(to) == f"__token__:{password}"


@pytest.mark.parametrize(
    ("username", "password", "words"),
    [
        ("ada", token(), "TWINE_USERNAME must be __token__"),
        ("", "an old password", "begin pypi-"),
        ("", token([0, int(NOW_S) - 1, 0]), "expired"),
        ("", token([1, ["other"]]), "not for demo"),
        ("", token([1, []]), "no project only"),
    ],
)
async def test_what_pypi_would_refuse_is_refused_before(desk: Desk, username: str, password: str, words: str) -> None:
    """A token that says itself that it will not do is refused before the first byte."""
    desk.environment = {"TWINE_USERNAME": username, "TWINE_PASSWORD": password}
    with pytest.raises(Refused, match=words) as caught:
        await desk.find()
    assert password not in str(caught.value)


async def test_tokens_that_fit(desk: Desk) -> None:
    """A token for these very projects, and not over yet, is taken."""
    desk.environment = {"TWINE_PASSWORD": token([1, ["Demo", "other"]], [0, int(NOW_S) + 60, 0])}
    await desk.find(PYPI, plan("demo", "other"))
    assert desk.warnings == []


@pytest.mark.parametrize("caveat", [[1, ["brand-new"]], [2, ["a-number"]]])
async def test_a_new_project_needs_more_than_a_project_token(desk: Desk, caveat: list[object]) -> None:
    """A token bound to existing projects cannot create one."""
    desk.environment = {"TWINE_PASSWORD": token(caveat)}
    with pytest.raises(Refused, match="pending publisher"):
        await desk.find(PYPI, plan("brand-new", new=("brand-new",)))


async def test_a_new_project_is_explained(desk: Desk) -> None:
    """Whoever may create a project is told what is about to happen, by token as by Trusted Publishing."""
    desk.environment = {"TWINE_PASSWORD": token()}
    await desk.find(PYPI, plan("brand-new", new=("brand-new",)))
    assert "brand-new" in desk.warnings[0]
    desk.environment.clear()
    desk.trusted = replace(TRUSTED, identity=IDENTITY)
    await desk.find(PYPI, plan("brand-new", new=("brand-new",)))
    assert "pending publisher" in desk.warnings[1]
    assert "octo/demo" in desk.warnings[1]


async def test_a_password_without_a_user_is_refused(desk: Desk) -> None:
    """Elsewhere than at PyPI nobody knows the user name."""
    desk.environment = {"TWINE_PASSWORD": "secret"} | named(PRIVATE)
    with pytest.raises(Refused, match="TWINE_USERNAME"):
        await desk.find(PRIVATE)


@pytest.mark.parametrize("body", [b"password = hunter2\n", b"[pypi]\nhunter2\n", b"\xff\xfe[pypi]\npassword=hunter2"])
async def test_a_broken_pypirc_is_refused_without_being_quoted(desk: Desk, body: bytes) -> None:
    """The message names the file; nothing of it is shown, not even as the cause of the error."""
    (desk.folder / ".pypirc").write_bytes(body)
    with pytest.raises(Refused, match="pypirc") as caught:
        await desk.find()
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


async def test_a_percent_sign_is_a_percent_sign(desk: Desk) -> None:
    """.pypirc knows no interpolation."""
    desk.pypirc("[private]\nrepository = https://index.example/legacy/\nusername = ada\npassword = 50%(x)s%%\n")
    assert await desk.user(PRIVATE) == "ada:50%(x)s%%"


async def test_credentials_are_never_shown(desk: Desk) -> None:
    """Neither a credential nor the sources show a secret when they are printed."""
    environment, _, _ = filled(desk)
    credential = await desk.find()
    for shown in (repr(credential), str(credential), repr(desk.sources), credential.words):
        assert environment not in shown
