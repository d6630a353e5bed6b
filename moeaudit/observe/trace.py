"""`Trace`: what a clean pass saw, as two frames and the facts needed to read them."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from moeaudit.errors import InputError

from .tables import ROUTING_COLUMNS, TOKEN_COLUMNS


@dataclass(frozen=True)
class Facts:
    """What the frames alone do not say. Plain values, so that it can be kept as JSON.

    `num_experts` and `top_k` are by decoder layer index. `nulls` gives, for each column of the
    routing frame that holds nulls, the reason.
    """

    model: str
    vocab_size: int
    num_experts: dict[int, int]
    top_k: dict[int, int]
    n_documents: int
    n_dropped: int = 0
    notes: tuple[str, ...] = ()
    nulls: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Any, tokenized: Any, nulls: Mapping[str, str]) -> Facts:
        """Facts of a model and the documents it read."""
        layers = model.anatomy.layers
        return cls(
            model=model.name,
            vocab_size=model.vocab_size,
            num_experts={layer.index: layer.num_experts for layer in layers},
            top_k={layer.index: layer.top_k for layer in layers},
            n_documents=len({chunk.document for chunk in tokenized.chunks}),
            n_dropped=int(getattr(tokenized, "n_dropped", 0)),
            notes=tuple(tokenized.notes),
            nulls=dict(nulls),
        )

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Facts:
        """Facts as `to_dict` wrote them, also after a trip through JSON (string keys, lists)."""
        values: dict[str, Any] = dict(kept)
        for name in ("num_experts", "top_k"):
            values[name] = {int(layer): int(n) for layer, n in values[name].items()}
        values["notes"] = tuple(values.get("notes", ()))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def layers(self) -> list[int]:
        """Decoder layer indices of the MoE layers, ascending."""
        return sorted(self.num_experts)


@dataclass(frozen=True)
class Trace:
    """The tables of a clean pass.

    `tokens`: document, domain, position, token, text, target, nll, entropy, confidence, correct, top
    (the most probable next token); one row per position that has a next token. `routing`: document,
    position, layer, rank (0 is the largest weight), expert, logit (the router's own, null where it has
    none), weight, output_norm (L2 norm of the expert's output), contribution_norm (the same times its
    weight), change (1 - cosine of the residual stream before and after adding the routed experts);
    next, the expert next in line, where `capture` was asked for it. Losses and entropies are in nats.
    """

    tokens: pd.DataFrame
    routing: pd.DataFrame
    facts: Facts

    def __post_init__(self) -> None:
        for name, frame, expected in (
            ("tokens", self.tokens, TOKEN_COLUMNS),
            ("routing", self.routing, ROUTING_COLUMNS),
        ):
            missing = [column for column in expected if column not in frame.columns]
            if missing:
                raise InputError(
                    f"The {name} table of a trace lacks the columns {', '.join(missing)}. Expected "
                    f"{', '.join(expected)}; pass the tables that capture wrote."
                )

    @classmethod
    def from_frames(
        cls, tokens: pd.DataFrame, routing: pd.DataFrame, facts: Facts | Mapping[str, Any]
    ) -> Trace:
        """A trace from tables read back from disk and the facts kept beside them."""
        known = facts if isinstance(facts, Facts) else Facts.from_dict(facts)
        if not isinstance(tokens["domain"].dtype, pd.CategoricalDtype):
            tokens = tokens.assign(domain=tokens["domain"].astype("category"))
        return cls(tokens, routing, known)

    @property
    def domains(self) -> list[str]:
        """Domain names, in the order of the corpus."""
        return [str(name) for name in self.tokens["domain"].cat.categories]

    @property
    def layers(self) -> list[int]:
        """Decoder layer indices of the MoE layers that the routing table covers."""
        return [int(layer) for layer in sorted(self.routing["layer"].unique())]

    def __repr__(self) -> str:
        facts = self.facts
        experts = _one_or_range(facts.num_experts)
        sentence = (
            f"Trace of {facts.model}: {len(self.tokens):,} tokens of {facts.n_documents:,} "
            f"documents in {len(self.domains)} domains ({', '.join(self.domains)}); "
            f"{len(self.layers)} MoE layers, top-{_one_or_range(facts.top_k)} of {experts} experts; "
            f"mean loss {self.tokens['nll'].mean():.3f} nats per token, "
            f"{self.tokens['correct'].mean():.1%} of tokens predicted."
        )
        if facts.n_dropped:
            sentence += f" {facts.n_dropped:,} documents were left out."
        nulls = "".join(f" No {column} ({reason})." for column, reason in facts.nulls.items())
        return sentence + nulls

    def _repr_html_(self) -> str:
        by_domain = self.tokens.groupby("domain", observed=True).agg(
            tokens=("nll", "size"), nll=("nll", "mean"), correct=("correct", "mean")
        )
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.facts.notes)
        return (
            f"<p>{html.escape(repr(self))}</p>"
            + by_domain.to_html(float_format=lambda value: f"{value:.3f}", escape=True)
            + (f"<ul>{notes}</ul>" if notes else "")
        )


def _one_or_range(values: Mapping[int, int]) -> str:
    low, high = min(values.values()), max(values.values())
    return str(low) if low == high else f"{low} to {high}"
