"""The answer of a finished audit: on the terminal, and as the content of a JSON document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from moeaudit.front import Run


def show(run: Run, screen: Console, page: Path) -> None:
    """The answer, the table of verdicts, the verification, and where the report is."""
    from moeaudit.report.words import where as domains
    from moeaudit.report.words.words import checks

    from .console import say
    from .verdicts import verdict_table

    evidence, words, said = _answer(run)
    say(screen, f"\n{said.headline}.", style="bold")
    for sentence in (*said.sentences, said.thin):
        say(screen, f"- {sentence}")
    screen.print()
    if evidence.outcomes:
        screen.print(verdict_table(evidence, screen.encoding))
    for sentence in domains.sentences(run):
        say(screen, f"- {sentence}")
    for check in checks(run, words):
        say(screen, f"{check['css']}: {check['text']}")
    drift = run.record["drift"]
    ends = "" if drift is None else f"; rows without an edit end within {drift:.1e} nats"
    say(screen, f"Engine: {run.record['engine']}{ends}")
    for note in run.record["notes"]:
        say(screen, f"Note: {note}")
    if run.alarm:
        say(screen, f"\n{run.alarm}", style="bold")
    say(screen, f"\nReport: {page}\nTables: {run.folder}")


def answered(run: Run, page: Path) -> dict[str, Any]:
    """The same for programs: sentences, the record's summary, one entry a metric, the verification."""
    from moeaudit.report.words import where as domains
    from moeaudit.report.words.answer import verdict_table

    evidence, _, said = _answer(run)
    return {
        "folder": run.folder,
        "report": page,
        "model": run.spec.model,
        "question": run.spec.hash,
        "headline": said.headline,
        "sentences": [*said.sentences, said.thin, *domains.sentences(run)],
        "summary": run.record["summary"],
        "outcomes": evidence.outcomes,
        "verdicts": verdict_table(evidence),
        "verification": run.verification,
        "engine": run.record["engine"],
        "drift": run.record["drift"],
        "notes": run.record["notes"],
        "alarm": run.alarm,
    }


def _answer(run: Run) -> tuple[Any, Any, Any]:
    from moeaudit.report.page import said_of
    from moeaudit.report.words.answer import answer
    from moeaudit.report.words.evidence import read
    from moeaudit.report.words.summary import limits_of, overall

    evidence, words = read(run.tests), said_of(run)
    whole = overall(run.shards, limits_of(run.question.share))
    return evidence, words, answer(evidence, whole, run.spec.model, words)
