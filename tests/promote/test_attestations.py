"""Which attestations go with a file: those of this job's own workflow, and only by Trusted Publishing."""

import base64
import json
import os
import sys
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from overlay.promote import certificate
from overlay.promote.attestations import Attester, choose, leave_out
from overlay.promote.errors import Misused, Refused
from overlay.promote.identity import Identity, NoIdentity, read
from overlay.promote.signing import Signer, require_signing
from overlay.promote.tools import Attestations
from tests.builders import wheel
from tests.clients import CLIENTS_BIN
from tests.promote.packages import planned
from tests.pypi.attestations import PROVENANCE, PUBLISH, attestation
from tests.pypi.jobs import claims_of
from tests.pypi.orders import Job

WHEEL = wheel("demo", "1.1")
GITHUB, GITLAB = Job(), Job(kind="gitlab", workflow=".gitlab-ci.yml")


def token_of(job: Job) -> str:
    """Form an identity token of a job; its signature is of no account here."""
    claims = claims_of(job, audience="pypi", jti="1", now_s=1_800_000_000)
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in ({}, claims))
    return f"{head}.{body}.c2ln"


def identity_of(job: Job) -> Identity:
    return read(token_of(job))


def attested(*jobs: Job, filename: str = WHEEL.filename, sha256: str = WHEEL.sha256, predicate: str = PUBLISH) -> str:
    """Attest the wheel as each job."""
    return json.dumps([attestation(filename, sha256, job, predicate=predicate) for job in jobs])


@pytest.mark.parametrize("job", [GITHUB, GITLAB], ids=["github", "gitlab"])
def test_what_this_workflow_signed_is_sent_as_it_is(job: Job) -> None:
    """An attestation by the same workflow, on any branch, is sent to the letter."""
    text = attested(Job(kind=job.kind, workflow=job.workflow, ref="refs/tags/v1.1"))
    assert choose(planned(WHEEL, attestations=text), identity_of(job)) == Attestations(text)


@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job(workflow="build.yml"), "build.yml"),
        (Job(repository="octo/other"), "octo/other"),
        (Job(repository="octo/demo-evil"), "octo/demo-evil"),
        (GITLAB, "gitlab.com"),
    ],
)
def test_what_another_workflow_signed_is_left_out(job: Job, words: str) -> None:
    """A build workflow in another file, or of another repository, is named, and its attestation left out."""
    chosen = choose(planned(WHEEL, attestations=attested(job)), identity_of(GITHUB))
    assert chosen.text is None
    assert words in chosen.words


def test_without_trusted_publishing_none_is_sent() -> None:
    """With a token or password they are left out; a file without any needs no words."""
    chosen = choose(planned(WHEEL, attestations=attested(GITHUB)), None)
    assert chosen.text is None
    assert "Trusted Publishing" in chosen.words
    assert choose(planned(WHEEL), None) == Attestations(None)


async def test_none_is_sent_where_the_caller_wants_none(tmp_path: Path) -> None:
    """Not even one that fits, which is said; a file without any needs no words."""
    for text, words in ((attested(GITHUB), "its attestations are left out (--no-attestations)"), (None, "")):
        left_out = await leave_out(planned(WHEEL, attestations=text), tmp_path, identity_of(GITHUB), dry_run=False)
        assert left_out == Attestations(None, words)


def test_an_attestation_of_another_file_is_left_out() -> None:
    """Name and digest in the statement must be this file's, and its kind one that indexes take."""
    for text in (
        attested(GITHUB, sha256="0" * 64),
        attested(GITHUB, filename="demo-1.1.tar.gz"),
        attested(GITHUB, predicate="https://example.test/other"),
    ):
        chosen = choose(planned(WHEEL, attestations=text), identity_of(GITHUB))
        assert chosen.text is None
        assert chosen.words


def test_each_attestation_is_judged_by_itself() -> None:
    """Of two the one that fits is sent, the other is named; two of one kind are one too many."""
    ours, foreign = (
        attestation(WHEEL.filename, WHEEL.sha256, GITHUB),
        attestation(WHEEL.filename, WHEEL.sha256, Job(workflow="build.yml"), predicate=PROVENANCE),
    )
    chosen = choose(planned(WHEEL, attestations=json.dumps([ours, foreign])), identity_of(GITHUB))
    assert chosen.text is not None
    assert json.loads(chosen.text) == [ours]
    assert "build.yml" in chosen.words
    twice = choose(planned(WHEEL, attestations=json.dumps([ours, ours])), identity_of(GITHUB))
    assert twice.text is not None
    assert json.loads(twice.text) == [ours]


