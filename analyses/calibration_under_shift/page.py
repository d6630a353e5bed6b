"""The page of analyses/calibration_under_shift: answer first, then figures, then tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.report.pages.policy import policy
from moeaudit.report.pages.tables import folded, rows_of

from .figures import STYLE as FIGURE_STYLE
from .figures import advantages, gaps, standalone
from .scores import IN_DOMAIN, WORST_SEEN, WORST_SHIFTED
from .tables import advantage_table, difference_table, example_table, routing_table, score_table

STYLE = (
    FIGURE_STYLE
    + """
body{font:16px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.5rem;line-height:1.3}h2{font-size:1.25rem;margin-top:2.4rem}h3{font-size:1.05rem}
p,li{max-width:48rem}.note{color:#4a5562}table{border-collapse:collapse;font-size:.85rem}
caption{text-align:left;font-weight:600;padding:.6rem 0}
th,td{padding:.25rem .6rem;white-space:nowrap;border-bottom:1px solid #dde3ea;text-align:left;font-weight:400}
thead th{font-weight:600;vertical-align:bottom}.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.scroll{overflow-x:auto}svg{width:100%;height:auto;margin:.5rem 0}
details{margin:.8rem 0}summary{cursor:pointer}
"""
)
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
    body.append(how(next(iter(record["tasks"].values()))["settings"]))
    for name, task in record["tasks"].items():
        body.append(Markup("<h2>{}</h2><p>{}</p>").format(name.capitalize(), WHAT[name]))
        body.append(_facts(task))
        for routing in ("soft", "hard"):
            figures = _figures(name, task, routing, frames)
            for kind, figure in figures.items():
                file = path.with_name(f"{kind}-{name}-{routing}.svg")
                file.write_text(standalone(figure), encoding="utf-8")
            body.append(_routing(name, task, routing, frames, list(figures.values())))
    body.append(example_table(frames["example"]))
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
    worse = int(counts.get("worse as trained", 0))
    gains = int(len(rows) - counts.get("no decided gain", 0) - worse)
    return (
        f"Training against the worst case lowers the error of confidence under shift in {gains} of "
        f"{len(rows)} settings and raises it in {worse}; after one temperature on both sides the gain is mostly "
        f"gone in {counts.get('mostly gone', 0)}, mostly left in {counts.get('mostly left', 0)}, undecided in "
        f"{counts.get('undecided', 0)}"
    )


def how(settings: dict[str, Any]) -> Markup:
    """What the words of the headline mean."""
    return Markup(
        "<p class='note'>A setting is a task, a routing and one of three robust losses. Vanilla is the plain "
        "loss. Tilted weighs the samples of a batch by softmax({} l), filtered adds that over samples on "
        "which routing matters to the plain loss (both as in arXiv 2606.20544 and its code); bounded moves "
        "weight between routing configurations within a KL of {} nats. One temperature divides the log of "
        "the mixture's answer by T, fitted on validation samples of the training mix by their loss, the "
        "same way for every model. A gain is mostly gone if the interval of its share that is left lies "
        "below one half. Intervals are 95 %, over test images or documents and over seeds.</p>"
    ).format(f"{settings['strength']:g}", f"{settings['radius']:g}")


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


def _of(frames: dict[str, Frame], table_name: str, name: str, routing: str) -> Frame:
    f = frames[table_name]
    return f[(f["task"] == name) & (f["routing"] == routing)]


def _figures(
    name: str, task: dict[str, Any], routing: str, frames: dict[str, Frame]
) -> dict[str, Markup]:
    strata, shifted = [*task["seen"], *task["shifted"]], set(task["shifted"])
    scores, differences = (_of(frames, t, name, routing) for t in ("scores", "differences"))
    where = f"{name}, {routing} routing"
    return {
        "gaps": gaps(scores, strata, f"Signed gap by stratum, {where}", shifted),
        "differences": advantages(
            differences, [task["focus"], IN_DOMAIN], f"Differences in ECE, {where}"
        ),
    }


def _routing(
    name: str,
    task: dict[str, Any],
    routing: str,
    frames: dict[str, Frame],
    figures: list[Markup],
) -> Markup:
    scores, differences, advantage, facts = (
        _of(frames, t, name, routing)
        for t in ("scores", "differences", "advantage", "configurations")
    )
    focus = task["focus"]
    key = [IN_DOMAIN, focus, WORST_SEEN, WORST_SHIFTED]
    keyed = list(dict.fromkeys(key))
    return Markup("\n").join(
        [
            Markup("<h3>{} routing: {}</h3>").format(
                routing.capitalize(), _sentence(advantage, focus)
            ),
            *figures,
            score_table(scores, keyed, f"{name}, {routing} routing: scores"),
            advantage_table(
                advantage, keyed, f"{name}, {routing}: what is left of the gain in ECE"
            ),
            folded(
                "Vanilla with one temperature per expert, against one for all",
                difference_table(differences[differences["training"] == "vanilla"], keyed),
            ),
            folded(
                "The robust losses as trained, against vanilla with a temperature",
                difference_table(
                    differences[
                        (differences["training"] != "vanilla")
                        & differences["comparison"].str.contains("vanilla with one")
                    ],
                    keyed,
                ),
            ),
            folded("Routing, over seeds", routing_table(facts)),
        ]
    )


def _sentence(advantage: Frame, focus: str) -> str:
    rows = advantage[(advantage["stratum"] == focus) & (advantage["metric"] == "ece")]
    parts = [f"{r['training']}: {r['verdict']}" for r in rows_of(rows)]
    return f"gain in ECE on {focus}, after one temperature: {'; '.join(parts)}"
