"""`moeaudit.screen`: a first-order estimate of every removal from one backward pass a document.

To first order, setting the weight w of one slot at token t to zero changes the loss of that
token's own prediction by -w dNLL_t/dw. The derivative follows the token through all later layers,
their routing weights included; it cannot see another expert being chosen, nor curvature. How much
that costs is measured each time, on a random sample of exact removals.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from moeaudit.errors import InputError, ModelError
from moeaudit.frames.waiting import counting
from moeaudit.models import Model, MoELayer
from moeaudit.models.forward import answering, evaluating
from moeaudit.models.placement import require_in_memory
from moeaudit.text.for_model import tokens_for

from ..attention.own_token import own_token_attention
from ..attention.registry import ATTENTION_TURN
from ..attention.reroute import RowsDoNotHold
from ..operators.routing import rank_order
from ..operators.weights import Zero
from ..walk.engine import plan_for, replay_for, walk
from .screened import Screened, agreement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from moeaudit.text import Chunk, TokenizedCorpus

COLUMNS = ["document", "position", "layer", "rank", "expert", "weight", "estimate"]
ONE_PASS = "one backward pass a document, gradients kept to each token's own path"
MANY_PASSES = "one backward pass a token"
_SPARE = 1 << 22  # logits of the loss held at once


def screen(
    model: Model,
    docs: Any,
    *,
    layers: list[int] | None = None,
    max_length: int | None = None,
    exact: int = 300,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> Screened:
    r"""Estimate the effect of removing every active expert of every token, to first order.

    $\widehat{\Delta}_{t,l,s} = -w_{t,l,s}\, \partial \mathrm{NLL}_t / \partial w_{t,l,s}$, in nats: the
    linear estimate of `delta_nll` of `ablate(model, docs, Zero())`, that is of the loss of the edited
    token's own next-token prediction, later tokens left out.

    Args:
        model: a loaded model. Its weights get no gradients.
        docs: strings, 1-D token arrays, a Corpus or tokenised documents.
        layers: decoder layers; all MoE layers if None.
        max_length: longest piece in tokens, as in `ablate`.
        exact: how many random tokens are also removed exactly, all their slots, to measure the
            agreement; all tokens if there are fewer.
        seed: of the choice of those tokens and of the bootstrap.
        level: of the agreement's intervals, which resample documents.
        progress: called with the number of new rows; see `ablate`.

    Returns:
        A `Screened`: `.table` has one row for each (document, position, layer, rank) with the columns
        of `ablate`'s up to `weight` and then `estimate`; `.agreement` has Pearson, Spearman and
        agreement of sign with the exact effects, over all layers and for each; `.exact` has the
        sampled rows with both numbers.

    Raises:
        InputError: unknown layers, `exact` below 2, texts that cannot be read.
        ModelError: gradients that are not finite, or that the experts do not let through.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"screen() was given a {type(model).__name__} as its model; load it first: "
            "screen(moeaudit.load(...), docs)."
        )
    if exact < 2:
        raise InputError(
            f"exact = {exact} tokens is too few to measure the agreement of the estimate with exact "
            "removals, and an estimate without it is not given. Ask for some hundred tokens."
        )
    require_in_memory(model.hf, model.name, "A backward pass")
    chosen = model.anatomy.select(layers)
    texts = tokens_for(model, docs, max_length)
    method, notes = _method(model), list(texts.notes)
    frames = []
    rows = texts.n_targets * sum(layer.top_k for layer in chosen)
    with counting(progress, "screen", rows, "rows") as tell:
        for chunk in texts.chunks:
            frame, used = _chunk_estimates(model, chosen, chunk, method)
            if used != method:
                notes.append(
                    f"Document {chunk.document} took {used}: its attention changes with length."
                )
            frames.append(frame)
            tell(len(frame))
        table = pd.concat(frames, ignore_index=True)
        sample = _exact_sample(model, chosen, texts, exact, seed)
    keys = ["document", "position", "layer", "expert"]
    joined = table.merge(sample[[*keys, "delta_nll", "kl", "flip"]], on=keys, validate="1:1")
    return Screened(
        table=table,
        exact=joined,
        agreement=agreement(joined, seed=seed, level=level),
        model=model.name,
        method=method,
        level=level,
        notes=tuple(notes),
    )


def _method(model: Model) -> str:
    """One backward pass serves all tokens where tokens meet in attention alone."""
    return ONE_PASS if replay_for(model).engine == "wavefront" else MANY_PASSES


def _chunk_estimates(
    model: Model, layers: list[MoELayer], chunk: Chunk, method: str
) -> tuple[pd.DataFrame, str]:
    ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=model.device)[None]
    try:
        gradients, answers = slot_gradients(model, layers, ids, one_pass=method == ONE_PASS)
    except RowsDoNotHold:
        method = MANY_PASSES
        gradients, answers = slot_gradients(model, layers, ids, one_pass=False)
    targets = ids.shape[1] - 1
    parts = []
    for layer, gradient, (index, weight) in zip(layers, gradients, answers):
        # Position-wise and in rank order, as `ablate` has it.
        expert, ranked = rank_order(index[:targets], weight[:targets])
        order = weight[:targets].argsort(dim=-1, descending=True, stable=True)
        slope = gradient[:targets].gather(-1, order)
        k = expert.shape[1]
        parts.append(
            pd.DataFrame(
                {
                    "document": np.full(targets * k, chunk.document, np.int32),
                    "position": np.repeat(np.arange(targets, dtype=np.int32) + chunk.start, k),
                    "layer": np.full(targets * k, layer.index, np.int16),
                    "rank": np.tile(np.arange(k, dtype=np.int8), targets),
                    "expert": expert.reshape(-1).cpu().numpy().astype(np.int16),
                    "weight": ranked.reshape(-1).float().cpu().numpy(),
                    "estimate": (-ranked.float() * slope.float()).reshape(-1).cpu().numpy(),
                }
            )
        )
    frame = pd.concat(parts, ignore_index=True)
    if not np.isfinite(frame["estimate"]).all():
        raise ModelError(
            f"{model.name}: gradients of document {chunk.document} are NaN or infinite; finite ones were "
            "expected. Load the model with dtype='float32', or leave the document out."
        )
    frame = frame.sort_values(["position", "layer", "rank"], kind="stable", ignore_index=True)
    return frame, method


