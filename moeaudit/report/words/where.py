"""Where it holds: what domains say of the findings, in sentences and one row a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame
from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
from moeaudit.stats.least import DOCUMENTS_FOR_VERDICT
from moeaudit.stats.ranking.table import QUESTION as ACROSS
from moeaudit.stats.sizes.equivalence import LIKE_THESE, NOT_ESTIMABLE, SHOWN, TOO_FEW
from moeaudit.text.shift import audit_of

from .evidence import outcome_name
from .numbers import count, fixed, percent, plural

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun

QUESTIONS = {WITHIN: "within a token", ACROSS: "across experts"}
SIZE = {WITHIN: "d_z", ACROSS: "rho"}
KEYS = ["question", "outcome", "metric", "layer"]


def told(run: StoredRun) -> Frame | None:
    """Metric cells with their verdict in the mixture (`shown`), in other domains (`shown_there`, `there`),
    and what the domains say together; None for a run without tables by domain."""
    if not (run.folder / "across_domains.parquet").is_file() or "role" not in run.tests:
        return None
    across = run.across_domains
    across = across[across["role"] == "metric"]
    cells = across.merge(_shown(run.tests, "shown", "estimate"), on=KEYS, how="left")
    if run.shift is not None and "role" in run.shift.tests:
        return cells.merge(_shown(run.shift.tests, "shown_there", "there"), on=KEYS, how="left")
    return cells.assign(shown_there=None, there=np.nan)


def _shown(tests: Frame, shown: str, size: str) -> Frame:
    """Of every metric cell, whether an effect is shown and its size, by the two questions' own names."""
    mine = tests[tests["role"] == "metric"]
    value = mine["d_z"].where(mine["question"] == WITHIN, mine["rho"])
    out = mine[KEYS].assign(**{shown: mine["verdict"].isin(SHOWN), size: value.astype("Float64")})
    out[f"{shown}_silent"] = mine["verdict"].isin([TOO_FEW, NOT_ESTIMABLE])
    out[f"{shown}_ceiling"] = mine["ceiling"].astype("Float64")
    if "supports" in mine:
        out[f"{shown}_supports"] = mine["supports"]
    return out


def sentences(run: StoredRun) -> list[str]:
    """What domains say of the findings, the strongest doubt first; one sentence each."""
    cells = told(run)
    if cells is None:
        reason = "its routing metrics were not tested"
        if "role" in run.tests:
            reason = "it has no tables by domain; run the audit again with this version"
        return [f"Of where the findings hold this run says nothing: {reason}."]
    known, alpha = cells[cells["reason"].isna()], run.spec.alpha
    if known.empty:
        return [f"Domains cannot be compared: {cells['reason'].iloc[0]}.", *_other(run, cells)]
    out = []
    for outcome, part in known.groupby("outcome", sort=False):
        name = outcome_name(str(outcome)).lower()
        words = []
        for question, rows in part.groupby("question", sort=False):
            differ = int((rows["p_holm"].astype("Float64") <= alpha).fillna(False).sum())
            words.append(
                f"in {differ} of {len(rows)} cells {QUESTIONS[str(question)]} (median I2 "
                f"{percent(_median(rows, 'i2'), 0)})"
            )
        out.append(
            f"Domains differ in what is found of {name} beyond chance " + " and ".join(words) + "."
        )
    out += _new(known)
    out += _transfer(known)
    return [*out, *_other(run, cells), *_supported(cells)]


def _new(known: Frame) -> list[str]:
    shown = known[known["shown"].fillna(False).astype(bool)]
    if shown.empty:
        return []
    same = int(_excludes(shown).sum())
    return [
        f"For a new domain of their kind, the sign is known in {same} of the {len(shown)} cells that are shown "
        "in the mixture: there the interval for its value (nominally 95%, with as few domains as eight rather 87 to "
        "91%) excludes zero."
    ]


def _excludes(rows: Frame) -> Any:
    low, high = rows["new_low"].astype("Float64"), rows["new_high"].astype("Float64")
    return ((low > 0) | (high < 0)).fillna(False)


def _transfer(known: Frame) -> list[str]:
    out = []
    ranks = known[known["question"] == ACROSS]
    for outcome, rows in ranks.groupby("outcome", sort=False):
        away, here = _median(rows, "elsewhere"), _median(rows, "here")
        if np.isfinite(away) and np.isfinite(here):
            name = outcome_name(str(outcome)).lower()
            out.append(
                f"Metrics measured in the other domains rank the experts of a domain by {name} with a median "
                f"rho of {fixed(away, 2, True)}; metrics measured in that domain, {fixed(here, 2, True)}; over the "
                f"whole mixture, {fixed(_median(rows, 'whole'), 2, True)}."
            )
    return out


