"""What a pruning curve says in words. Every sentence is about numbers that stand in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moeaudit.stats.least import DOCUMENTS_FOR_VERDICT
from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    OPEN,
    PREDICTIVE,
    REVERSED,
    THE_LAYER,
    TOO_FEW,
)

from ..words.evidence import metric_name
from ..words.numbers import Number, decimals_for, fixed, percent, plural, significant

if TYPE_CHECKING:
    from moeaudit.pruning.result import PruneCurve

DEPTHS = {
    "all": "all MoE layers",
    "early": "the first third of the MoE layers",
    "middle": "the middle third of the MoE layers",
    "late": "the last third of the MoE layers",
}
SCOPES = {"layer": "the same share in each layer", "global": "ranked over all layers together"}


def criterion_name(name: str) -> str:
    """What a criterion is called for a reader."""
    ours = {"router_norm": "router-weight norm", "causal_harm": "causal harm", "random": "random"}
    return ours.get(name) or metric_name(name)[0]


def luck(row: Mapping[str, Any], margin: Number) -> tuple[str, str]:
    """Whether a criterion chose better than random draws do: a word or two, and what they mean."""
    if missing(row.get("verdict")):
        return "\N{EN DASH}", f"not asked: {row.get('reason') or 'no random choices'}"
    if row["verdict"] == TOO_FEW:
        return "too little text", "documents are too few, or a few of them carry the difference"
    if row["verdict"] == PREDICTIVE and row["supports"] == THE_LAYER:
        return "yes", f"cheaper than random choices, by more than {margin:g} nats a token"
    if row["verdict"] == OPEN and row["supports"] == THE_LAYER:
        return "yes, size open", "cheaper than random choices; by how much is open"
    these, low, high = (
        row[k] for k in ("verdict_these_experts", "simultaneous_low", "simultaneous_high")
    )
    if these in (PREDICTIVE, REVERSED, OPEN, BELOW) and (low > 0 or high < 0):
        way = "cheaper" if low > 0 else "dearer"
        return f"{way} here", (
            f"the experts that went are {way} to lose than the mean random choice; that the criterion would "
            "choose so again, and not by luck, is not shown"
        )
    if these in (BELOW, EQUIVALENT):
        return (
            "alike here",
            f"the experts that went cost what random ones do, within {margin:g} nats a token",
        )
    return "open", "neither cheaper nor dearer than random choices is shown"


def kept_share(keep: Number) -> str:
    """A share of experts as 87.5% or 75%."""
    return f"{100 * keep:.4g}%"


def headline(curve: PruneCurve) -> str:
    """The answer in one sentence: what the deepest cut that was asked for costs."""
    cell, rows = deepest(curve)
    documents = len(curve.boot.sums.document)
    if documents < DOCUMENTS_FOR_VERDICT:
        return (
            f"Too little text to say: {plural(documents, 'document')} were evaluated, and a verdict needs "
            f"{DOCUMENTS_FOR_VERDICT}"
        )
    named = [r for r in rows if r["kind"] == "criterion"]
    drawn = next((r for r in rows if r["kind"] == "random"), None)
    if not any(r.get("dropped") for r in named) and drawn is None:
        return "No expert went, so nothing changed"
    cut = f"Without {gone(curve, cell)}"
    if not named:
        assert drawn is not None
        return (
            f"{cut}, chosen at random, the loss {rises(drawn['d_nll'])} nats a token on average "
            f"({bracket(drawn)} in the middle {percent(curve.level, 0)} of {drawn['draws']:.0f} draws)"
        )
    if len(named) == 1:
        only = named[0]
        whole, less = (significant(x, 3) for x in (rows[0]["ppl"], only["ppl"]))
        by = f"chosen by {criterion_name(only['criterion'])}"
        if only["low"] <= 0 <= only["high"]:
            return (
                f"{cut}, {by}, no change of the loss is shown: {fixed(only['d_nll'], 4, True)} nats a token "
                f"({bracket(only)}), perplexity {whole} beside {less}"
            )
        return (
            f"{cut}, {by}, the loss {rises(only['d_nll'])} nats a token ({bracket(only)}): "
            f"perplexity {whole} becomes {less}"
        )
    costs = sorted(r["d_nll"] for r in named)
    span = f"{fixed(costs[0], 3, True)} to {fixed(costs[-1], 3, True)}"
    beside = (
        ""
        if drawn is None
        else f", and by {fixed(drawn['d_nll'], 3, True)} if they are chosen at random"
    )
    return f"{cut} the loss changes by {span} nats a token, depending on the criterion{beside}"


def sentences(curve: PruneCurve) -> list[str]:
    """What else a reader should know before the figure."""
    out = []
    rows = [r for r in rows_of(curve) if r["kind"] == "criterion" and r.get("dropped")]
    asked = [r for r in rows if not missing(r.get("verdict"))]
    if asked:
        said = [luck(r, curve.margin)[0] for r in asked]
        better = [
            criterion_name(r["criterion"]) for r, w in zip(asked, said) if w.startswith("yes")
        ]
        here = said.count("cheaper here")
        out.append(
            f"Better than luck over experts: shown for {len(better)} of {plural(len(asked), 'cut')} (a criterion at a "
            + f"share){': ' + ', '.join(dict.fromkeys(better)) if better else ''}."
            + (
                f" In {here} the experts that went are shown to be cheaper to lose than the mean random choice, which "
                "luck may explain."
                if here
                else ""
            )
        )
    elif rows:
        out.append(
            "Whether criteria do better than luck was not asked: no random choices were drawn."
        )
    if len({r["criterion"] for r in rows}) > 1:
        out += _between(curve)
        out.append(
            "The cheapest of several criteria tends to look cheaper than it is: it was picked on these documents."
        )
    about = curve.texts.get("evaluated")
    if about:
        out.append(
            f"Measured on {plural(about['documents'], 'document')} ({about['tokens']:,} tokens) that had no part in "
            "the choice. Other text, and abilities other than predicting it, may answer otherwise."
        )
    return out


def _between(curve: PruneCurve) -> list[str]:
    """Whether the criterion matters, in one sentence over all cells in which something went."""
    table: Any = curve.interchangeability()
    table = table[table["keep"] < 1]
    if not len(table):
        return []
    count = table["verdict"].value_counts().to_dict()
    said = [f"{word} in {number}" for word, number in count.items()]
    at = f"At {plural(len(table), 'share')}, criteria are {', '.join(said)}"
    if len(table) == 1:
        at = f"Criteria are {next(iter(count))}"
    whom = int((table["supports"] == THE_LAYER).sum())
    more = ""
    if "not interchangeable" in count and table["p_spread"].notna().any():
        more = (
            " That they also range more widely than as many random choices do is shown in "
            f"{whom or 'none'} of them."
        )
    return [
        f"Does the criterion matter? {at} (by "
        f"{curve.margin:g} nats a token, for the experts that went).{more}"
    ]


def deepest(curve: PruneCurve) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The cell with the fewest experts left, of those over all layers if there are some, and its rows."""
    rows = rows_of(curve)
    cells = list(dict.fromkeys((r["scope"], r["depth"], r["keep"]) for r in rows))
    cells.sort(key=lambda c: (c[1] != "all", c[0] != "layer", c[2]))
    scope, depth, keep = cells[0]
    found = [r for r in rows if (r["scope"], r["depth"], r["keep"]) == cells[0]]
    return {"scope": scope, "depth": depth, "keep": keep}, found


