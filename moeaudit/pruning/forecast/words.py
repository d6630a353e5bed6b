"""What a `Forecast` says in words, and how far it can be trusted by the table's own validation."""

from __future__ import annotations

from typing import Any

import numpy as np

Number = float | int | np.number
NO_MORE = "the forecast knows no more than the mean"


def headline(found: Any) -> str:
    """What the deepest cut is expected to cost, and whether the census had a part in it."""
    row = found.table.iloc[-1]
    if row["gain"] != row["gain"]:
        return f"Nothing is forecast for {found.model}: all models of the table lost the same"
    said = (
        f"{found.model} without {1 - row['keep']:.0%} of its experts is expected to lose {nats(row['lost'])} nats a "
        f"token ({nats(row['low'])} to {nats(row['high'])})"
    )
    if not row["gain_low"] > 0:
        return f"{said}, and {NO_MORE} of other models"
    if row["rests_on"]:
        said += f"; that it knows more than the mean of other models rests on one recipe, {row['rests_on']}"
    return f"{said}; an extrapolation" if row["outside"] else said


def sentences(found: Any) -> list[str]:
    """The losses beside those that need no census, what lies outside, and how far to trust it."""
    out = [_expected(found, row) for _, row in found.table.iterrows()]
    out.append(f"Limits are those that held {found.level:.0%} of the recipes left out.")
    out += [_trust(found, row) for _, row in found.table.iterrows() if row["gain"] == row["gain"]]
    beyond: Any = found.ranges[found.ranges["outside"]]
    if len(beyond):
        listed = "; ".join(
            f"{r['sign']} {sign(r['value'])}, there {sign(r['low'])} to {sign(r['high'])}"
            for _, r in beyond.iterrows()
        )
        out.append(
            f"Beyond every model of the table: {listed}. So this is an extrapolation, which the limits do not cover."
        )
    out.append(_from(found))
    return out


def _expected(found: Any, row: Any) -> str:
    without = f"Without {1 - row['keep']:.0%} of the experts"
    if row["gain"] != row["gain"]:
        return (
            f"{without} all {len(found.known.frame)} models of the table lost the same, {nats(row['mean'])} nats a "
            "token or less, so nothing is forecast there."
        )
    return (
        f"{without}: {nats(row['lost'])} nats a token are expected, {nats(row['low'])} to {nats(row['high'])}; the "
        f"mean of the table's recipes, which needs no census, says {nats(row['mean'])}, {nats(row['mean_low'])} to "
        f"{nats(row['mean_high'])}."
    )


def _trust(found: Any, row: Any) -> str:
    said = (
        f"How far to trust it at {1 - row['keep']:.0%}: each of {found.known.recipes} recipes forecast from the others "
        f"({len(found.known.frame)} models), it was off by a factor of {row['factor']:.2f}, the mean by "
        f"{row['baseline']:.2f}: its error is smaller by {percent(row['gain'])} ({percent(row['gain_low'])} to "
        f"{percent(row['gain_high'])}, 95% over recipes); {row['covered']:.0%} of the losses lay within the limits."
    )
    if row["gain_high"] < 0:
        return f"{said} That is worse than the mean: take the mean."
    if not row["gain_low"] > 0:
        return f"{said} This interval holds 0: as far as the table shows, {NO_MORE}."
    if row["rests_on"]:
        rest = found.rests[row["keep"]]
        if rest["gain"] is None:
            return f"{said} Whether that rests on one recipe cannot be looked at: the table has too few."
        return (
            f"{said} It knows more than the mean, but that rests on one recipe: without {row['rests_on']} the error is "
            f"smaller by {percent(rest['gain'])} ({percent(rest['gain_low'])} to {percent(rest['gain_high'])}), which "
            f"holds 0, and {NO_MORE}."
        )
    return f"{said} It knows more than the mean."


def _from(found: Any) -> str:
    """What the table is of, beside the size of this model."""
    by = found.known.criterion
    said = f"Learnt from {found.known.name}" + (f", pruned by {by}" if by else "")
    frame, mine = found.known.frame, found.parameters
    if "parameters" in frame and frame["parameters"].notna().all():
        low, high = (size(frame["parameters"].agg(of)) for of in ("min", "max"))
        sizes = low if low == high else f"{low} to {high}"
        said += f"; its models have {sizes} parameters"
        if mine is not None and mine > frame["parameters"].max():
            said += f", this one {size(mine)}: that what holds for them holds for it is not shown"
    said += "."
    elsewhere = found.known.about.get("elsewhere")
    if elsewhere:
        said += (
            f" Of {elsewhere['losses']} losses of {elsewhere['models']} models that were trained otherwise, "
            f"{elsewhere['inside']} lay within the limits."
        )
    return said


def between(value: Number, low: Number, high: Number) -> str:
    """`0.062 [0.026, 0.15]`, nats."""
    return f"{nats(value)} [{nats(low)}, {nats(high)}]"


def nats(value: Number) -> str:
    return f"{value:.2g}" if abs(value) >= 1e-3 else f"{value:.1g}"


def sign(value: Number) -> str:
    """A sign's value; a dash where there is none."""
    return "\N{EN DASH}" if value != value else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def percent(value: Number) -> str:
    return "\N{EN DASH}" if value != value else f"{100 * value:.0f}%".replace("-", "\N{MINUS SIGN}")


def size(value: Number) -> str:
    """A number of parameters."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if value >= unit:
            return f"{value / unit:.3g} {name}"
    return f"{int(value):,}"
