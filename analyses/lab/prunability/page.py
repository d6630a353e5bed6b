"""The page of analyses/lab/prunability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from moeaudit.pruning.forecast import SIGNS
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.tables import Column, rows_of, table

from ..pages import sheet_of
from .judged import BASE, WHOLE

ALONG = "recipe, by number"


def sentence(tables: dict[str, pd.DataFrame], result: dict[str, Any]) -> str:
    """What the census's signs were worth, with intervals over recipes."""
    ways: Any = tables["ways"]
    said = []
    for target in dict.fromkeys(ways["target"]):
        here = ways[ways["target"] == target].set_index("way")
        row, base = here.loc[WHOLE], here.loc[BASE]
        if pd.isna(row["gain"]):
            said.append(f"{target}: every model loses the same, so there is nothing to forecast")
            continue
        better = (
            "better"
            if row["gain_low"] > 0
            else "worse"
            if row["gain_high"] < 0
            else "not told apart"
        )
        least = result["without"][f"lost_{target.partition('%')[0]}"]
        if row["gain_low"] > 0 and not least["gain_low"] > 0:
            better += (
                f", but not without the recipe {least['recipe']}: {100 * least['gain']:.0f} %, "
                f"{100 * least['gain_low']:.0f} to {100 * least['gain_high']:.0f}"
            )
        said.append(
            f"{target}: off by a factor of {row['factor']:.2f}, the mean of the other recipes by {base['factor']:.2f} "
            f"(error {100 * row['gain']:.0f} % smaller, {100 * row['gain_low']:.0f} to "
            f"{100 * row['gain_high']:.0f}: {better})"
        )
    quick = "A run of the machinery, no result. " if result["quick"] else ""
    return (
        f"{quick}Loss after pruning by {result['criterion']}, forecast for recipes left out from a census of "
        f"{result['documents']['signs']} documents ({result['models']} models, {result['recipes']} recipes): "
        f"{'; '.join(said)}."
    )


def write_page(path: Path, result: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Path:
    """Answer, the ways of forecasting, every model's forecast, the bundled models, the signs."""
    sheet = sheet_of("Will a model survive pruning?", result)
    inside: Any = tables["bundled"]
    sizes: Any = tables["models"]["parameters"] / 1e6
    sheet.points(
        [
            f"{result['models']} models of {result['recipes']} recipes ({sizes.min():.1f} to {sizes.max():.1f} million "
            "parameters). Left out: "
            + "; ".join(f"{name} ({why})" for name, why in result["left_out"].items())
            + ".",
            "The recipe is the unit: its seeds are left out together, errors are averaged over recipes, limits are the "
            "jackknife over recipes. A factor of 2 says that forecasts were typically twice or half of what was lost.",
            "Recipes are no sample: four differ in the scope of the balance alone and three in how experts are tied, "
            "so one that is left out often has near ones among the others.",
            "Ten signs and a handful of recipes: which single sign looks best among ten is partly luck. The row of all "
            "signs was fixed beforehand; the others are for the reader.",
            f"The bundled models were trained for longer: {int(inside['inside'].sum())} of {len(inside)} of their "
            "losses lie within the forecast's limits.",
        ]
    )
    sheet.heading("Ways of forecasting")
    sheet.table(
        table(rows_of(tables["ways"]), _ways(), "Recipes left out: how far forecasts were off")
    )
    told: Any = tables["forecasts"]
    for target in dict.fromkeys(told["target"]):
        part = told[told["target"] == target]
        by = part.groupby(["recipe", "way"], as_index=False)[
            ["lost", "predicted", "low", "high"]
        ].mean()
        order = {name: i for i, name in enumerate(dict.fromkeys(by["recipe"]))}
        real = by[by["way"] == WHOLE].assign(
            series="lost", value=lambda f: f["lost"], low=None, high=None
        )
        frame = pd.concat(
            [by.assign(series=by["way"], value=by["predicted"]), real], ignore_index=True
        )
        frame = frame.assign(**{"model": target, ALONG: frame["recipe"].map(order.__getitem__)})
        names = ", ".join(f"{i} {name}" for name, i in order.items())
        sheet.figure(
            profiles(
                frame,
                key=f"forecast-{target}",
                title=f"{target}: forecast and lost",
                caption=f"Means of the seeds; limits hold 80 % of recipes left out. Recipes: {names}.",
                along=ALONG,
            )
        )
    sheet.heading("The bundled models")
    sheet.table(table(rows_of(tables["bundled"]), _bundled(), "Forecast from the lab's models"))
    sheet.heading("Signs and losses of every model")
    sheet.paragraph("; ".join(f"{name}: {what}" for name, what in SIGNS.items()) + ".")
    sheet.table(table(rows_of(tables["models"]), _models(tables["models"]), "Every model"))
    return sheet.write(path)


def _shown(value: Any) -> str:
    return "" if value is None or value != value else f"{value:.3g}"


def _percent(value: Any) -> str:
    return "" if value is None or value != value else f"{100 * value:.0f} %"


def _ways() -> list[Column]:
    return [
        Column("from", lambda r: r["way"], text=True),
        Column("pruned", lambda r: r["target"], text=True),
        Column("off by a factor of", lambda r: _shown(r["factor"])),
        Column("error smaller than the baseline's by", lambda r: _percent(r["gain"])),
        Column("limits", lambda r: f"{_percent(r['gain_low'])} to {_percent(r['gain_high'])}"),
        Column("within limits", lambda r: f"{100 * r['covered']:.0f} %"),
    ]


def _bundled() -> list[Column]:
    return [
        Column("model", lambda r: r["model"], text=True),
        Column("pruned", lambda r: r["target"], text=True),
        Column("lost, nats", lambda r: _shown(r["lost"])),
        Column("forecast", lambda r: _shown(r["predicted"])),
        Column("limits", lambda r: f"{_shown(r['low'])} to {_shown(r['high'])}"),
        Column("within", lambda r: "yes" if r["inside"] else "no", text=True),
        Column("signs beyond the lab's", lambda r: r["outside"] or "none", text=True),
    ]


def _models(frame: pd.DataFrame) -> list[Column]:
    numbers = [c for c in frame if c not in ("recipe", "seed")]
    return [
        Column("recipe", lambda r: r["recipe"], text=True),
        Column("seed", lambda r: r["seed"]),
        *(Column(str(c).replace("_", " "), lambda r, c=c: _shown(r[c])) for c in numbers),
    ]
