"""The page of analyses/sixty_cells."""

from __future__ import annotations

from pathlib import Path

from moeaudit.frames import Frame
from moeaudit.report.figures.profiles import profiles
from moeaudit.report.pages.sheet import Sheet
from moeaudit.report.pages.tables import Column, rows_of, table
from moeaudit.report.words.numbers import estimate, fixed

TITLES = {
    "delta_nll": "Harm: signed change of the loss",
    "abs_delta_nll": "Disturbance: size of the change of the loss",
    "kl": "Disturbance: KL of the prediction",
}
COUNTS = (
    *("cells", "over documents", "over experts too", "above the bound", "equivalent to none"),
    *("inconclusive", "recipe, first version", "recipe, second version"),
)


def headline(summary: Frame, null: bool) -> str:
    """The answer: of the signed cells, what each way of reading them claims."""
    harm = summary[summary["outcome"] == "delta_nll"]
    n, ours, documents, recipe = (
        int(harm[c].sum())
        for c in ("cells", "over experts too", "over documents", "recipe, first version")
    )
    if null:
        return (
            f"Of {n} cells of models whose weights are random, {ours} are claimed by this suite ({documents} by "
            f"documents alone) and {recipe} by the published recipe: all of these are false claims about training"
        )
    return (
        f"Of {n} cells of signed harm, {documents} differ from zero over documents, {ours} of them beyond the luck "
        f"of the experts; the published recipe on 200 tokens finds {recipe}"
    )


def write_page(
    path: Path, cells: Frame, summary: Frame, facts: list[str], command: str, null: bool
) -> Path:
    """Answer, counts, a figure for each outcome, every cell."""
    sheet = Sheet("Sixty cells", headline(summary, null), command)
    sheet.points(
        [
            "A cell is a routing metric in a layer: among the experts that are active at a token, does removing the "
            "one with the highest value change the prediction more than removing the one with the lowest? The four "
            "metrics and five layers are those of arXiv 2606.10703.",
            "Ours: every token of every document, one removal at that token alone, metrics from other documents, "
            "documents and experts as the samples, step-down max-T over the cells of a model, equivalence by two "
            "one-sided tests. The recipe: the same effects and metrics, 200 positions by seed 42, a paired t test by "
            "token at .05 over the number of cells; its second version asks Wilcoxon's test as well, and d above 0.",
            *facts,
        ]
    )
    columns = [Column("model", lambda r: r["model"], text=True)]
    columns.append(Column("outcome", lambda r: r["outcome"], text=True))
    columns += [Column(name, lambda r, name=name: r[name]) for name in COUNTS]
    sheet.heading("What is claimed")
    sheet.table(table(rows_of(summary), columns, "Cells by what is said of them"))
    metrics = cells[cells["role"] == "metric"]
    for outcome, title in TITLES.items():
        part = metrics[metrics["outcome"] == outcome].rename(
            columns={"metric": "series", "d_z": "value", "d_z_low": "low", "d_z_high": "high"}
        )
        sheet.figure(
            profiles(part, key=f"cells-{outcome}", title=title, unit="d_z", caption=(
                "d_z of the within-token contrast by layer, this suite's; limits 95 %, by document. Above 0: the "
                "expert with the higher value matters more."
            ))
        )  # fmt: skip
        sheet.table(table(rows_of(part), _columns(), f"{title}: every cell"))
    return sheet.write(path)


def _columns() -> list[Column]:
    return [
        Column("model", lambda r: r["model"], text=True),
        Column("layer", lambda r: r["layer"]),
        Column("metric", lambda r: r["series"], text=True),
        Column("tokens", lambda r: f"{r['n']:,}"),
        Column("d_z [95 %]", lambda r: estimate(r["value"], r["low"], r["high"])),
        Column("p, documents", lambda r: fixed(r["p_maxt"], 4)),
        Column("p, experts", lambda r: fixed(r["p_experts_maxt"], 4)),
        Column("verdict", lambda r: r["verdict"] or "", text=True),
        Column("recipe d", lambda r: fixed(r["recipe_d"], 3, sign=True)),
        Column("recipe p, t", lambda r: fixed(r["recipe_p_t"], 4)),
        Column("recipe p, Wilcoxon", lambda r: fixed(r["recipe_p_wilcoxon"], 4)),
        Column("recipe claims", lambda r: "yes" if r["recipe_claims"] else "no", text=True),
    ]
