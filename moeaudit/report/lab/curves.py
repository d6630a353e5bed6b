"""The curves of a training: loss, balance and router entropy step by step, as one HTML file.

It is read from the files that the training left (`lab.json`, `log.jsonl`, `card.json`), so this room need not know
the lab.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.errors import RunError
from moeaudit.runs.working.folder import check_report_path
from moeaudit.store.files import write_text

from ..figures import svg
from ..figures.figure import Figure
from ..pages.library import library
from ..pages.policy import policy
from ..pages.tables import Column, folded, table
from ..pages.template import static, templates
from ..words.numbers import count, fixed

if TYPE_CHECKING:
    import plotly.graph_objects as go

Records = list[dict[str, Any]]
WIDTH, HEIGHT, LEFT, BELOW = 980, 260, 60, 34
MOST = 400  # points of a drawing, means of equal parts of the steps
ROWS = 12  # of the table under a figure
NAMES = {
    "loss": ("Loss", "nats a token", {"nll": "training loss"}),
    "balance": (
        "Balance",
        "N sum f P",
        {"balance": "at the loss's own scope", "global_balance": "over the whole step"},
    ),
    "entropy": ("Router entropy", "nats", {"entropy": "of a token's router"}),
}
ABOUT = {
    "loss": "Mean of each part of the training text, before the step that learns from it.",
    "balance": "Mean over layers; 1 where loads are even, experts / top-k where the same experts always win.",
    "entropy": "Mean over tokens and layers; the logarithm of the number of experts where the router knows nothing.",
}


def write_curves(folder: Path, path: Path | None = None) -> Path:
    """Write the page of the training in `folder`; by default `curves.html` in it.

    Raises RunError where the folder holds no training, or `path` is taken by something else.
    """
    path = folder / "curves.html" if path is None else path
    check_report_path(path)
    write_text(path, render_curves(folder))
    return path


def render_curves(folder: Path) -> str:
    """The page as text."""
    try:
        record = json.loads((folder / "lab.json").read_text("utf-8"))
        lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} holds no training of the lab ({error}). `moeaudit lab train` makes one."
        ) from error
    records = [json.loads(line) for line in lines]
    card_file = folder / "card.json"
    card = json.loads(card_file.read_text("utf-8")) if card_file.is_file() else None
    figures = [made for key in NAMES if (made := figure(key, records)) is not None]
    style, script = static("style.css"), static("page.js")
    code, packed = library()
    from moeaudit.version import __version__

    page = (
        templates()
        .get_template("curves.html.j2")
        .render(
            version=__version__,
            policy=policy([code, script], [style]),
            style=Markup(style),
            script=Markup(script),
            plotly=Markup(packed),
            name=record["recipe"]["name"],
            seed=record["recipe"]["train"]["seed"],
            headline=_headline(records, card),
            facts=_facts(records, record, card),
            figures=figures,
            plots={f.key: _json(f.plot) for f in figures},
            recipe=json.dumps(record["recipe"], indent=1),
            versions=", ".join(f"{k} {v}" for k, v in record["versions"].items()),
            hash=record["hash"],
        )
    )
    return page + "\n"


def _json(plot: go.Figure | None) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    return Markup("" if plot is None else str(plot.to_json()).replace("<", "\\u003c"))


def _headline(records: Records, card: dict[str, Any] | None) -> str:
    if card is not None:
        return f"{fixed(card['nll'], 3)} nats a token on held-out text"
    if records:
        return f"{fixed(records[-1]['nll'], 3)} nats a token in training, not finished"
    return "No step is made yet"


def _facts(
    records: Records, record: dict[str, Any], card: dict[str, Any] | None
) -> list[dict[str, str]]:
    made = records[-1] if records else {"step": 0, "tokens": 0, "seconds": 0.0}
    train = record["recipe"]["train"]
    facts = [
        {"name": "steps", "value": count(made["step"]), "note": f"of {train['steps']:,}"},
        {"name": "tokens read", "value": count(made["tokens"]), "note": record["text"]["what"]},
        {"name": "seconds", "value": count(made["seconds"]), "note": f"on {record['device']}"},
    ]
    if card is not None:
        numbers = card["parameters"]
        active = f"{numbers['active']:,} active a token, {numbers['unique']:,} unique"
        facts.append({"name": "parameters", "value": count(numbers["total"]), "note": active})
    return facts


def parts(records: Records, key: str, most: int) -> list[tuple[float, float]]:
    """(step, mean) of a number of the log over at most `most` equal parts; empty where it is not measured."""
    known = [(r["step"], r[key]) for r in records if r.get(key) is not None]
    n = min(most, len(known))
    cut = [len(known) * i // n for i in range(n + 1)] if n else []
    return [
        (float(known[b - 1][0]), sum(value for _, value in known[a:b]) / (b - a))
        for a, b in zip(cut, cut[1:])
    ]


def figure(key: str, records: Records) -> Figure | None:
    """Loss, balance or entropy over the steps; None where the model has no such number."""
    title, unit, lines = NAMES[key]
    drawn = {words: parts(records, column, MOST) for column, words in lines.items()}
    if not all(drawn.values()):
        return None
    caption = Markup("{} over the steps, in {}. {}").format(title, unit, ABOUT[key])
    return Figure(
        key,
        title,
        caption,
        _drawing(title, drawn),
        _table(title, lines, records),
        _plot(unit, drawn),
    )


def _drawing(title: str, drawn: dict[str, list[tuple[float, float]]]) -> Markup:
    points = [p for line in drawn.values() for p in line]
    low, high = (f(value for _, value in points) for f in (min, max))
    across = svg.linear(0, max(step for step, _ in points), LEFT, WIDTH - 10)
    up = svg.linear(low, high, HEIGHT - BELOW, 12)
    marks = svg.ticks(low, high)
    body = []
    for value, words in zip(marks, svg.tick_texts(marks)):
        body.append(svg.line(LEFT, up(value), WIDTH - 10, up(value), "grid"))
        body.append(svg.text(LEFT - 8, up(value) + 4, words, "tick", "end"))
    for step in svg.ticks(0, max(step for step, _ in points)):
        body.append(svg.text(across(step), HEIGHT - BELOW + 18, f"{step:,.0f}", "tick", "middle"))
    for kind, line in zip(("curve", "extreme"), drawn.values()):
        body.append(svg.path([(across(step), up(value)) for step, value in line], kind))
    return svg.document(WIDTH, HEIGHT, f"{title} over the steps", body, 560)


def _plot(unit: str, drawn: dict[str, list[tuple[float, float]]]) -> go.Figure:
    import plotly.graph_objects as go

    plot = go.Figure()
    for dash, (words, line) in zip(("solid", "dash"), drawn.items()):
        steps, values = zip(*line)
        plot.add_scatter(
            x=steps,
            y=values,
            mode="lines",
            name=words,
            line={"dash": dash, "width": 2, "color": "#3b6fb6" if dash == "solid" else "#8a8a8a"},
        )
    plot.update_layout(
        height=420,
        margin={"l": 70, "r": 20, "t": 20, "b": 60},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hovermode="x unified",
    )
    plot.update_xaxes(title="step")
    plot.update_yaxes(title=unit)
    return plot


def _table(title: str, lines: dict[str, str], records: Records) -> Markup:
    columns = [Column("step", lambda r: f"{r['step']:,.0f}")]
    rows = [{"step": step} for step, _ in parts(records, next(iter(lines)), ROWS)]
    for column, words in lines.items():
        for row, (_, value) in zip(rows, parts(records, column, ROWS)):
            row[column] = value  # type: ignore[assignment]
        columns.append(Column(words, lambda r, c=column: fixed(r[c], 4)))
    caption = f"{title}, means of equal parts of the steps up to each"
    return folded("Numbers", table(rows, columns, caption))