def slot_gradients(
    model: Model, layers: list[MoELayer], ids: Int[torch.Tensor, "1 tokens"], *, one_pass: bool
) -> tuple[list[torch.Tensor], list[tuple[torch.Tensor, torch.Tensor]]]:
    """dNLL_t / dw of every slot of token t, and the router's answers, one entry for each layer.

    Gradients and answers are `"tokens top_k"`, slots in the model's own order; the last token has
    no loss and gets zeros. With `one_pass`, attention holds other tokens' keys and values fixed in
    the backward pass, so the gradient of the summed losses at token t is that of its own loss;
    raises RowsDoNotHold where attention is not of that kind. Else each token's loss goes backward
    by itself, which needs nothing of the model.
    """
    nudges: dict[int, torch.Tensor] = {}
    answers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def nudge(layer: MoELayer):
        def answer(
            hidden: torch.Tensor,  # noqa: ARG001
            index: torch.Tensor,
            weight: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor]:
            # Adding a zero that wants a gradient leaves every number as it is.
            zero = torch.zeros_like(weight, requires_grad=True)
            nudges[layer.index], answers[layer.index] = zero, (index.detach(), weight.detach())
            return index, weight + zero

        return answering(layer, answer)

    with evaluating(model.hf), ATTENTION_TURN, _no_weight_gradients(model), ExitStack() as stack:
        for layer in layers:
            stack.enter_context(nudge(layer))
        if one_pass:
            stack.enter_context(own_token_attention(model.hf))
        with torch.enable_grad():
            logits = model.hf(input_ids=ids, use_cache=False).logits[0]
            losses = _losses(logits, ids)
        wanted = [nudges[layer.index] for layer in layers]
        if not losses.requires_grad:
            raise ModelError(
                f"{model.name}: the loss does not depend on the routing weights by any path that "
                "gradients take, so nothing can be estimated. Set experts_implementation='eager'."
            )
        gradients = (
            list(torch.autograd.grad(losses.sum(), wanted))
            if one_pass
            else _token_by_token(losses, wanted)
        )
    return gradients, [answers[layer.index] for layer in layers]


def _losses(
    logits: Float[torch.Tensor, "tokens vocab"], ids: Int[torch.Tensor, "1 tokens"]
) -> Float[torch.Tensor, " targets"]:
    """NLL of each next token, nats, a block of positions at a time."""
    step = max(1, _SPARE // logits.shape[-1])
    parts = [
        torch.nn.functional.cross_entropy(
            logits[a : min(a + step, len(logits) - 1)].float(),
            ids[0, a + 1 : a + 1 + step],
            reduction="none",
        )
        for a in range(0, len(logits) - 1, step)
    ]
    return torch.cat(parts)


def _token_by_token(losses: torch.Tensor, wanted: list[torch.Tensor]) -> list[torch.Tensor]:
    own = [torch.zeros_like(each) for each in wanted]
    for t in range(len(losses)):
        for mine, gradient in zip(own, torch.autograd.grad(losses[t], wanted, retain_graph=True)):
            mine[t] = gradient[t]
    return own


@contextmanager
def _no_weight_gradients(model: Model) -> Iterator[None]:
    """Weights ask for no gradients inside, which keeps the graph to what the slots need."""
    asked = [p for p in model.hf.parameters() if p.requires_grad]
    for parameter in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in asked:
            parameter.requires_grad_(True)


def _exact_sample(
    model: Model, layers: list[MoELayer], texts: TokenizedCorpus, exact: int, seed: int
) -> pd.DataFrame:
    """Exact effects of `Zero()` at `exact` tokens drawn from all tokens with equal chances."""
    from moeaudit.seeds import generator

    from ..effects import walked_frame

    places = [(c, t) for c, chunk in enumerate(texts.chunks) for t in range(len(chunk.ids) - 1)]
    drawn = generator(seed, "screen").permutation(len(places))[:exact]
    by_chunk: dict[int, list[int]] = {}
    for i in sorted(drawn.tolist()):
        by_chunk.setdefault(places[i][0], []).append(places[i][1])
    plan = plan_for(model, layers, Zero())
    frames = []
    for number, positions in by_chunk.items():
        chunk = texts.chunks[number]
        ids = torch.as_tensor(chunk.ids, dtype=torch.long, device=model.device)[None]
        step = plan.positions_at_once()
        for a in range(0, len(positions), step):
            at = torch.as_tensor(positions[a : a + step], device=model.device)
            frames.append(walked_frame(chunk, walk(plan, ids, at)))
    return pd.concat(frames, ignore_index=True)
