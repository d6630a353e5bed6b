"""`show_tokens`: a document as text, coloured by what editing its experts does; the numbers of each token beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from moeaudit.errors import InputError, one_of
from moeaudit.frames import Frame

from ..explore.contexts import Words
from ..explore.source import Source
from ..words.numbers import count, percent, plural, significant
from .colours import Colours, colours
from .given import NO_TEXT, source_of
from .shown import MOST_BYTES, Shown, brief, folded, framed, style, table

TOKENS = 200
WORST = 4  # rows in a token's tip
TABLE = 12  # tokens of the table


class TokenView(Shown):
    """A document's tokens: `table` holds one row each, the HTML and the text show them."""

    def __init__(self, html: Markup, text: str, table: Frame) -> None:
        super().__init__(html, text)
        self.table = table


def show_tokens(
    effects: Any,
    document: int | np.integer | None = None,
    *,
    color: str = "delta_nll",
    layer: int | np.integer | None = None,
    start: int | np.integer = 0,
    tokens: Any = None,
    metrics: Any = None,
) -> TokenView:
    """A document as coloured text; pointing at a token, or moving to it by key, shows its numbers.

    Parameters
    ----------
    effects
        A run (`ma.Run.load(folder)`), its effects, or those of `ma.ablate(model, docs)`, in memory or in a folder.
    document
        The document's number, as in the tables; the first one if None.
    color
        An outcome ("delta_nll", "kl", "flip" or another column of the effects): its mean over the token's rows.
        "layer", "expert": the layer, or the expert, of the edit that does most (largest |harm|), as on the page; in
        `layer` where that is given. Or the name of a routing metric: its mean over the token's experts.
    layer
        Only this layer; all layers if None.
    start
        From which position on. As many tokens are shown as a cell of 200 KB carries, 200 at most.
    tokens, metrics
        As for `ma.expert`.

    Returns
    -------
    A view that shows itself in a notebook (HTML without scripts) and prints as text. `.table` has one row a token: its
    position, text, the value that colours it, mean harm and KL (nats), and the most harmful row's layer and expert
    (NaN and -1 for a token of which no edit was made, as in a sample).

    Raises InputError for anything but effects of one active expert each, a document, layer, start or colour that is not
    there, and texts of other documents.
    """
    source, notes = source_of(effects, tokens, metrics)
    document = _document(source, document)
    if layer is not None:
        one_of(layer, sorted(source.experts), "layer")
    if isinstance(start, bool) or not isinstance(start, int | np.integer) or start < 0:
        raise InputError(f"start={start!r}: a position from 0 on was expected.")
    rows = _rows(source, document, layer)
    every = source.tokens[source.tokens["document"] == document].sort_values("position")
    here = every[every["position"] >= start]
    if not here["position"].isin(rows["position"]).any():
        raise InputError(
            f"No token of document {document} from position {start} on has an effect here; its last position is "
            f"{int(every['position'].max())}. Choose an earlier start."
        )
    shown = colours(rows, color, None if layer is None else int(layer), source.metrics)
    return _view(source, document, rows, every, here.head(TOKENS), shown, notes, len(here))


def _document(source: Source, document: Any) -> int:
    known = source.tokens["document"].unique().tolist()
    if document is None:
        return int(known[0])
    if document not in known:
        some = ", ".join(map(str, known[:8])) + (" and more" if len(known) > 8 else "")
        raise InputError(
            f"There is no document {document!r}: there {'is' if len(known) == 1 else 'are'} "
            f"{plural(len(known), 'document')}, {some}. The numbers are those of the effects."
        )
    return int(document)


def _rows(source: Source, document: int, layer: Any) -> Frame:
    """The effects of one document, with every column that they have."""
    table = source.effects
    frames = table.frames() if hasattr(table, "frames") else [pd.DataFrame(table)]
    found = [frame[frame["document"] == document] for frame in frames]
    rows = pd.concat([frame for frame in found if len(frame)] or found[:1])
    rows = rows if layer is None else rows[rows["layer"] == layer]
    if not len(rows):
        where = "" if layer is None else f" in layer {layer}"
        raise InputError(
            f"The effects hold no row of document {document}{where}. Choose another document or layer."
        )
    return rows


def _view(
    source: Source,
    document: int,
    rows: Frame,
    every: Frame,
    here: Frame,
    shown: Colours,
    notes: list[str],
    there: int,
) -> TokenView:
    words = Words(every, source.strings)
    place = {int(p): i for i, p in enumerate(every["position"])}
    by_position = {int(p): part for p, part in rows.groupby("position")}  # type: ignore[call-overload]
    size, spans, lines = len(style()) + 12_000, [], []
    for at in here["position"].tolist():
        mine = by_position.get(int(at), rows.iloc[:0])
        line = _line(int(at), words, place[int(at)], mine, shown)
        said = every.iloc[place[int(at)]]
        span = _token(line, said, mine, words, place[int(at)], shown)
        if size + len(span.encode()) > MOST_BYTES:
            break
        size += len(span.encode())
        spans.append(span)
        lines.append(line)
    out = pd.DataFrame(lines)
    domain = str(here["domain"].iloc[0])
    title = f"{source.model}: document {document}" + (f" ({domain})" if domain else "")
    told = [shown.said]
    if len(lines) < there:
        last = out["position"].iloc[-1]
        told.append(
            f"{plural(len(lines), 'token')} of {count(there)} are shown, to keep the cell light; "
            f"start={last + 1} moves on."
        )
    told += [note for note in notes if note == NO_TEXT]
    panel = Markup('<div class="panel"><p class="text">{}</p><p class="empty">{}</p></div>').format(
        Markup("").join(spans),
        "Point at a token, or move to it with the Tab key: its numbers stand here.",
    )
    html = framed(
        "tokens",
        title,
        Markup("<h3>{}</h3>").format(title),
        *(Markup('<p class="note">{}</p>').format(each) for each in told),
        panel,
        _table(out),
    )
    return TokenView(html, _plain(title, told, out), out)


