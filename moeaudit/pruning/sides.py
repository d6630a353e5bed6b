"""The two sides of a pruning curve: documents that criteria see, and others that models are evaluated on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.text import Corpus, TokenizedCorpus, documents
from moeaudit.text.for_model import tokens_for


def two_sides(
    model: Model, docs: Any, calibration: Any, max_length: int | None
) -> tuple[TokenizedCorpus, TokenizedCorpus, list[str]]:
    """(evaluated, calibration), tokenised and disjoint."""
    notes: list[str] = []
    if calibration is None:
        if isinstance(docs, TokenizedCorpus) or not _are_texts(docs):
            raise InputError(
                "prune_curve() was given no calibration documents and no texts to split: it computes its criteria on "
                "other documents than it evaluates; give those as calibration=... "
                "(for example ma.corpus('bundled', split='calibration'))."
            )
        whole = docs if isinstance(docs, Corpus) else documents(docs)
        calibration, docs = whole.split(0.5, seed=0)
        if not len(calibration) or not len(docs):
            raise InputError(
                f"{len(whole)} document(s) cannot be split into some to compute the criteria on and "
                "others to evaluate; give more, or the former as calibration=..."
            )
        notes.append(
            f"No calibration documents were given, so {len(calibration)} of the {len(whole)} documents, "
            f"chosen by a hash of their text, were set aside for the criteria; {len(docs)} were evaluated."
        )
    held = tokens_for(model, docs, max_length)
    used = tokens_for(model, calibration, max_length)
    _require_disjoint(held, used)
    notes += _said(held.notes, used.notes)
    return held, used, notes


def _said(held: list[str], used: list[str]) -> list[str]:
    """Notes on both sides; what is true of both is said once."""
    both = [note for note in held if note in used]
    return [
        *(f"Evaluated and calibration documents: {n}" for n in both),
        *(f"Evaluated documents: {n}" for n in held if n not in both),
        *(f"Calibration documents: {n}" for n in used if n not in both),
    ]


def _are_texts(docs: Any) -> bool:
    if isinstance(docs, Corpus) or not isinstance(docs, Iterable):
        return isinstance(docs, Corpus)
    return all(isinstance(d, str) or hasattr(d, "text") for d in docs)


def _require_disjoint(held: TokenizedCorpus, used: TokenizedCorpus) -> None:
    seen = {np.ascontiguousarray(chunk.ids).tobytes() for chunk in used.chunks}
    both = [c for c in held.chunks if np.ascontiguousarray(c.ids).tobytes() in seen]
    if both:
        raise InputError(
            f"{len({c.document for c in both})} of the {held.n_documents} evaluated documents (the first: "
            f"number {both[0].document}) are also in the calibration documents, token for token. A "
            "criterion is to be judged on text it has not seen: take one of the two sets elsewhere, read more tokens "
            "of each document, or leave these out."
        )


def facts_of(texts: TokenizedCorpus) -> dict[str, Any]:
    """What a side is, for a card or a page: documents, predicted tokens, domains, and a hash of the tokens."""
    return {
        "documents": texts.n_documents,
        "tokens": texts.n_targets,
        "domains": list(dict.fromkeys(chunk.domain for chunk in texts.chunks)),
        "sha256": texts.hash,
    }
