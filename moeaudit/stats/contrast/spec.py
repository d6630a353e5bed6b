"""The analysis declared before the effects are seen: frozen, hashed, read back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from moeaudit.errors import InputError, one_of

from ..families.families import Family
from ..families.pooled import QUESTION as POOLED
from ..ranking.table import QUESTION as ACROSS
from ..record.declared import Declared
from ..record.made import documents_sha256, metrics_sha256
from ..sizes.bounds import Bound, default_bound
from .checks import OUTCOMES
from .controls import CONTROLS, check_controls
from .protocol import PROTOCOLS, Defects, Protocol, get_protocol

SESOI_OF_RANKS = 0.3  # rank correlations have a bound of their own


@dataclass(frozen=True)
class Spec(Declared):
    """What will be asked, and how it will be answered.

    `documents` is how many documents the effects are measured on (None: not declared, and then no
    table is confirmatory, since more could be added until the answer pleases). `data` holds hashes of
    "documents" (which ones) and of "metrics" (their values), where these were known. `sesoi_of_ranks` is
    the bound of `expert_harm`. A protocol without a bound is given the default of what is asked, which is
    then written down; refused if the questions or outcomes have different ones. `context` holds what else
    should not change unseen: model and corpus hashes, seeds of other stages. Every field enters the hash.
    """

    metrics: tuple[str, ...]
    layers: tuple[int, ...]
    outcomes: tuple[str, ...] = ("delta_nll",)
    questions: tuple[str, ...] = ("within-token contrast",)
    controls: tuple[str, ...] = tuple(CONTROLS)
    protocol: Protocol = PROTOCOLS["moeaudit"]
    seed: int = 0
    context: tuple[tuple[str, str], ...] = ()
    documents: int | None = None
    data: tuple[tuple[str, str], ...] = ()
    sesoi_of_ranks: float = SESOI_OF_RANKS

    def __post_init__(self) -> None:
        check_controls(self.controls)
        for name in ("metrics", "layers", "outcomes", "questions"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"A spec needs {name}, each once; it was given {values!r}.")
        for outcome in self.outcomes:
            one_of(outcome, OUTCOMES, "outcome")
        if self.protocol.sesoi is None:
            object.__setattr__(self, "protocol", self.protocol.with_(sesoi=self._default().plain))
        self.protocol.bound.check(self.outcomes)
        if self.documents is not None and self.documents < 1:
            raise InputError(f"documents is {self.documents}; a spec declares how many, from 1 on.")

    def _default(self) -> Bound:
        held = [q for q in self.questions if q != ACROSS]  # which has a bound of its own
        found = {default_bound((y,), averaged=q == POOLED) for q in held for y in self.outcomes}
        if len(found) > 1:
            raise InputError(
                f"The questions {', '.join(self.questions)} of {', '.join(self.outcomes)} have different default "
                f"smallest effects of interest ({', '.join(sorted(map(str, found)))}), and a spec declares one. "
                "Give it, such as sesoi=0.1 (in d_z)."
            )
        return found.pop() if found else default_bound(self.outcomes)

    @property
    def family(self) -> Family:
        """The declared family of one outcome: every metric in every layer."""
        cells = tuple((m, y) for m in self.metrics for y in self.layers)
        return Family("metrics by layers", cells, self.protocol.alpha, single=len(cells) == 1)

    def to_json(self) -> str:
        """Canonical JSON, which `from_json` reads."""
        return self.canonical()

    @staticmethod
    def from_json(text: str) -> Spec:
        """Read what `to_json` wrote; refuses unknown or missing fields."""
        try:
            data = json.loads(text)
            protocol = dict(data["protocol"])
            protocol["defects"] = Defects(**protocol["defects"])
            if protocol["metrics"] is not None:
                protocol["metrics"] = tuple(protocol["metrics"])
            data["protocol"] = Protocol(**protocol)
            for name in ("context", "data"):
                data[name] = tuple((str(a), str(b)) for a, b in data.get(name, ()))
            for name in ("metrics", "layers", "outcomes", "questions", "controls"):
                data[name] = tuple(data[name])
            return Spec(**data)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"This is not an audit spec ({error}). Expected the JSON that Spec.to_json wrote, "
                f"with the fields {', '.join(f.name for f in fields(Spec))}."
            ) from error


def freeze(
    metrics: list[str] | pd.DataFrame,
    layers: list[int],
    *,
    documents: int | Iterable[Any] | None = None,
    outcomes: tuple[str, ...] = ("delta_nll",),
    questions: tuple[str, ...] = ("within-token contrast",),
    controls: tuple[str, ...] = tuple(CONTROLS),
    protocol: str | Protocol = "moeaudit",
    seed: int = 0,
    sesoi_of_ranks: float = SESOI_OF_RANKS,
    context: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Spec:
    """A spec from plain values; `settings` change the protocol. Call before effects are computed.

    Parameters
    ----------
    metrics
        Their names; or the metrics table itself, whose values are then frozen by their hash too.
    documents
        How many documents the effects will be of, or the documents themselves (their numbers, as in
        the effects' column `document`). Without it no table will be confirmatory.
    context
        What else should not change: `mark` needs the same pairs.
    """
    recipe = get_protocol(protocol).with_(**settings)
    pairs = tuple(sorted((str(k), str(v)) for k, v in (context or {}).items()))
    data: dict[str, str] = {}
    if isinstance(metrics, pd.DataFrame):
        data["metrics"] = metrics_sha256(metrics)
        names = metrics.loc[metrics["value"].notna(), "metric"].astype(str)
        metrics = list(dict.fromkeys(names))
    n = documents
    if not (n is None or isinstance(n, int)):
        which = list(dict.fromkeys(map(str, n)))
        data["documents"], n = documents_sha256(which), len(which)
    return Spec(
        tuple(str(m) for m in metrics),
        tuple(int(y) for y in layers),
        tuple(outcomes),
        tuple(questions),
        tuple(controls),
        recipe,
        seed,
        pairs,
        n,
        tuple(sorted(data.items())),
        float(sesoi_of_ranks),
    )
