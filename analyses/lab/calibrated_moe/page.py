"""The page of analyses/lab/calibrated_moe: answers first, then language models, then classifiers, then limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.report.figures.figure import Figure, standalone
from moeaudit.report.pages.sheet import Sheet
from moeaudit.report.pages.tables import folded, rows_of

from ..pages import Tables, sheet_of
from . import language
from .figures import LOOKS, advantages, gaps
from .scores import IN_DOMAIN, WORST_SEEN, WORST_SHIFTED
from .tables import (
    advantage_table,
    difference_table,
    example_table,
    language_table,
    models_table,
    routing_table,
    score_table,
    shift_table,
)
from .words import HOW, LIMITS, WHAT, classifier_sentence, language_sentences


def sentences(tables: Tables, result: dict[str, Any]) -> list[str]:
    """The answers, each with its interval."""
    said = (
        ["A run of the machinery (--quick): no number of it means anything."]
        if result["quick"]
        else []
    )
    if len(tables["advantage"]):
        said.append(classifier_sentence(tables["advantage"], result["tasks"]))
    if language.TASK in result["tasks"]:
        said += language_sentences(tables, result["tasks"][language.TASK])
    return said


def write_page(path: Path, result: dict[str, Any], tables: Tables) -> Path:
    """One self-contained page without scripts; its figures are written beside it as SVG."""
    said, first = result["sentences"], 1 + result["quick"]
    sheet = sheet_of("Calibrated MoE under shift", {**result, "sentences": said[:first]})
    if said[first:]:
        sheet.points(said[first:])
    adversary = result["recipe"]["adversary"]
    sheet.paragraph(HOW.format(f"{adversary['strength']:g}", f"{adversary['radius']:g}"))
    for name, task in result["tasks"].items():
        if name == language.TASK:
            _language(sheet, path, task, tables)
        else:
            _classifiers(sheet, path, name, task, tables)
    sheet.table(example_table(tables["example"]))
    sheet.heading("Limits")
    sheet.points([*LIMITS, *result.get("notes", [])])
    return sheet.write(path)


def _drawn(
    sheet: Sheet, path: Path, key: str, title: str, caption: str, drawing: Markup, numbers: Markup
) -> None:
    sheet.figure(Figure(key, title, Markup("{}").format(caption), drawing, numbers))
    path.with_name(f"{key}.svg").write_text(standalone(drawing), encoding="utf-8")


def _language(sheet: Sheet, path: Path, task: dict[str, Any], tables: Tables) -> None:
    scores, arms = _of(tables["scores"], task=language.TASK), task["arms"]
    strata, key = [*task["seen"], *task["shifted"]], [IN_DOMAIN, task["focus"]]
    looks = dict(zip(arms, LOOKS * (1 + len(arms) // len(LOOKS))))
    title = "Sparse language models: confidence less accuracy by domain"
    _drawn(
        sheet, path, "gaps-language", title,
        f"{task['rows']:,} tokens of {task['clusters']} documents, {task['seeds']} seeds; limits over documents and "
        "seeds. Starred domains were held out of training and of the temperature.",
        gaps(scores, strata, title, set(task["shifted"]), looks),
        folded("The numbers", score_table(scores, [*key, *strata], "Scores by domain")),
    )  # fmt: skip
    sheet.table(score_table(scores, key, "The training mix, and all held-out domains"))
    sheet.table(shift_table(tables["shift"]))
    sheet.table(language_table(tables["language"], key))
    sheet.table(models_table(tables["arms"]))


def _classifiers(sheet: Sheet, path: Path, name: str, task: dict[str, Any], tables: Tables) -> None:
    sheet.heading(f"Classifier mixtures: {name}")
    sheet.paragraph(
        f"{WHAT.get(name, '')} {task['rows']:,} test rows in {task['clusters']:,} clusters; {task['seeds']} seeds. A "
        "seed draws the training and validation samples, initial weights and batch order."
    )
    strata, shifted, focus = [*task["seen"], *task["shifted"]], set(task["shifted"]), task["focus"]
    key = list(dict.fromkeys([IN_DOMAIN, focus, WORST_SEEN, WORST_SHIFTED]))
    for routing in ("soft", "hard"):
        scores, differences, advantage, facts = (
            _of(tables[t], task=name, routing=routing)
            for t in ("scores", "differences", "advantage", "configurations")
        )
        where = f"{name}, {routing} routing"
        _drawn(
            sheet, path, f"gaps-{name}-{routing}", f"Signed gap by stratum, {where}",
            "Confidence less accuracy, as trained and after one temperature each. Starred strata were not trained on.",
            gaps(scores, strata, f"Signed gap by stratum, {where}", shifted),
            folded("The numbers", score_table(scores, key, f"{where}: scores")),
        )  # fmt: skip
        _drawn(
            sheet, path, f"differences-{name}-{routing}", f"Differences in ECE, {where}",
            f"Gain in ECE on {focus}, after one temperature: {_verdicts(advantage, focus)}.",
            advantages(differences, [focus, IN_DOMAIN], f"Differences in ECE, {where}"),
            advantage_table(advantage, key, f"{where}: what is left of the gain in ECE"),
        )  # fmt: skip
        plain = differences["training"] == "vanilla"
        tempered = differences["comparison"].str.contains("vanilla with one")
        for words, rows in (
            ("Vanilla with one temperature per expert, against one for all", plain),
            ("The robust losses as trained, against vanilla with a temperature", ~plain & tempered),
        ):
            sheet.table(folded(words, difference_table(differences[rows], key)))
        sheet.table(folded("Routing, over seeds", routing_table(facts)))


def _of(frame: Frame, **where: str) -> Frame:
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def _verdicts(advantage: pd.DataFrame, focus: str) -> str:
    rows = advantage[(advantage["stratum"] == focus) & (advantage["metric"] == "ece")]
    return "; ".join(f"{r['training']}: {r['verdict']}" for r in rows_of(rows))
