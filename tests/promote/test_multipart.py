"""The upload's body, read back by the parser that the overlay reads uploads with."""

import io

from hypothesis import given
from hypothesis import strategies as st
from multipart import MultipartParser

from overlay.promote import multipart

BOUNDARY = "0123456789abcdef0123456789abcdef"
NAMES = st.sampled_from([":action", "name", "classifiers", "description", "requires_dist", "sha256_digest"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(NAMES, TEXTS)), st.binary(max_size=2000))
def test_every_field_and_the_file_come_back(fields: list[tuple[str, str]], file: bytes) -> None:
    """All fields arrive in order, repeated ones too, and the file as it is, in exactly the announced length."""
    form = multipart.around(fields, "demo-1.1.tar.gz", boundary=BOUNDARY)
    body = form.head + file + form.tail
    assert len(body) == form.length(len(file))
    parts = list(MultipartParser(io.BytesIO(body), BOUNDARY, content_length=len(body), memory_limit=2**20))
    *texts, content = parts
    assert [(part.name, part.value) for part in texts] == fields
    assert (content.name, content.filename, content.raw) == ("content", "demo-1.1.tar.gz", file)
    assert content.content_type == "application/octet-stream"
    assert form.content_type == f"multipart/form-data; boundary={BOUNDARY}"
