"""The upload form: the very fields that twine sends for the same file."""

import io
import zipfile
from pathlib import Path

import msgspec
import pytest

from overlay.promote import hosts
from overlay.promote.answers import Accepted
from overlay.promote.credentials import basic
from overlay.promote.errors import Refused
from overlay.promote.form import build
from overlay.promote.http import session_to
from overlay.promote.push import HttpPush
from tests.builders import Built, metadata, sdist, tar_of, wheel
from tests.clients import Clients
from tests.promote.packages import package, planned
from tests.pypi import orders
from tests.pypi.server import pypi

RICH = """Metadata-Version: 2.4
Name: Demo.Rich
Version: 1.1
Platform: linux
Platform: any
Summary: A distribution for tests – with a dash
Description-Content-Type: text/markdown; charset=UTF-8
Keywords: one,two words,three
Home-page: https://demo.test/
Author: Ada
Author-email: Ada <ada@demo.test>, bob@demo.test
License-Expression: MIT OR Apache-2.0
License-File: LICENSE
Classifier: Programming Language :: Python :: 3
Classifier: Topic :: System :: Archiving :: Packaging
Requires-Dist: helper>=1; extra == "fast"
Requires-Dist: other[thing]<2
Requires-Python: >=3.9
Requires-External: C
Project-URL: Source, https://demo.test/source
Project-URL: Issues, https://demo.test/issues?really
Provides-Extra: fast
Dynamic: Classifier

# Demo

Its description – "quoted" – & more.
"""
OLD = """Metadata-Version: 2.1
Name: demo-rich
Version: 1.1
Summary: Written by setuptools
License-File: LICENSE

Old.
"""
LICENSE = {"demo_rich-1.1.dist-info/licenses/LICENSE": b"free"}


def marked(offset: int, mark: int) -> Built:
    """A wheel whose zip directory says this at this place of each member's entry."""
    body = bytearray(wheel("demo", "1.1").body)
    at = body.find(b"PK\x01\x02")
    while at >= 0:
        body[at + offset] = mark
        at = body.find(b"PK\x01\x02", at + 1)
    return Built("demo-1.1-py3-none-any.whl", bytes(body))


def broken_lzma() -> Built:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("demo-1.1.dist-info/METADATA", metadata("demo", "1.1"))
    body = bytearray(buffer.getvalue())
    body[80:100] = b"\xff" * 20
    return Built("demo-1.1-py3-none-any.whl", bytes(body))


def rich_wheel() -> Built:
    return wheel("demo_rich", "1.1", metadata_body=RICH.encode(), files=LICENSE)


def old_sdist() -> Built:
    return sdist("demo_rich", "1.1", files={"PKG-INFO": OLD.encode(), "LICENSE": b"free"})


@pytest.mark.parametrize("built", [wheel("demo", "1.1"), sdist("demo", "1.1"), rich_wheel(), old_sdist()], ids=range(4))
async def test_the_form_is_twines(clients: Clients, tmp_path: Path, built: Built) -> None:
    """A strict index gets from us what it gets from the real twine, field by field, and stores both."""
    forms = []
    for pushes in (True, False):
        async with pypi() as index:
            await index.do(orders.Token(text=orders.TOKEN))
            one = package(built, tmp_path)
            if pushes:
                to = hosts.target(index.upload_url)
                async with session_to(to) as session:
                    answer = await HttpPush(session, to)(one, basic("__token__", orders.TOKEN), lambda _: None)
                assert isinstance(answer, Accepted), answer
            else:
                ran = await clients.twine_upload(index.upload_url, orders.TOKEN, one.path)
                assert ran.code == 0, ran.output
            (post,) = (await index.recording()).posts()
            assert post.outcome == "stored"
            forms.append({name: list(values) for name, values in post.fields.items()})
    ours, twines = forms
    assert ours == twines
    assert "sha256_digest" in ours


def test_values_keep_their_shape(tmp_path: Path) -> None:
    """Lists repeat their key, keywords are joined, URLs have their labels, and old licence files are left out."""
    fields = package(rich_wheel(), tmp_path).fields
    assert [value for name, value in fields if name == "project_urls"] == [
        "Source, https://demo.test/source",
        "Issues, https://demo.test/issues?really",
    ]
    assert [value for name, value in fields if name == "keywords"] == ["one, two words, three"]
    assert [value for name, value in fields if name == "platform"] == ["linux", "any"]
    assert [value for name, value in fields if name == "license_file"] == ["LICENSE"]
    assert "license_file" not in dict(package(old_sdist(), tmp_path).fields)
    assert dict(fields)[":action"] == "file_upload"
    assert dict(fields)["protocol_version"] == "1"


@pytest.mark.parametrize(
    "built",
    [
        Built("demo-1.1-py3-none-any.whl", b"not a zip"),
        Built("demo-1.1.tar.gz", b"not a tar"),
        Built("demo-1.1.tar.gz", tar_of({"demo-1.1/other": b""})),
        wheel("demo", "1.1", metadata_body=b"Metadata-Version: 2.1\nName: demo\nVersion: not one\n\n"),
        wheel("demo", "1.1", metadata_body=b"Metadata-Version: 2.1\nName: demo\nVersion: 1.1\nOdd: x\n\n"),
        wheel("demo", "1.1", metadata_body=b"Metadata-Version: 2.1\nName: other\nVersion: 1.1\n\n"),
        wheel("demo", "1.1", metadata_body=b"Metadata-Version: 2.1\nName: demo\nVersion: 1.2\n\n"),
        marked(8, 1),  # encrypted
        marked(10, 9),  # Deflate64, which Python does not have
        broken_lzma(),
    ],
    ids=range(10),
)
def test_a_file_without_a_fitting_form_is_refused(tmp_path: Path, built: Built) -> None:
    """What twine's model refuses, or what is another release, stops the promotion before it pushes."""
    path = tmp_path / built.filename
    path.write_bytes(built.body)
    with pytest.raises(Refused):
        build(planned(built), path)


def test_a_file_that_changed_on_the_disk_is_refused(tmp_path: Path) -> None:
    """The form is about the proven bytes or about none."""
    built = wheel("demo", "1.1")
    path = tmp_path / built.filename
    path.write_bytes(built.body)
    with pytest.raises(Refused, match="changed"):
        build(msgspec.structs.replace(planned(built), sha256="0" * 64), path)
