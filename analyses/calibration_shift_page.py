"""The page of analyses/calibration_under_shift.py: answer first, then figures, then tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from calibration_shift_figures import advantages, gaps
from calibration_shift_methods import GLOBAL, NONE, PUBLISHED, ROUTED
from calibration_shift_scores import IN_DOMAIN, WORST_SEEN, WORST_SHIFTED
from markupsafe import Markup

from moeaudit.report.numbers import estimate, fixed
from moeaudit.report.policy import policy
from moeaudit.report.tables import Column, folded, rows_of, table
from moeaudit.runs.frames import Frame

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.25rem;margin-top:2.4rem}h3{font-size:1.05rem}
p,li{max-width:48rem}.note{color:#4a5562}table{border-collapse:collapse;font-size:.85rem}
caption{text-align:left;font-weight:600;padding:.6rem 0}
th,td{padding:.25rem .6rem;border-bottom:1px solid #dde3ea;text-align:left;font-weight:400}
thead th{font-weight:600;vertical-align:bottom}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto}svg{width:100%;height:auto;margin:.5rem 0}svg text{font:12px system-ui,sans-serif;fill:#1d2733}
svg .strong{font-weight:600}.grid{stroke:#e3e7ec}.zero{stroke:#68727e}.band{fill:#f6f7f9}.bar{stroke-width:1.6}
.c0{fill:#4a5562;stroke:#4a5562}.c1{fill:#c4500a;stroke:#c4500a}.c2{fill:#1f6aa5;stroke:#1f6aa5}
.c3{fill:#7154a5;stroke:#7154a5}details{margin:.8rem 0}summary{cursor:pointer}
"""
WHAT = {
    "digits": "30 % of the images are hard (noise, and 30 % of their labels drawn at random), "
    "in training, validation and the in-domain mix alike. Starred strata were never trained on.",
    "text": "The next character (34 classes) of documents of eight domains, from the 8 characters before "
    "it. Starred domains were held out of training and validation.",
}


def write_page(path: Path, frames: dict[str, Frame], record: dict[str, Any]) -> None:
    """One self-contained file without scripts."""
    body = [Markup("<h1>{}</h1>").format(headline(frames["advantage"], record))]
    if record["quick"]:
        body.append(
            Markup("<p><b>A try-out with short training and 2 seeds; read nothing into it.</b></p>")
        )
    body.append(HOW)
    for name, task in record["tasks"].items():
        body.append(Markup("<h2>{}</h2><p>{}</p>").format(name.capitalize(), WHAT[name]))
        body.append(_facts(task))
        for routing in ("soft", "hard"):
            body.append(_routing(name, task, routing, frames))
    body.append(_example(frames["example"]))
    body.append(LIMITS)
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy([], [STYLE])}">'
        f"<title>Calibration under shift</title><style>{STYLE}</style>"
    )
    text = Markup("\n").join(body)
    path.write_text(
        f'<!doctype html><html lang="en"><head>{head}</head><body>{text}</body></html>\n',
        encoding="utf-8",
    )


def headline(advantage: Frame, record: dict[str, Any]) -> str:
    """What the verdicts on ECE in the strata of interest add up to."""
    rows: Frame = pd.concat(
        advantage[(advantage["task"] == n) & (advantage["stratum"] == t["focus"])]
        for n, t in record["tasks"].items()
    )
    rows = rows[rows["metric"] == "ece"]
    counts = rows["verdict"].value_counts()
    gains = int(len(rows) - counts.get("no decided gain", 0) - counts.get("worse as trained", 0))
    return (
        f"Training against the worst case lowers the error of confidence under shift in {gains} of "
        f"{len(rows)} settings; after one temperature on both sides the gain is mostly gone in "
        f"{counts.get('mostly gone', 0)}, mostly left in {counts.get('mostly left', 0)}, undecided in "
        f"{counts.get('undecided', 0)}"
    )


