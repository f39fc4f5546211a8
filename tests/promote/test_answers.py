"""What upstream's answers mean, as a table, and whatever they contain."""

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.promote.answers import Accepted, Refused, Reply, Taken, Unknown, classify, one_line, words

# PyPI's JSON: the sentence is in `code`; `message` begins with words that say nothing.
PYPI = {
    "message": "The server could not comply with the request since it is either malformed or otherwise incorrect.\n\n\n"
    "Only one sdist may be uploaded per release.\n\n\n",
    "code": "400 Only one sdist may be uploaded per release.",
    "title": "Bad Request",
}


def reply(status: int, reason: str = "", *, body: object = b"", content_type: str = "", retry_after: str = "") -> Reply:
    if not isinstance(body, bytes):
        body, content_type = json.dumps(body).encode(), content_type or "application/json"
    return Reply(status=status, reason=reason, content_type=content_type, body=body, retry_after=retry_after)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_accepted(status: int) -> None:
    """PyPI answers 200, others 201 or 202."""
    assert classify(reply(status, HTTPStatus(status).phrase)) == Accepted(status, "")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 522])
def test_unknown(status: int) -> None:
    """Nobody knows after these whether the file is there."""
    assert isinstance(classify(reply(status, "whatever")), Unknown)


@pytest.mark.parametrize(("header", "seconds"), [("120", 120.0), ("", 0.0), ("-5", 0.0), ("nan", 0.0), ("soon", 0.0)])
def test_retry_after(header: str, seconds: float) -> None:
    """Retry-After is read in seconds; anything else counts as none."""
    assert classify(reply(429, "Too Many", retry_after=header)) == Unknown(429, "Too Many", seconds)


@pytest.mark.parametrize(
    "taken",
    [
        reply(400, "File already exists ('demo-1.1.tar.gz', with blake2_256 hash 'ab')."),
        reply(400, "", body={"message": "x", "code": "400 File already exists ('d')", "title": "Bad Request"}),
        reply(400, "Bad Request", body=b"demo-1.1.tar.gz already exists", content_type="text/plain; charset=utf-8"),
        reply(409, "Conflict"),
        reply(400, "Repository does not allow updating assets: pypi-hosted"),
        reply(400, "Bad Request", body={"message": "Validation failed: File name has already been taken"}),
        reply(400, "demo-1.1.tar.gz cannot be updated"),
        reply(403, "Forbidden", body=b"Not enough permissions to overwrite artifact", content_type="text/plain"),
        reply(409, "demo-1.1.tar.gz already exists"),
    ],
)
def test_taken(taken: Reply) -> None:
    """A name that is taken is no refusal yet, however the index says it."""
    assert isinstance(classify(taken), Taken)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "Only one sdist may be uploaded per release."), (403, "Invalid API Token"), (401, ""), (404, ""), (413, "")],
)
def test_refused(status: int, reason: str) -> None:
    """Other statuses from 400 on are refusals, with upstream's words."""
    assert classify(reply(status, reason)) == Refused(status, reason)


@pytest.mark.parametrize("status", [203, 204, 205, 206, 207, 226, 299])
def test_a_success_of_another_kind(status: int) -> None:
    """Some clients take any 2xx for one: whether the file is there is looked up."""
    answer = classify(reply(status, body={"detail": "Stored, more or less."}))
    assert answer == Taken(status, "Stored, more or less.")
    assert f"It answered {status}" in classify(reply(status)).said


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(301, Taken), (302, Taken), (303, Taken), (300, Refused), (304, Refused), (307, Refused), (308, Refused)],
)
def test_redirected(status: int, meaning: type) -> None:
    """A form may have been taken by whoever redirects its sender to a page; else it is a refusal. It says where to."""
    answer = classify(Reply(status=status, reason="Moved", content_type="", body=b"", location="https://evil.test/"))
    assert isinstance(answer, meaning)
    assert "https://evil.test/" in answer.said


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        (
            reply(400, "Only one sdist may be uploaded per release.", body=PYPI),
            "Only one sdist may be uploaded per release.",
        ),
        (reply(400, "Bad Request", body=PYPI), "Only one sdist may be uploaded per release."),
        (reply(400, "", body=PYPI), "Only one sdist may be uploaded per release."),
        (
            reply(
                400, "", body={"title": "No", "detail": "The wheel is broken."}, content_type="application/problem+json"
            ),
            "The wheel is broken.",
        ),
        (reply(400, "", body={"message": 7, "code": None, "title": ["x"]}), ""),
        (reply(400, "", body=b"[" * 10**5, content_type="application/json"), ""),
        (reply(400, "", body=b"<html>No</html>", content_type="text/html"), ""),
        (reply(400, "", body=b"plain\nwords", content_type="text/plain"), "plain words"),
        (reply(799, "", body=b"", content_type=""), ""),
    ],
)
def test_words(given_: Reply, said: str) -> None:
    """Upstream's own sentence is found in the reason phrase, in PyPI's or a problem's JSON, or in plain text."""
    assert words(given_) == said


@given(st.text())
def test_words_are_one_safe_line(text: str) -> None:
    """Whatever upstream says becomes one line that no terminal obeys, of bounded length."""
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 500
    assert one_line(line) == line


@given(st.integers(100, 999), st.text(), st.binary(), st.sampled_from(["application/json", "text/plain", "x/y"]))
def test_every_answer_is_classified(status: int, reason: str, body: bytes, content_type: str) -> None:
    """No answer is too odd to be classified."""
    answer = classify(Reply(status=status, reason=reason, content_type=content_type, body=body, retry_after=reason))
    assert answer.said.isprintable()
