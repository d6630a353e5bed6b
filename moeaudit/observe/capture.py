"""`capture`: the clean pass over documents, as tidy tables of tokens and of routing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from moeaudit.errors import ModelError
from moeaudit.frames.waiting import counting
from moeaudit.models import Model
from moeaudit.models.forward import evaluating
from moeaudit.text import TokenizedCorpus
from moeaudit.text.for_model import tokens_for

from .layers import layer_records
from .tables import routing_frame, tokens_frame
from .trace import Facts, Trace


def capture(
    model: Model,
    docs: Any,
    *,
    max_length: int | None = None,
    following: bool = False,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> Trace:
    """Run the model over documents and keep what every token and every MoE layer did.

    Args:
        model: a loaded model.
        docs: a corpus, a list of strings, a list of 1-D arrays of token ids, or documents that
            were tokenised already.
        max_length: longest chunk in tokens; the model's own limit if None. Longer documents are
            cut into chunks that do not attend to each other, and the notes say so.
        following: also say who is next in line, in a column `next` of `routing`: the expert that enters by the
            model's own rule if the row's own may not be chosen; -1 where the router cannot be asked.
        progress: called with 1 after each chunk; without it a notebook or a terminal shows a line after two
            seconds, and False shows nothing.

    Returns:
        A `Trace` with the frames `tokens` (one row per position that has a next token) and
        `routing` (one row per position, layer and chosen expert). Losses are in nats.

    Raises:
        InputError: no document has two tokens, or a token id is out of the vocabulary.
        ContractError: the experts' outputs do not add up to the routed output.
    """
    tokenized = tokens_for(model, docs, max_length)
    reasons: dict[str, str] = {}
    pairs = []
    with counting(progress, "capture", len(tokenized.chunks), "texts") as tell:
        for pair in capture_documents(model, tokenized, reasons=reasons, following=following):
            pairs.append(pair)
            tell(1)
    tokens = pd.concat([pair[0] for pair in pairs], ignore_index=True)
    routing = pd.concat([pair[1] for pair in pairs], ignore_index=True)
    return Trace(tokens, routing, Facts.of(model, tokenized, reasons))


def capture_documents(
    model: Model,
    tokenized: TokenizedCorpus,
    *,
    reasons: dict[str, str] | None = None,
    following: bool = False,
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The same, one chunk at a time: yields `(tokens, routing)` frames for writing to disk.

    Chunks go through the model one by one without padding, and only one is held at a time. If
    `reasons` is given, it collects why a column holds nulls: `{"logit": "layer 3: ..."}`.
    """
    domains = list(dict.fromkeys(chunk.domain for chunk in tokenized.chunks))
    pieces = PieceCache(model)
    for chunk in tokens_for(model, tokenized).chunks:
        ids = chunk.ids
        # The experts are asked again for each slot's output, with this thread's turn still held.
        with evaluating(model.hf):
            logits, records = layer_records(model, torch.from_numpy(ids)[None].to(model.device))
            if not bool(torch.isfinite(logits).any(-1).all()) or bool(logits.isnan().any()):
                raise ModelError(
                    f"{model.name} gives NaN logits in document {chunk.document}; finite ones were expected, and "
                    "NaN is no measurement. Load the model with dtype='float32', or leave the document out."
                )
            layers = {index: (model.anatomy[index], record) for index, record in records.items()}
            tokens = tokens_frame(
                chunk.document, chunk.domain, chunk.start, ids, pieces.of(ids), logits, domains
            )
            routing, found = routing_frame(
                chunk.document, chunk.start, len(ids) - 1, layers, following
            )
        if reasons is not None:
            reasons.update({name: why for name, why in found.items() if name not in reasons})
        del logits, records, layers  # nothing of this chunk is held while the caller works
        yield tokens, routing


class PieceCache:
    """Decoded text of single tokens by the `tokenizer` of a model, or of anything; each id is decoded once.

    A token that holds part of a multi-byte character decodes to the replacement character. Without
    a tokenizer the piece is the id in brackets.
    """

    def __init__(self, model: Any) -> None:
        self.tokenizer = model.tokenizer
        self.known: dict[int, str] = {}

    def of(self, ids: Int64[np.ndarray, " time"]) -> list[str]:
        return [self._piece(token) for token in ids.tolist()]

    def _piece(self, token: int) -> str:
        if token not in self.known:
            self.known[token] = self._decode(token)
        return self.known[token]

    def _decode(self, token: int) -> str:
        if self.tokenizer is None:
            return f"[{token}]"
        # `decode` is typed for batches too; one list of ids gives one string.
        piece = str(self.tokenizer.decode([token]))
        # Tokenizers that mark the start of a word with this sign drop the space of a lone token.
        marked = str(self.tokenizer.convert_ids_to_tokens(token)).startswith("\u2581")
        return f" {piece}" if marked and not piece.startswith(" ") else piece
