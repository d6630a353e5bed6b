"""Figure: how the single effects are distributed, heavy tails included."""

from __future__ import annotations

from markupsafe import Markup

from moeaudit.frames import Frame

from ...pages.tables import Column, rows_of, table
from ...plot.tails import PAIRS, axis_ticks, face, threshold
from ...words.numbers import count, percent, significant
from ...words.operator import OperatorWords
from ...words.summary import QUANTILES
from .. import svg
from ..figure import Figure

WIDTH, NARROW, LEFT, ROW, TOP = 1040, 380, 58, 34, 46


def spread(frame: Frame, said: OperatorWords) -> Figure:
    """`summary.spread`: central shares of the signed effect by layer, on a symmetric log axis."""
    caption = Markup(
        "How far single {0} reach in either direction, which a mean hides; the last columns of the "
        "table say how much of the total effect the largest {0} carry."
    ).format(said.many)
    shares = [
        svg.sign(svg.rect(1, 5, 12, 10, css), f"central {100 * (high - low):g}%")
        for low, high, css, *_ in PAIRS
    ]
    ends = [
        svg.sign(svg.rect(1, 3, 12, 14, "s4") + svg.line(7, 3, 7, 17, "median"), "median"),
        svg.sign(svg.mark(7, 10, "circle", "extreme", "", 2.4), "least and most"),
    ]
    drawing = svg.either(_drawn(frame, said, WIDTH), _drawn(frame, said, NARROW))
    return Figure(
        "spread",
        "How single effects are distributed",
        caption,
        Markup("{}{}").format(svg.signs([*shares, *ends]), drawing),
        _table(frame, said),
        face(frame, said),
    )


def _drawn(frame: Frame, said: OperatorWords, width: int) -> Markup:
    turn = threshold(frame)
    squash = svg.symlog(turn)
    reach = max(abs(squash(v)) for v in (*frame["least"], *frame["most"])) or 1.0
    place = svg.linear(-reach, reach, LEFT, width - 14)
    body: list[str] = []
    bottom = TOP + ROW * len(frame)
    last = -1e9
    for tick in axis_ticks(turn, max(abs(frame["least"].min()), frame["most"].max())):
        x = place(squash(tick))
        body.append(svg.line(x, TOP - 4, x, bottom + 4, "grid" if tick else "zero"))
        words = significant(tick, 1, True)
        if x - last > 8 + 6 * len(words):
            body.append(svg.text(x, bottom + 19, words, "tick", "middle"))
            last = x
    body.append(svg.text(0, 14, f"Effects of single {said.many}", "title"))
    body.append(
        svg.text(0, 31, "change of the next token's NLL, nats; symmetric log axis", "muted")
    )
    for i, row in enumerate(frame.to_dict("records")):
        middle = TOP + i * ROW + ROW / 2
        body.append(svg.text(LEFT - 8, middle + 4, said.place(int(row["layer"])), "tick", "end"))
        for low, high, css, *_ in PAIRS:
            x1, x2 = place(squash(row[low])), place(squash(row[high]))
            half = {"s1": 3, "s2": 6, "s3": 9, "s4": 12}[css]
            words = (
                f"{said.place(int(row['layer']))}: {percent(high - low)} of {said.many} between "
                f"{significant(row[low], 2, True)} and {significant(row[high], 2, True)} nats"
            )
            body.append(svg.rect(x1, middle - half, max(x2 - x1, 0.6), 2 * half, css, words))
        x = place(squash(row[0.5]))
        body.append(svg.line(x, middle - 12, x, middle + 12, "median"))
        for end in ("least", "most"):
            words = f"{said.place(int(row['layer']))}: the extreme, {significant(row[end], 3, True)} nats"
            body.append(svg.mark(place(squash(row[end])), middle, "circle", "extreme", words, 2.4))
    body.append(svg.text(LEFT, bottom + 38, f"the {said.one} helps the prediction", "muted"))
    body.append(svg.text(width - 14, bottom + 38, "it harms", "muted", "end"))
    return svg.document(width, bottom + 46, "Distribution of effects by layer", body)


def _table(frame: Frame, said: OperatorWords) -> Markup:
    def quantile(q: svg.Number) -> Column:
        return Column(f"{100 * q:g}%", lambda r: significant(r[str(q)], 2, True))

    columns = [
        Column("layer", lambda r: said.place(r["layer"]).removeprefix("layer ")),
        Column(said.many, lambda r: count(r["rows"])),
        Column("least", lambda r: significant(r["least"], 2, True)),
        *(quantile(q) for q in QUANTILES),
        Column("most", lambda r: significant(r["most"], 2, True)),
        Column("top 1% carry", lambda r: percent(r["top1"])),
        Column("top 10%", lambda r: percent(r["top10"])),
    ]
    return table(
        rows_of(frame),
        columns,
        "Quantiles of the change in NLL (nats), and the share of the total |change| carried by the "
        f"largest {said.many}",
    )
