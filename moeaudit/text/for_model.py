"""Documents as the tokens that one model can read; the one place where the two meet."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from moeaudit.errors import InputError

from .document import Corpus
from .padding import Padding
from .tokens import TokenizedCorpus, tokenize

_SHORTEST = 3  # a piece must be longer than the two tokens that a last piece may borrow


def tokens_for(model: Any, docs: Any, max_length: int | None = None) -> TokenizedCorpus:
    """Token chunks of `docs` that `model` (anything with name, tokenizer, max_length and vocab_size) can read.

    A `TokenizedCorpus` is passed through once its chunks are checked. Raises InputError for a
    `max_length` that does not fit, token ids outside the vocabulary, chunks that are too short or
    too long, for texts with nothing to predict, and for padding in chunks that were cut already (in rows and
    texts it is stripped, and noted).
    """
    limit = model.max_length if max_length is None else max_length
    if not isinstance(limit, int) or not _SHORTEST <= limit <= model.max_length:
        raise InputError(
            f"max_length = {limit} does not fit: {model.name} reads {_SHORTEST} to {model.max_length} tokens in "
            "one piece. Longer documents are cut into pieces of max_length by themselves."
        )
    if not isinstance(docs, TokenizedCorpus):
        return tokenize(
            docs, model.tokenizer, limit, vocabulary=model.vocab_size, padding=Padding.of(model)
        )
    if not docs.chunks:
        raise InputError("The tokenised corpus holds no chunk, so there is nothing to read.")
    padding = Padding.of(model)
    for chunk in docs.chunks:
        if not 2 <= len(chunk.ids) <= limit:
            raise InputError(
                f"Document {chunk.document} has a chunk of {len(chunk.ids)} tokens; 2 to {limit} were "
                f"expected, what {model.name} reads in one piece. Tokenise it with max_length={limit}."
            )
        filled = max(padding.ends(chunk.ids))
        if filled > 1:
            raise InputError(
                f"Document {chunk.document} begins or ends with {filled} padding tokens, which are no text. "
                "Pass the rows themselves, so that they are stripped, or tokenise without padding."
            )
        low, high = int(chunk.ids.min()), int(chunk.ids.max())
        if low < 0 or high >= model.vocab_size:
            raise InputError(
                f"Document {chunk.document} holds the token id {low if low < 0 else high}; 0 to "
                f"{model.vocab_size - 1} were expected, the vocabulary of {model.name}. Tokenise it with the "
                "model's own tokenizer, or pass it as a string."
            )
    return docs


def first_tokens(
    model: Any, docs: Corpus, tokens: int, *, least: int = 2
) -> list[Int[np.ndarray, " ids"]]:
    """The first `tokens` token ids of each document, in order; documents under `least` are left out.

    For a benchmark or an analysis that wants pieces of one size, such as
    `first_tokens(model, corpus("bundled").sample(48, seed=0, per_domain=False), 96)`. An audit
    keeps account of what it cut (`choice.beginnings`). Raises InputError without a tokenizer.
    """
    if model.tokenizer is None:
        raise InputError(
            f"{model.name} has no tokenizer, so text cannot be cut into its tokens. Load the model with "
            "tokenizer=..., or pass token ids."
        )
    ids = [np.asarray(model.tokenizer(d.text)["input_ids"][:tokens]) for d in docs]
    return [each for each in ids if len(each) >= least]