@pytest.mark.parametrize("text", ["", "{}", "[", "[1]", "[null]", '[{"envelope": {}}]', "[[]]", "\x00"])
def test_what_cannot_be_read_is_left_out(text: str) -> None:
    """Text that is no list of attestations stops nothing."""
    chosen = choose(planned(WHEEL, attestations=text), identity_of(GITHUB))
    assert chosen.text is None
    assert chosen.words


@given(
    st.text() | st.lists(st.dictionaries(st.text(), st.text() | st.dictionaries(st.text(), st.text()))).map(json.dumps)
)
def test_any_text_may_have_been_staged(text: str) -> None:
    """Nothing that was staged as attestations can stop a promotion."""
    choose(planned(WHEEL, attestations=text), identity_of(GITHUB))


def test_a_real_certificate_has_no_claims() -> None:
    """A certificate of another authority is read, and names no workflow."""
    issued = trustme.CA().issue_cert("demo.test")
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    assert certificate.claims(der) == {}


def test_the_claims_are_what_the_authority_wrote() -> None:
    """Issuer, repository and workflow come out as Fulcio's numbers say, also long ones."""
    job = Job(repository="octo/" + "long-name" * 12)
    certified = attestation(WHEEL.filename, WHEEL.sha256, job)["verification_material"]
    assert isinstance(certified, dict)
    claims = certificate.claims(base64.b64decode(certified["certificate"]))
    assert claims[certificate.ISSUER] == "https://token.actions.githubusercontent.com"
    assert claims[certificate.REPOSITORY] == f"https://github.com/{job.repository}"
    assert claims[certificate.WORKFLOW].startswith(
        f"https://github.com/{job.repository}/.github/workflows/release.yml@"
    )


CERTIFICATE = base64.b64decode(json.loads(attested(GITHUB))[0]["verification_material"]["certificate"])


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(0, 255))
def test_a_broken_certificate_is_told(at: int, byte: int) -> None:
    """Cut off or changed anywhere, a certificate is read or refused, nothing else."""
    for broken in (CERTIFICATE[:at], CERTIFICATE[:at] + bytes([byte]) + CERTIFICATE[at + 1 :]):
        try:
            certificate.claims(broken)
        except certificate.NotACertificate:
            continue


@given(st.binary(max_size=300))
def test_any_bytes_may_stand_for_a_certificate(body: bytes) -> None:
    """Random bytes end in the one error."""
    try:
        certificate.claims(body)
    except certificate.NotACertificate:
        return


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c", "e30.W10.", "e30.e30", "é.é.é", f"e30.{'WyJ' * 9}.x"])
def test_what_is_no_identity_is_told(text: str) -> None:
    """A CI platform that gives something else is found out."""
    with pytest.raises(NoIdentity):
        read(text)


@given(st.text() | st.binary().map(lambda body: f"e30.{base64.urlsafe_b64encode(body).decode()}.x"))
def test_any_text_may_stand_for_an_identity(text: str) -> None:
    """Reading raises nothing but the one error."""
    try:
        read(text)
    except NoIdentity:
        return


def test_an_identity_names_repository_and_workflow() -> None:
    """As Sigstore writes them: URLs, the workflow without its ref."""
    github, gitlab = identity_of(GITHUB), identity_of(GITLAB)
    assert github.repository == "https://github.com/octo/demo"
    assert github.workflow == "https://github.com/octo/demo/.github/workflows/release.yml"
    assert gitlab.repository == "https://gitlab.com/octo/demo"
    assert gitlab.workflow == "https://gitlab.com/octo/demo//.gitlab-ci.yml"
    assert read(token_of(Job(issuer="https://ci.example"))).workflow == ""


MADE = attestation(WHEEL.filename, WHEEL.sha256, GITHUB)


async def made(path: Path) -> str:  # noqa: ARG001 - as every signer
    """Sign, as this job would."""
    return json.dumps(MADE)


