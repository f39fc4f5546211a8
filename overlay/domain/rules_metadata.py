"""Rules about core metadata: packaging's validators first, then what PyPI adds to them (theory in `rules`).

Sources: legacy-upload §4; warehouse `forklift/metadata.py`. Where PyPI uses a library that we do not have
(email-validator, rfc3986), the check here is narrower or equal: it is meant to catch slips, not to be a second parser.
"""

import re
import textwrap
from collections.abc import Iterator
from email.utils import parseaddr
from typing import Final
from urllib.parse import urlsplit

from packaging.metadata import ExceptionGroup as PackagingGroup
from packaging.metadata import InvalidMetadata, Metadata
from packaging.requirements import InvalidRequirement, Requirement
from trove_classifiers import classifiers, deprecated_classifiers

from overlay.domain import description
from overlay.domain.findings import Finding, error, note, shown
from overlay.domain.metadata import CoreMetadata, sent

# warehouse SUPPORTED_METADATA_VERSIONS; packaging knows more.
PYPI_METADATA_VERSIONS: Final = frozenset({"1.0", "1.1", "1.2", "2.1", "2.2", "2.3", "2.4", "2.5"})
LONGEST_SUMMARY: Final = 512
LONGEST_URL_LABEL: Final = 32
# Packaging's parsers recurse; no honest value of one line comes near.
_LONGEST_LINE: Final = 10_000
_MOST_OF_A_KIND: Final = 5
_LONGEST_QUOTE: Final = 300

_URI: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+")
_EMAIL: Final = re.compile(r"[^@\s\"(),:;<>\[\\\]]{1,64}@(?=.{1,253}$)([\w-]+\.)+[^\W\d_][\w-]*")
# email-validator SPECIAL_USE_DOMAIN_NAMES, those people write.
_SPECIAL_DOMAINS: Final = (".arpa", ".invalid", ".local", ".localhost", ".onion", ".test")


def judge(core: CoreMetadata) -> tuple[Finding, ...]:
    """Report what PyPI refuses about the core metadata, each kind of finding at most a few times."""
    found = (
        *_packaging(core),
        *_fields(core),
        *_classifiers(core),
        *_emails(core),
        *_urls(core),
        *_requirements(core),
        *description.judge(core),
    )
    return tuple(_few(found))


def _few(found: tuple[Finding, ...]) -> Iterator[Finding]:
    counts: dict[str, int] = {}
    for finding in found:
        counts[finding.rule] = counts.get(finding.rule, 0) + 1
        if counts[finding.rule] <= _MOST_OF_A_KIND:
            yield finding
    for rule, count in counts.items():
        if count > _MOST_OF_A_KIND:
            yield note(rule, f"{count - _MOST_OF_A_KIND} more findings of the rule {rule} are not shown.")


def _packaging(core: CoreMetadata) -> Iterator[Finding]:
    fields = sent(core)
    # The description has rules of its own; its type stays.
    lines = (value for key, value in fields.items() if key != "description")
    if any(len(line) > _LONGEST_LINE for value in lines for line in _lines(value)):
        yield error("metadata-length", f"A field of the core metadata is longer than {_LONGEST_LINE:,} characters.")
        return
    try:
        Metadata.from_raw(fields)
    except PackagingGroup as group:
        yield from sorted(_invalid(group), key=lambda finding: (finding.rule, finding.sentence))
    # What packaging lets through for hostile values: int() of too many digits, parentheses nested too deep.
    except (ValueError, RecursionError):
        yield error("metadata-invalid", "A field of the core metadata cannot be parsed.")


