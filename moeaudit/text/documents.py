"""Reading texts of your own: strings, folders, JSONL files, datasets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from moeaudit.errors import InputError

from .document import Corpus, Document
from .files import from_file, from_folder


def documents(source: Any) -> Corpus:
    """A corpus from texts of your own.

    `source` is one of

    * a list of strings (or of `Document`s);
    * the path of a folder of text files in UTF-8; a first-level sub-folder is a domain;
    * the path of a `.jsonl` file (or `.jsonl.gz`, `.jsonl.xz`): one object a line with the field
      `text` and, if wanted, `domain`, `language`, `source`; a `.json` list of such objects;
    * the path of one text file;
    * a `datasets.Dataset` with a column `text` and, if wanted, the other three;
    * a `Corpus`, which is handed back.

    Empty documents and repeated documents are left out: documents are the sampling unit of every
    statistic, and a repeated one would count twice. `corpus.notes` says how many.
    Raises InputError when nothing is left, and for anything that cannot be read, naming the place.
    """
    if isinstance(source, Corpus):
        return source
    notes: list[str] = []
    if isinstance(source, str | Path):
        found, what = _from_path(source, notes), str(source)
    elif hasattr(source, "column_names"):
        found, what = _from_dataset(source), "the dataset"
    elif isinstance(source, Iterable) and not isinstance(source, bytes | dict):
        found, what = [_from_item(item, place) for place, item in enumerate(source)], "the list"
    else:
        raise InputError(
            f"Cannot read documents from {type(source).__name__}. Expected a list of strings, "
            f"the path of a folder or .jsonl file, or a datasets.Dataset."
        )
    return Corpus(_usable(found, what, notes), notes)


def _usable(found: list[Document], what: str, notes: list[str]) -> list[Document]:
    kept: dict[str, Document] = {}
    empty: list[int] = []
    repeated: list[int] = []
    for place, document in enumerate(found):
        try:
            identity = document.id
        except UnicodeEncodeError as error:
            raise InputError(
                f"Document {place} of {what} holds a lone surrogate (character {error.start}), "
                f"which is no text. Decode it from its bytes again, with the right encoding."
            ) from None
        if not document.text.strip():
            empty.append(place)
        elif identity in kept:
            repeated.append(place)
        else:
            kept[identity] = document
    if empty:
        notes.append(f"{_count(empty)} left out as empty {_places(empty)}.")
    if repeated:
        notes.append(f"{_count(repeated)} left out as repeated, word for word {_places(repeated)}.")
    if not kept:
        raise InputError(
            f"No document is left of {what}: {len(found)} found, {len(empty)} of them empty. "
            f"Give at least one text."
        )
    return list(kept.values())


def _count(places: list[int]) -> str:
    return "1 document was" if len(places) == 1 else f"{len(places)} documents were"


def _places(places: list[int]) -> str:
    shown = ", ".join(map(str, places[:5])) + (", ..." if len(places) > 5 else "")
    return f"(number {shown}, counted from 0)"


def _from_item(item: Any, place: int) -> Document:
    if isinstance(item, Document):
        return replace(item, index=-1)
    if not isinstance(item, str):
        raise InputError(
            f"Item {place} of the list is {type(item).__name__}, not a string. "
            f"(Lists of token ids go straight to capture and ablate.)"
        )
    return Document(item)


def _from_path(source: str | Path, notes: list[str]) -> list[Document]:
    path = Path(source)
    try:
        if path.is_dir():
            return from_folder(path, notes)
        if path.is_file():
            return from_file(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except ValueError:  # a name with a NUL in it is text, not a path
        if not isinstance(source, str) or "\0" not in source:
            raise
    shown = repr(str(source)[:60] + ("..." if len(str(source)) > 60 else ""))
    raise InputError(
        f"There is no file or folder {shown}. If it is meant as a text, pass a list: "
        f"documents([text])."
    )


def _from_dataset(source: Any) -> list[Document]:
    names = source.column_names
    if isinstance(names, dict):
        raise InputError(
            f"This is a dictionary of datasets; choose one of its splits: "
            f"{', '.join(map(str, names))}."
        )
    if not hasattr(source, "__len__"):
        raise InputError(
            "This dataset is a stream without an end. Take a part of it: "
            "documents([row['text'] for row in dataset.take(1000)])."
        )
    if "text" not in (names or []):
        raise InputError(
            f"The dataset has no column 'text'; its columns are: {', '.join(names or []) or '-'}. "
            f"Rename one, for example dataset.rename_column('content', 'text')."
        )
    extra = [name for name in ("domain", "language", "source") if name in names]
    found = []
    for place, row in enumerate(source):
        if not isinstance(row["text"], str):
            raise InputError(
                f"Row {place} of the dataset holds {type(row['text']).__name__} in column 'text', "
                f"not a string."
            )
        # Missing values are None; a missing domain is the default one.
        fields: dict[str, Any] = {n: str(row[n]) for n in extra if row[n] is not None}
        found.append(Document(row["text"], **fields))
    return found