def _line(at: int, words: Words, place: int, rows: Frame, shown: Colours) -> dict[str, Any]:
    worst = rows.iloc[int(np.argmax(rows["delta_nll"].to_numpy()))] if len(rows) else None
    return {
        "position": at,
        "text": words.texts[place],
        "value": shown.value.get(at, float("nan")),
        "delta_nll": float(rows["delta_nll"].mean()),
        "kl": float(rows["kl"].mean()),
        "flips": int(rows["flip"].sum()),
        "rows": len(rows),
        "layer": -1 if worst is None else int(worst["layer"]),
        "expert": -1 if worst is None else int(worst["expert"]),
        "worst": float("nan") if worst is None else float(worst["delta_nll"]),
    }


def _token(
    line: dict[str, Any], said: Any, rows: Frame, words: Words, place: int, shown: Colours
) -> Markup:
    """One token, its numbers in a tip that a style sheet shows while it is pointed at or has the focus."""
    text = brief(line["text"], 200)
    value = line["value"]
    css = "" if value != value else shown.css(value)
    mark = "" if value != value else shown.mark(value)
    return Markup(
        '<span class="t" tabindex="0" style="{}">{}{}<span class="tip">{}</span></span>'
    ).format(
        css,
        _lines(text),
        Markup("<sub>{}</sub>").format(mark) if mark else "",
        Markup("").join(
            Markup("<span>{}</span>").format(part) for part in _tip(line, said, rows, words, place)
        ),
    )


def _lines(text: str) -> Markup:
    """A line break in the text is one on the page, behind its sign; not more than two of them."""
    sign = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
    first, *others = text.split(sign)
    out = Markup("{}").format(first)
    for i, part in enumerate(others):
        out += Markup("{}{}{}").format(sign, Markup("<br>") if i < 2 else "", part)
    return out


def _tip(
    line: dict[str, Any], said: Any, rows: Frame, words: Words, place: int
) -> list[Markup | str]:
    head = Markup("<b>{}</b> at position {}").format(brief(line["text"]), line["position"])
    following = words.following(place)
    if following is not None:
        head += Markup(", before <b>{}</b>").format(brief(following))
    if "nll" in said:
        head += f": predicted with {significant(float(said['nll']), 3)} nats"
    top = words.top(place)
    if top is not None:
        sure = f" ({percent(float(said['confidence']), 0)})" if "confidence" in said else ""
        head += Markup(", most likely <b>{}</b>{}").format(brief(top), sure)
    if not len(rows):
        return [head, "None of its edits was made."]
    mean = (
        f"mean of its {plural(line['rows'], 'row')}: {significant(line['delta_nll'], 2, True)} nats, KL "
        f"{significant(line['kl'], 2)}, {plural(line['flips'], 'flip')}"
    )
    order = np.argsort(-np.abs(rows["delta_nll"].to_numpy()), kind="stable")[:WORST]
    return [head, mean, *(_edit(rows.iloc[int(i)], words) for i in order)]


def _edit(row: Any, words: Words) -> Markup:
    after = words.text(int(row["top"])) if "top" in row and row["flip"] else None
    return Markup("layer {} expert {}, weight {}: <b>{}</b> nats{}{}").format(
        int(row["layer"]),
        int(row["expert"]),
        significant(float(row["weight"]), 2),
        significant(float(row["delta_nll"]), 2, True),
        ", flips" if row["flip"] else "",
        Markup(" to <b>{}</b>").format(brief(after)) if after is not None else "",
    )


def _most(out: Frame) -> Frame:
    known = out[out["rows"] > 0]
    order = np.argsort(-known["delta_nll"].abs().to_numpy(), kind="stable")
    return known.iloc[order[:TABLE]]


def _table(out: Frame) -> Markup:
    rows = [
        [
            brief(r.text),
            r.position,
            significant(r.delta_nll, 2, True),
            significant(r.kl, 2),
            f"{r.flips} of {r.rows}",
            f"layer {r.layer} expert {r.expert}",
            significant(r.worst, 2, True),
        ]
        for r in _most(out).itertuples()
    ]
    head = [
        "token",
        "position",
        "mean harm (nats)",
        "mean KL (nats)",
        "flips",
        "most harmful",
        "its harm",
    ]
    told = f"The {plural(len(rows), 'token')} most affected"
    return folded(f"{told}, as a table", table(head, rows, told))


def _plain(title: str, told: list[str], out: Frame) -> str:
    text = "".join(out["text"])
    lines = [title, *told, "", text, "", "Most affected:"]
    lines += [
        f"  {significant(r.delta_nll, 2, True):>9} nats  position {r.position} {brief(r.text)!r}, most by layer "
        f"{r.layer} expert {r.expert} ({significant(r.worst, 2, True)})"
        for r in _most(out).itertuples()
    ]
    return "\n".join(lines)