def _lines(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [*value, *value.values()] if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def _invalid(group: PackagingGroup) -> Iterator[Finding]:
    for err in group.exceptions:
        assert isinstance(err, InvalidMetadata)
        if err.field != "metadata-version":  # PyPI's own list stands in `_fields`
            yield error(f"metadata-{err.field}", f"Core metadata: {textwrap.shorten(str(err), _LONGEST_QUOTE)}.")


def _fields(core: CoreMetadata) -> Iterator[Finding]:
    if core.metadata_version not in PYPI_METADATA_VERSIONS:
        given = "none" if core.metadata_version is None else shown(core.metadata_version)
        yield error("metadata-version", f"PyPI knows Metadata-Version 1.0 to 2.5; the file has {given}.")
    for name in core.unreadable:
        # twine: "unrecognized or malformed field"; it does not send such a file.
        yield error(
            "metadata-field", f"The field {shown(name)} is unknown, given twice or malformed; twine refuses it."
        )
    if core.summary is not None and len(core.summary) > LONGEST_SUMMARY:
        yield error("summary-length", f"PyPI: ''summary' field must be {LONGEST_SUMMARY} characters or less.'")
    if core.license and core.license_expression:
        # PEP 639: "Build tools … MUST … License-Expression … License … mutually exclusive"
        yield error("license-twice", "PyPI: 'License is deprecated when License-Expression is present.'")
    if any(name.lower() == "dynamic" for name in core.dynamic):
        # Not in warehouse's DYNAMIC_FIELDS; packaging lets it pass.
        yield error("metadata-dynamic", "PyPI: 'Dynamic field 'dynamic' is not a valid dynamic field.'")


def _classifiers(core: CoreMetadata) -> Iterator[Finding]:
    for classifier in sorted(set(core.classifiers)):
        if classifier.startswith("Private ::"):
            yield error(
                "private-classifier",
                f"{shown(classifier)} marks the project as private: 'PyPI will always reject packages with classifiers "
                'beginning with "Private ::"\'.',
            )
        elif classifier in deprecated_classifiers:
            better = ", ".join(map(repr, deprecated_classifiers[classifier]))
            use = f", use one of {better} instead" if better else ""
            yield error(
                "classifier-deprecated", f"PyPI: 'The classifier {shown(classifier)} has been deprecated{use}.'"
            )
        elif classifier not in classifiers:
            yield error("classifier-unknown", f"PyPI: '{shown(classifier)} is not a valid classifier.'")


def _emails(core: CoreMetadata) -> Iterator[Finding]:
    for field, value in (("author-email", core.author_email), ("maintainer-email", core.maintainer_email)):
        # warehouse looks at the first address only.
        _, address = parseaddr((value or "")[:_LONGEST_LINE])
        if address and (not _EMAIL.fullmatch(address) or address.lower().endswith(_SPECIAL_DOMAINS)):
            yield error(field, f"PyPI: '{shown(address)} is not a valid email address' ({field}).")


def _urls(core: CoreMetadata) -> Iterator[Finding]:
    for field, url in (("home-page", core.home_page), ("download-url", core.download_url)):
        if url is not None and not _is_url(url):
            yield error(field, f"PyPI: '{shown(url)} is not a valid url.' ({field})")
    for label, url in core.project_urls.items():
        if not label:
            yield error("project-url", "PyPI: 'Must have a label' (project-url).")
        elif len(label) > LONGEST_URL_LABEL:
            yield error("project-url", f"PyPI: '{shown(label)} must be {LONGEST_URL_LABEL} characters or less.'")
        elif not url:
            yield error("project-url", f"PyPI: 'Must have a URL' (project-url {shown(label)}).")
        elif not _is_url(url):
            yield error("project-url", f"PyPI: '{shown(url)} is not a valid url' (project-url {shown(label)}).")


def _is_url(url: str) -> bool:
    # RFC 3986 2: the letters of a URI; warehouse asks for http or https, not for a host. A fragment is not looked at.
    if not _URI.fullmatch(url.partition("#")[0]):
        return False
    try:
        return urlsplit(url).scheme in {"http", "https"}
    except ValueError:
        return False


def _requirements(core: CoreMetadata) -> Iterator[Finding]:
    for field, values, parsed_by_packaging in (
        ("requires-dist", core.requires_dist, True),
        ("provides-dist", core.provides_dist, False),
        ("obsoletes-dist", core.obsoletes_dist, False),
    ):
        for value in values:
            requirement = _requirement(value)
            if requirement is None and not parsed_by_packaging:
                yield error(f"metadata-{field}", f"PyPI: '{shown(value)} is invalid' ({field}).")
            if requirement is not None and requirement.url is not None:
                yield error("direct-reference", f"PyPI: 'Can't have direct dependency: {shown(value)}' ({field}).")


def _requirement(value: str) -> Requirement | None:
    try:
        return Requirement(value[:_LONGEST_LINE])
    except (InvalidRequirement, RecursionError):
        return None
