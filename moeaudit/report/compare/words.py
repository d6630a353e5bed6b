"""What a comparison says, in sentences: the main difference first, then places, orders, verdicts and how it was
paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from moeaudit.frames import Frame
from moeaudit.stats.difference.verdicts import (
    A_MORE,
    ALIKE,
    B_MORE,
    BELOW,
    INCONCLUSIVE,
    NOT_ESTIMABLE,
    OPEN,
    SAME,
    SHOWN,
    TOO_FEW,
)

from ..pages.tables import rows_of
from ..words.evidence import outcome_name
from ..words.numbers import count, estimate, fixed, percent, plural, significant
from .about import paired, samples

if TYPE_CHECKING:
    from .pairs import Pair
    from .result import Compared

UNITS = {"flip": "", "delta_confidence": "", "delta_brier": ""}  # others are nats


def unit(outcome: str) -> str:
    return UNITS.get(outcome, "nats")


def with_unit(number: str, outcome: str) -> str:
    return f"{number} {unit(outcome)}".strip()


def bound_words(compared: Compared, outcome: str) -> str:
    """`0.01 nats`: the smallest difference of interest; `any size` where none was set."""
    sesoi = compared.how.sesoi
    return "any size" if sesoi is None else with_unit(f"{sesoi:g}", outcome)


def verdict_words(verdict: str, a: str, b: str) -> str:
    """A verdict with the runs' own letters."""
    return {A_MORE: f"larger in {a}", B_MORE: f"larger in {b}"}.get(verdict, verdict)


def headline(compared: Compared) -> str:
    """The answer in one sentence, without a full stop."""
    outcome = compared.outcomes[0]
    if compared.identical:
        return "These runs hold the same numbers: every difference is exactly 0.0, and nothing is claimed"
    return "; ".join(_main(compared, row, outcome) for row in _rows(compared.whole, outcome))


def _main(compared: Compared, row: dict[str, Any], outcome: str) -> str:
    a, b, verdict = row["a"], row["b"], row["verdict"]
    name, size = outcome_name(outcome), bound_words(compared, outcome)
    beyond = "" if compared.how.sesoi is None else f", by more than {size}"
    return {
        A_MORE: f"{name} is larger in {a} than in {b}{beyond}",
        B_MORE: f"{name} is larger in {b} than in {a}{beyond}",
        OPEN: f"{name} is {'larger' if row['difference'] > 0 else 'smaller'} in {a} than in {b}; by more or less "
        f"than {size} is open",
        BELOW: f"{name} differs between {a} and {b}, by less than {size}",
        ALIKE: f"{name} is alike in {a} and {b}: no difference is shown, and any is below {size}",
        INCONCLUSIVE: f"Whether {name.lower()} differs between {a} and {b} is open",
        TOO_FEW: f"Too few documents to say whether {name.lower()} differs between {a} and {b}",
        SAME: f"{name} is the same in {a} and {b}, to the last bit",
        NOT_ESTIMABLE: f"No difference in {name.lower()} can be given",
    }[verdict]


def follows(compared: Compared) -> str:
    """What a reader may do with it, of the first outcome, on text like this."""
    if compared.identical:
        return "The runs can stand for each other: whatever is computed from one is computed from the other."
    outcome = compared.outcomes[0]
    name, size = outcome_name(outcome).lower(), bound_words(compared, outcome)
    pieces = []
    for row in _rows(compared.whole, outcome):
        a, b = row["a"], row["b"]
        apart = f"{a} and {b} differ by {size} or more: numbers of one cannot stand for those of the other."
        if compared.how.sesoi is None:
            apart = f"{a} and {b} are not the same; no smallest difference of interest says whether that matters."
        pieces.append(
            {
                A_MORE: apart,
                B_MORE: apart,
                OPEN: f"{a} and {b} are not the same; whether by an amount that matters takes more documents to say.",
                BELOW: f"Means of {a} can stand for those of {b} to within {size}; they are not the same.",
                ALIKE: f"Means of {a} can stand for those of {b} to within {size}.",
                INCONCLUSIVE: f"Neither a difference in {name} nor its absence is shown for {a} and {b}: take more "
                "documents.",
                TOO_FEW: f"Take more documents before anything is said of {a} and {b}.",
                SAME: f"For {name}, {a} and {b} can stand for each other.",
                NOT_ESTIMABLE: f"Nothing: {a} and {b} share no rows of {name}.",
            }[row["verdict"]]
        )
    pieces.append(
        "This is about the mean over all rows, on text like this; single experts can differ more, in either direction."
    )
    return " ".join(pieces)


def sentences(compared: Compared) -> list[str]:
    """The findings in order of importance, each a sentence."""
    lead = [headline(compared) + "."]
    if compared.identical:
        return [*lead, *paired(compared)]
    places = [
        s
        for outcome in compared.outcomes
        for p in compared.pairs
        for s in cells(compared, outcome, p)
    ]
    more = [*layers(compared), *ranks(compared), *agreed(compared), *paired(compared)]
    return [*lead, *answer(compared), *places, *more, *samples(compared)]


def answer(compared: Compared) -> list[str]:
    """The numbers behind the headline."""
    return [] if compared.identical else _sizes(compared)


def _rows(table: Frame, outcome: str) -> list[dict[str, Any]]:
    return [] if table.empty else rows_of(table[table["outcome"] == outcome])


