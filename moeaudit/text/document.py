"""Documents and corpora: what an audit reads, and the sampling unit of its statistics."""

from __future__ import annotations

import hashlib
import html
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

from moeaudit.errors import InputError
from moeaudit.frames.shown import bullets, clip, paragraph, table

from .making.split import text_id

SHOWN = 1_200  # characters of a document in a notebook


@dataclass(frozen=True, repr=False)
class Document:
    """One text. `index` is its number in the corpus it first belonged to (-1: in none yet)."""

    text: str
    domain: str = "text"
    language: str | None = None
    source: str | None = None
    index: int = -1

    @property
    def id(self) -> str:
        """SHA-256 of the UTF-8 text, in hexadecimal. Equal texts are the same document."""
        return text_id(self.text)

    def __repr__(self) -> str:
        return f"{self._about()}: {clip(self.text, 80)!r}"

    def _about(self) -> str:
        number = f"Document {self.index}" if self.index >= 0 else "Document"
        language = f", {clip(self.language, 40)}" if self.language else ""
        origin = f", from {clip(self.source, 80)}" if self.source else ""
        return (
            f"{number} ({clip(self.domain, 40)}{language}; {len(self.text):,} characters{origin})"
        )

    def _repr_html_(self) -> str:
        cut = self.text[:SHOWN]
        left = len(self.text) - len(cut)
        more = paragraph(f"and {left:,} more characters (.text)") if left else ""
        return f"{paragraph(self._about())}<pre style='white-space:pre-wrap'>{html.escape(cut)}</pre>{more}"


class Corpus(Sequence[Document]):
    """Documents in a fixed order, with notes on what was left out on the way and why.

    A new corpus numbers its documents 0..n-1; subsets keep those numbers, so that tables made
    from a subset still point at the same documents.
    """

    def __init__(self, documents: Iterable[Document], notes: Sequence[str] = ()) -> None:
        self.documents = tuple(replace(doc, index=n) for n, doc in enumerate(documents))
        self.notes = list(notes)

    @property
    def hash(self) -> str:
        """SHA-256 over the documents' ids and domains in order."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(f"{document.id}\t{document.domain}\n".encode())
        return digest.hexdigest()

    @property
    def domains(self) -> list[str]:
        """Domain names, each once, in order of first appearance."""
        return list(dict.fromkeys(document.domain for document in self.documents))

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Document | Corpus:
        if isinstance(index, slice):
            return self.subset(range(len(self.documents))[index])
        return self.documents[index]

    def __len__(self) -> int:
        return len(self.documents)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __repr__(self) -> str:
        return f"Corpus({len(self)} documents in {len(self.domains)} domains, {self.hash[:12]})"

    def _repr_html_(self) -> str:
        """How many documents and characters each domain has, and how its first one begins."""
        by_domain: dict[str, list[Document]] = {}
        for document in self.documents:
            by_domain.setdefault(document.domain, []).append(document)
        rows = [
            {
                "domain": domain,
                "documents": len(found),
                "characters": sum(len(each.text) for each in found),
                "the first begins": clip(found[0].text, 60),
            }
            for domain, found in by_domain.items()
        ]
        shown = table(rows, most=30) if rows else ""
        return paragraph(repr(self)) + shown + bullets(self.notes)

    def subset(self, places: Iterable[int]) -> Corpus:
        """The documents at these places (0..len-1) of this corpus; they keep their `index`."""
        chosen = object.__new__(Corpus)
        chosen.documents = tuple(self.documents[place] for place in places)
        chosen.notes = list(self.notes)
        return chosen

    def sample(self, n: int, seed: int = 0, per_domain: bool = False) -> Corpus:
        """`n` documents drawn without replacement, or `n` from each domain; order is kept.

        Raises InputError when there are fewer: a smaller sample is never returned in silence.
        """
        groups: dict[str, list[int]] = {}
        for place, document in enumerate(self.documents):
            groups.setdefault(document.domain if per_domain else "", []).append(place)
        for name, places in groups.items():
            if n < 1 or n > len(places):
                where = f"domain {name!r}" if per_domain else "the corpus"
                raise InputError(
                    f"Cannot draw {n} documents: {where} holds {len(places)}. Ask for between 1 "
                    f"and {len(places)}."
                )
        # One generator a group, so that a domain's draw does not depend on the other domains.
        drawn = [
            place
            for name, places in groups.items()
            for place in random.Random(f"{seed}/{name}").sample(places, n)
        ]
        return self.subset(sorted(drawn))

    def split(self, fraction: float, seed: int = 0) -> tuple[Corpus, Corpus]:
        """Two disjoint corpora; about `fraction` of the documents are in the first.

        A document's side depends on its own text and the seed alone, so equal texts never
        straddle the split and adding documents moves none.
        """
        if not 0 < fraction < 1:
            raise InputError(f"The fraction of a split lies between 0 and 1, not at {fraction}.")
        sides: tuple[list[int], list[int]] = ([], [])
        for place, document in enumerate(self.documents):
            digest = hashlib.sha256(f"{seed}/{document.id}".encode()).digest()
            share = int.from_bytes(digest[:8], "big") / 2**64
            sides[0 if share < fraction else 1].append(place)
        return self.subset(sides[0]), self.subset(sides[1])
