"""`moeaudit audit MODEL`: the census, the tests, the report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from moeaudit.runs.operators import WORDS

from .options import Device, Dtype, Experts, default_out, parse_layers

OPERATORS = ", ".join(word.usage for word in WORDS.values())

if TYPE_CHECKING:
    from rich.console import Console

    from moeaudit.front import Run


def audit(
    model: Annotated[
        str, typer.Argument(help="A bundled model, a folder in hub layout, or a hub id.")
    ],
    operator: Annotated[
        str,
        typer.Option(
            metavar="NAME[:ARGUMENT]",
            help="What is done to the router's answer: " + OPERATORS + ".",
        ),
    ] = "zero",
    outcome: Annotated[
        str,
        typer.Option(
            help="Outcomes that are tested, separated by commas: delta_nll, abs_delta_nll, kl, flip, "
            "delta_entropy, delta_confidence, delta_brier."
        ),
    ] = "delta_nll,kl",
    frozen_routing: Annotated[
        bool,
        typer.Option("--frozen-routing", help="Later layers keep the intact model's routing."),
    ] = False,
    text: Annotated[
        Path | None,
        typer.Option(help="A folder of text files (sub-folder = domain) or a .jsonl file."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run folder.  [default: runs/MODEL]", show_default=False)
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the HTML report here as well as in the run folder.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Decoder layers, such as 0,3-5.  [default: all MoE layers]")
    ] = None,
    documents: Annotated[
        int | None, typer.Option(help="Documents to measure effects on.  [default: 160]")
    ] = None,
    tokens: Annotated[
        int, typer.Option(help="Tokens read of each document, from its beginning; 0 for all.")
    ] = 128,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens the model reads at once; longer documents are cut."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of every random choice.")] = 0,
    verify_rows: Annotated[
        int, typer.Option(help="Rows that each independent engine recomputes.")
    ] = 8,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
) -> None:
    """Audit MODEL: remove every active expert of every token, one at a time (or edit the routing as
    --operator says), and test what routing metrics say about it. The same command resumes an
    interrupted run."""
    from moeaudit.front import audit as run_audit

    from .console import console
    from .progress import ConsoleProgress

    chosen = parse_layers(layers)
    folder = out or default_out(model, operator)
    try:
        with ConsoleProgress(console(stderr=True)) as progress:
            run = run_audit(
                model,
                text,
                out=folder,
                operator=operator,
                outcome=[name.strip() for name in outcome.split(",")],
                frozen_routing=frozen_routing,
                layers=chosen,
                documents=documents,
                tokens=tokens,
                max_length=max_length,
                seed=seed,
                verify_rows=verify_rows,
                report=report,
                progress=progress,
                device=device,
                dtype=dtype,
                experts_implementation=experts,
            )
    except KeyboardInterrupt:
        typer.echo(
            f"moeaudit: interrupted. What was finished is kept in {folder}; the same command "
            "continues from there.",
            err=True,
        )
        raise typer.Exit(130) from None
    show(run, console(), report or folder / "report.html")
    if run.alarm:
        raise typer.Exit(1)


def show(run: Run, screen: Console, page: Path) -> None:
    """The answer, the table of verdicts, the verification, and where the report is."""
    from moeaudit.report.page import said_of
    from moeaudit.report.words.answer import answer
    from moeaudit.report.words.evidence import read
    from moeaudit.report.words.summary import overall
    from moeaudit.report.words.words import checks

    from .console import say
    from .verdicts import verdict_table

    evidence, words = read(run.tests), said_of(run)
    said = answer(evidence, overall(run.shards), run.spec.model, words)
    say(screen, f"\n{said.headline}.", style="bold")
    for sentence in (*said.sentences, said.thin):
        say(screen, f"- {sentence}")
    screen.print()
    if evidence.outcomes:
        screen.print(verdict_table(evidence, screen.encoding))
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