HOW = Markup(
    "<p class='note'>A setting is a task, a routing and one of three robust losses. Vanilla is the plain "
    "loss. Tilted weighs the samples of a batch by softmax(2 l), filtered adds that over samples on which "
    "routing matters to the plain loss (both as in arXiv 2606.20544 and its code); bounded moves weight "
    "between routing configurations within a KL of 0.5 nats. One temperature divides the log of the "
    "mixture's answer by T, fitted on validation samples of the training mix by their loss, the same way "
    "for every model. A gain is mostly gone if the interval of its share that is left lies below one "
    "half. Intervals are 95 %, over test images or documents and over seeds.</p>"
)
LIMITS = Markup(
    "<h2>Limits</h2><ul><li>Two small tasks and mixtures of four linear experts; the published results "
    "are on CIFAR-10H, CivilComments and PACS with pretrained trunks, which were not rerun.</li>"
    "<li>The test set is fixed; intervals do not cover another draw of the task, such as other hard "
    "inputs. With few seeds they are wide by design (t limits).</li>"
    "<li>ECE has 15 bins of equal width on the top class and is biased upward by noise, alike for all "
    "models on the same rows; the signed gap is not.</li>"
    "<li>Intervals are not corrected for the number of cells shown.</li></ul>"
)


def _facts(task: dict[str, Any]) -> Markup:
    return Markup(
        "<p class='note'>{} test rows in {} clusters; {} seeds. A seed draws the training and validation "
        "samples, initial weights and batch order.</p>"
    ).format(f"{task['rows']:,}", f"{task['clusters']:,}", task["seeds"])


def _routing(name: str, task: dict[str, Any], routing: str, frames: dict[str, Frame]) -> Markup:
    def of(table_name: str) -> Frame:
        f = frames[table_name]
        return f[(f["task"] == name) & (f["routing"] == routing)]

    scores, differences, advantage = of("scores"), of("differences"), of("advantage")
    strata = [*task["seen"], *task["shifted"]]
    focus = task["focus"]
    figure = gaps(scores, strata, f"Signed gap by stratum, {name}, {routing}", set(task["shifted"]))
    second = advantages(
        differences, [focus, IN_DOMAIN], f"Differences in ECE, {name}, {routing} routing"
    )
    key = [IN_DOMAIN, focus, WORST_SEEN, WORST_SHIFTED]
    keyed = list(dict.fromkeys(key))
    return Markup("\n").join(
        [
            Markup("<h3>{} routing: {}</h3>").format(
                routing.capitalize(), _sentence(advantage, focus)
            ),
            figure,
            second,
            _score_table(scores, keyed, f"{name}, {routing} routing: scores"),
            _advantage_table(
                advantage, keyed, f"{name}, {routing}: what is left of the gain in ECE"
            ),
            folded(
                "Vanilla with one temperature per expert, against one for all",
                _difference_table(differences[differences["training"] == "vanilla"], keyed),
            ),
            folded(
                "The robust losses as trained, against vanilla with a temperature",
                _difference_table(
                    differences[
                        (differences["training"] != "vanilla")
                        & differences["comparison"].str.contains("vanilla with one")
                    ],
                    keyed,
                ),
            ),
            folded("Routing, over seeds", _routing_table(of("configurations"))),
        ]
    )


def _sentence(advantage: Frame, focus: str) -> str:
    rows = advantage[(advantage["stratum"] == focus) & (advantage["metric"] == "ece")]
    parts = [f"{r['training']}: {r['verdict']}" for r in rows_of(rows)]
    return f"gain in ECE on {focus}, after one temperature: {'; '.join(parts)}"


def _score_table(scores: Frame, strata: list[str], caption: str) -> Markup:
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


def _advantage_table(advantage: Frame, strata: list[str], caption: str) -> Markup:
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


def _difference_table(differences: Frame, strata: list[str]) -> Markup:
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


def _routing_table(facts: Frame) -> Markup:
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


def _example(example: Frame) -> Markup:
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
