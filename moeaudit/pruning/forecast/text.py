"""The few documents of a forecast's census: as many as those of the table it learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from moeaudit.errors import InputError
from moeaudit.models import Model
from moeaudit.text import TokenizedCorpus, corpus
from moeaudit.text.choice import as_corpus, balanced, beginnings, distinct
from moeaudit.text.for_model import tokens_for

from .known import Known
from .signs import LEAST

DOCUMENTS, TOKENS = 16, 48  # of a table that does not say on how much its signs were read


def few(
    model: Model,
    docs: Any,
    known: Known,
    *,
    documents: int | None = None,
    tokens: int | None = None,
    seed: int = 0,
) -> TokenizedCorpus:
    """The first `tokens` tokens of `documents` of the documents, balanced over domains.

    None for either is what the table's own signs were read on; None for `docs` are the bundled corpus's calibration
    documents, which the package's own table was read on. Raises InputError for fewer than 8 documents.
    """
    wanted = known.amount("documents", DOCUMENTS) if documents is None else documents
    length = known.amount("tokens", TOKENS) if tokens is None else tokens
    if docs is None:
        held = corpus("bundled", split="calibration")
        each = -(-wanted // len(held.domains))
        chosen, left_out = held.sample(each, seed=0, per_domain=True), []
        if len(chosen) > wanted:
            chosen = chosen.subset(balanced(chosen, wanted, seed))
    else:
        whole, left_out = distinct(as_corpus(docs))
        require_enough(len(whole))
        chosen = whole.subset(balanced(whole, wanted, seed))
    read, _ = beginnings(tokens_for(model, chosen), length)
    return replace(read, notes=[*left_out, *read.notes])


def require_enough(number: int, what: str = "The text") -> None:
    """Raise InputError for documents too few for a forecast."""
    if number < LEAST:
        raise InputError(
            f"{what} has {number} distinct documents; a forecast reads {LEAST} or more, since it compares two halves "
            "of them. Give more (one file, or one line of a .jsonl file, each)."
        )
