"""What the page of calibrated_moe says: the answers in sentences, how things are measured, and limits."""

from __future__ import annotations

from typing import Any

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.report.words.numbers import estimate

from ..pages import Tables, of
from .classifiers.methods import GLOBAL, NONE
from .scores import IN_DOMAIN

WHAT = {
    "digits": "30 % of the images are hard (noise, and 30 % of their labels drawn at random), "
    "in training, validation and the in-domain mix alike. Starred strata were never trained on.",
    "text": "The next character (34 classes) of documents of eight domains, from the 8 characters before "
    "it. Starred domains were held out of training and validation.",
}
HOW = (
    "A setting of the classifiers is a task, a routing and one of three robust losses. Vanilla is the plain loss. "
    "Tilted weighs the samples of a batch by softmax({} l), filtered adds that over samples on which routing matters "
    "to the plain loss (both as in arXiv 2606.20544 and its code); bounded moves weight between routing configurations "
    "within a KL of {} nats. One temperature divides the logarithm of a model's answer by T, fitted on validation "
    "samples of the training mix by their loss, the same way for every model. A gain is mostly gone if the interval of "
    "its share that is left lies below one half. Intervals are 95 %, over test images or documents and over seeds."
)
LIMITS = [
    "Classifiers: two small tasks and mixtures of four linear experts; the published results are on CIFAR-10H, "
    "CivilComments and PACS with pretrained trunks, which were not rerun.",
    "Language models: a sparse model mixes hidden states and not probabilities, so neither of the paper's two theorems "
    "is about it, and its tilt was never published for one. A sample is a token here, and a batch holds 2,048 of them.",
    "Models of 1 to 3 million parameters after 0.6 million tokens know little: their confidence is that of a model far "
    "from trained.",
    "The test set is fixed; intervals do not cover another draw of the task, such as other hard inputs or other "
    "held-out domains. With few seeds they are wide by design (t limits).",
    "ECE has 15 bins of equal width on the top class and is biased upward by noise, alike for all models on the same "
    "rows; the signed gap is not.",
    "Intervals are not corrected for the number of cells shown.",
]


def classifier_sentence(advantage: Frame, tasks: dict[str, Any]) -> str:
    """What the verdicts on ECE in the strata of interest add up to."""
    rows: Frame = pd.concat(
        advantage[(advantage["task"] == n) & (advantage["stratum"] == t["focus"])]
        for n, t in tasks.items()
    )
    rows = rows[rows["metric"] == "ece"]
    counts = rows["verdict"].value_counts()
    worse = int(counts.get("worse as trained", 0))
    gains = int(len(rows) - counts.get("no decided gain", 0) - worse)
    gone, left, open_ = (
        int(counts.get(words, 0)) for words in ("mostly gone", "mostly left", "undecided")
    )
    return (
        "Of classifier mixtures, training against the worst case lowers the error of confidence under shift in "
        f"{gains} of {len(rows)} settings and raises it in {worse}; after one temperature on both sides the gain is "
        f"mostly gone in {gone}, mostly left in {left}, undecided in {open_}."
    )


def language_sentences(tables: Tables, task: dict[str, Any]) -> list[str]:
    """What the shift does to the arm that others are compared with, and what the tilted arms do to that."""
    base, seeds = task["against"], task["seeds"]
    shift, differences = tables["shift"], tables["language"]
    moved = [
        _limits(of(shift, training=base, recalibration=r, metric="gap"), "value", True)
        for r in (NONE, GLOBAL)
    ]
    said = [
        f"Of sparse language models ({base}), confidence less accuracy rises on held-out domains by {moved[0]} against "
        f"the training mix, and by {moved[1]} after one temperature ({seeds} seeds, {task['clusters']} documents)."
    ]
    for arm in task["arms"]:
        if "tilted" not in arm:
            continue
        ece, mix, right, loss = (
            of(differences, training=arm, stratum=stratum, metric=metric)
            for stratum, metric in (
                (task["focus"], "ece"), (IN_DOMAIN, "ece"), (IN_DOMAIN, "accuracy"), (IN_DOMAIN, "nll"),
            )
        )  # fmt: skip
        said.append(
            f"{arm} against {base}: on held-out domains ECE {_limits(ece, 'raw', True)} as trained and "
            f"{_limits(ece, 'after', True)} with one temperature each; on the training mix ECE "
            f"{_limits(mix, 'raw', True)} as trained, accuracy {_limits(right, 'after', True)}, and loss "
            f"{_limits(loss, 'after', True)} nats a token with the temperatures."
        )
    return said


def _limits(row: dict[str, Any], value: str, sign: bool) -> str:
    low, high = ("low", "high") if value == "value" else (f"{value}_low", f"{value}_high")
    return estimate(row[value], row[low], row[high], sign)
