"""Step 11 of legacy-upload §3 (its §4): the core metadata, which PyPI takes from the form."""

import email.utils
import re
from collections.abc import Iterator, Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from packaging.errors import ExceptionGroup as PackagingGroup
from packaging.metadata import InvalidMetadata, Metadata, RawMetadata
from packaging.requirements import InvalidRequirement, Requirement
from trove_classifiers import classifiers, deprecated_classifiers

from tests.pypi.attempt import Attempt
from tests.pypi.checks_form import SEE
from tests.pypi.refusals import bad

_VERSIONS: Final = frozenset({"1.0", "1.1", "1.2", "2.1", "2.2", "2.3", "2.4", "2.5"})
_STRINGS: Final = (
    *("metadata_version", "name", "version", "summary", "description", "description_content_type", "home_page"),
    *("download_url", "author", "author_email", "maintainer", "maintainer_email", "license", "license_expression"),
    "requires_python",
)
# The form's key, and packaging's.
_LISTS: Final[Mapping[str, str]] = {
    "platform": "platforms",
    "supported_platform": "supported_platforms",
    "license_file": "license_files",
    "import_name": "import_names",
    "import_namespace": "import_namespaces",
} | {
    name: name
    for name in (
        *("classifiers", "requires_dist", "provides_extra", "requires_external", "dynamic", "provides_dist"),
        *("obsoletes_dist", "requires", "provides", "obsoletes"),
    )
}
_NOT_DYNAMIC: Final = frozenset({"name", "version", "metadata-version", "dynamic"})
_LONGEST_SUMMARY: Final = 512
_LONGEST_LABEL: Final = 32
_ADDRESS: Final = re.compile(r"[^@\s\"(),:;<>\[\]\\]+@([A-Za-z0-9-]+\.)+[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*")
_ORDER: Final = ("metadata-version", "name", "version")


def metadata_is_valid(attempt: Attempt) -> None:
    """Step 11: one error is said, of the metadata version, name and version before all others."""
    found = sorted(_errors(attempt.form.fields), key=_place)
    if found:
        sentence = str(found[0])
        raise bad(f"{sentence}{'' if sentence.endswith('.') else '.'} {SEE}")


def _place(error: InvalidMetadata) -> tuple[int, str]:
    return (_ORDER.index(error.field) if error.field in _ORDER else len(_ORDER), error.field)


def _errors(fields: Mapping[str, list[str]]) -> list[InvalidMetadata]:
    unread: list[InvalidMetadata] = []
    raw = _raw(fields, unread)
    if unread:
        return unread
    try:
        core = Metadata.from_raw(raw)
    except PackagingGroup as group:
        return [err for err in group.exceptions if isinstance(err, InvalidMetadata)]
    return [*_of_version(core), *_of_texts(core), *_of_urls(core), *_of_requirements(core), *_of_lists(core)]


def _raw(fields: Mapping[str, list[str]], unread: list[InvalidMetadata]) -> RawMetadata:
    raw: dict[str, object] = {}
    for name, values in fields.items():
        if values == [""]:
            continue
        if name in _LISTS:
            raw[_LISTS[name]] = values
        elif name == "project_urls":
            raw[name] = _project_urls(values, unread)
        elif name in {*_STRINGS, "keywords"} and len(values) > 1:
            unread.append(InvalidMetadata(name, f"{name!r} has invalid data"))
        elif name == "keywords":
            raw[name] = [word.strip() for word in values[0].split(",")]
        elif name in _STRINGS:
            raw[name] = values[0]
    return cast("RawMetadata", raw)


def _project_urls(values: list[str], unread: list[InvalidMetadata]) -> dict[str, str]:
    urls: dict[str, str] = {}
    for value in values:
        label, _, url = (part.strip() for part in value.partition(","))
        if label in urls:
            unread.append(InvalidMetadata("project_urls", "'project_urls' has invalid data"))
        urls[label] = url
    return urls


def _of_version(core: Metadata) -> Iterator[InvalidMetadata]:
    if core.metadata_version not in _VERSIONS:
        yield InvalidMetadata("metadata-version", f"{core.metadata_version!r} is not a valid metadata version")
    if core.version.local:
        yield InvalidMetadata("version", f"The use of local versions in '{core.version}' is not allowed.")


def _of_texts(core: Metadata) -> Iterator[InvalidMetadata]:
    if core.summary is not None and len(core.summary) > _LONGEST_SUMMARY:
        yield InvalidMetadata("summary", f"'summary' field must be {_LONGEST_SUMMARY} characters or less.")
    for field, value in (("author-email", core.author_email), ("maintainer-email", core.maintainer_email)):
        _, address = email.utils.parseaddr(value or "")
        if address and not _ADDRESS.fullmatch(address):
            yield InvalidMetadata(field, f"{address!r} is not a valid email address")
    if core.license and core.license_expression:
        yield InvalidMetadata("license", "License is deprecated when License-Expression is present.")


def _of_urls(core: Metadata) -> Iterator[InvalidMetadata]:
    for field, value in (("home-page", core.home_page), ("download-url", core.download_url)):
        if value is not None and not _is_url(value):
            yield InvalidMetadata(field, f"{value!r} is not a valid url.")
    for label, url in (core.project_urls or {}).items():
        if not label or not url:
            yield InvalidMetadata("project-url", f"Must have a {'URL' if label else 'label'}")
        elif len(label) > _LONGEST_LABEL:
            yield InvalidMetadata("project-url", f"{label!r} must be {_LONGEST_LABEL} characters or less.")
        elif not _is_url(url):
            yield InvalidMetadata("project-url", f"{url!r} is not a valid url")


def _is_url(value: str) -> bool:
    try:
        return urlsplit(value).scheme in {"http", "https"} and not re.search(r"[\s<>\"{}|\\^`]", value)
    except ValueError:
        return False


def _of_requirements(core: Metadata) -> Iterator[InvalidMetadata]:
    for requirement in core.requires_dist or []:
        if requirement.url is not None:
            yield InvalidMetadata("requires-dist", f"Can't have direct dependency: {requirement}")
    for field, values in (("provides-dist", core.provides_dist), ("obsoletes-dist", core.obsoletes_dist)):
        for value in values or []:
            try:
                direct = Requirement(value).url is not None
            except InvalidRequirement as err:
                yield InvalidMetadata(field, f"{value!r} is invalid: {err}")
                continue
            if direct:
                yield InvalidMetadata(field, f"Can't have direct dependency: {value!r}")


def _of_lists(core: Metadata) -> Iterator[InvalidMetadata]:
    for classifier in sorted(set(core.classifiers or [])):
        if classifier in deprecated_classifiers:
            yield InvalidMetadata("classifier", f"The classifier {classifier!r} has been deprecated.")
        elif classifier not in classifiers:
            yield InvalidMetadata("classifier", f"{classifier!r} is not a valid classifier.")
    for name in core.dynamic or []:
        if name.lower() in _NOT_DYNAMIC:
            yield InvalidMetadata("dynamic", f"Dynamic field {name!r} is not a valid dynamic field.")
