"""Text of other domains than an audit's own: the bundled shift split, or what the user gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.errors import InputError

from .choice import (
    LEAST,
    Material,
    Shift,
    as_corpus,
    balanced,
    columns_of,
    distinct,
    is_tokens,
    read,
)

if TYPE_CHECKING:
    from moeaudit.models import Model

    from .document import Corpus

BUNDLED = "bundled"
SHARE = 45 / 160  # documents beside those that effects are measured on: 15 of each bundled domain


def shifted(
    model: Model,
    docs: Any,
    shift: Any,
    material: Material,
    *,
    tokens: int,
    max_length: int,
    seed: int,
) -> Shift | None:
    """The documents of other domains, tokenised as those of the audit; None if there are to be none.

    `shift`: None (the bundled shift split if `docs` is None, else nothing), False (nothing), True or
    "bundled", or a Corpus, a folder, a file, a list of strings. 45 for 160 documents of effects are
    taken, balanced over domains, none of them a document of the audit.

    Raises InputError for text that cannot be used, and for fewer than 4 documents.
    """
    if shift is False or (shift is None and docs is not None):
        return None
    source, corpus, notes = _corpus(shift)
    corpus, repeated = distinct(corpus)
    known = set(material.documents["id"])
    rest = corpus.subset([i for i, document in enumerate(corpus) if document.id not in known])
    notes = [*notes, *repeated]
    if len(rest) < len(corpus):
        notes.append(f"{len(corpus) - len(rest)} document(s) of the audit itself left out.")
    wanted = max(LEAST, int(np.ceil(SHARE * material.effect.n_documents - 1e-9)))
    chosen = rest.subset(balanced(rest, wanted, seed)) if len(rest) else rest
    if len(chosen) < LEAST:
        raise InputError(
            f"The shift text has {len(chosen)} distinct document(s) that the audit does not read anyway; at least "
            f"{LEAST} are needed. Give more, or leave other domains out (shift=False)."
        )
    part, cut, rows = read(model, "shift", chosen, tokens, max_length)
    if part.n_documents < LEAST:
        raise InputError(
            f"Only {part.n_documents} document(s) of the shift text have two tokens or more; at least {LEAST} "
            "are needed. Give more or longer documents, or leave other domains out (shift=False)."
        )
    notes = [f"Shift: {note}" for note in (*notes, *cut)]
    return Shift(source, part, chosen.hash, columns_of(rows), notes)


def audit_of(documents: int) -> int:
    """The smallest audit, in documents, beside which so many of other domains are read by default."""
    return int((documents - 1) / SHARE) + 1


def with_shift(model: Model, docs: Any, shift: Any, material: Material, **how: int) -> Material:
    """The material with the documents of other domains, and what was left out of them."""
    found = shifted(model, docs, shift, material, **how)
    if found is None:
        return material
    return replace(material, shift=found, notes=[*material.notes, *found.notes])


def _corpus(shift: Any) -> tuple[str, Corpus, list[str]]:
    from . import corpus

    if shift is None or shift is True or (isinstance(shift, str) and shift == BUNDLED):
        return BUNDLED, corpus("bundled", split="shift"), []
    if not isinstance(shift, (str, Path)) and is_tokens(shift):
        raise InputError(
            "shift takes texts (a corpus, a folder, a .jsonl file, strings) or False, not arrays of tokens: "
            "whether a document is of the audit itself is known by its text."
        )
    found = as_corpus(shift)
    return "documents", found, list(found.notes)
