"""Router rows for experts that are still alike: by content, from k-means over what the MLP reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from moeaudit.errors import InputError

_TOKENS = 4096  # that the rows of a layer are made from
_LENGTH = 128  # tokens of a document that are read
_STEPS = 25


def token_rows(model: Any, text: Any, tokenizer: Any) -> list[Tensor]:
    """Beginnings of documents as token ids, from as many domains as there are, `_TOKENS` in all.

    Raises InputError for texts without a tokenizer.
    """
    from moeaudit.text.bundled import corpus
    from moeaudit.text.tokens import tokenize

    if text is None:
        if tokenizer is None:
            raise InputError(
                "A k-means router is made from text. Give tokenizer= for the bundled text, text= with token ids, or "
                "router='random'."
            )
        text = corpus("bundled", split="train")
    length = min(_LENGTH, model.config.max_position_embeddings)
    read = tokenize(text, tokenizer, max_length=length, vocabulary=model.config.vocab_size)
    first: dict[str, list[Tensor]] = {}
    for chunk in read.chunks:
        if chunk.start == 0:
            first.setdefault(chunk.domain, []).append(torch.from_numpy(chunk.ids))
    share = _TOKENS // len(first)
    return [row for rows in first.values() for row in rows[: max(1, share // length)]]


def mlp_inputs(
    model: Any, layers: list[int], rows: list[Tensor]
) -> dict[int, Float[Tensor, "tokens hidden"]]:
    """What the MLP of each of `layers` reads (after its norm) on `rows`, without the first token of each.

    The first token of a text is an outlier in most trained models (an attention sink), and no content.
    """
    seen: dict[int, list[Tensor]] = {i: [] for i in layers}

    def keep(layer: int) -> Any:
        def hook(_module: Any, args: tuple[Tensor, ...]) -> None:
            seen[layer].append(args[0][0, 1:].detach().float().cpu())

        return hook

    blocks = getattr(getattr(model, "model", None), "layers", None)
    if blocks is None or not all(hasattr(blocks[i], "mlp") for i in layers):
        raise InputError(
            f"{type(model).__name__} has no model.layers[i].mlp to read from. Give router='random'."
        )
    handles = [blocks[i].mlp.register_forward_pre_hook(keep(i)) for i in layers]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                model.model(input_ids=row[None].to(model.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
        model.train(training)
    return {i: torch.cat(parts) for i, parts in seen.items()}


def kmeans_rows(
    states: Float[Tensor, "tokens hidden"], experts: int, seed: int = 0, spread: float = 1.0
) -> Float[Tensor, "experts hidden"]:
    """Router rows whose first choice is a token's cluster, with logits of standard deviation `spread`.

    A router has no bias, so what all tokens share is taken out of the rows: states are projected onto the space
    orthogonal to their mean, where the mean is zero, scaled to length one, and clustered by cosine (spherical k-means
    of Dhillon and Modha, 2001, started as k-means++). A row is a cluster's mean direction, all scaled alike.

    Raises InputError if there are fewer different states than experts.
    """
    states = states.double()
    mean = states.mean(0)
    axis = mean / mean.norm().clamp_min(1e-12)
    flat = states - (states @ axis)[:, None] * axis
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-12)
    if len(torch.unique(unit.float(), dim=0)) < experts:
        raise InputError(
            f"{len(states)} tokens of text hold fewer than {experts} different states, which cannot start {experts} "
            "experts. Give more text, or fewer experts."
        )
    centre = _first(unit, experts, np.random.default_rng(seed))
    for _ in range(_STEPS):
        near, cluster = (unit @ centre.T).max(1)
        total = torch.zeros_like(centre).index_add_(0, cluster, unit)
        for e in (torch.bincount(cluster, minlength=experts) == 0).nonzero().flatten().tolist():
            total[e] = unit[
                int(near.argmin())
            ]  # a cluster left empty starts at the least served token
            near[int(near.argmin())] = 1.0
        new = total / total.norm(dim=1, keepdim=True).clamp_min(1e-12)
        if torch.equal(new, centre):
            break
        centre = new
    return (centre * (spread / (states @ centre.T).std().clamp_min(1e-12))).float()


def _first(unit: Tensor, experts: int, random: np.random.Generator) -> Tensor:
    """k-means++: each next centre drawn in proportion to its distance from those there are."""
    chosen = [int(random.integers(len(unit)))]
    far = torch.full((len(unit),), torch.inf, dtype=unit.dtype)
    for _ in range(experts - 1):
        far = torch.minimum(far, (1 - unit @ unit[chosen[-1]]).clamp_min(0))
        weight = far.numpy() + 1e-15
        chosen.append(int(random.choice(len(unit), p=weight / weight.sum())))
    return unit[chosen].clone()


def random_rows(experts: int, hidden: int, seed: int = 0) -> Float[Tensor, "experts hidden"]:
    """Rows drawn from N(0, 1 / hidden): logits of about unit variance on states of unit mean square."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(experts, hidden, generator=draw) * hidden**-0.5
