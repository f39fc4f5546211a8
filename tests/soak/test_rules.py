"""The rules find what they are there for, and pass what faults excuse."""

import math

from tests.builders import wheel
from tests.soak.history import Act, Fault, History, Kind, Shown
from tests.soak.rules import problems
from tests.soak.scenario import Project

NAME = "demo-1.0-py3-none-any.whl"
OURS = Project("demo", (NAME,), None)
THEIRS = Project("live", (), wheel("live", "0.9"))
FIRST, SECOND = Shown("a" * 64, "1" * 32), Shown("b" * 64, "2" * 32)
REDIS_GONE = Fault("freeze Redis", ("redis",), 10, {"redis": (10, 20)}, 20, 21)
S3_GONE = Fault("freeze S3", ("s3",), 10, {"s3": (10, 20)}, 20, 21)


def judged(acts: list[Act], *faults: Fault) -> list[str]:
    history = History()
    history.acts, history.faults = acts, list(faults)
    for number, act in enumerate(acts):
        act.number = number
    return [problem.sentence for problem in problems(history, [OURS, THEIRS])]


def act(kind: Kind, began_s: float, status: int = 200, *, took_s: float = 0.5, project: str = "demo") -> Act:
    return Act(0, "ada", kind, "a", project, began_s, began_s + took_s, status, filename=NAME, word="json")


def upload(began_s: float, shown: Shown) -> Act:
    made = act("upload", began_s)
    made.sha256 = shown.sha256
    return made


def page(began_s: float, shown: Shown | None) -> Act:
    made = act("page", began_s, 200 if shown is not None else 404)
    made.shown = {NAME: shown}
    return made


def file(began_s: float, shown: Shown, status: int = 200) -> Act:
    made = act("file", began_s, status)
    made.sha256, made.upload = shown.sha256, shown.upload
    return made


def test_a_quiet_history_is_good() -> None:
    """Uploaded, shown, replaced, shown; the replaced file is served on."""
    acts = [upload(0, FIRST), page(1, FIRST), upload(2, SECOND), page(3, SECOND), file(4, FIRST)]
    assert judged(acts) == []


def test_an_old_page_is_found() -> None:
    """By what may be read, and by the upload ids."""
    acts = [upload(0, FIRST), page(1, FIRST), upload(2, SECOND), page(3, SECOND), page(4, FIRST)]
    found = judged(acts)
    assert any("was shown, then was not, then was again" in sentence for sentence in found)
    assert any("no order of all that happened explains" in sentence for sentence in found)


def test_what_was_withdrawn_and_is_served_again_is_found() -> None:
    """By the ids that the withdrawal named."""
    withdrawn = act("withdraw", 2)
    withdrawn.ended = (FIRST.upload,)
    assert judged([upload(0, FIRST), page(1, FIRST), withdrawn, file(3, FIRST, 404)]) == []
    found = judged([upload(0, FIRST), page(1, FIRST), withdrawn, file(3, FIRST)])
    assert found == [f"{NAME}: {FIRST.upload} ended and came back"]


def added(began_s: float, shown: Shown, status: int) -> Act:
    made = act("add", began_s, status)
    made.sha256 = shown.sha256
    return made


def test_an_add_only_upload_that_takes_a_name_is_found() -> None:
    """Right away, or when the holder is withdrawn, after an answer that nobody knows."""
    withdrawn = act("withdraw", 4)
    withdrawn.ended = (FIRST.upload,)
    refused = [upload(0, FIRST), page(1, FIRST), added(2, SECOND, 400), page(3, FIRST)]
    assert judged(refused) == []
    lost = [upload(0, FIRST), page(1, FIRST), added(2, SECOND, 503), page(3, FIRST)]
    assert judged([*lost, withdrawn, page(5, None)]) == []
    unexplained = [f"{NAME}: no order of all that happened explains that {SECOND.sha256} was shown"]
    assert judged([*lost, withdrawn, page(5, SECOND)]) == unexplained
    assert judged([*lost, withdrawn, page(5, SECOND)], Fault("kill S3", ("s3",), 2, {}, 3, 3)) == []
    assert judged([upload(0, FIRST), page(1, FIRST), added(2, SECOND, 200)]) == [
        f"{NAME}: no order of all that happened explains that {SECOND.sha256} was staged"
    ]


def test_an_addition_may_come_before_an_upload_that_is_told_of_it() -> None:
    """Both found the name free. One that comes after the upload was answered may not."""
    answered = upload(2, FIRST)
    answered.ended_s = 2.1
    acts = [added(2, SECOND, 200), answered, page(4, SECOND)]
    assert judged(acts) == [f"{NAME}: no order of all that happened explains that {SECOND.sha256} was shown"]
    answered.word = "superseded"
    assert judged(acts) == []
    assert judged([*acts, page(5, FIRST)]) == [
        f"{NAME}: no order of all that happened explains that {FIRST.sha256} was shown"
    ]
    assert judged([answered, added(3, SECOND, 200), page(4, SECOND)]) != []


def test_not_found_for_what_nobody_withdrew_is_found() -> None:
    """It is what a server says that could not ask."""
    found = judged([upload(0, FIRST), page(1, FIRST), file(2, FIRST, 404)])
    assert found == [f"{NAME}: {FIRST.upload} is not found, though nobody withdrew it"]
    assert judged([act("page", 0, 404, project="live")]) == ["a project that upstream has is not found"]


def test_while_redis_is_gone_pages_are_refused_soon() -> None:
    """Nothing is shown; upstream's list goes on; and all that is excused."""
    listed, refused = act("list", 12), act("list", 12, 503)
    listed.word, refused.word = "live", "staged"
    assert judged([listed, refused, act("page", 12, 503), file(12, FIRST, 503)], REDIS_GONE) == []
    assert judged([page(12, None)], REDIS_GONE) == ["an answer while nobody could know what is staged"]
    late = [act("page", 11, 503, took_s=7)]
    assert judged(late, REDIS_GONE) == [
        "a 503 that came too late",
        "while Redis was gone the answers came too late",
    ]
    refused.word = "live"
    assert judged([refused], REDIS_GONE) == ["upstream's list of projects needs nothing but upstream"]


def test_while_only_s3_is_gone_pages_go_on() -> None:
    """Their refusal is not excused; that of a file is."""
    assert judged([file(12, FIRST, 503), upload(0, FIRST), page(12, FIRST)], S3_GONE) == []
    refused = [act("page", 12 + number / 10, 503) for number in range(4)]
    assert judged(refused, S3_GONE) == ["4 answers of 503 though nothing was down"]


def test_what_never_recovers_is_found() -> None:
    """The faults say when all was well again; and no answer is excused by a fault of the host alone."""
    endless = Fault("cut a host", ("a",), 10, {}, 12, math.inf)
    assert judged([], endless) == ["not all was well again after: cut a host at 10.00 s"]
    silent = act("page", 5, 0)
    assert judged([silent]) == ["no whole answer, though nothing happened to the host"]
    assert judged([act("page", 11, 0)], Fault("cut a host", ("a",), 10, {}, 12, 13)) == []
