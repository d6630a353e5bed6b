"""Figure: how far each routing metric orders a token's active experts by effect, layer by layer."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.stats.sizes.equivalence import INCONCLUSIVE, NOT_ESTIMABLE

from ..pages.tables import Column, folded, rows_of, table
from ..plot.verdict_points import face, order_of, span
from ..words.evidence import ROLES, Evidence, metric_name, outcome_name, outcome_words
from ..words.numbers import count, estimate, fixed, percent, probability
from ..words.operator import OperatorWords
from . import svg
from .figure import Figure
from .palette import VERDICTS

WIDTH, LEFT, ROW, GAP, TOP = 980, 222, 54, 46, 74


def contrasts(evidence: Evidence, said: OperatorWords) -> Figure:
    """`evidence.contrasts` as rows of metrics and columns of outcomes, one point a layer."""
    frame = evidence.contrasts
    body: list[str] = []
    names, outcomes = order_of(frame)
    wide = (WIDTH - LEFT - GAP * (len(outcomes) - 1) - 12) / len(outcomes)
    n_controls = frame.loc[frame["role"] == "control", "metric"].nunique()
    split = len(names) - n_controls
    for i, outcome in enumerate(outcomes):
        part = frame[frame["outcome"] == outcome]
        title = outcome_words(outcome, said.cost)
        panel(body, part, names, split, LEFT + i * (wide + GAP), wide, title, i == 0)
    height = TOP + ROW * len(names) + 26 * (n_controls > 0) + 40
    key(body, frame)
    caption = Markup(
        "Within each token, the active expert with the highest value of the metric is compared with "
        "the one with the lowest: d<sub>z</sub> is the mean difference of their effects over its "
        "standard deviation across tokens. Lines are 95% intervals over documents. "
        "Above zero: a high value goes with a larger effect. {} {} The controls below the rule are what "
        "nothing, the router itself and a causal score from other documents achieve on the same "
        "tokens."
    ).format(_band_words(evidence), _luck_words(frame))
    return Figure(
        "contrasts",
        "Do routing metrics predict the effect?",
        caption,
        svg.document(WIDTH, height, "Effect size by metric, layer and outcome", body, 720),
        folded("Every contrast as a table", _table(frame)),
        face(frame, names, outcomes),
    )


def panel(body, part, names, split, x0, width, title, labelled) -> None:
    """One outcome: a row a metric or control, a point a layer, with limits, bound and luck where known."""
    layers = sorted(int(x) for x in part["layer"].unique())
    least, most = span(part)
    body.append(svg.text(x0, TOP - 30, title[0], "title"))
    body.append(svg.text(x0, TOP - 14, title[1], "muted"))
    place = svg.linear(-0.5, len(layers) - 0.5, x0, x0 + width)
    bottom = TOP
    for i, name in enumerate(names):
        top = TOP + i * ROW + (26 if i >= split else 0)
        if i == split and split < len(names):
            body.append(
                svg.line(x0 - (LEFT if labelled else 0), top - 13, x0 + width, top - 13, "rule")
            )
            if labelled:
                body.append(svg.text(0, top - 2, "controls", "tick"))
        scale = svg.linear(least, most, top + ROW - 6, top + 6)
        body.append(svg.rect(x0, top + 3, width, ROW - 6, "panel"))
        rows = part[part["metric"] == name]
        _zone(body, rows, layers, place, scale, (least, most), width)
        body.append(svg.line(x0, scale(0), x0 + width, scale(0), "zero"))
        _luck(body, rows, layers, place, scale, (least, most), width)
        marks = svg.ticks(least, most, 4)
        for tick, words in zip(marks, svg.tick_texts(marks, sign=True)):
            if tick:
                body.append(svg.line(x0, scale(tick), x0 + width, scale(tick), "grid"))
            body.append(svg.text(x0 - 5, scale(tick) + 3, words, "tiny", "end"))
        if labelled:
            first, second = metric_name(name)
            body.append(svg.text(0, top + ROW / 2, first, "label"))
            body.append(svg.text(0, top + ROW / 2 + 14, second, "muted"))
        for row in rows.itertuples():
            x = place(layers.index(int(row.layer)))
            if row.role == "control" and not least <= row.d_z <= most:
                _off_scale(body, row, x, scale, least, most, width / len(layers) > 34)
            else:
                _point(body, row, x, scale)
        bottom = top + ROW
    step = next(s for s in (1, 2, 4, 8, 16) if s * width / len(layers) >= 22)
    for i in range(0, len(layers), step):
        body.append(svg.text(place(i), bottom + 12, str(layers[i]), "tick", "middle"))
    body.append(svg.text(x0 + width / 2, bottom + 27, "layer", "muted", "middle"))


def _zone(body, rows, layers, place, scale, span, width) -> None:
    """The zone of no interest, a box a layer: a bound in nats is another d_z in each."""
    half, (least, most) = 0.5 * width / len(layers), span
    for row in rows.itertuples():
        if np.isfinite(bound := getattr(row, "sesoi", np.nan)):
            x, upper = place(layers.index(int(row.layer))), scale(min(bound, most))
            height = scale(max(-bound, least)) - upper
            body.append(svg.rect(x - half, upper, 2 * half, height, "band"))


def _luck(body, rows, layers, place, scale, span, width) -> None:
    """A dashed box a layer: where the same numbers dealt to other experts fall, 95 % of the time."""
    if "null_high" not in rows:
        return
    half, (least, most) = 0.38 * width / len(layers), span
    for row in rows.itertuples():
        if not (np.isfinite(row.null_low) and np.isfinite(row.null_high)):
            continue
        x, upper = place(layers.index(int(row.layer))), scale(min(row.null_high, most))
        body.append(
            svg.rect(x - half, upper, 2 * half, scale(max(row.null_low, least)) - upper, "luck")
        )


def _point(body: list[str], row, x: svg.Number, scale: svg.Scale) -> None:
    shape, css, _ = VERDICTS.get(row.verdict, VERDICTS[INCONCLUSIVE])
    if row.role == "control":
        shape, css = "diamond", f"control c-{row.metric}"
    if not np.isfinite(row.d_z):
        reason = getattr(row, "reason", None) or NOT_ESTIMABLE
        body.append(svg.mark(x, scale(0), "circle", "v-none", f"layer {row.layer}: {reason}", 2.4))
        return
    if np.isfinite(row.low) and np.isfinite(row.high):
        body.append(svg.line(x, scale(row.low), x, scale(row.high), f"bar {css}"))
    words = (
        f"{metric_name(row.metric)[0]}, layer {row.layer}: d_z {estimate(row.d_z, row.low, row.high)}, "
        f"adjusted p {probability(row.p_adjusted)}, {row.verdict or row.role}"
    )
    body.append(svg.mark(x, scale(row.d_z), shape, css, words, 2.8))


def _off_scale(
    body, row, x: svg.Number, scale, least: svg.Number, most: svg.Number, written: bool
) -> None:
    """A control beyond the axis: an arrow at the edge and the value in words."""
    up = row.d_z > most
    y = scale(most) + 6 if up else scale(least) - 6
    size = estimate(row.d_z, row.low, row.high)
    words = f"{metric_name(row.metric)[0]}, layer {row.layer}: d_z {size}, beyond the axis"
    css = f"control c-{row.metric}"
    body.append(svg.mark(x, y, "up" if up else "down", css, words))
    if written:
        text = fixed(row.d_z, 2, True)
        body.append(svg.text(x, y + 16 if up else y - 9, text, "tiny", "middle"))


def key(body: list[str], frame: Frame) -> None:
    """The signs of the verdicts that occur, and of controls."""
    x = 0.0
    shown = [v for v in VERDICTS if ((frame["verdict"] == v) & (frame["role"] == "metric")).any()]
    for verdict in shown:
        shape, css, _ = VERDICTS[verdict]
        body.append(svg.mark(x + 6, 14, shape, css))
        body.append(svg.text(x + 15, 18, verdict, "tick"))
        x += 36 + 6.4 * len(verdict)
    if (frame["role"] == "control").any():
        body.append(svg.mark(x + 6, 14, "diamond", "control"))
        body.append(svg.text(x + 15, 18, "control", "tick"))


def _band_words(evidence: Evidence) -> Markup:
    band = evidence.contrasts["sesoi"].dropna()
    if band.empty:
        return Markup("")
    words = Markup("The grey band is the declared zone of no interest, less than {}{}.")
    each = "" if band.nunique() == 1 else ", in each cell's own d_z"
    name = Markup("d<sub>z</sub>")
    bound, each = (Markup(text.replace("d_z", name)) for text in (evidence.bound, each))
    return words.format(bound, each)


def _luck_words(frame: Frame) -> Markup:
    if "null_high" not in frame or frame["null_high"].isna().all():
        return Markup("")
    return Markup(
        "The dashed boxes hold 95% of what luck over experts gives: the metric's own numbers dealt to "
        "the layer's experts at random."
    )


def _table(frame: Frame) -> Markup:
    columns = [
        Column("metric", lambda r: metric_name(r["metric"])[0], text=True),
        Column("role", lambda r: ROLES[r["role"]], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("outcome", lambda r: outcome_name(r["outcome"]).lower(), text=True),
        Column("tokens", lambda r: count(r["n"])),
        Column("documents", lambda r: count(r["documents"])),
        Column("d_z [95% interval]", lambda r: estimate(r["d_z"], r["low"], r["high"])),
        *_robust(frame),
        Column("p", lambda r: probability(r["p"])),
        Column("p adjusted", lambda r: probability(r["p_adjusted"])),
        Column("p over experts", lambda r: probability(r.get("p_experts", np.nan))),
        Column("adjusted", lambda r: probability(r.get("p_experts_maxt", np.nan))),
        Column("verdict", lambda r: r["verdict"] or "", text=True),
        Column("speaks of", lambda r: r.get("supports") or "", text=True),
    ]
    return table(
        rows_of(frame),
        columns,
        "Within-token contrast of the highest- and lowest-metric active expert",
        [
            "p is the test of no difference over documents, for these experts; p over experts the share "
            "of deals of the metric to other experts with as large a difference; both adjusted for all "
            "metric contrasts of the same outcome. Domains like these: of its sign, not of its size.",
            *_robust_note(frame),
        ],
    )


def _robust(frame: Frame) -> list[Column]:
    """Sizes that a few tokens do not decide, and how much of the variance those tokens carry."""
    sizes = (
        ("winsorised d_z [95% interval]", "winsorised_d_z"),
        ("rank-biserial", "rank_biserial"),
    )
    columns = [
        Column(title, lambda r, n=name: estimate(r[n], r[f"{n}_low"], r[f"{n}_high"]))
        for title, name in sizes
        if name in frame and frame[name].notna().any()
    ]
    share = Column("largest 1% carry", lambda r: percent(r["top_share"], 0))
    return [*columns, share] if columns else []


def _robust_note(frame: Frame) -> list[str]:
    if not _robust(frame):
        return []
    return [
        "Winsorised: the lowest and the highest 5% of the differences are drawn in to the next value. "
        "Rank-biserial: do differences tend to be positive, whatever their size. Largest 1% carry: of the "
        "variance that d_z divides by, the share of the largest 1% of tokens (8% if it were normal)."
    ]
