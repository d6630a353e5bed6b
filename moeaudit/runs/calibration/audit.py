"""What removing experts does to confidence, in and out of domain."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from moeaudit.errors import InputError, RunError
from moeaudit.frames import Frame
from moeaudit.frames.waiting import Silent, stages
from moeaudit.stats.least import DOCUMENTS_PER_SIDE
from moeaudit.store.files import write_json, write_table
from moeaudit.text.choice import beginnings

from ..working.folder import RECORD as RUN_RECORD
from ..working.provenance import now, session
from .tables import (
    BETWEEN,
    CLEAN,
    IN,
    SHIFTED,
    Condition,
    differences_table,
    scores_table,
    temperatures_table,
)

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.text import Corpus

FORMAT = "moeaudit-calibration-audit/1"
RECORD = "calibration.json"


@dataclass(frozen=True, repr=False, eq=False)
class CalibrationTables:
    """The tables of a calibration audit, and where they came from.

    `tables`: "scores" (condition, side, method, stratum, score ...), "differences" (edited minus
    clean, paired by token), "temperatures", "routing" (the clean model by routing group, tested in
    domain and again under shift), "worst" (worst mixes of routing groups at bounded KL).
    """

    tables: dict[str, Frame]
    record: dict[str, Any]
    conditions: list[Condition] = field(default_factory=list)

    def write(self, folder: str | Path) -> Path:
        """Write calibration.json and calibration/*.parquet into a new folder or a run's folder."""
        where = Path(folder)
        known = [where / RUN_RECORD, where / RECORD]
        if where.is_file():
            raise RunError(f"{where} is a file; a calibration audit is written to a folder.")
        if where.is_dir() and any(where.iterdir()) and not any(f.is_file() for f in known):
            raise RunError(
                f"{where} holds other files and neither {RUN_RECORD} nor {RECORD}. Nothing was "
                "written. Choose an empty folder, a new one, or that of a run."
            )
        for name, table in self.tables.items():
            write_table(where / "calibration" / f"{name}.parquet", table)
        write_json(where / RECORD, self.record)
        return where

    def difference(self, condition: str, score: str, side: str, method: str = "none") -> Any:
        """One row of the differences over all domains, as a dictionary."""
        t: Any = self.tables["differences"]
        hit = t[
            (t["condition"] == condition)
            & (t["score"] == score)
            & (t["side"] == side)
            & (t["method"] == method)
            & t["whole"]
        ]
        if len(hit) != 1:
            raise InputError(
                f"There is no difference of {score!r} for {condition!r}, {side!r}, {method!r}."
            )
        return hit.iloc[0].to_dict()

    def sentences(self) -> list[str]:
        """The answer in words: clean calibration on both sides, then each intervention."""
        s: Any = self.tables["scores"]
        out = []
        for side in (IN, SHIFTED):
            row = s[
                (s["condition"] == CLEAN)
                & (s["side"] == side)
                & (s["method"] == "none")
                & s["whole"]
                & (s["score"] == "gap")
            ].iloc[0]
            out.append(f"Clean, {side}: confidence - accuracy {_limits(row, 'value')}.")
        for name in self.record["conditions"][1:]:
            parts = []
            for side in (IN, SHIFTED):
                loss, gap = (self.difference(name, score, side) for score in ("loss", "gap"))
                parts.append(
                    f"{side} {loss['difference']:+.4f} nats and gap {_limits(gap, 'difference')}"
                )
            more = self.difference(name, "gap", BETWEEN)
            out.append(
                f"{name}: {'; '.join(parts)}; the gap changes {_limits(more, 'difference')} more "
                "under shift."
            )
        return out

    def __repr__(self) -> str:
        return (
            f"Calibration audit of {self.record['model']} ({len(self.record['conditions']) - 1} "
            f"interventions). {' '.join(self.sentences())} Tables: {', '.join(self.tables)}."
        )

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{html.escape(line)}</li>" for line in self.sentences())
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.record["notes"])
        d: Any = self.tables["differences"]
        shown = d[d["whole"]].drop(columns=["stratum", "whole"])
        table = shown.to_html(index=False, escape=True, float_format=lambda v: f"{v:.4f}")
        return f"<p>{html.escape(self.record['model'])}</p><ul>{lines}</ul>{table}<ul>{notes}</ul>"


def measure_calibration(
    model: Model,
    in_domain: Any,
    shifted: Any,
    interventions: Sequence[Any] | Mapping[str, Any] = (),
    *,
    fit: Any = None,
    out: str | Path | None = None,
    routing: bool = True,
    tokens: int = 0,
    max_length: int | None = None,
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    progress: Callable[[str], None] | Literal[False] | None = None,
) -> CalibrationTables:
    """Score the confidence of a model, clean and edited, in domain and under shift.

    Args:
        model: a loaded model.
        in_domain, shifted: documents (a Corpus, strings, a folder ...); none may be in both.
        interventions: operators that make another model, such as `Without({layer: [experts]})`, plain
            {layer: [experts]} mappings, or other loaded models that read the same tokens. A mapping
            gives them names.
        fit: documents for temperatures and learnt routing groups; if None, a third of
            `in_domain`, chosen by a hash of the text, is set aside for it and the notes say so.
        out: a folder (new, or a run's) to write calibration.json and Parquet tables to.
        routing: also the clean model's calibration by routing group, and worst mixes.
        tokens: read only so many tokens of each document; 0 for all.
        max_length: longest chunk in tokens; the model's own limit if None.
        draws, seed, level: of document resamples and intervals.
        progress: called with the name of each condition; without it a notebook or a terminal shows a line after
            two seconds, and False shows nothing.

    Returns:
        A `CalibrationAudit` with `.tables`, `.report(path)` and `.write(folder)`. The gap is
        confidence - accuracy (positive: over-confident); losses are nats per token.

    Raises InputError for documents on both sides, fewer than 10 documents on a side, and operators
    that only edit single positions.
    """
    from moeaudit.text.for_model import tokens_for

    from .reading import read  # torch, which the tables of a finished audit do without
    from .routing import routing_tables

    named = _named(interventions)
    home, away, spare, notes = _sides(in_domain, shifted, fit, seed)
    texts = {}
    for role, corpus in (("fit", spare), (IN, home), (SHIFTED, away)):
        texts[role], remarks = beginnings(tokens_for(model, corpus, max_length), tokens)
        notes += [f"{role}: {note}" for note in remarks]
        if texts[role].n_documents < DOCUMENTS_PER_SIDE:
            raise InputError(
                f"{texts[role].n_documents} documents ({role}) can be read; at least {DOCUMENTS_PER_SIDE} are "
                "needed, because documents are the sampling unit of every interval."
            )
    conditions, first = [], None
    with stages(Silent() if callable(progress) else progress) as tell:
        tell.stage("calibration audit", len(named) + 1, "conditions")
        for name, what in [(CLEAN, None), *named.items()]:
            if callable(progress):
                progress(name)
            wanted = routing and what is None
            reading = {r: read(model, t, what, routing=wanted) for r, t in texts.items()}
            first = first or reading["fit"]
            sides = {side: reading[side] for side in (IN, SHIFTED)}
            conditions.append(Condition(name, sides, reading["fit"].grid.fit()))
            tell.advance(1)
        tell.stage("calibration tables", 3 + bool(routing), "tables")
        tables = {}
        for kind, make in (("scores", scores_table), ("differences", differences_table)):
            tables[kind] = make(conditions, draws, seed, level)
            tell.advance(1)
        tables["temperatures"] = temperatures_table(conditions)
        tell.advance(1)
        if routing and first is not None:
            tables["routing"], tables["worst"] = routing_tables(
                conditions[0], first, alpha=1 - level, draws=draws, seed=seed
            )
            tell.advance(1)
    record = {
        "format": FORMAT,
        "model": model.name,
        "written": now(),
        "conditions": [c.name for c in conditions],
        "interventions": {name: repr(what) for name, what in named.items()},
        "documents": {role: t.n_documents for role, t in texts.items()},
        "tokens": {role: t.n_targets for role, t in texts.items()},
        "texts": {role: t.hash for role, t in texts.items()},
        "settings": {"draws": draws, "seed": seed, "level": level},
        "notes": notes,
        "provenance": {**model.provenance, **session()},
    }
    audit = CalibrationTables(tables, _plain(record), conditions)
    if out is not None:
        audit.write(out)
    return audit


def _named(interventions: Sequence[Any] | Mapping[str, Any]) -> dict[str, Any]:
    """Interventions by name; plain mappings of layers to experts become operators."""
    from moeaudit.causal.operators.whole.without import Without

    pairs = (
        list(interventions.items())
        if isinstance(interventions, Mapping)
        else [(None, what) for what in interventions]
    )
    named: dict[str, Any] = {}
    for name, what in pairs:
        made = Without(what) if isinstance(what, Mapping) else what
        label = str(name if name is not None else getattr(made, "name", type(made).__name__))
        if label in named or label == CLEAN:
            raise InputError(
                f"Two conditions are called {label!r}. Give the interventions as a mapping from names."
            )
        named[label] = made
    return named


def _sides(
    in_domain: Any, shifted: Any, fit: Any, seed: int
) -> tuple[Corpus, Corpus, Corpus, list[str]]:
    """(in domain, shifted, fit), disjoint by text."""
    from moeaudit.text import Corpus, documents

    def corpus(docs: Any) -> Corpus:
        return docs if isinstance(docs, Corpus) else documents(docs)

    home, away, notes = corpus(in_domain), corpus(shifted), []
    if fit is None:
        spare, home = home.split(1 / 3, seed)
        notes.append(
            f"Temperatures and routing groups were fitted on {len(spare)} in-domain documents, "
            f"chosen by a hash of their text; the other {len(home)} are reported."
        )
    else:
        spare = corpus(fit)
    ids = [({d.id for d in c}, name) for c, name in ((home, IN), (away, SHIFTED), (spare, "fit"))]
    for i, (one, first) in enumerate(ids):
        for two, second in ids[i + 1 :]:
            if one & two:
                raise InputError(
                    f"{len(one & two)} document(s) are both in {first!r} and in {second!r}. What is "
                    "fitted on and what is compared must be different documents."
                )
    return home, away, spare, notes


def _limits(row: Any, value: str) -> str:
    low, high = row["low"], row["high"]
    if low is None or low != low or str(low) == "<NA>":
        return f"{row[value]:+.4f} (no limits)"
    return f"{row[value]:+.4f} ({low:+.4f} to {high:+.4f})"


def _plain(value: Any) -> Any:
    """What JSON can hold: paths and other objects as text."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
