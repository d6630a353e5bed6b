"""Loss and divergence of pruned models by document, streaming over the text.

Pieces of equal length go through the model together, without padding; the clean prediction of a
batch is compared with every pruned model's before the next batch is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from moeaudit.errors import ModelError
from moeaudit.models import Model
from moeaudit.models.forward import evaluating
from moeaudit.models.router import without_experts
from moeaudit.text import Chunk, TokenizedCorpus

from .choose import Banned
from .steps import Steps, steps_of

_TOKENS = 4096  # in one batch
_LOGITS = 1 << 24


@dataclass(frozen=True)
class DocumentSums:
    """Sums over each document's predicted tokens, nats; one row for each pruned model."""

    document: np.ndarray
    count: Float[np.ndarray, " documents"]
    clean: Float[np.ndarray, " documents"]
    nll: Float[np.ndarray, "models documents"]
    kl: Float[np.ndarray, "models documents"]


@torch.no_grad()
def evaluate(
    model: Model,
    texts: TokenizedCorpus,
    models: Sequence[Banned],
    progress: Steps | None = None,
) -> DocumentSums:
    """NLL of the clean and of each pruned model, and KL(clean || pruned), summed by document.

    Pruned models that lack the same experts are run once. `progress` is told of every pass. Raises ModelError
    where a loss is not finite.
    """
    unique: dict[tuple, int] = {}
    which = np.array([unique.setdefault(tuple(sorted(m.items())), len(unique)) for m in models])
    documents = list(dict.fromkeys(chunk.document for chunk in texts.chunks))
    place = {document: i for i, document in enumerate(documents)}
    count, clean = np.zeros(len(documents)), np.zeros(len(documents))
    nll = np.zeros((len(unique), len(documents)))
    kl = np.zeros_like(nll)
    batches, tell = list(_batches(texts, model.vocab_size)), steps_of(progress)
    tell.stage("pruned models", len(unique) * len(batches), "passes")
    with evaluating(model.hf):
        for chunks in batches:
            ids = torch.from_numpy(np.stack([c.ids for c in chunks])).to(model.device)
            at = np.array([place[c.document] for c in chunks])
            before = _log_probabilities(model, ids)
            np.add.at(count, at, ids.shape[1] - 1)
            np.add.at(clean, at, _loss(before, ids))
            for banned, row in unique.items():
                with without_experts(model, dict(banned), scores="remaining"):
                    after = _log_probabilities(model, ids)
                np.add.at(nll[row], at, _loss(after, ids))
                np.add.at(kl[row], at, _divergence(before, after))
                tell.advance(1)
    if not (np.isfinite(nll).all() and np.isfinite(clean).all()):
        raise ModelError(
            f"{model.name}: a pruned model's loss is NaN or infinite; finite ones were expected. Load the "
            "model with dtype='float32'."
        )
    return DocumentSums(np.array(documents), count, clean, nll[which], kl[which])


def _batches(texts: TokenizedCorpus, vocabulary: int) -> Iterator[list[Chunk]]:
    """Pieces of one length, as many at a time as fit."""
    by_length: dict[int, list[Chunk]] = {}
    for chunk in texts.chunks:
        by_length.setdefault(len(chunk.ids), []).append(chunk)
    for length, chunks in by_length.items():
        size = max(1, min(_TOKENS, _LOGITS // vocabulary) // length)
        for a in range(0, len(chunks), size):
            yield chunks[a : a + size]


def _log_probabilities(
    model: Model, ids: Int[torch.Tensor, "batch tokens"]
) -> Float[torch.Tensor, "batch targets vocab"]:
    logits = model.hf(input_ids=ids, use_cache=False).logits[:, :-1]
    return logits.float().log_softmax(-1)


def _loss(
    log_p: Float[torch.Tensor, "batch targets vocab"], ids: Int[torch.Tensor, "batch tokens"]
) -> Float[np.ndarray, " batch"]:
    at_target = log_p.gather(-1, ids[:, 1:, None]).squeeze(-1)
    return -at_target.double().sum(-1).cpu().numpy()


def _divergence(
    before: Float[torch.Tensor, "batch targets vocab"],
    after: Float[torch.Tensor, "batch targets vocab"],
) -> Float[np.ndarray, " batch"]:
    # A token that the model forbids (probability 0) adds nothing.
    terms = torch.where(before == -torch.inf, 0.0, before.exp() * (before - after))
    return terms.sum(-1).double().clamp_min(0.0).sum(-1).cpu().numpy()
