"""Durable documents are read as they were written, or refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.domain.errors import RecordCorrupt
from overlay.domain.names import MAIN
from overlay.domain.promotion import Outcome, Promotion, PromotionId, PromotionReceipt
from overlay.domain.records import SCHEMA, HistoryEntry, ReceiptDocument, Record, TokenDocument, decode, encode
from overlay.domain.stage import Gone, Reason
from tests.staged import staged_file, token

TEXT = st.text(max_size=50)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=5), st.none() | TEXT, TEXT)
def test_a_record_survives_its_bytes(form: list[tuple[str, str]], attestations: str | None, who: str) -> None:
    """Every field, whatever text it holds."""
    record = Record(file=staged_file(who=who), form=tuple(form), attestations=attestations)
    assert decode("k", encode(record), Record) == record


@pytest.mark.parametrize("reason", list(Reason))
def test_history_and_tokens_survive_their_bytes(reason: Reason) -> None:
    """Every reason, and a token without its text."""
    entry = HistoryEntry(gone=Gone(staged_file(), reason, 5, "ada"))
    assert decode("k", encode(entry), HistoryEntry) == entry
    document = TokenDocument(token=token(expires_at_s=7))
    assert decode("k", encode(document), TokenDocument) == document


def test_the_same_document_has_the_same_bytes() -> None:
    """So that writing it again changes nothing."""
    record = Record(file=staged_file(), form=(), attestations=None)
    assert encode(record) == encode(decode("k", encode(record), Record))


def test_a_newer_schema_is_refused_and_named() -> None:
    """Never misread: the sentence says which document and what to do."""
    body = json.loads(encode(Record(file=staged_file(), form=(), attestations=None)))
    body["schema"] = SCHEMA + 1
    with pytest.raises(RecordCorrupt, match=r"records/demo/x\.json.*newer version"):
        decode("records/demo/x.json", json.dumps(body).encode(), Record)


def test_an_unknown_key_of_the_same_schema_is_ignored() -> None:
    """A newer program of the same schema may add some."""
    record = Record(file=staged_file(), form=(), attestations=None)
    body = json.loads(encode(record)) | {"later": 1}
    assert decode("k", json.dumps(body).encode(), Record) == record


def test_a_receipt_from_before_it_named_what_was_live_is_read() -> None:
    """Then it names nothing of that."""
    promotion = Promotion(
        id=PromotionId("1" * 32),
        stage=MAIN,
        target="https://upload.example/legacy/",
        files=(),
        who="ci",
        token_id="t",
        planned_at_us=1,
        holder="a" * 32,
        fence=1,
    )
    receipt = PromotionReceipt(promotion=promotion, outcome=Outcome.LIVE, ended_at_us=2, ended_by="ci", journal=())
    body = json.loads(encode(ReceiptDocument(receipt=receipt)))
    del body["receipt"]["promotion"]["already_live"]
    assert decode("k", json.dumps(body).encode(), ReceiptDocument).receipt == receipt


@given(st.binary(max_size=200) | st.just(b"{}") | st.just(b'{"schema":1}') | st.just(b'{"schema":"1"}'))
def test_other_bytes_are_refused(body: bytes) -> None:
    """A damaged document is an error with its key, never a guess."""
    with pytest.raises(RecordCorrupt, match="records/demo/x"):
        decode("records/demo/x", body, Record)