def rows_of(curve: PruneCurve) -> list[dict[str, Any]]:
    """The rows of `overview` as dictionaries."""
    return [{str(k): v for k, v in row.items()} for row in curve.overview().to_dict("records")]


def gone(curve: PruneCurve, cell: Mapping[str, Any]) -> str:
    """`25% of its experts`, by what really went."""
    table: Any = curve.table
    for name, value in cell.items():
        table = table[table[name] == value]
    of = {"all": "its experts", "early": "the experts of its first third"}
    of |= {"middle": "the experts of its middle third", "late": "the experts of its last third"}
    layers = sorted(curve.experts)
    if cell["depth"] != "all":
        parts = [list(part) for part in _thirds(layers)]
        layers = parts[["early", "middle", "late"].index(cell["depth"])]
    share = int(table["dropped"].max()) / sum(curve.experts[layer] for layer in layers)
    return f"{100 * share:.3g}% of {of[cell['depth']]}"


def _thirds(layers: list[int]) -> list[Any]:
    import numpy as np

    return np.array_split(np.array(layers), 3)


def rises(change: Number) -> str:
    """`rises by 0.066` or `falls by 0.002`."""
    return f"{'rises' if change >= 0 else 'falls'} by {fixed(abs(change), 3)}"


def bracket(row: Mapping[str, Any]) -> str:
    """Limits of the loss that was added, as `+0.051 to +0.083`."""
    decimals = max(3, decimals_for((row["high"] - row["low"]) / 2))
    return f"{fixed(row['low'], decimals, True)} to {fixed(row['high'], decimals, True)}"


def missing(value: Any) -> bool:
    """Whether a table's entry is null, in any of the ways pandas writes it."""
    import pandas as pd

    return value is None or value is pd.NA or bool(value != value)
