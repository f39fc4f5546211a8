"""What decides about a promotion is read from stage, upstream and reports, file by file and version by version."""

from dataclasses import replace

import pytest

from overlay.domain.ledger_port import Ending
from overlay.domain.promotion_errors import PromotionRefused
from overlay.domain.promotion_plan import Rules
from overlay.domain.stage import Reason, StagedFile
from tests.desk import CI, SOURCE, WHEEL, Desk
from tests.staged import DEMO, digest, staged_file


def sdist(number: int, filename: str, *, version: str = "1.0", content: str = "source") -> StagedFile:
    """An sdist against which PyPI has nothing but its name."""
    file = staged_file(number, filename=filename, version=version, content=content)
    return replace(file, facts=replace(file.facts, top_level=("demo-1.0",)))


@pytest.fixture
async def desk() -> Desk:
    desk = Desk(rules=Rules.PYPI)
    await desk.ledger.load((), ())
    return desk


async def refused(desk: Desk, *files: StagedFile) -> list[tuple[str, str]]:
    with pytest.raises(PromotionRefused) as refusal:
        await desk.plan(*files)
    return [(one.rule, one.filename) for one in refusal.value.refusals]


async def test_a_name_that_pypi_refuses_does_not_speak_for_the_same_bytes_under_another(desk: Desk) -> None:
    """Staged wrongly, withdrawn, staged well: the second upload is promoted."""
    bad, good = sdist(1, "Demo-1.0.tar.gz"), sdist(2, "demo-1.0.tar.gz")
    await desk.stage(bad)
    assert await refused(desk, bad) == [("sdist-name", bad.filename)]
    await desk.ledger.forget(DEMO, [bad.upload_id], Ending(Reason.WITHDRAWN, 1, "ada"))
    await desk.stage(good)
    assert [file.filename for file in (await desk.held(good)).promotion.files] == [good.filename]


async def test_a_name_that_pypi_takes_does_not_speak_for_the_same_bytes_under_another(desk: Desk) -> None:
    """PyPI would refuse it in mid-release."""
    bad, good = sdist(1, "Demo-1.0.tar.gz"), sdist(2, "demo-1.0.tar.gz")
    await desk.stage(good)
    held = await desk.held(good)
    assert held.freeze is not None
    await desk.promotions.end(CI, held.promotion.id, held.freeze.fence)
    await desk.ledger.forget(DEMO, [good.upload_id], Ending(Reason.WITHDRAWN, 1, "ada"))
    await desk.stage(bad)
    assert await refused(desk, bad) == [("sdist-name", bad.filename)]


async def test_bytes_that_upstream_has_under_another_name_are_refused(desk: Desk) -> None:
    """Before the first file of the release goes out, not after it."""
    await desk.stage(WHEEL, sdist(2, SOURCE.filename))
    desk.upstream.listed[DEMO] = {"demo-0.9-py3-none-any.whl": WHEEL.sha256}
    assert await refused(desk, WHEEL, SOURCE) == [("same-content", WHEEL.filename)]


async def test_a_release_is_the_one_that_upstream_spells_otherwise(desk: Desk) -> None:
    """Its sdist is the second there."""
    longer = sdist(1, "demo-1.0.0.tar.gz", version="1.0.0")
    wheel = staged_file(2, filename="demo-1.0.0-py3-none-any.whl", version="1.0.0")
    await desk.stage(longer, wheel)
    desk.upstream.listed[DEMO] = {"demo-1.0.tar.gz": digest("another source")}
    assert await refused(desk, longer, wheel) == [("second-sdist", longer.filename)]


async def test_what_is_staged_for_another_version_does_not_matter(desk: Desk) -> None:
    """It is another release: neither to be named nor a sibling."""
    await desk.stage(WHEEL, sdist(2, SOURCE.filename), sdist(3, "demo-1.1.tar.gz", version="1.1"))
    files = (await desk.held(WHEEL, SOURCE)).promotion.files
    assert [file.filename for file in files] == [WHEEL.filename, SOURCE.filename]


async def test_the_files_of_equal_versions_are_promoted_as_one_release(desk: Desk) -> None:
    """In one plan, wheels before the sdist; what is staged under the other spelling must be named, too."""
    longer = sdist(2, "demo-1.0.0.tar.gz", version="1.0.0")
    await desk.stage(WHEEL, longer)
    assert await refused(desk, WHEEL) == [("not-named", longer.filename)]
    files = (await desk.held(WHEEL, longer)).promotion.files
    assert [(file.filename, file.wave) for file in files] == [(WHEEL.filename, 0), (longer.filename, 1)]


async def test_wheels_of_a_release_that_upstream_spells_otherwise_go_together(desk: Desk) -> None:
    """It is there already: nothing has to create it."""
    wheels = [
        staged_file(number, filename=f"demo-1.0.0-{number}-py3-none-any.whl", version="1.0.0", content=str(number))
        for number in (1, 2)
    ]
    await desk.stage(*wheels)
    desk.upstream.listed[DEMO] = {"demo-1.0-py2-none-any.whl": digest("the first one")}
    assert {file.wave for file in (await desk.held(*wheels)).promotion.files} == {0}


async def test_a_plugin_goes_after_the_core_that_names_it_for_an_extra(desk: Desk) -> None:
    """Whose metadata says so for all its files together."""
    core, more = (
        staged_file(number, project="other", filename=f"other-1.0-{number}-py3-none-any.whl", content=str(number))
        for number in (1, 2)
    )
    plugin = staged_file(3, filename="demo-1.0-py3-none-any.whl", content="plugin")
    await desk.stage(core, more, plugin, requires={"other": ['demo; extra == "plugins"'], "demo": ["other>=1"]})
    projects = [file.project for file in (await desk.held(core, more, plugin)).promotion.files]
    assert projects == ["other", "other", "demo"]