async def test_a_made_attestation_takes_the_place_of_a_staged_one(tmp_path: Path) -> None:
    """--attest sends what was made here, beside a staged provenance of this workflow."""
    provenance = attestation(WHEEL.filename, WHEEL.sha256, GITHUB, predicate=PROVENANCE)
    publish = attestation(WHEEL.filename, WHEEL.sha256, GITHUB)
    file = planned(WHEEL, attestations=json.dumps([publish, provenance]))
    chosen = await Attester(made)(file, tmp_path, identity_of(GITHUB), dry_run=False)
    assert chosen.text is not None
    assert json.loads(chosen.text) == [MADE, provenance]


async def test_a_dry_run_signs_nothing(tmp_path: Path) -> None:
    """What is signed stands in a public log, so a dry run only says what would be sent of the staged ones."""

    async def never(path: Path) -> str:  # noqa: ARG001 - as every signer
        raise AssertionError

    text = attested(GITHUB)
    file = planned(WHEEL, attestations=text)
    assert await Attester(never)(file, tmp_path, identity_of(GITHUB), dry_run=True) == Attestations(text)


async def test_nothing_is_made_without_trusted_publishing(tmp_path: Path) -> None:
    """An attestation that no index would take is not signed into a public log."""
    with pytest.raises(Refused, match="--attest"):
        await Attester(made)(planned(WHEEL), tmp_path, None, dry_run=False)


async def test_without_attest_the_staged_ones_count(tmp_path: Path) -> None:
    """By default nothing is made."""
    text = attested(GITHUB)
    file = planned(WHEEL, attestations=text)
    assert await Attester()(file, tmp_path, identity_of(GITHUB), dry_run=False) == Attestations(text)


def test_the_extra_is_asked_for_when_it_is_missing() -> None:
    """Without pypi-attestations the message says what to install."""
    with pytest.raises(Misused, match=r"overlay-index\[attest\]"):
        require_signing("a_module_that_nobody_has")
    require_signing("json")


def program(tmp_path: Path, body: str) -> tuple[str, ...]:
    """Write a program that stands for `python -m pypi_attestations`."""
    script = tmp_path / "program.py"
    script.write_text(f"import pathlib, sys, time\nassert sys.argv[1] == 'sign'\npath = sys.argv[2]\n{body}\n")
    return (sys.executable, str(script))


async def test_a_file_is_signed_by_the_program(tmp_path: Path) -> None:
    """What the program leaves beside the file is the attestation; an older one is taken away before."""
    path = tmp_path / WHEEL.filename
    path.write_bytes(WHEEL.body)
    (tmp_path / f"{WHEEL.filename}.publish.attestation").write_text("old")
    signing = (
        "signed = pathlib.Path(path + '.publish.attestation')\nassert not signed.exists()\nsigned.write_text('{}')"
    )
    assert await Signer(lambda _: "identity", program=program(tmp_path, signing))(path) == "{}"


@pytest.mark.parametrize(
    ("body", "words", "timeout_s"),
    [
        ("sys.exit('Failed to sign: no log')", "Failed to sign: no log", 60.0),
        ("raise RuntimeError('rekor is away')", "rekor is away", 60.0),
        ("pass", "exit code 0", 60.0),
        ("time.sleep(600)", "longer", 0.5),
    ],
)
async def test_a_program_that_does_not_sign_is_quoted(tmp_path: Path, body: str, words: str, timeout_s: float) -> None:
    """Its last line is the reason; it is ended when it takes too long."""
    path = tmp_path / WHEEL.filename
    path.write_bytes(WHEEL.body)
    with pytest.raises(Refused, match=words):
        await Signer(lambda _: "identity", program=program(tmp_path, body), timeout_s=timeout_s)(path)


async def test_without_an_identity_no_program_is_started(tmp_path: Path) -> None:
    """Signing would open a browser and wait for somebody."""
    with pytest.raises(Refused, match="identity of its own"):
        await Signer(lambda _: None, program=("/nonexistent",))(tmp_path / WHEEL.filename)


@pytest.mark.clients
async def test_the_real_program_is_called_as_it_wants(tmp_path: Path) -> None:
    """pypi-attestations understands the command line: it finds the file, and fails for want of an identity."""
    path = tmp_path / WHEEL.filename
    path.write_bytes(WHEEL.body)
    environment = {"GITHUB_ACTIONS": "true", "PATH": os.defpath, "HOME": str(tmp_path)}
    program = ("env", "-i", *(f"{name}={value}" for name, value in environment.items()), str(CLIENTS_BIN / "python"))
    with pytest.raises(Refused, match="identity"):
        await Signer(lambda _: "identity", program=(*program, "-m", "pypi_attestations"))(path)
