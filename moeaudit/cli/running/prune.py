"""`moeaudit prune MODEL`: what pruning by each criterion costs; optionally the pruned checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moeaudit.errors import InputError

from ..asked import Context, Seed, Text
from ..options import (
    Device,
    DeviceMap,
    Dtype,
    Experts,
    Force,
    MaxMemory,
    ModelName,
    Offload,
    at_least,
    load_model,
    placement,
    readable,
)
from ..terminal.document import Json, document
from ..terminal.examples import examples
from .forecast import asked_for, census, forecast_alone, learnt_from, show, unread

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.pruning.asked import Asked
    from moeaudit.pruning.forecast import Forecast, Known
    from moeaudit.text import Corpus
    from moeaudit.text.choice import Material

DOCUMENTS, TOKENS = 48, 128  # to measure what pruning costs
EXAMPLE = "--criteria reap --keep 0.5 --export FOLDER"


@examples(
    "moeaudit prune tiny-olmoe --out pruned",
    "moeaudit prune tiny-olmoe --criteria reap,utilisation --keep 0.75,0.5 --draws 10",
    "moeaudit prune tiny-olmoe --criteria reap --keep 0.75 --export small",
    "moeaudit prune tiny-olmoe --forecast",
    "moeaudit prune tiny-olmoe --json > pruning.json",
)
def prune(
    context: Context,
    model: ModelName,
    text: Text = None,
    criteria: Annotated[
        str | None,
        typer.Option(
            help="Criteria, separated by commas: utilisation, mean_weight, activation_norm, activation_sd, reap, ean, "
            "man, msan, easy_ep, router_norm, causal_harm, random.  [default: all but man]"
        ),
    ] = None,
    keep: Annotated[
        str, typer.Option(help="Shares of the experts that stay, separated by commas.")
    ] = "0.875,0.75,0.5",
    scope: Annotated[
        str,
        typer.Option(
            help="layer drops the same share in each layer, global ranks all layers together; or both: layer,global."
        ),
    ] = "layer",
    layers: Annotated[
        str, typer.Option(help="all, or thirds of the depth: early,middle,late.")
    ] = "all",
    documents: Annotated[
        int | None,
        typer.Option(
            help=f"Documents to evaluate.  [default: {DOCUMENTS}; for a forecast those of its table]"
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(
            help=f"Tokens read of each document, from its beginning; 0 for all.  [default: {TOKENS}; for a forecast "
            "those of its table]"
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Random models beside the criteria; 0 for none.")] = 20,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Write the page (pruning.html) and the tables to this new folder."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write the model pruned by the one criterion and share given here to this new folder."
        ),
    ] = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast",
            help="Forecast the loss without a quarter and a half of the experts from a census of a few documents: "
            "instead of pruning, or before it where an option says how to prune.",
        ),
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Models that a forecast learns from, a CSV file.  [default: the lab's, which come with the package]",
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    experts: Experts = None,
    device_map: DeviceMap = None,
    max_memory: MaxMemory = None,
    offload: Offload = "auto",
    force: Force = False,
    json: Json = False,
) -> None:
    """Drop experts of MODEL by each criterion and at random, and measure loss and KL on documents
    that the criteria were not computed on; or forecast what that will cost."""
    from moeaudit.pruning.asked import asked_of
    from moeaudit.seeds import check_seed
    from moeaudit.text.choice import LEAST, as_corpus, distinct

    typed = documents, tokens
    documents = DOCUMENTS if documents is None else documents
    tokens = TOKENS if tokens is None else tokens
    given = {
        name: str(value) if isinstance(value, Path) else value for name, value in locals().items()
        if name in ("model", "text", "criteria", "keep", "scope", "layers", "documents", "tokens", "draws", "seed",
                    "device", "dtype", "experts", "out", "export", "forecast", "table")
    }  # fmt: skip
    asked = asked_of(
        None if criteria is None else _words(criteria, "--criteria", "reap,ean"),
        _shares(keep),
        scope=_words(scope, "--scope", "layer,global"),
        layers=_words(layers, "--layers", "early,late"),
        draws=draws,
        seed=check_seed(seed),
        called=lambda argument: f"--{argument}",
    )
    at_least(documents, LEAST, "--documents", ": documents are the sampling unit of every interval")
    if tokens < 0 or tokens == 1:
        raise InputError(
            f"--tokens is {tokens}; 2 or more of each document are needed, or 0 for all."
        )
    placed = placement(device_map, max_memory, offload)
    _check_places(out, export, asked, force)
    readable(text, "--text")
    if export is not None and offload == "stream":
        raise InputError(
            "--export writes all weights, and --offload stream keeps them in their files. Leave one of them out."
        )
    corpus = None if text is None else as_corpus(text)
    alone = forecast and not asked_for(context)
    learnt = learnt_from(forecast, table, corpus, typed[0], alone=alone)
    if not alone and corpus is not None and (count := len(distinct(corpus)[0])) < 2 * LEAST:
        raise InputError(
            f"--text {text} holds {count} distinct documents; pruning needs {2 * LEAST} or more, {LEAST} to compute "
            f"the criteria on and {LEAST} others to evaluate. Give more (one file, or one line of a .jsonl file, each)."
        )

    def loaded_model() -> Model:
        return load_model(model, device, dtype, experts, **placed)

    if alone:
        assert learnt is not None
        forecast_alone(loaded_model, corpus, learnt, typed, asked.seed, json)
        return
    told = None if learnt is None else (learnt, *typed)
    _prune(loaded_model, corpus, asked, documents, tokens, out, export, given, force, json, told)


def _prune(
    loaded_model: Any,
    corpus: Corpus | None,
    asked: Asked,
    documents: int,
    tokens: int,
    out: Path | None,
    export: Path | None,
    given: dict[str, Any],
    force: bool,
    json: bool,
    ahead: tuple[Known, int | None, int | None] | None = None,
) -> None:
    from moeaudit.front import prune_curve
    from moeaudit.pruning.choose import number_kept
    from moeaudit.pruning.curve import require_answerable
    from moeaudit.pruning.export.checkpoint import export_pruned, require_exportable
    from moeaudit.report.pruning.folder import write_folder
    from moeaudit.report.pruning.words import headline, sentences
    from moeaudit.text.choice import gather

    from ..terminal.console import console, say
    from ..terminal.progress import ConsoleProgress
    from ..terminal.pruning import cost_tables

    with ConsoleProgress(console(stderr=True)) as progress:
        progress.stage("loading", 1, "model")
        loaded = loaded_model()
        progress.advance(1)
        groups = require_answerable(loaded, asked)
        if export is not None:
            first = loaded.anatomy.layers[0]
            share = asked.shares[0]
            left = groups.kept(first, share) if groups else number_kept(first.num_experts, share)
            require_exportable(loaded, left)
        found: Material = gather(
            loaded,
            corpus,
            documents=documents,
            tokens=tokens,
            max_length=loaded.max_length,
            seed=asked.seed,
        )
        told: Forecast | None = None
        if ahead is not None:
            told = census(loaded, unread(corpus, found), *ahead, asked.seed, progress)
    if told is not None and not json:
        show(told, say, console())
    with ConsoleProgress(console(stderr=True)) as progress:
        curve = prune_curve(
            loaded,
            found.effect,
            list(asked.names) if asked.named else None,
            asked.shares,
            calibration=found.metric,
            scope=asked.scopes,
            layers=asked.depths,
            draws=asked.draws,
            seed=asked.seed,
            progress=progress,
        )
    # What was left out on either side the curve says itself.
    own = [note for note in found.notes if not note.startswith(("Metrics:", "Effects:"))]
    notes = [*own, *curve.notes]
    page = None if out is None else write_folder(curve, out, given, replace=force, forecast=told)
    written = None
    if export is not None:
        named = [name for name in asked.names if name != "random"] or ["random"]
        kept = curve.kept(named[0], asked.shares[0])
        with ConsoleProgress(console(stderr=True)) as progress:
            written = export_pruned(loaded, kept, export, progress=progress)
    if json:
        document(
            "prune",
            model=curve.model,
            headline=headline(curve),
            sentences=sentences(curve),
            level=curve.level,
            margin=curve.margin,
            curve=curve.overview(),
            forecast=None if told is None else told.to_dict(),
            notes=notes,
            report=page,
            folder=out,
            export=written,
        )
        return
    screen = console()
    say(screen, f"\n{headline(curve)}.", style="bold")
    for sentence in sentences(curve):
        say(screen, f"- {sentence}")
    screen.print()
    screen.print(cost_tables(curve, screen.width, screen.encoding), highlight=False)
    for note in notes:
        say(screen, f"Note: {note}")
    if out is not None:
        say(screen, f"\nReport: {page}\nTables: {out}")
    if written is not None:
        say(screen, f"Pruned model: {written}")


def _check_places(out: Path | None, export: Path | None, asked: Asked, force: bool) -> None:
    """Refuse a folder that is full or cannot be written, and an export that could not be one model."""
    from moeaudit.pruning.export.place import require_new
    from moeaudit.report.pruning.folder import require_place

    if out is not None:
        require_place(out, "--out", replace=force)
    if export is None:
        return
    named = [name for name in asked.names if name != "random"]
    one = len(named) == 1 or (not named and "random" in asked.names)
    if not one or not asked.named or len(asked.shares) != 1:
        raise InputError(
            f"--export writes one model, so it needs one criterion and one share: for example {EXAMPLE}."
        )
    if asked.scopes != ("layer",) or asked.depths != ("all",):
        raise InputError(
            "--export writes a checkpoint, and a configuration states one number of experts for all layers, so it "
            f"needs --scope layer and --layers all: for example {EXAMPLE}."
        )
    require_new(export, "--export")
    if out is not None and (
        out.resolve() == export.resolve() or export.resolve() in out.resolve().parents
    ):
        raise InputError(
            f"--out {out} lies in --export {export}, and a checkpoint has its folder to itself. Give two folders."
        )


def _words(text: str, option: str, example: str) -> list[str]:
    """Words between commas. Raises InputError where there is none, or nothing between two commas."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise InputError(
            f"{option} {text!r} has nothing where a word was expected. Separate them by single commas, such as "
            f"{option} {example}."
        )
    return words


def _shares(text: str) -> list[float]:
    """Numbers between commas. Raises InputError where one cannot be read, or the comma was a decimal one."""
    words = _words(text, "--keep", "0.75,0.5")
    if len(words) % 2 == 0 and set(words[::2]) <= {"0", "1"} and all(map(str.isdigit, words)):
        raise InputError(
            f"--keep {text!r} is read as the shares {' and '.join(words)}: commas separate them. Write decimals with "
            f"a point, such as --keep {','.join('.'.join(pair) for pair in zip(words[::2], words[1::2]))}."
        )
    return [_share(word) for word in words]


def _share(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(
            f"--keep cannot be read at {word!r}. Give shares separated by commas, such as 0.75,0.5."
        ) from None
