"""Archives are read once: the broken are refused, the odd are described, and hostile bytes cost little."""

import gzip
import io
import random
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overlay.domain import archive, filenames, metadata
from overlay.domain.archive_members import check_link
from overlay.domain.errors import BadUpload
from overlay.domain.gzip_stream import GzipStream
from overlay.domain.stage import ArchiveFacts
from overlay.domain.tar_format import members
from tests.builders import EPOCH, Built, sdist, tar_of, wheel, zip_of
from tests.builders import metadata as metadata_of
from tests.hostile import HOSTILE, INFO, NAME, SDIST, VERSION, WHEEL, special, tar_with

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def inspect(folder: Path, built: Built) -> archive.Inspected:
    path = folder / "upload"
    path.write_bytes(built.body)
    return archive.inspect(path, built.filename, filenames.parse(built.filename).kind)


def take(folder: Path, built: Built) -> ArchiveFacts:
    """Do all that an upload does before it is admitted."""
    name = filenames.parse(built.filename)
    inspected = inspect(folder, built)
    metadata.agree(metadata.read(inspected.metadata), filename=name, form_name=NAME, form_version=VERSION)
    return inspected.facts


@cache
def good_bodies() -> tuple[Built, Built]:
    return wheel(NAME, VERSION, files={f"{INFO}/entry_points.txt": b"[console_scripts]\ndemo = demo:main\n"}), sdist(
        NAME, VERSION
    )


@pytest.mark.parametrize("build", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(build: Callable[[], Built], tmp_path: Path) -> None:
    """Every file of the collection is refused with one sentence, and nothing but BadUpload comes out."""
    with pytest.raises(BadUpload) as caught:
        take(tmp_path, build())
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["zip bomb", "tar bomb", "tar with a huge extended header", "huge METADATA"])
def test_a_bomb_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    """What a bomb claims or unpacks to never lies in memory."""
    built = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(BadUpload):
            inspect(tmp_path, built)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * 2**20


def test_an_sdist_that_takes_too_long_to_unpack_is_refused(tmp_path: Path) -> None:
    """Far below the ratio of a bomb: what bounds it is the time to answer."""
    header = tarfile.TarInfo("demo-1.0/data")
    header.size = 600 * 2**20
    piece = gzip.compress(random.Random(1).randbytes(2**14) + bytes(2**20 - 2**14), 1)  # members may be concatenated
    half = gzip.compress(header.tobuf()) + piece * 600
    with pytest.raises(BadUpload, match="1,073,741,824"):
        inspect(tmp_path, Built(SDIST, half * 2))


def test_a_good_wheel_gives_its_metadata_verbatim_and_no_complaint(tmp_path: Path) -> None:
    """Nothing is wrong with what the builders make."""
    inspected = inspect(tmp_path, wheel(NAME, VERSION))
    assert inspected.metadata == metadata_of(NAME, VERSION)
    assert inspected.facts.odd_framing is None
    assert inspected.facts.has_wheel_file
    assert inspected.facts.has_record
    assert inspected.facts.unpacked_bytes > len(inspected.metadata)


def test_a_good_sdist_gives_its_metadata_verbatim_and_no_complaint(tmp_path: Path) -> None:
    """Nothing is wrong with what the builders make."""
    inspected = inspect(tmp_path, sdist(NAME, VERSION))
    assert inspected.metadata == metadata_of(NAME, VERSION)
    assert inspected.facts.top_level == ("demo-1.0",)
    assert inspected.facts.odd_framing is None


def test_a_zip_sdist_is_read(tmp_path: Path) -> None:
    """Installers take a .zip sdist, so it can be staged."""
    built = Built("demo-1.0.zip", zip_of({"demo-1.0/PKG-INFO": metadata_of(NAME, VERSION)}))
    assert take(tmp_path, built).top_level == ("demo-1.0",)


def odd_zip(change: Callable[[zipfile.ZipFile], None]) -> Built:
    buffer = io.BytesIO(wheel(NAME, VERSION).body)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as opened:
        change(opened)
    return Built(WHEEL, buffer.getvalue())


def described() -> Built:
    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    buffer = Unseekable()
    with zipfile.ZipFile(io.BytesIO(wheel(NAME, VERSION).body)) as good, zipfile.ZipFile(buffer, "w") as opened:
        for name in good.namelist():
            opened.writestr(zipfile.ZipInfo(name, EPOCH), good.read(name))
    return Built(WHEEL, buffer.getvalue())


