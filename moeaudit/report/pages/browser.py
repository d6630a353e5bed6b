"""A first token browser: documents as coloured text, the worst edits of each token beside it.

Plain HTML. A token's details appear while it is hovered or focused, by style sheet alone; the same
numbers stand in a table under each document. The tab key stops at the tokens of that table alone.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from moeaudit.frames import Column as Series
from moeaudit.frames import Frame
from moeaudit.stats.contrast.frames import frames_of

from ..figures import palette
from ..words.numbers import Number, count, fixed, plural, significant
from ..words.operator import OperatorWords
from ..words.subject import NAMED
from .tables import Column, folded, rows_of, table

DOCUMENTS = 4
TOKENS = 160
WORST = 12


def browser(tokens: Frame, effects: Any, per_token: Frame, said: OperatorWords) -> Markup:
    """The first document of each of the first domains, at most `TOKENS` tokens of each.

    `effects` is a table, or shards with `frames(columns)`.
    """
    first = tokens.drop_duplicates("document").drop_duplicates("domain").head(DOCUMENTS)
    top = float(per_token["harm"].abs().quantile(0.98))
    shown = _effects_of(effects, first["document"], said)
    parts = [_left_out(tokens, first), _legend(top, said)]
    for document, domain in zip(first["document"], first["domain"].astype(str)):
        text = tokens[tokens["document"] == document].sort_values("position").head(TOKENS)
        rows = text.merge(per_token, on=["document", "position"])
        worst = _worst(shown[shown["document"] == document])
        parts.append(_document(int(document), domain, rows, worst, top, said))
    return Markup("").join(parts)


def _left_out(tokens: Frame, shown: Frame) -> Markup:
    """Which documents and domains stand here, and which do not."""
    names = tokens["domain"].astype(str)
    left = [name for name in dict.fromkeys(names) if name not in set(shown["domain"].astype(str))]
    documents = int(tokens["document"].nunique())
    if documents == len(shown):
        return Markup("")
    here = (
        f"{plural(len(shown), 'document')} of {count(documents)}, at most {TOKENS} tokens of each"
    )
    domains = (
        f"Nothing of {plural(len(left), 'domain')} stands here: {', '.join(left)}. " if left else ""
    )
    return Markup('<p class="caption">{}. {}All of them are in the tables of the run.</p>').format(
        here, domains
    )


def _effects_of(effects: Any, documents: Series, said: OperatorWords) -> Frame:
    columns = ["document", "position", "layer", "expert", "weight", "delta_nll", "flip"]
    columns += [name for name in NAMED[said.subject] if name not in columns]
    frames = frames_of(effects, columns, "The effects table")
    return pd.concat([frame[frame["document"].isin(documents)] for frame in frames])


def _worst(effects: Frame, n: int = 3) -> dict[int, list[dict]]:
    """The n rows with the largest |delta_nll| of each position."""
    order = effects.assign(size=effects["delta_nll"].abs()).sort_values("size", ascending=False)
    head = order.groupby("position", sort=False).head(n)
    return {int(p): rows_of(g) for p, g in head.groupby("position")}  # type: ignore[call-overload]


def _document(
    number: int,
    domain: str,
    rows: Frame,
    worst: dict[int, list[dict]],
    top: float,
    said: OperatorWords,
) -> Markup:
    most = rows.reindex(rows["harm"].abs().sort_values(ascending=False).index).head(WORST)
    stops = set(most["position"])
    spans = [
        _token(row, worst[int(row["position"])], top, said, row["position"] in stops)
        for row in rows_of(rows)
    ]
    title = Markup('<h3>Document {} <span class="tag">{}</span></h3>').format(number, domain)
    shown = Markup('<p class="tokens">{}</p>').format(Markup("").join(spans))
    summary = f"The {plural(len(most), 'token')} most affected, as a table"
    return title + shown + folded(summary, _table(most, number, said))


def _token(row: dict, worst: list[dict], top: Number, said: OperatorWords, stop: bool) -> Markup:
    harm = float(row["harm"])
    details = Markup("").join(
        Markup("<span>{} (weight {}): <b>{}</b></span>").format(
            said.row(w),
            fixed(float(w["weight"]), 3),
            significant(float(w["delta_nll"]), 2, True) + (", flips" if w["flip"] else ""),
        )
        for w in worst
    )
    tip = Markup(
        '<span class="tip"><span><b>{}</b> position {}: predicts the next token with {} nats</span>'
        "<span>mean of its {}: <b>{}</b> nats, {}</span>{}</span>"
    ).format(
        visible(row["text"]),
        row["position"],
        significant(float(row["nll"]), 3),
        plural(int(row["removals"]), said.one, said.many),
        significant(harm, 2, True),
        plural(int(row["flips"]), "flip"),
        details,
    )
    css = palette.diverging(harm, top)
    # A line break in the text is a line break on the page; the mark shows that it is a token.
    breaks = Markup("<br>") * min(3, str(row["text"]).count("\n"))
    reached = Markup(' tabindex="0"') if stop else Markup("")
    return Markup('<span class="tok {}"{}>{}{}</span>{}').format(
        css, reached, visible(row["text"]), tip, breaks
    )


def visible(text: object) -> str:
    """A token's text with line breaks and tabs made visible; everything else as it is."""
    shown = (
        str(text).replace("\r\n", "\n").replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
    )
    shown = shown.replace("\t", "\N{RIGHTWARDS ARROW TO BAR}").replace(
        "\r", "\N{SYMBOL FOR CARRIAGE RETURN}"
    )
    return (
        "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown)
        or "\N{EMPTY SET}"
    )


def _table(rows: Frame, number: int, said: OperatorWords) -> Markup:
    columns = [
        Column("token", lambda r: visible(r["text"]), text=True),
        Column("position", lambda r: count(r["position"])),
        Column("NLL of the next token", lambda r: fixed(r["nll"], 2)),
        Column("mean harm (nats)", lambda r: significant(r["harm"], 2, True)),
        Column("mean KL (nats)", lambda r: significant(r["kl"], 2)),
        Column("flips", lambda r: f"{r['flips']:.0f} of {r['removals']}"),
        Column(f"most harmful {said.one}", said.row, text=True),
        Column("its harm", lambda r: significant(r["worst"], 2, True)),
    ]
    return table(rows_of(rows), columns, f"Document {number}: the most affected tokens")


def _legend(top: Number, said: OperatorWords) -> Markup:
    values = [-1.0, -0.4, -0.15, -0.03, 0.0, 0.03, 0.15, 0.4, 1.0]
    cells = Markup(" ").join(
        Markup('<span class="tok {}">{}</span>').format(
            palette.diverging(v * top, top), escape(significant(v * top, 1, True))
        )
        for v in values
    )
    return Markup('<p class="legend">Mean effect of a token\'s {}, nats: {}</p>').format(
        said.many, cells
    )
