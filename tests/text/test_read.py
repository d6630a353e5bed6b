"""Texts of one's own: every kind of source, every kind of bad input."""

from __future__ import annotations

import gzip
import json

import pytest

from moeaudit.errors import InputError
from moeaudit.text import Corpus, Document, documents


def write_jsonl(path, lines):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_list_of_strings():
    corpus = documents(["one", "two"])
    assert [(d.text, d.domain, d.index) for d in corpus] == [("one", "text", 0), ("two", "text", 1)]
    assert corpus.notes == []


def test_documents_keep_their_fields_and_a_corpus_is_handed_back():
    corpus = documents([Document("x", "law", "de", "here", index=9), "y"])
    assert corpus[0] == Document("x", "law", "de", "here", index=0)
    assert documents(corpus) is corpus


def test_empty_and_repeated_documents_are_counted():
    corpus = documents(["a", "", "b", " \n", "a", "a"])
    assert [d.text for d in corpus] == ["a", "b"]
    empty, repeated = corpus.notes
    assert "2 documents" in empty and "1, 3" in empty
    assert "2 documents" in repeated and "4, 5" in repeated


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([], "No document is left"),
        (["", "  "], "2 found, 2 of them empty"),
        ([1, 2], "Item 0 of the list is int"),
        (["a", b"b"], "Item 1 of the list is bytes"),
        (["a", None], "Item 1 of the list is NoneType"),
        (["\ud800"], "lone surrogate"),
        ({"text": "a"}, "Cannot read documents from dict"),
        (7, "Cannot read documents from int"),
        ("just some words", "pass a list"),
        ("a\0b", "pass a list"),
        ("x" * 100_000, "pass a list|cannot be read"),
    ],
)
def test_bad_sources(source, words):
    with pytest.raises(InputError, match=words):
        documents(source)


def test_a_folder_reads_sub_folders_as_domains(tmp_path):
    for name in ("law/a.txt", "law/deep/b.md", "top.txt", ".hidden/c.txt", "law/.d.txt", "x.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text of {name}", "utf-8")
    corpus = documents(tmp_path)
    assert [(d.source, d.domain) for d in corpus] == [
        ("law/a.txt", "law"),
        ("law/deep/b.md", "law"),
        ("top.txt", "text"),
    ]
    assert corpus.notes == [f"1 file in {tmp_path} left out for the ending: 1 .png."]
    assert documents(str(tmp_path)).hash == corpus.hash


def test_one_text_file_and_its_byte_order_mark(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfhello")
    assert [d.text for d in documents(path)] == ["hello"]


def test_a_folder_without_text(tmp_path):
    with pytest.raises(InputError, match="it is empty"):
        documents(tmp_path)
    (tmp_path / "a.bin").write_bytes(b"1")
    (tmp_path / "README").write_bytes(b"1")
    with pytest.raises(InputError, match=r"no text files.*1 \.bin, 1 no ending"):
        documents(tmp_path)
    (tmp_path / "b.txt").write_text("  \n", "utf-8")
    with pytest.raises(InputError, match="1 found, 1 of them empty"):
        documents(tmp_path)


def test_bytes_that_are_not_utf8_name_file_and_offset(tmp_path):
    (tmp_path / "a.txt").write_text("fine", "utf-8")
    (tmp_path / "b.txt").write_bytes("année".encode("latin-1"))
    with pytest.raises(InputError, match=r"b\.txt: not UTF-8 at byte 3 \(0xe9"):
        documents(tmp_path)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_jsonl(tmp_path, ending):
    lines = [
        json.dumps({"text": "a", "domain": "law", "language": "de", "source": "s", "more": 1}),
        "",
        json.dumps({"text": "b", "domain": None}),
    ]
    path = tmp_path / f"x.{ending}"
    raw = "\n".join(lines).encode()
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    assert list(documents(path)) == [
        Document("a", "law", "de", "s", index=0),
        Document("b", index=1),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a"', "not valid JSON"),
        ('{"body": "a", "n": 1}', "the field 'text' is missing; there is: body, n"),
        ("{}", "'text' is missing; there is: no fields"),
        ('["a"]', "expected an object with a field 'text', found list"),
        ('{"text": null}', "the field 'text' is NoneType"),
        ('{"text": "a", "domain": 3}', "the field 'domain' is int"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    path = write_jsonl(tmp_path / "x.jsonl", ['{"text": "fine"}', "", line])
    with pytest.raises(InputError, match=f"line 3: .*{words}"):
        documents(path)


def test_jsonl_that_is_not_utf8_names_line_and_offset(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"text": "a"}\n{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"line 2: not UTF-8 at byte 24 \(0xff"):
        documents(path)


@pytest.mark.parametrize("damage", ["not packed", "cut short"])
def test_a_damaged_archive(tmp_path, damage):
    line = b'{"text": "a"}'
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(line if damage == "not packed" else gzip.compress(line * 9)[:30])
    with pytest.raises(InputError, match="damaged"):
        documents(path)


class Table:
    """What `documents` needs of a `datasets.Dataset`."""

    def __init__(self, **columns):
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __iter__(self):
        return iter([dict(zip(self.columns, row)) for row in zip(*self.columns.values())])


def test_a_dataset_by_its_columns():
    corpus = documents(Table(text=["a", "b"], domain=["law", None], label=[0, 1]))
    assert [(d.text, d.domain) for d in corpus] == [("a", "law"), ("b", "text")]


def test_bad_datasets():
    with pytest.raises(InputError, match="no column 'text'; its columns are: content"):
        documents(Table(content=["a"]))
    with pytest.raises(InputError, match="Row 1 of the dataset holds int"):
        documents(Table(text=["a", 3]))
    stream = type("Stream", (), {"column_names": ["text"], "__iter__": lambda self: iter([])})()
    with pytest.raises(InputError, match="stream"):
        documents(stream)
    both = type("Both", (), {"column_names": {"train": ["text"], "test": ["text"]}})()
    with pytest.raises(InputError, match="train, test"):
        documents(both)


def test_a_real_dataset():
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"text": ["a", "b", "a"], "domain": ["x", "y", "x"]})
    corpus = documents(table)
    assert isinstance(corpus, Corpus)
    assert [(d.text, d.domain) for d in corpus] == [("a", "x"), ("b", "y")]
    assert len(corpus.notes) == 1
    with pytest.raises(InputError, match="train"):
        documents(datasets.DatasetDict({"train": table}))