ODD: dict[str, tuple[Callable[[], Built], str]] = {
    "trailing": (lambda: Built(WHEEL, wheel(NAME, VERSION).body + b"more"), "after the end"),
    "leading": (lambda: Built(WHEEL, b"#!/usr/bin/python\n" + wheel(NAME, VERSION).body), "before the archive"),
    "descriptors": (described, "data descriptors"),
    "bzip2": (
        lambda: odd_zip(lambda opened: opened.writestr(zipfile.ZipInfo("a", EPOCH), b"x" * 99, zipfile.ZIP_BZIP2)),
        "compression other than",
    ),
    "control": (lambda: wheel(NAME, VERSION, files={"demo/\x01": b""}), "control characters"),
    "sparse": (lambda: tar_with(special("demo-1.0/sparse", tarfile.GNUTYPE_SPARSE)), "sparse"),
    "after tar": (
        lambda: Built(SDIST, gzip.compress(gzip.decompress(sdist(NAME, VERSION).body) + b"x" * 512, mtime=0)),
        "after the end of the tar",
    ),
    "after gzip": (lambda: Built(SDIST, sdist(NAME, VERSION).body + b"garbage"), "after the end of the gzip"),
}


@pytest.mark.parametrize(("build", "words"), ODD.values(), ids=ODD.keys())
def test_what_only_pypi_refuses_is_described(build: Callable[[], Built], words: str, tmp_path: Path) -> None:
    """An odd archive that installers take is staged, and the oddity is in its facts."""
    assert words in (take(tmp_path, build()).odd_framing or "")


def test_missing_wheel_files_are_facts(tmp_path: Path) -> None:
    """No WHEEL and no RECORD keep PyPI from taking a wheel, not pip."""
    facts = take(tmp_path, Built(WHEEL, zip_of({f"{INFO}/METADATA": metadata_of(NAME, VERSION)})))
    assert not facts.has_wheel_file
    assert not facts.has_record


def test_a_dist_info_in_another_spelling_is_found_but_flagged(tmp_path: Path) -> None:
    """Pip compares names normalized, PyPI letter by letter."""
    built = zip_of(
        {f"Demo-1.0.dist-info/{name}": metadata_of(NAME, VERSION) for name in ("METADATA", "WHEEL", "RECORD")}
    )
    assert not take(tmp_path, Built(WHEEL, built)).has_wheel_file


@pytest.mark.parametrize("folder", ["demo-1.0/", "demo-1.0.dist-info/licenses/"])
def test_a_license_file_counts_where_the_standard_puts_it(folder: str, tmp_path: Path) -> None:
    """PEP 639: below .dist-info/licenses in a wheel, below the top folder in an sdist."""
    body = b"Metadata-Version: 2.4\nName: demo\nVersion: 1.0\nLicense-File: A\nLicense-File: B\n"
    wheel_file = wheel(NAME, VERSION, metadata_body=body, files={f"{folder}A": b""})
    sdist_file = Built(SDIST, tar_of({"demo-1.0/PKG-INFO": body, f"{folder}A": b""}))
    right = wheel_file if folder.endswith("licenses/") else sdist_file
    wrong = sdist_file if folder.endswith("licenses/") else wheel_file
    assert take(tmp_path, right).missing_license_files == ("B",)
    assert take(tmp_path, wrong).missing_license_files == ("A", "B")


def test_a_license_file_below_metadata_2_4_is_not_asked_for(tmp_path: Path) -> None:
    """Setuptools wrote the field before it existed; twine does not send it then."""
    body = b"Metadata-Version: 2.1\nName: demo\nVersion: 1.0\nLicense-File: A\n"
    assert take(tmp_path, wheel(NAME, VERSION, metadata_body=body)).missing_license_files == ()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[console_scripts]\n../evil = demo:main\n", "not a name"),
        (b"no section\n", "INI"),
        (b"\xff", "UTF-8"),
        (b"[a]\nb = " + b"x" * 600, "longer"),
    ],
)
def test_bad_entry_points_are_a_fact(body: bytes, words: str, tmp_path: Path) -> None:
    """Pip installs such a wheel, PyPI refuses it."""
    facts = take(tmp_path, wheel(NAME, VERSION, files={f"{INFO}/entry_points.txt": body}))
    assert words in (facts.bad_entry_points or "")


