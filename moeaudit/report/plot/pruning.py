"""Figure: what each criterion's cut costs, share by share, beside random choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError

from ..words.numbers import count, plural
from .sheet import sheet

if TYPE_CHECKING:
    import plotly.graph_objects as go


def pruning(curve: Any, *, outcome: str = "d_nll") -> go.Figure:
    """What pruning costs by each criterion against the share of experts that stays, random draws as a band.

    Parameters
    ----------
    curve
        What `ma.prune_curve` returns; its own `figure` draws the marks.
    outcome
        "d_nll" (loss added to the whole model's), "nll" or "kl" (KL(clean || pruned)); nats a token.

    Returns
    -------
    A plotly figure, a panel for each scope and depth. Bars hold the curve's level, by document; tips say them.

    Raises InputError for anything but a curve, and an unknown outcome.
    """
    if not (hasattr(curve, "figure") and hasattr(curve, "table") and hasattr(curve, "boot")):
        raise InputError(
            f"A pruning curve was expected, and this is a {type(curve).__name__}. Pass what "
            "ma.prune_curve(model, docs, criteria) returns."
        )
    plot = curve.figure(outcome)
    height = int(plot.layout.height)
    documents = len(curve.boot.sums.document)
    random = curve.table[curve.table["criterion"] == "random"]
    draws = int(random["draw"].nunique())
    note = [
        f"{count(curve.boot.sums.count.sum())} predictions of {plural(documents, 'document')} that the criteria did "
        f"not see; bars hold {100 * curve.level:g}%, by document.",
        f"The band holds the central {100 * curve.level:g}% of {plural(draws, 'random choice')} of as many experts."
        if draws
        else "No random choices were drawn, so nothing here says what luck would do.",
        *curve.notes,
    ]
    clean = f"The whole model's loss is {curve.clean_nll:.4f} nats a token."
    title = f"What does each cut cost? {curve.model}"
    return sheet(plot, title, clean, note, height=height - 60).update_layout(width=None)
