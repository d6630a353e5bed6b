"""`moeaudit.ablate`: the exact effect of an operator at every token, layer and active expert."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from moeaudit.errors import InputError, RunError
from moeaudit.frames.waiting import counting
from moeaudit.models import Model
from moeaudit.store.question import OUTCOMES, Question
from moeaudit.text.for_model import tokens_for

from .blocks import blocks, drawn_from, together
from .effects import Effects
from .facts import Facts
from .folder import EffectsFolder
from .operators.routing import Operator, require_operator, why_not_per_expert
from .operators.weights import Zero
from .outcomes.named import Outcome, further_outcomes
from .streaming import streamed
from .walk.budget import Budget
from .walk.engine import plan_for
from .walk.several.sample import sample_for

if TYPE_CHECKING:
    from moeaudit.text import TokenizedCorpus


SPILL = ("spill_nll", "spill_kl", "spill_flips")


def ablate(
    model: Model,
    docs: Any,
    operator: Operator | None = None,
    *,
    layers: Any = None,
    outcomes: Iterable[Outcome] = (),
    horizon: int | Literal["all"] = 0,
    frozen_routing: bool = False,
    share: Any = 1.0,
    seed: Any = 0,
    max_length: int | None = None,
    memory: int | str | None = None,
    predictions: bool = False,
    out: str | Path | None = None,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> Effects | EffectsFolder:
    """Apply `operator` (default `Zero()`) to each active expert, one token and one layer at a time.

    `docs` are strings, 1-D token tensors, or a Corpus. Returns an `Effects` DataFrame with one
    row for each (document, position, layer, rank). With `out`, rows are streamed to Parquet
    shards in that folder instead, in bounded memory, and an `EffectsFolder` is returned
    (`moeaudit.effects(out)` opens it again). If the process ends early, finished shards stay and the same
    call goes on from there; of a function of your own (`Custom`, an outcome) only the name is
    compared. Texts longer than `max_length` tokens (default: what the model reads) are cut into pieces that do
    not attend to each other. `memory` ("12GiB", or bytes) bounds what a walk takes besides the weights, whatever
    the texts, the operator and the horizon (default: what suits the device); blocks are cut to it, and the
    numbers stay the same up to rounding. `progress` is called with the number of new rows; without it a notebook
    or a terminal shows a line after two seconds, and False shows nothing.

    `outcomes` adds columns: "delta_entropy", "delta_confidence", "delta_brier", a
    `LogitContrast(a, b)`, or functions of (clean logits `"positions vocab"`, edited logits
    `"positions rows vocab"`, target `"positions"`) that return `"positions rows"`. With
    `horizon`, each row carries the next tokens along, and `spill_nll`, `spill_kl` (nats, summed)
    and `spill_flips` say what the edit did to their predictions through attention;
    `tokens_after` is how many there were before the text ended. With `frozen_routing` the layers
    above the edit keep the clean router's answers, so that what is left is the direct effect.
    `predictions` adds the column `top`, the most probable next token after the edit (a token id): the one before
    the edit where `flip` is false.
    `share` makes only this part of the removals, a stratified sample drawn by `seed`
    (docs/methods/sampling.md): the same tokens in each document and layer whatever the rest of the corpus and
    however walks are batched, each with all its active experts. The table then has a column `pi`, each row's
    inclusion probability; a census (1) has none, and is the table that it always was.
    Tables of operators whose `tells_routing` is true (all but `Zero`) carry the routing that resulted, largest
    weight first: `after_expert_0`, `after_weight_0` and so on, expert -1 where nobody works.

    Every row is exact: the edited token's residual is carried through the later layers against
    the clean keys and values of earlier tokens. Models in which that cannot hold run on batched
    full forwards, and `effects.engine` says so. `effects.drift` is how far, in nats, rows carried
    without an edit end from the clean forward: what rounding does to a row.

    Raises InputError for unknown layers, texts without a token to predict, token ids outside
    the vocabulary, a horizon that no text reaches, unknown outcomes, a memory in which not one row
    fits, a share of 0 or above 1, or one by which nothing is drawn or the operator saves nothing; RunError for
    a folder `out` that holds something else, or effects of another question, model or texts, naming what differs.

    Example:
        model = ma.load("tiny-olmoe")
        effects = ma.ablate(model, ["Rain is expected in the north."], ma.Zero(), layers=[4])
        effects.groupby("expert")["delta_nll"].mean()  # nats a removal, by expert of layer 4
    """
    operator = Zero() if operator is None else operator
    _check(model, out)
    require_operator(operator)
    extra = further_outcomes(outcomes)
    sample = sample_for(operator, share, seed)
    texts = tokens_for(model, docs, max_length)
    plan = plan_for(
        model,
        model.anatomy.select(layers),
        operator,
        extra=extra,
        horizon=_horizon(horizon, texts, operator),
        frozen=_frozen(frozen_routing, operator),
        tops=bool(predictions),
        sample=sample,
        keep_routing=getattr(operator, "tells_routing", True),
        budget=Budget.of(model.device) if memory is None else Budget.within(memory, model),
    )
    question = Question(
        name=operator.name,
        operator=operator.to_dict(),
        scope=operator.scope,
        frozen_routing=plan.frozen,
        horizon=horizon,
        outcomes=(*OUTCOMES, *extra, *(SPILL if horizon != 0 else ())),
        per_expert=why_not_per_expert(operator, plan.layers) is None,
        share=1.0 if sample is None else sample.share,
        seed=0 if sample is None else sample.seed,
    )
    facts = Facts.of(model, texts, [layer.index for layer in plan.layers], question)
    rows = round(plan.rows * texts.n_targets * question.share)
    frames: list[pd.DataFrame] = []
    said: list[Facts] = []
    with counting(progress, f"effects of {operator.name}", rows, "rows") as tell:
        if out is not None:
            return streamed(plan, texts, facts, Path(out), tell)
        for block in drawn_from(blocks(plan, texts.chunks, tell), sample):
            frames.append(block.frame)
            said.append(block.said(facts))
    whole = pd.concat(frames, ignore_index=True)
    texts = replace(texts, tokenizer=model.tokenizer)
    return Effects.of(whole, together(said), texts, operator)


def _horizon(
    horizon: int | Literal["all"], texts: TokenizedCorpus, operator: Operator
) -> int | None:
    """The horizon as a plan holds it, or InputError where no text is that long."""
    if horizon != "all" and (
        not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 0
    ):
        raise InputError(
            f"horizon = {horizon!r}: a number of tokens from 0, or 'all', was expected."
        )
    if horizon == 0:
        return 0
    if operator.scope != "position":
        raise InputError(
            f"{operator.name} edits every position of a document, so no token is only after the edit. "
            "Leave horizon at 0: each row already reads the prediction at its own position."
        )
    longest = max(len(chunk.ids) for chunk in texts.chunks)
    if horizon == "all":
        return None
    if horizon > longest - 2:
        raise InputError(
            f"horizon = {horizon} ends past every text: the longest piece has {longest} tokens, so at most "
            f"{max(0, longest - 2)} predictions come after the first one. Take a smaller horizon, or 'all'."
        )
    return horizon


def _frozen(frozen: bool, operator: Operator) -> bool:
    if frozen and operator.scope != "position":
        raise InputError(
            f"{operator.name} edits every position at once, and frozen routing is not available for it. "
            "Ask for an edit at one position, such as Zero()."
        )
    return bool(frozen)


def _check(model: Model, out: str | Path | None) -> None:
    """Arguments that would otherwise fail later, or elsewhere."""
    if not isinstance(model, Model):
        raise InputError(
            f"ablate() was given a {type(model).__name__} as its model; load it first: "
            "ablate(moeaudit.load(...), docs)."
        )
    if out is not None and Path(out).is_file():
        raise RunError(f"'{out}' is a file; a new or empty folder was expected for the effects.")
