"""A project's page before a promotion and after it: an installer resolves the same."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.builders import wheel
from tests.e2e.promoting import Stage, demo, scripted
from tests.fakes.index import HTML, JSON
from tests.pypi.orders import TOKEN, live

LIVE_S: Final = 30.0
# The old spelling of core-metadata, and defaults: to say them or not is the index's habit.
HABITS: Final = {"data-dist-info-metadata": None, "yanked": False, "provenance": None, "core-metadata": False}


async def read(stage: Stage, accept: str) -> str:
    async with stage.session.get(f"{stage.served.url}/simple/demo/", headers={"Accept": accept}) as answer:
        assert answer.status == 200
        assert answer.content_type == accept
        return await answer.text()


def without_origin(page: dict[str, Any]) -> dict[str, Any]:
    """Leave out where files lie, when they came, and how often upstream changed; check what is a habit."""
    for entry in page["files"]:
        del entry["url"], entry["upload-time"]
        for key, value in HABITS.items():
            if key in entry and (value is None or entry[key] == value):
                del entry[key]
    page["meta"].pop("_last-serial")
    return page


@pytest.mark.parametrize("accept", [JSON, HTML])
async def test_the_page_after_a_promotion_is_the_one_before(tmp_path: Path, accept: str) -> None:
    """Every file, key and line in its place, behind an older release; where files lie and when they came may differ."""
    older = demo("1.0")
    built = [*demo(), wheel("demo", "1.1", tag="cp313-cp313-win_amd64")]
    names = {one.filename for one in built}
    async with scripted(tmp_path, built, *map(live, older)) as (pypi, stage):
        before = await read(stage, accept)
        assert {name for name, file in (await stage.listed("demo")).items() if file.is_staged} == names
        job = stage.job(*built, TWINE_PASSWORD=TOKEN)
        ran = await job.run(*job.dist)
        assert ran.code == 0, ran.err
        async with asyncio.timeout(LIVE_S):
            while any(file.is_staged for file in (await stage.listed("demo")).values()):
                await asyncio.sleep(0.05)
        after = await read(stage, accept)
    if accept == JSON:
        ours, theirs = (json.loads(page) for page in (before, after))
        own = {entry["filename"]: entry["url"] for entry in ours["files"] if entry["filename"] in names}
        assert all(url.startswith("../../files/demo/") for url in own.values())
        assert all(entry["url"].startswith(f"{pypi.url}/packages/") for entry in theirs["files"])
        assert without_origin(ours) == without_origin(theirs)
    else:
        links = re.compile('href="([^"#]*)')
        assert sum(url.startswith("../../files/demo/") for url in links.findall(before)) == len(built)
        assert all(url.startswith(f"{pypi.url}/packages/") for url in links.findall(after))
        assert links.sub("", before) == links.sub("", after)
