"""What a reader hands over: one source unit with the documents cut from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from zipfile import ZipFile

from ..split import split_of


@dataclass(frozen=True)
class Unit:
    """One book, speech, module, article ...: its documents always share a split."""

    source: str
    documents: tuple[str, ...]

    @property
    def split(self) -> str:
        return split_of("\n\n".join(self.documents))


Reader = Callable[[ZipFile], Iterator[Unit]]


@dataclass(frozen=True)
class Slice:
    """One kind of text in one language, and the wheel it is read from.

    `unit` says in words what stays together in one split; `licence` is the licence of the text,
    which is often not the licence of the wheel.
    """

    domain: str
    language: str
    package: str
    licence: str
    unit: str
    read: Reader


def text_of(wheel: ZipFile, name: str) -> str:
    """A member of the wheel as text, with plain line ends and without byte order mark."""
    return wheel.read(name).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