def _sizes(compared: Compared) -> list[str]:
    out = []
    for outcome in compared.outcomes:
        for row in _rows(compared.whole, outcome):
            n = f"{count(row['rows_a'])} rows" if row["rows_a"] == row["rows_b"] else (
                f"{count(row['rows_a'])} and {count(row['rows_b'])} rows"
            )  # fmt: skip
            signed = outcome not in ("kl", "flip")
            out.append(
                f"{outcome_name(outcome)}: {with_unit(significant(row['mean_a'], 3, signed), outcome)} in {row['a']} "
                f"and {with_unit(significant(row['mean_b'], 3, signed), outcome)} in {row['b']}, a difference of "
                f"{with_unit(difference(row), outcome)} ({verdict_words(row['verdict'], row['a'], row['b'])}; {n} of "
                f"{count(row['documents'])} documents).{_of_the_mean(row, compared.how.sesoi)}"
            )
    return out


def _of_the_mean(row: Mapping[str, Any], sesoi: float | None) -> str:
    """How large what counts as no difference is beside what is compared."""
    mean = abs(number(row["mean_a"]))
    if row["verdict"] != ALIKE or sesoi is None or not mean > 0:
        return ""
    return f" Alike is meant up to the size of interest, which is {percent(sesoi / mean, 0)} of the mean in {row['a']}."


def difference(row: Mapping[str, Any]) -> str:
    """`+0.012 [+0.004, +0.020]`, or a dash; nothing around an exact 0.0."""
    value, low, high = (number(row[name]) for name in ("difference", "low", "high"))
    return "0.0, exactly" if row["verdict"] == SAME else estimate(value, low, high)


def number(value: Any) -> float:
    """A number as a float; NaN for a null."""
    return float("nan") if value is None or value is pd.NA else float(value)


def cells(compared: Compared, outcome: str, pair: Pair) -> list[str]:
    """How many experts differ in one outcome, for one pair."""
    return _counted(compared, compared.cells, "expert", "experts", (outcome,), (pair,))


def layers(compared: Compared) -> list[str]:
    """How many layers (or thirds of the depth, where layers are not the same places) differ."""
    if not compared.layers.empty:
        return _counted(compared, compared.layers, "layer", "layers")
    return _counted(compared, compared.thirds, "third of the depth", "thirds of the depth")


def _counted(
    compared: Compared,
    table: Frame,
    one: str,
    many: str,
    outcomes: Sequence[str] | None = None,
    pairs: Sequence[Pair] | None = None,
) -> list[str]:
    """How many places of a kind got which verdict, an outcome and pair a sentence."""
    out = []
    for outcome in (outcomes or compared.outcomes) if not table.empty else ():
        for pair in pairs or compared.pairs:
            a, b = pair.a.letter, pair.b.letter
            rows = [row for row in _rows(table, outcome) if row["b"] == b]
            if not rows:
                continue
            found = [row["verdict"] for row in rows]
            size = bound_words(compared, outcome)
            beyond = "" if compared.how.sesoi is None else f" by more than {size}"
            words = {
                A_MORE: f"larger in {a}{beyond}",
                B_MORE: f"larger in {b}{beyond}",
                OPEN: "different with the size open",
                BELOW: f"different by less than {size}",
                ALIKE: f"alike (none shown, any below {size})",
                INCONCLUSIVE: "undecided",
                TOO_FEW: "undecided for too few documents",
                SAME: "the same numbers",
                NOT_ESTIMABLE: "not estimable (active in one run only)",
            }
            parts = [
                f"{n} {said}" for verdict, said in words.items() if (n := found.count(verdict))
            ]
            shown = sum(found.count(verdict) for verdict in SHOWN)
            out.append(
                f"{outcome_name(outcome)} by {one}, {a} and {b}: a difference is shown in {shown} of "
                f"{plural(len(found), one, many)}, corrected for looking at all of them ({', '.join(parts)})."
            )
    return out


def ranks(compared: Compared) -> list[str]:
    """How far the runs put a layer's experts in one order."""
    out = []
    for pair in compared.pairs if not compared.ranks.empty else ():
        for outcome in compared.outcomes:
            rows = [r for r in _rows(compared.ranks, outcome) if r["b"] == pair.b.letter]
            rho, apart, halves = (
                np.array([number(r[k]) for r in rows]) for k in ("rho", "apart", "halves")
            )
            known = np.isfinite(rho)
            if not known.any():
                continue
            text = (
                f"Order of a layer's experts by {outcome_name(outcome).lower()}, {pair.a.letter} against "
                f"{pair.b.letter}: rank correlation {fixed(np.median(rho[known]), 2)} in the median of "
                f"{plural(int(known.sum()), 'layer')} ({fixed(rho[known].min(), 2)} to {fixed(rho[known].max(), 2)})"
            )
            both = np.isfinite(apart) & np.isfinite(halves)
            if both.any():
                text += (
                    f"; from separate halves of the documents {fixed(np.median(apart[both]), 2)}, where the halves of "
                    f"one run agree to {fixed(np.median(halves[both]), 2)}"
                )
            out.append(text + ".")
    return out


def agreed(compared: Compared) -> list[str]:
    """How often the runs come to the same verdict on a routing metric."""
    out = []
    for row in rows_of(compared.agreement) if not compared.agreement.empty else ():
        out.append(
            f"Verdicts on routing metrics ({row['question']}, {outcome_name(row['outcome']).lower()}), {row['a']} and "
            f"{row['b']}: the same in {row['same']} of {row['cells']}; an effect is shown in {row['shown_a']} and "
            f"{row['shown_b']}, in both in {row['shown_both']}, of opposite sign in {row['opposite']}. Counts, not a "
            "test: a verdict that is shown in one run only is no evidence that the runs differ."
        )
    return out
