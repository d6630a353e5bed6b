"""`capture`: the clean pass over documents, as tidy tables of tokens and of routing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int64

from moeaudit.errors import ModelError
from moeaudit.frames.waiting import counting
from moeaudit.models import Model
from moeaudit.models.forward import evaluating
from moeaudit.models.placement.driven import can_be_driven, driven
from moeaudit.models.precision.heap import LARGE, hand_back
from moeaudit.text import Chunk, TokenizedCorpus
from moeaudit.text.for_model import tokens_for

from .layers import LayerWatcher, layer_records
from .tables import LayerColumns, layer_columns, routing_frame, tokens_frame
from .trace import Facts, Trace

_TOKENS = 4096  # of a group: what is held is their hidden states, and what is made of them


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

    Chunks go through the model without padding, each with tensors of its own; one is held at a time, or a group
    where decoder layers are streamed, which then come once for the whole group. The numbers are the same. If
    `reasons` is given, it collects why a column holds nulls: `{"logit": "layer 3: ..."}`.
    """
    domains = list(dict.fromkeys(chunk.domain for chunk in tokenized.chunks))
    pieces = PieceCache(model.tokenizer)
    for chunks in _groups(model, tokens_for(model, tokenized).chunks):
        for tokens, routing, found in _measured(model, chunks, pieces, domains, following):
            if reasons is not None:
                reasons.update({name: why for name, why in found.items() if name not in reasons})
            yield tokens, routing


def _groups(model: Model, chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Chunks that go through the model together: one by one, or many where layers are streamed."""
    with evaluating(model.hf):
        many = len(chunks) > 1 and can_be_driven(model, _ids(model, chunks[0]))
    group: list[Chunk] = []
    for chunk in chunks:
        if group and (not many or sum(len(c.ids) for c in group) + len(chunk.ids) > _TOKENS):
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def _measured(
    model: Model, chunks: list[Chunk], pieces: PieceCache, domains: list[str], following: bool
) -> list[tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]]:
    # The experts are asked again for each slot's output, with this thread's turn still held.
    with evaluating(model.hf):
        many = len(chunks) > 1
        clean = (_together if many else _alone)(model, chunks, following)
        out = []
        for chunk, (logits, layers) in zip(chunks, clean):
            ids = chunk.ids
            if not bool(torch.isfinite(logits).any(-1).all()) or bool(logits.isnan().any()):
                raise ModelError(
                    f"{model.name} gives NaN logits in document {chunk.document}; finite ones were expected, and "
                    "NaN is no measurement. Load the model with dtype='float32', or leave the document out."
                )
            tokens = tokens_frame(
                chunk.document, chunk.domain, chunk.start, ids, pieces.of(ids), logits, domains
            )
            out.append((tokens, *routing_frame(chunk.document, chunk.start, len(ids) - 1, layers)))
            large = logits.device.type == "cpu" and logits.numel() >= LARGE
            del logits
            if large:
                hand_back()
        return out


# Logits "time vocab" of a chunk, and the columns of each MoE layer.
Clean = tuple[torch.Tensor, dict[int, LayerColumns]]


def _alone(model: Model, chunks: list[Chunk], following: bool) -> Iterator[Clean]:
    for chunk in chunks:
        logits, records = layer_records(model, _ids(model, chunk))
        rows = len(chunk.ids) - 1
        columns: dict[int, LayerColumns] = {}
        for i in list(records):  # a record is let go once its columns are made
            columns[i] = layer_columns(model.anatomy[i], records.pop(i), rows, following)
        yield logits, columns


def _together(model: Model, chunks: list[Chunk], following: bool) -> Iterator[Clean]:
    """Decoder layer by decoder layer; a layer's columns are made while its weights are there."""
    moe = {layer.index: layer for layer in model.anatomy.layers}
    columns: list[dict[int, LayerColumns]] = [{} for _ in chunks]

    def through(i: int, t: int, call: Callable[[], None]) -> None:
        if i not in moe:
            return call()
        watcher = LayerWatcher(model, moe[i])
        with watcher.watching():
            call()
        rows = len(chunks[t].ids) - 1
        columns[t][i] = layer_columns(moe[i], watcher.record(), rows, following)
        return None

    texts = [_ids(model, chunk) for chunk in chunks]
    yield from zip(driven(model, texts, through), columns)


def _ids(model: Model, chunk: Chunk) -> torch.Tensor:
    return torch.from_numpy(chunk.ids)[None].to(model.device)


class PieceCache:
    """Decoded text of single tokens by a tokenizer; each id is decoded once.

    A token that holds part of a multi-byte character decodes to the replacement character. Without
    a tokenizer the piece is the id in brackets.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
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
