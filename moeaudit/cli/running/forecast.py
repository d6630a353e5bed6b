"""`moeaudit prune MODEL --forecast`: what pruning is expected to cost, before anything is pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError

from ..asked import Context
from ..options import at_least
from ..terminal.document import document

if TYPE_CHECKING:
    from moeaudit.models import Model
    from moeaudit.pruning.forecast import Forecast, Known
    from moeaudit.text import Corpus
    from moeaudit.text.choice import Material

# Options that say how to prune: with one of them a forecast is followed by the pruning itself.
PRUNING = ("criteria", "keep", "scope", "layers", "draws", "out", "export")


def asked_for(context: Context, names: tuple[str, ...] = PRUNING) -> bool:
    """Whether one of these options was typed."""
    sources = (context.get_parameter_source(name) for name in names)
    return any(source is not None and source.name != "DEFAULT" for source in sources)


def learnt_from(
    forecast: bool,
    table: Path | None,
    corpus: Corpus | None,
    documents: int | None,
    *,
    alone: bool,
) -> Known | None:
    """The table to forecast from, None without a forecast. Raises InputError before a model is loaded."""
    if not forecast:
        if table is not None:
            raise InputError(
                f"--table {table} is what a forecast learns from. Give --forecast as well, or leave it out."
            )
        return None
    from moeaudit.pruning.forecast.known import known
    from moeaudit.pruning.forecast.signs import LEAST
    from moeaudit.pruning.forecast.text import require_enough
    from moeaudit.text.choice import distinct

    at_least(documents, LEAST, "--documents", ": a forecast compares two halves of its documents")
    found = known(table)
    if corpus is not None:
        count = len(distinct(corpus)[0])
        # Pruning is measured on half of the documents, which the forecast leaves unread.
        what = "--text" if alone else "--text, but for the half on which pruning is measured,"
        require_enough(count if alone else count - count // 2, what)
    return found


def census(
    model: Model,
    corpus: Corpus | None,
    table: Known,
    documents: int | None,
    tokens: int | None,
    seed: int,
    progress: Any,
) -> Forecast:
    """The forecast of a loaded model. Raises InputError as `signs_of`."""
    from moeaudit.pruning.forecast.forecast import forecast
    from moeaudit.pruning.forecast.signs import require_several
    from moeaudit.pruning.forecast.text import few

    require_several(model)
    texts = few(model, corpus, table, documents=documents, tokens=tokens, seed=seed)
    return forecast(model, texts, table=table, progress=progress)


def forecast_alone(
    loaded_model: Callable[[], Model],
    corpus: Corpus | None,
    table: Known,
    amount: tuple[int | None, int | None],
    seed: int,
    json: bool,
) -> None:
    """Forecast instead of pruning: documents and tokens of each in `amount`, None as the table has them."""
    from ..terminal.console import console, say
    from ..terminal.progress import ConsoleProgress

    with ConsoleProgress(console(stderr=True)) as progress:
        progress.stage("loading", 1, "model")
        loaded = loaded_model()
        progress.advance(1)
        found = census(loaded, corpus, table, *amount, seed, progress)
    if json:
        told = found.to_dict()
        document(
            "prune",
            model=found.model,
            **{name: told[name] for name in ("headline", "sentences", "level")},
            **dict.fromkeys(
                ("margin", "curve", "report", "folder", "export")
            ),  # nothing was pruned
            forecast=told,
            notes=told["notes"],
        )
        return
    screen = console()
    show(found, say, screen)
    say(screen, "Nothing was pruned.")


def unread(corpus: Corpus | None, found: Material) -> Corpus | None:
    """The documents of the user's text on which criteria are computed, not those that pruning is measured on."""
    if corpus is None:
        return None
    about = found.documents
    used = set(about.loc[about["role"] == "metrics", "id"])
    return corpus.subset([place for place, each in enumerate(corpus) if each.id in used])


def show(found: Forecast, say: Callable[..., None], screen: Any) -> None:
    """Sentences and tables on the terminal."""
    from ..terminal.forecast import loss_table, sign_table

    say(screen, f"\n{found.headline}.", style="bold")
    for sentence in found.sentences():
        say(screen, f"- {sentence}")
    screen.print()
    screen.print(loss_table(found, screen.encoding), highlight=False)
    screen.print(sign_table(found, screen.encoding), highlight=False)
    for note in found.notes:
        say(screen, f"Note: {note}")
