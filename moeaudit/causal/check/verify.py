"""`verify`: recompute a random sample of effects by one full forward each, and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch

from moeaudit.errors import InputError
from moeaudit.frames.waiting import counting
from moeaudit.models import Model
from moeaudit.models.forward import evaluating
from moeaudit.models.precision import is_half, rounding
from moeaudit.store.question import plain
from moeaudit.store.shard import KEY
from moeaudit.text import Chunk, TokenizedCorpus
from moeaudit.text.for_model import tokens_for

from ..effects import COLUMNS
from ..facts import Facts
from ..folder import EffectsFolder
from ..operators import from_dict
from ..operators.routing import Operator
from .engines import CannotExpress, Engine, Outcome, engine_class
from .row import NotActive
from .verification import Verification


def verify(
    effects: pd.DataFrame | EffectsFolder,
    model: Model,
    n: int = 8,
    engine: str = "hooks",
    seed: int = 0,
    docs: Any = None,
    max_length: int | None = None,
    operator: Operator | None = None,
    frozen_routing: bool | None = None,
    progress: Callable[[int], None] | Literal[False] | None = None,
) -> Verification:
    """Recompute `n` random effects by one full forward each, in an engine of its own.

    The engine captures the router's answer at the row's layer and position in its own forward,
    asks the operator for its edit of that answer, and makes it by its own means; it shares no code
    with the replay. Compared are delta NLL, KL and flip on the edited token's own prediction.

    Args:
        effects: what `ablate` returned, or a part of it; an effects folder is sampled shard by
            shard.
        model: the model the effects were computed on.
        n: how many rows to recompute; all of them if there are fewer.
        engine: `"hooks"`, `"nnsight"` or `"transformer_lens"`. None shares code with the replay.
        seed: decides which rows.
        docs: the documents, cut as they were then. Needed only if the table does not carry them,
            as after reading it from disk.
        operator: the operator the effects are of. Needed only if the table does not carry it and
            cannot restore it (`Custom`, or outputs of held-out documents, after reading from disk),
            or if it does not know its question at all.
        frozen_routing: whether later layers kept the clean routing. Needed only for a table that
            does not know its question; False then, if it is not given.
        progress: called with 1 after each row; see `ablate`.

    Returns:
        A `Verification`; with `skipped` set if the engine cannot edit this model, or cannot express
        this operator there.

    Raises:
        InputError: no rows, no documents, no operator, an unknown engine, a table that joins several
            questions, an operator or routing that the table's question is not of, or rows that do
            not belong to these documents, this model and this operator.

    Example:
        model = ma.load("tiny-olmoe")
        effects = ma.ablate(model, ["A text of some words, read twice."], layers=[4])
        ma.verify(effects, model, n=4, engine="hooks").agrees
    """
    kind = engine_class(engine)
    if n < 1 or len_of(effects) == 0:
        raise InputError(
            f"There is nothing to verify: {n} of {len_of(effects)} effects were asked for. Pass a "
            "table with rows and an n of at least 1."
        )
    facts = _facts(effects)
    operator = _operator(effects, facts, operator)
    frozen = _frozen(facts, frozen_routing)
    _require_same_weights(facts, model)
    texts = _texts(effects, facts, model, docs, max_length)
    rows = _sample(effects, n, seed)
    reason = kind.supports(model)
    if reason is not None:
        return _skipped(engine, rows, reason)
    # Neighbouring cells of one document share its clean forward.
    rows = rows.sort_values(["document", "position", "layer", "expert"], ignore_index=True)
    try:
        with counting(progress, f"verify with {engine}", len(rows), "rows") as tell:
            found = _recomputed(kind(model), operator, texts, rows, tell, frozen=frozen)
    except CannotExpress as refusal:
        return _skipped(engine, rows, str(refusal))
    here = [outcome is not None for outcome in found]
    elsewhere, rows = len(here) - sum(here), pd.DataFrame(rows[here]).reset_index(drop=True)
    kind_of = str(model.dtype).removeprefix("torch.")
    if rows.empty:
        why = (
            f"in {kind_of} two experts tie at each of the {elsewhere} sampled rows, and the engine's own forward took "
            "the other one. Sample more rows, or load the model in float32."
        )
        return _skipped(engine, rows, why)
    outcomes = [outcome for outcome in found if outcome is not None]
    rows = rows.assign(
        engine_delta_nll=[outcome.delta_nll for outcome in outcomes],
        engine_kl=[outcome.kl for outcome in outcomes],
        engine_flip=[outcome.flip for outcome in outcomes],
    )
    harm, moved = (_largest_difference(rows, name) for name in ("delta_nll", "kl"))
    allowed, usual = tolerance_of(model), None
    if max(harm, moved) > allowed and not is_half(model.dtype):
        measured = _measured(model, texts, rows)
        if measured > allowed:
            allowed, usual = measured, allowed
    return Verification(
        engine,
        len(rows),
        harm,
        moved,
        int(np.sum(rows["flip"].to_numpy(bool) != rows["engine_flip"].to_numpy(bool))),
        rows,
        None,
        kind_of,
        allowed,
        elsewhere,
        usual,
    )


def _require_same_weights(facts: Facts | None, model: Model) -> None:
    """Raise InputError for a table that says it was measured on other weights than `model` has."""
    theirs = None if facts is None else facts.weights
    mine = model.provenance.get("weights_sha256")
    if theirs is not None and mine is not None and theirs != mine:
        raise InputError(
            f"These effects were measured on other weights (SHA-256 {theirs[:12]}) than {model.name} has "
            f"({mine[:12]}). Pass the model that they were computed on."
        )


def _recomputed(
    engine: Engine,
    operator: Operator,
    texts: TokenizedCorpus,
    rows: pd.DataFrame,
    tell: Callable[[int], None],
    *,
    frozen: bool,
) -> list[Outcome | None]:
    """One full forward for each row.

    None where, in half precision, the expert is not active in the engine's own clean forward: two
    experts tied, and a forward among other rows took the other one.
    """
    further = [name for name in rows.columns if name not in COLUMNS]
    found: list[Outcome | None] = []
    half = is_half(engine.model.dtype)
    for row in rows.to_dict("records"):
        chunk = _chunk_of(texts, row["document"], row["position"])
        about = {str(name): row[name] for name in further if isinstance(row[name], (int, float))}
        at = row["position"] - chunk.start
        try:
            outcome = engine.effect(
                chunk.ids,
                at,
                row["layer"],
                row["expert"],
                operator=operator,
                rank=row["rank"],
                about=about,
                frozen=frozen,
            )
        except NotActive:
            # Ties are rare; a table of other documents misses nearly everywhere.
            if not half or found.count(None) >= max(1, len(rows) // 2):
                raise
            outcome = None
        found.append(outcome)
        tell(1)
    return found


def _facts(effects: pd.DataFrame | EffectsFolder) -> Facts | None:
    """What the table says of itself, also one that pandas read from a shard; None if nothing."""
    if isinstance(effects, EffectsFolder):
        return effects.facts
    said = effects.attrs.get(KEY)
    return None if said is None else Facts.from_dict(said)


def _operator(
    effects: pd.DataFrame | EffectsFolder, facts: Facts | None, given: Operator | None
) -> Operator:
    """The operator itself: given, carried by the table, or restored from its question."""
    if facts is None:
        if given is None:
            raise InputError(
                "This table does not say which operator its effects are of: it was made from columns alone. Pass "
                "verify(effects, model, operator=...), or the table or folder that ablate() returned."
            )
        return given
    question = facts.question
    if given is not None:
        if plain(given.to_dict()) != question.operator:
            raise InputError(
                f"These are effects of the operator {question.name!r} ({_arguments(question.operator)}), and "
                f"operator={given.name!r} ({_arguments(given.to_dict())}) was given. Pass the operator that the "
                "effects were computed with."
            )
        return given
    if (carried := getattr(effects, "operator", None)) is not None:
        return carried
    try:
        restored: Any = from_dict(question.operator)
    except InputError as refusal:
        raise InputError(
            f"These are effects of the operator {question.name!r}, which the table does not carry and its question "
            f"cannot restore: {refusal} Pass it: verify(effects, model, operator=...)."
        ) from refusal
    return restored


def _arguments(operator: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in operator.items())


def _frozen(facts: Facts | None, given: bool | None) -> bool:
    """Whether later layers kept the clean routing: the question says so, or else the caller."""
    if facts is None:
        return bool(given)
    if given is not None and given != facts.question.frozen_routing:
        raise InputError(
            f"frozen_routing={given} was given, and these are effects of {facts.question}, with frozen_routing="
            f"{facts.question.frozen_routing}. Leave it out: the table knows."
        )
    return facts.question.frozen_routing


def _skipped(engine: str, rows: pd.DataFrame, reason: str) -> Verification:
    nan = float("nan")
    return Verification(engine, 0, nan, nan, 0, rows.iloc[:0], reason)


def tolerance_of(model: Model) -> float:
    """The largest difference that rounding in the model's own precision explains, in nats.

    1e-5 for float32; where a difference is more, `verify` measures the rounding of these texts. Half precision
    rounds every activation, so the two forwards agree only to a few units of its last place; 16 of them is about
    four times what tiny models show.
    """
    return rounding(model).verified


def _measured(model: Model, texts: TokenizedCorpus, rows: pd.DataFrame) -> float:
    """What rounding of these texts explains, in nats, at most ten times what `tolerance_of` says.

    A deep model with loud activations rounds more than tiny ones do. So each text is read once more, without an
    edit, as two copies in one batch, by the model's own forward: four times what that moves a loss, as where
    rows are held against full forwards (`walk/choice.py`); the effect and what it is compared with are two losses each.
    """
    most = 0.0
    with torch.no_grad(), evaluating(model.hf):
        places = rows[["document", "position"]].drop_duplicates().itertuples(index=False)
        chunks = [_chunk_of(texts, document, position) for document, position in places]
        for chunk in {id(each): each for each in chunks}.values():
            ids = torch.from_numpy(chunk.ids)[None].to(model.device)
            alone, twice = (
                torch.nn.functional.cross_entropy(
                    logits[:-1].double(), ids[0, 1:].to(logits.device), reduction="none"
                )
                for logits in (
                    model.hf(input_ids=ids, use_cache=False).logits[0],
                    model.hf(input_ids=ids.repeat(2, 1), use_cache=False).logits[1],
                )
            )
            most = max(most, float((alone - twice).abs().max()))
    return min(4 * most, 10 * tolerance_of(model))


def len_of(effects: pd.DataFrame | EffectsFolder) -> int:
    """Number of rows of a table, in memory or on disk."""
    return effects.rows if isinstance(effects, EffectsFolder) else len(effects)


def _largest_difference(rows: pd.DataFrame, column: str) -> float:
    census, engine = (rows[name].to_numpy(np.float64) for name in (column, f"engine_{column}"))
    # numpy's max keeps a NaN, which pandas would drop: a NaN effect is a difference, not a match.
    return float(np.max(np.abs(census - engine)))


def _texts(
    effects: pd.DataFrame | EffectsFolder,
    facts: Facts | None,
    model: Model,
    docs: Any,
    max_length: int | None,
) -> TokenizedCorpus:
    carried = getattr(effects, "texts", None)
    if docs is not None:
        cut = None if facts is None else facts.max_length
        return tokens_for(model, docs, max_length or cut)
    if not isinstance(carried, TokenizedCorpus):
        raise InputError(
            "These effects do not carry the documents they were computed on, so nothing can be "
            "recomputed. Pass the same documents: verify(effects, model, docs=...)."
        )
    return carried


def _sample(effects: pd.DataFrame | EffectsFolder, n: int, seed: int) -> pd.DataFrame:
    """`n` rows without replacement, as a plain frame; a folder is read one shard at a time."""
    total = len_of(effects)
    places = np.random.default_rng(seed).choice(total, size=min(n, total), replace=False)
    if not isinstance(effects, EffectsFolder):
        return pd.DataFrame(effects.iloc[np.sort(places)]).reset_index(drop=True)
    parts, start = [], 0
    for shard in effects.frames():
        inside = np.sort(places[(places >= start) & (places < start + len(shard))])
        parts.append(shard.iloc[inside - start])
        start += len(shard)
    return pd.concat(parts, ignore_index=True)


def _chunk_of(texts: TokenizedCorpus, document: int, position: int) -> Chunk:
    """The chunk in which this position has a next token."""
    there = [chunk for chunk in texts.chunks if chunk.document == document]
    for chunk in there:
        if chunk.start <= position < chunk.start + len(chunk.ids) - 1:
            return chunk
    known = (
        f"has predictions at {', '.join(_span(chunk) for chunk in there)} only"
        if there
        else f"is not among the {texts.n_documents} documents"
    )
    raise InputError(
        f"The effects have a row at position {position} of document {document}, which {known}. "
        "Expected the documents the effects were computed on, cut at the same max_length."
    )


def _span(chunk: Chunk) -> str:
    return f"positions {chunk.start} to {chunk.start + len(chunk.ids) - 2}"
