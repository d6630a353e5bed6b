"""One file as text: what holds many texts is read as such, and what is no text is refused by its ending."""

from __future__ import annotations

import json

import pytest

from moeaudit.errors import InputError
from moeaudit.text import documents

RECORDS = [{"text": "one", "domain": "law"}, {"text": "two\r\n", "domain": "nan"}]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.jsonl", LINES.replace("\n", "\r\n")),
        ("a.jsonl", "\ufeff" + LINES + "\n\n"),
        ("a.ndjson", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(RECORDS, indent=1)),
        ("a.JSONL", LINES),
    ],
    ids=["lines", "CRLF", "mark and blanks", "ndjson", "json lines", "json list", "capitals"],
)
def test_every_form_gives_the_same_documents(name, content, tmp_path):
    path = tmp_path / name
    path.write_bytes(content.encode())
    found = documents(path)
    assert [(d.text, d.domain) for d in found] == [("one", "law"), ("two\r\n", "nan")]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.zip", "a.txt.gz", "a.docx", "a.PDF"])
def test_what_is_no_text_is_refused_by_its_ending(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"text,label\nsomething,1\n")
    with pytest.raises(InputError, match=r"is not read as text.*'text'") as refused:
        documents(path)
    assert name.split(".", 1)[1].split(".")[-1] in str(refused.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"text": "a"}, {"content": "b"}]', "entry 2: the field 'text' is missing.*content"),
        ('[{"text": "a"}, 3]', "entry 2: expected an object"),
        ('[{"text": "a"},\n {"text": "b"]', "not valid JSON .*line 2"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "'text' is missing; there is: messages"),
        ('{"text": ["a", "b"]}', "'text' is list, not a string"),
        ("", "No document is left"),
        ("[]", "No document is left"),
    ],
    ids=["another field", "a number", "broken", "a conversation", "a list", "empty", "empty list"],
)  # fmt: skip
def test_a_list_that_cannot_be_read_names_the_entry(content, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError, match=f"(?s){words}"):
        documents(path)
