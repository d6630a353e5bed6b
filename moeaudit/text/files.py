"""Text files on disk as documents. Every error names the file and the place in it."""

from __future__ import annotations

import gzip
import json
import lzma
from collections import Counter
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path

from moeaudit.errors import InputError

from .document import Document

SUFFIXES = (".txt", ".text", ".md", ".rst", ".tex", ".html", ".py", ".c", ".js", ".java", ".rs")
LINES = (".jsonl", ".jsonl.gz", ".jsonl.xz", ".ndjson")
FIELDS = ("domain", "language", "source")
# Endings of files that hold many texts, or none: read as one text they would make one long, odd document.
_TABLES = (".csv", ".tsv", ".parquet", ".arrow", ".feather", ".xlsx", ".xls", ".pdf", ".docx", ".zip", ".gz", ".xz",
           ".zst", ".tar", ".safetensors", ".npy", ".npz", ".pkl", ".pt", ".bin", ".sqlite", ".db")  # fmt: skip


def from_file(path: Path) -> list[Document]:
    """The documents in one file, by its ending: JSON Lines, a JSON list of the same objects, or one text.

    Raises InputError for a table, an archive or another file that is no text, by its ending.
    """
    name = path.name.lower()
    if name.endswith(LINES):
        return from_jsonl(path)
    if name.endswith(".json"):
        text = _decode(path.read_bytes(), str(path), 0)
        return _from_list(text, path) if text.lstrip().startswith("[") else from_jsonl(path)
    if name.endswith(_TABLES):
        raise InputError(
            f"{path} is a {path.suffix} file, which is not read as text. Give JSON Lines (.jsonl: one object a "
            "line with the field 'text' and, if there are any, 'domain' and 'language'), a text "
            "file, or a folder of text files."
        )
    return [from_text_file(path)]


def _from_list(text: str, path: Path) -> list[Document]:
    try:
        records = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid JSON ({error.msg}, line {error.lineno}, column {error.colno}). Expected a list of "
            "objects with a field 'text', or one such object a line."
        ) from error
    return [_from_record(record, f"{path}, entry {n}") for n, record in enumerate(records, 1)]


def from_text_file(path: Path, name: str | None = None, domain: str = "text") -> Document:
    """One text file as one document. Raises InputError, with the offset, if it is not UTF-8."""
    text = _decode(path.read_bytes(), str(path), 0)
    return Document(text, domain, source=name or path.name)


def from_folder(folder: Path, notes: list[str]) -> list[Document]:
    """Every text file below `folder`, in order of name; a first-level sub-folder is a domain.

    Files with other endings are left out and noted; hidden files are not looked at.
    """
    found: list[Document] = []
    others: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or not path.is_file():
            continue
        if path.suffix.lower() not in SUFFIXES:
            others[path.suffix.lower() or "no ending"] += 1
            continue
        domain = parts[0] if len(parts) > 1 else "text"
        found.append(from_text_file(path, path.relative_to(folder).as_posix(), domain))
    endings = ", ".join(f"{count} {suffix}" for suffix, count in sorted(others.items()))
    if not found:
        raise InputError(
            f"{folder} holds no text files (endings looked for: {', '.join(SUFFIXES)})"
            + (f"; it holds {endings}." if others else "; it is empty.")
        )
    if others:
        number = sum(others.values())
        notes.append(
            f"{number} file{'s' * (number > 1)} in {folder} left out for the ending: {endings}."
        )
    return found


def from_jsonl(path: Path) -> list[Document]:
    """One document a line. Raises InputError naming the line that cannot be read."""
    return [_from_line(line, f"{path}, line {number}") for number, line in _lines(path)]


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number (from 1) and text of each line that is not blank."""
    offset = 0
    try:
        with _open(path) as file:
            for number, raw in enumerate(file, 1):
                # The byte order mark some editors write is not part of the text.
                line = _decode(raw, f"{path}, line {number}", offset)
                offset += len(raw)
                if line.strip():
                    yield number, line
    except (gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
        raise InputError(
            f"{path} is damaged or not compressed as its name says: {error}."
        ) from error


def _open(path: Path) -> BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.GzipFile(path, "rb")
    if path.suffix == ".xz":
        return lzma.LZMAFile(path, "rb")
    return path.open("rb")


def _from_line(line: str, where: str) -> Document:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not valid JSON ({error.msg}, column {error.colno}). Expected one object a "
            f"line with a field 'text'."
        ) from error
    return _from_record(record, where)


def _from_record(record: object, where: str) -> Document:
    if not isinstance(record, dict):
        raise InputError(
            f"{where}: expected an object with a field 'text', found {type(record).__name__}."
        )
    if "text" not in record:
        fields = ", ".join(record) or "no fields"
        raise InputError(f"{where}: the field 'text' is missing; there is: {fields}.")
    values = {name: record[name] for name in FIELDS if record.get(name) is not None}
    for name, value in {"text": record["text"], **values}.items():
        if not isinstance(value, str):
            raise InputError(
                f"{where}: the field {name!r} is {type(value).__name__}, not a string."
            )
    return Document(record["text"], **values)


def _decode(raw: bytes, where: str, offset: int) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = offset + error.start
        if b"\0" in raw[:8192]:
            raise InputError(
                f"{where}: this is no text (null bytes; not UTF-8 at byte {place}). Text in UTF-16 is to be saved "
                "as UTF-8; other files are to be left out."
            ) from error
        raise InputError(
            f"{where}: not UTF-8 at byte {place} (0x{raw[error.start]:02x}: {error.reason}). "
            f"Convert the file first, for example `iconv -f WINDOWS-1252 -t UTF-8`."
        ) from error