def _other(run: StoredRun, cells: Frame) -> list[str]:
    """The sentence about domains that the audit's own text does not have."""
    shift = run.shift
    if shift is None:
        return ["Other domains were not run, so nothing here speaks of them."]
    names = sorted(str(d) for d in shift.tokens["domain"].unique())
    where = (
        f"In {plural(len(names), 'other domain')} ({', '.join(names)}; "
        f"{plural(shift.summary['documents'], 'document')})"
    )
    if "role" not in shift.tests:
        return [f"{where} the effects were measured, and routing metrics not tested."]
    out = []
    for question, rows in cells.groupby("question", sort=False):
        for outcome, part in rows.groupby("outcome", sort=False):
            shown = part[part["shown"].fillna(False).astype(bool)]
            name = f"{outcome_name(str(outcome)).lower()} {QUESTIONS[str(question)]}"
            size = SIZE[str(question)]
            there = shown["shown_there"].fillna(False).astype(bool)
            same = there & (np.sign(shown["there"]) == np.sign(shown["estimate"]))
            said = f"median {size} {_size(part, 'estimate')} in the mixture, {_size(part, 'there')} there"
            if question == ACROSS:
                said += f", where noise allows {_size(part, 'shown_there_ceiling')}"
            silent = shown["shown_there_silent"].fillna(True).astype(bool)
            if len(shown) and silent.all():
                out.append(
                    f"{name}: too little text there to say of the {len(shown)} shown in the mixture ({said})"
                )
            elif shown.empty:
                out.append(f"{name}: none is shown in the mixture ({said})")
            else:
                out.append(
                    f"{name}: {int(same.sum())} of {len(shown)} shown in the mixture are shown there as well"
                    f"{_silent(int(silent.sum()))} ({said})"
                )
    said = [f"{where}, with metrics from the audit's own: " + "; ".join(out) + "."]
    return said + _needed(run, int(shift.summary["documents"]))


def _needed(run: StoredRun, documents: int) -> list[str]:
    """How many documents a verdict there takes, and how an audit comes to them."""
    if documents >= DOCUMENTS_FOR_VERDICT:
        return []
    own, wanted = run.record["summary"]["documents"], audit_of(DOCUMENTS_FOR_VERDICT)
    return [
        f"A verdict there needs {DOCUMENTS_FOR_VERDICT} documents at least, and {documents} were read: an audit of "
        f"{wanted} documents (this one has {own}) reads so many, if the text of the other domains has them."
    ]


def _silent(n: int) -> str:
    return f", {n} have too little text there to say" if n else ""


def _supported(cells: Frame) -> list[str]:
    if "shown_supports" not in cells or not cells["shown"].any():
        return []
    n = int((cells["shown_supports"] == LIKE_THESE).sum())
    total = int(cells["shown"].fillna(False).sum())
    return [
        f"{count(n)} of {count(total)} findings speak of domains like these, of their sign alone; the others speak of "
        "this mixture of domains."
    ]


def _median(rows: Frame, column: str) -> float:
    values = rows[column].to_numpy(dtype="float64", na_value=np.nan)
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def _size(rows: Frame, column: str) -> str:
    return fixed(_median(rows, column), 2, True)


def rows(cells: Frame, outcome: str, alpha: float | int) -> list[dict[str, Any]]:
    """One row per question and metric of an outcome: in how many layers it is shown, differs, and holds."""
    out = []
    part = cells[cells["outcome"] == outcome]
    for (question, metric), mine in part.groupby(["question", "metric"], sort=False):
        known = mine[mine["n_domains"] > 0]
        shown = mine["shown"].fillna(False).astype(bool)
        there = mine["shown_there"]
        same = np.sign(mine["there"].astype("Float64")) == np.sign(mine["estimate"])
        out.append(
            {
                "question": QUESTIONS[str(question)],
                "metric": str(metric),
                "layers": len(mine),
                "shown": int(shown.sum()),
                "differ": int((mine["p_holm"].astype("Float64") <= alpha).fillna(False).sum()),
                "least": float(known["least"].min()) if len(known) else np.nan,
                "most": float(known["most"].max()) if len(known) else np.nan,
                "new": int(_excludes(mine).sum()),
                "compared": int(mine["reason"].isna().sum()),
                "median": _median(mine, "estimate"),
                "there": _median(mine, "there"),
                "held": None
                if there.isna().all()
                else int((shown & there.fillna(False).astype(bool) & same.fillna(False)).sum()),
            }
        )
    return out


def strongest(cells: Frame, question: str, outcome: str) -> Series | None:
    """The metric cell with the largest |estimate| of a question, among those that domains are compared in."""
    mine = cells[(cells["question"] == question) & (cells["outcome"] == outcome)]
    mine = mine[mine["reason"].isna() & mine["whole"].notna()]
    return None if mine.empty else mine.loc[mine["whole"].astype(float).abs().idxmax()]
