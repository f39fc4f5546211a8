"""Hypothesis strategies for the nouns of the simple API, odd ones included."""

from hypothesis import strategies as st

from overlay.domain.page import File, JsonValue, ProjectPage, ProjectStatus

DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
# Everything that UTF-8 can hold: no surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
VERSIONS = st.builds(
    lambda major, minor, rest: f"{major}.{minor}{rest}",
    st.integers(0, 30),
    st.integers(0, 3),
    st.sampled_from(["", ".0", ".1", "a1", "rc2", ".post1", ".dev3"]),
)
JSON_VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
FILENAMES = st.builds(
    lambda version, tail: f"demo-{version}{tail}",
    VERSIONS,
    st.sampled_from([".tar.gz", "-py3-none-any.whl", "-1-cp311-cp311-linux_x86_64.whl", ".zip", "-py2.7.egg"]),
)
ODD_FILENAMES = st.builds(lambda text, tail: text + tail, WORDS, st.sampled_from([".tar.gz", ".whl", "", "-1.zip"]))
HASHES = st.dictionaries(st.sampled_from(["sha256", "sha512", "md5", "blake2b"]), DIGESTS, max_size=3)
CORE_METADATA = st.none() | st.booleans() | st.builds(lambda digest: {"sha256": digest}, DIGESTS)
FILE_EXTRAS = st.dictionaries(
    st.sampled_from(["data-dist-info-metadata", "dist-info-metadata", "_staged", "_x", "neu-ö"]),
    JSON_VALUES,
    max_size=2,
)
PAGE_EXTRAS = st.dictionaries(st.sampled_from(["alternate-locations", "_private", "namespaces", "ключ"]), JSON_VALUES)


def urls(filenames: st.SearchStrategy[str] = FILENAMES) -> st.SearchStrategy[str]:
    """Absolute urls whose last component is a file name."""
    return st.builds(lambda digest, name: f"https://files.example/{digest[:8]}/{name}", DIGESTS, filenames)


def files(filenames: st.SearchStrategy[str] = FILENAMES | ODD_FILENAMES) -> st.SearchStrategy[File]:
    """Files as an index may list them."""
    return st.builds(
        File,
        filename=filenames,
        url=urls(),
        hashes=HASHES,
        requires_python=st.none() | TEXTS,
        core_metadata=CORE_METADATA,
        gpg_sig=st.none() | st.booleans(),
        yanked=st.booleans() | WORDS,
        size=st.none() | st.integers(0, 2**40),
        upload_time=st.none() | st.just("2024-01-02T03:04:05.678901Z"),
        provenance=st.none() | st.just("https://example.org/integrity/demo/provenance"),
        extra=FILE_EXTRAS,
    )


def pages(files: st.SearchStrategy[File] = files()) -> st.SearchStrategy[ProjectPage]:  # noqa: B008 - strategies are immutable
    """Pages as an index may send them; file names are distinct."""
    return st.builds(
        ProjectPage,
        name=st.just("demo"),
        files=st.lists(files, max_size=5, unique_by=lambda file: file.filename).map(tuple),
        versions=st.none() | st.lists(VERSIONS | WORDS, max_size=4, unique=True).map(tuple),
        status=st.none()
        | st.builds(
            ProjectStatus,
            status=st.sampled_from(["active", "archived", "quarantined", "deprecated", "odd"]),
            reason=st.none() | TEXTS,
        ),
        meta=st.sampled_from(
            [{"api-version": "1.4"}, {"api-version": "1.0"}, {"api-version": "1.1", "_last-serial": 7}]
        ),
        extra=PAGE_EXTRAS,
    )