def test_several_top_folders_are_a_fact(tmp_path: Path) -> None:
    """The folder of the filename counts; that there is another is a finding."""
    built = Built(SDIST, tar_of({"demo-1.0/PKG-INFO": metadata_of(NAME, VERSION), "other/PKG-INFO": b"Name: other\n"}))
    assert take(tmp_path, built).top_level == ("demo-1.0", "other")


@given(st.text("ab./", min_size=1, max_size=12), st.text("ab./", min_size=1, max_size=12), st.booleans())
def test_an_accepted_link_stays_inside(path: str, target: str, symbolic: bool) -> None:  # noqa: FBT001 -- generated
    """A link that passes leads to a place below the root, read step by step as a file system does."""
    path = "/".join(part for part in path.split("/") if part not in {"", ".", ".."}) or "x"
    try:
        check_link(path, target, SDIST, symbolic=symbolic)
    except BadUpload:
        return
    place = path.split("/")[:-1] if symbolic else []
    for part in target.split("/"):
        if part == "..":
            assert place
            place.pop()
        elif part not in {"", "."}:
            place.append(part)


@shared_folder
@given(st.binary(max_size=2000), st.sampled_from([WHEEL, SDIST, "demo-1.0.zip"]))
def test_arbitrary_bytes_are_refused(tmp_path: Path, body: bytes, filename: str) -> None:
    """No bytes make the reader raise anything but BadUpload."""
    with pytest.raises(BadUpload):
        inspect(tmp_path, Built(filename, body))


@st.composite
def mutations(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    kind = draw(st.sampled_from(["flip", "cut", "insert", "number"]))
    place = draw(st.floats(0, 1, exclude_max=True))
    data = draw(st.binary(min_size=1, max_size=8))
    number = draw(st.sampled_from([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x01\0\0\0"]))

    def mutate(body: bytes) -> bytes:
        at = int(place * len(body))
        if kind == "flip":
            return body[:at] + bytes([body[at] ^ data[0]]) + body[at + 1 :]
        if kind == "cut":
            return body[:at]
        return body[:at] + data + body[at:] if kind == "insert" else body[:at] + number + body[at + 4 :]

    return mutate


@settings(shared_folder, max_examples=300)
@given(st.sampled_from(["wheel", "sdist", "tar"]), st.lists(mutations(), min_size=1, max_size=3))
def test_a_damaged_archive_is_read_or_refused(
    tmp_path: Path, kind: str, changes: list[Callable[[bytes], bytes]]
) -> None:
    """A valid archive with some bytes changed gives facts or BadUpload; "tar" changes what is inside the gzip."""
    built = good_bodies()[0 if kind == "wheel" else 1]
    body = gzip.decompress(built.body) if kind == "tar" else built.body
    for change in changes:
        if body:
            body = change(body)
    if kind == "tar":
        body = gzip.compress(body, mtime=0)
    try:
        inspected = inspect(tmp_path, Built(built.filename, body))
    except BadUpload:
        return
    metadata.read(inspected.metadata)


PATHS = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\:"), min_size=1, max_size=120)
    .filter(lambda part: part not in {".", ".."})
    .map(lambda part: f"demo-1.0/{part}"),
    unique=True,
    max_size=8,
)


@given(PATHS, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]), st.integers(0, 3000))
def test_our_tar_reader_sees_what_tarfile_sees(paths: list[str], tar_format: int, size_bytes: int) -> None:
    """On archives that tarfile writes, names, sizes and link targets are the same in both readers."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tar_format) as opened:
        for path in paths:
            member = tarfile.TarInfo(path)
            member.size = size_bytes
            member.mtime = 1.5 if tar_format == tarfile.PAX_FORMAT else 1
            opened.addfile(member, io.BytesIO(bytes(size_bytes)))
            opened.addfile(special(path + "-link", tarfile.SYMTYPE, path[::-1]))
    body = buffer.getvalue()
    stream = GzipStream(io.BytesIO(body), len(body), SDIST)
    ours = [(member.name, member.data_bytes, member.target) for member, _ in members(stream, SDIST)]
    with tarfile.open(fileobj=io.BytesIO(body)) as opened:
        assert ours == [(member.name, member.size, member.linkname) for member in opened]


def test_a_gzip_of_several_members_is_one_stream() -> None:
    """RFC 1952 2.2: "A gzip file consists of a series of members"; zeros between them are padding."""
    body = gzip.compress(b"one") + bytes(5) + gzip.compress(b"two") + bytes(7)
    stream = GzipStream(io.BytesIO(body), len(body), SDIST)
    assert stream.read(100) == b"onetwo"
    assert not stream.trailing
