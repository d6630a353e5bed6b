"""What was given, as the source of a card: a run, its effects, or those of `ablate`, with the texts beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from moeaudit.errors import InputError
from moeaudit.frames import Frame
from moeaudit.stats.contrast.checks import require_per_expert

from ..explore.source import NEEDS, Source, per_expert, strings_of
from ..plot.effects import asked
from ..plot.sheet import require

ADVICE = (
    "Pass a run (ma.Run.load(folder)), its effects, or the effects that ma.ablate(model, docs) returns; texts come "
    "from the run, from the effects, or from tokens=ma.capture(model, docs)."
)
NO_TEXT = (
    "Tokens are named by their positions: give their texts with tokens= (a trace, or run.tokens)."
)


def source_of(effects: Any, tokens: Any = None, metrics: Any = None) -> tuple[Source, list[str]]:
    """The source, and notes on what it lacks.

    Raises InputError for anything but effects of one active expert each, and for texts of other documents.
    """
    if hasattr(effects, "record") and hasattr(effects, "shards"):
        return _of_run(effects, metrics), []
    if not hasattr(effects, "columns"):
        raise InputError(f"Effects were expected, and this is a {type(effects).__name__}. {ADVICE}")
    require_per_expert(effects)
    known = asked(effects)
    columns = tuple(str(name) for name in effects.columns)
    if lacking := [name for name in NEEDS if name not in columns]:
        raise InputError(f"The effects have no column {', '.join(lacking)}. {ADVICE}")
    if known.said.subject != "expert":
        raise InputError(
            "The rows of these effects are not about one active expert each, so no expert has a card of its own. "
            f"Use Zero(), Renormalize(), Reroute() or another operator that edits one expert at a time. {ADVICE}"
        )
    table, notes = _texts(effects, tokens, columns)
    facts = getattr(tokens, "facts", None)
    sizes = dict(facts.num_experts) if facts is not None else {}
    experts = _experts(effects, sizes)
    if not sizes:
        notes.append(
            "How many experts a layer has is not told here; those that no token chose are not counted."
        )
    question = getattr(effects, "question", None)
    source = Source(
        model="the model" if facts is None else facts.model,
        operator="" if question is None else str(question),
        effects=effects,
        tokens=table,
        experts=experts,
        columns=columns,
        routing=getattr(tokens, "routing", None),
        routing_columns=tuple(getattr(getattr(tokens, "routing", None), "columns", ())),
        metrics=_metrics(metrics),
        share=known.share,
        strings=_Strings(table, effects),
    )
    return source, notes


def _of_run(run: Any, metrics: Any) -> Source:
    from dataclasses import replace

    if (why := per_expert(run.question)) is not None:
        raise InputError(f"{why} ma.plot.map(run.effects) and run.effects show what there is.")
    source = Source.of_run(run)
    return source if metrics is None else replace(source, metrics=_metrics(metrics))


def _metrics(metrics: Any) -> Frame | None:
    if metrics is not None:
        advice = "Pass the table that ma.expert_metrics(trace) returns."
        require(metrics, ["layer", "expert", "metric", "value"], "The metrics table", advice)
    return metrics


def _experts(effects: Any, sizes: dict[int, int]) -> dict[int, int]:
    """How many experts each audited layer has; as many as were seen anywhere where nobody says."""
    most, layers = 0, set()
    for frame in _frames(effects, ["layer", "expert"]):
        layers |= set(frame["layer"].unique().tolist())
        most = max(most, int(frame["expert"].max()) + 1)
    return {int(layer): sizes.get(int(layer), most) for layer in sorted(layers)}


def _frames(effects: Any, columns: list[str]) -> Any:
    return effects.frames(columns) if hasattr(effects, "frames") else [effects[columns]]


def _texts(effects: Any, tokens: Any, columns: tuple[str, ...]) -> tuple[Frame, list[str]]:  # noqa: ARG001
    """The tokens of the effects: document, domain, position, token, text ..."""
    given = getattr(tokens, "tokens", tokens)
    if given is not None:
        advice = "Pass tokens=ma.capture(model, docs), or the tokens table of a run (run.tokens)."
        require(given, ["document", "position", "token", "text"], "The tokens table", advice)
        table: Frame = given if "domain" in given else given.assign(domain="")
        _require_same(effects, table)
        return table, []
    texts = getattr(effects, "texts", None)
    if texts is not None:
        return _of_chunks(texts), []
    places = pd.concat(
        [frame.drop_duplicates() for frame in _frames(effects, ["document", "position"])]
    ).drop_duplicates()
    named = [f"[{position}]" for position in places["position"]]
    return places.assign(domain="", token=0, text=named), [NO_TEXT]


def _require_same(effects: Any, tokens: Frame) -> None:
    """Raise InputError where effects are of tokens that the table does not hold."""
    there = pd.MultiIndex.from_frame(tokens[["document", "position"]].astype("int64"))
    for frame in _frames(effects, ["document", "position"]):
        mine = frame[["document", "position"]].drop_duplicates().astype("int64")
        lacking = ~pd.MultiIndex.from_frame(mine).isin(there)
        if lacking.any():
            first = mine[lacking].iloc[0]
            raise InputError(
                f"The tokens table lacks {int(lacking.sum())} tokens of the effects, the first at position "
                f"{first['position']} of document {first['document']}. Pass the tokens of the same documents, "
                "cut alike."
            )


def _of_chunks(texts: Any) -> Frame:
    """The tokens table of a tokenised corpus: no predictions, and texts where the tokenizer came along."""
    from moeaudit.observe.capture import PieceCache

    pieces = PieceCache(texts.tokenizer)
    parts = []
    for chunk in texts.chunks:
        n = len(chunk.ids) - 1
        parts.append(
            pd.DataFrame(
                {
                    "document": chunk.document,
                    "domain": chunk.domain or "",
                    "position": np.arange(chunk.start, chunk.start + n),
                    "token": chunk.ids[:-1],
                    "text": pieces.of(chunk.ids)[:n],
                    "target": chunk.ids[1:],
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


class _Strings(dict[int, str]):
    """Texts of token ids: those of the table, and by the tokenizer of the effects what is asked for besides."""

    def __init__(self, tokens: Frame, effects: Any) -> None:
        super().__init__(strings_of(tokens) if tokens["token"].any() else {})
        self._tokenizer = getattr(getattr(effects, "texts", None), "tokenizer", None)

    def get(self, key: int, default: Any = None) -> Any:
        if key not in self and self._tokenizer is not None:
            from moeaudit.observe.capture import PieceCache

            pieces = PieceCache(self._tokenizer)
            self[key] = pieces.of(np.array([key]))[0]
        return super().get(key, default)
