"""The tables on the page of calibrated_moe."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate, fixed

from ..pages import change, said
from .classifiers.methods import GLOBAL, NONE, PUBLISHED, ROUTED


def score_table(scores: Frame, strata: list[str], caption: str) -> Markup:
    usual = scores[scores["recalibration"].isin([NONE, GLOBAL, PUBLISHED, ROUTED])]
    wide = {
        (r["training"], r["recalibration"], r["stratum"], r["metric"]): r for r in rows_of(usual)
    }
    rows = [
        {"training": t, "recalibration": c, "stratum": s}
        for s in strata
        for t, c in dict.fromkeys((k[0], k[1]) for k in wide)
    ]

    def cell(metric: str, sign: bool) -> Any:
        def write(row: Any) -> str:
            r = wide[row["training"], row["recalibration"], row["stratum"], metric]
            return estimate(r["value"], r["low"], r["high"], sign)

        return write

    columns = [
        Column("stratum", lambda r: r["stratum"], text=True),
        Column("training", lambda r: r["training"], text=True),
        Column("recalibration", lambda r: r["recalibration"], text=True),
        Column("signed gap", cell("gap", True)),
        Column("|gap|", cell("abs_gap", False)),
        Column("ECE", cell("ece", False)),
        Column("accuracy", cell("accuracy", False)),
        Column("loss (nats)", cell("nll", False)),
    ]
    return table(rows, columns, caption)


def advantage_table(advantage: Frame, strata: list[str], caption: str) -> Markup:
    rows = advantage[(advantage["metric"] == "ece") & advantage["stratum"].isin(strata)]
    columns = [
        Column("training", lambda r: r["training"], text=True),
        Column("stratum", lambda r: r["stratum"], text=True),
        Column("as trained", lambda r: estimate(r["raw"], r["raw_low"], r["raw_high"])),
        Column("both with T", lambda r: estimate(r["after"], r["after_low"], r["after_high"])),
        Column(
            "share left",
            lambda r: estimate(r["share_left"], r["share_low"], r["share_high"], False),
        ),
        Column("verdict", lambda r: r["verdict"], text=True),
    ]
    return table(rows_of(rows), columns, caption)


def difference_table(differences: Frame, strata: list[str]) -> Markup:
    rows = differences[
        differences["stratum"].isin(strata) & differences["metric"].isin(["ece", "accuracy", "nll"])
    ]
    columns = [
        Column("comparison", lambda r: r["comparison"], text=True),
        Column("training", lambda r: r["training"], text=True),
        Column("stratum", lambda r: r["stratum"], text=True),
        Column("metric", lambda r: r["metric"], text=True),
        Column("difference", lambda r: estimate(r["value"], r["low"], r["high"])),
    ]
    return table(rows_of(rows), columns, "Paired differences")


def routing_table(facts: Frame) -> Markup:
    kept = facts[facts["recalibration"].isin([NONE, GLOBAL])]
    means = kept.groupby(["training", "recalibration"], sort=False).mean(numeric_only=True)
    columns = [
        Column("training", lambda r: r["training"], text=True),
        Column("recalibration", lambda r: r["recalibration"], text=True),
        Column("largest router weight", lambda r: fixed(r["largest_weight"], 2)),
        Column("experts with 1 % of rows", lambda r: fixed(r["experts_used"], 1)),
        Column("largest |gap| of an expert", lambda r: fixed(r["expert"], 3)),
        Column("worst |gap| within 0.1 nats", lambda r: fixed(r["worst"], 3)),
    ]
    return table(rows_of(means.reset_index()), columns, "In-domain rows, means over seeds")


def example_table(example: Frame) -> Markup:
    columns = [
        Column("routing", lambda r: r["routing"], text=True),
        Column("mix of configurations", lambda r: r["mix"], text=True),
        Column("gap", lambda r: fixed(r["gap"], 2, True)),
    ]
    words = Markup(
        "<h2>The closed-form example</h2><p>Two experts always say 0.5. Soft routing is calibrated on its "
        "three configurations together and off by exactly 0.20 once all mass is in the middle one; hard "
        "routing keeps its 0 under every mix of experts, as long as what holds given the chosen expert "
        "and the confidence goes on holding. The last two rows break that premise.</p>"
    )
    return words + table(rows_of(example), columns, "Signed gap, confidence minus P(Y = 1)")


def shift_table(shift: Frame) -> Markup:
    """What the shift does to each arm."""
    wide = {(r["training"], r["recalibration"], r["metric"]): r for r in rows_of(shift)}
    rows = [
        {"training": t, "recalibration": c} for t, c in dict.fromkeys((k[0], k[1]) for k in wide)
    ]

    def cell(metric: str) -> Any:
        def write(row: Any) -> str:
            r = wide[row["training"], row["recalibration"], metric]
            return estimate(r["value"], r["low"], r["high"], True)

        return write

    columns = [
        Column("arm", lambda r: r["training"], text=True),
        Column("recalibration", lambda r: r["recalibration"], text=True),
        Column("signed gap", cell("gap")),
        Column("ECE", cell("ece")),
        Column("accuracy", cell("accuracy")),
        Column("loss (nats)", cell("nll")),
    ]
    return table(rows, columns, "Held-out domains less the training mix, at the same seed")


def language_table(differences: Frame, strata: list[str]) -> Markup:
    rows = differences[differences["stratum"].isin(strata) & (differences["metric"] != "abs_gap")]
    columns = [
        Column("arm", lambda r: r["training"], text=True),
        Column("less", lambda r: r["against"], text=True),
        Column("on", lambda r: r["stratum"], text=True),
        Column("of", lambda r: r["metric"], text=True),
        Column("as trained", lambda r: estimate(r["raw"], r["raw_low"], r["raw_high"])),
        Column("both with T", lambda r: estimate(r["after"], r["after_low"], r["after_high"])),
        Column("gain after T", lambda r: r["verdict"] or "", text=True),
    ]
    return table(rows_of(rows), columns, "Arms against the first, at the same seed and documents")


def models_table(arms: Frame) -> Markup:
    columns = [
        Column("arm", lambda r: r["arm"], text=True),
        Column("seeds", lambda r: r["seeds"]),
        Column("loss of its card (nats)", lambda r: said(r, "nll")),
        Column("temperature", lambda r: said(r, "temperature")),
        Column("worst |gap| by routing", lambda r: said(r, "worst")),
        Column("the same, routing turned", lambda r: said(r, "worst_null")),
        Column("excess", lambda r: change(r, "worst_excess")),
    ]
    return table(
        rows_of(arms),
        columns,
        "Temperatures, and how far routing alone can move the gap in domain after them: mixes of a layer's first "
        "experts within 0.1 nats, a mean over layers; turned: experts of the tokens turned round against their errors",
    )
