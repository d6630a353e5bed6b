"""The page of analyses/published_audit: one self-contained HTML file, no scripts."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.stats.sizes.equivalence import (
    BELOW,
    EQUIVALENT,
    INCONCLUSIVE,
    OPEN,
    PREDICTIVE,
    REVERSED,
    SHOWN,
)

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1d2733}
h1{font-size:1.6rem;line-height:1.25}h2{font-size:1.2rem;margin-top:2.2rem}
table{border-collapse:collapse;font-size:.85rem;width:100%}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid #dde3ea;white-space:nowrap}
th:nth-child(-n+3),td:nth-child(-n+3){text-align:left}
.scroll{overflow-x:auto}.predictive{color:#0a6b3d;font-weight:600}.reversed{color:#a0341a;font-weight:600}
.equivalent{color:#23559c;font-weight:600}.inconclusive{color:#68727e}.note{color:#4a5562;max-width:48rem}
svg{max-width:100%;height:auto}text{font:12px system-ui,sans-serif;fill:#1d2733}
"""
COLOURS = {
    PREDICTIVE: "#0a6b3d",
    REVERSED: "#a0341a",
    OPEN: "#0a6b3d",
    BELOW: "#23559c",
    EQUIVALENT: "#23559c",
    INCONCLUSIVE: "#8a94a0",
}
COLUMNS = {
    "model": "model",
    "layer": "layer",
    "metric": "metric",
    "n": "tokens",
    "n_documents": "clusters",
    "published_d_z": "published d",
    "d_z": "recomputed d",
    "{}d_z_ddof1": "d_z",
    "{}d_z_low": "low",
    "{}d_z_high": "high",
    "{}verdict": "verdict",
    "{}supports": "speaks of",
    "{}p_t": "p, paired t by token",
    "{}p_wilcoxon": "p, Wilcoxon by token",
    "{}p_maxt": "p, max-T by cluster",
    "{}p_rank_maxt": "p, max-T of signed ranks",
    "{}p_equivalence": "p, equivalence",
    "{}power_at_sesoi": "power at bound",
    "{}mde": "smallest d found 80 %",
    "{}n_to_decide": "tokens to decide",
}


def write_page(
    path: Path, cells: pd.DataFrame, pooled: pd.DataFrame, design: dict[float, float]
) -> None:
    """Answer first, then pictures, tables, and how to read them."""
    sesoi = float(cells["sesoi"].iloc[0])
    body = [f"<h1>{escape(headline(cells))}</h1>", reproduction(cells), how(cells, design, sesoi)]
    metrics, controls = (cells[cells["role"] == role] for role in ("metric", "control"))
    for prefix, title in (
        ("", "Harm: signed change of loss"),
        ("abs_", "Disturbance: its magnitude"),
    ):
        body.append(f"<h2>{title}</h2>")
        body.append(ranks(metrics, prefix))
        body.append(control(controls, prefix))
        body.append(forest(cells, prefix, sesoi))
        columns = {k.format(prefix): v for k, v in COLUMNS.items()}
        if prefix:  # only the signed d was published
            columns = {k: v for k, v in columns.items() if k not in ("published_d_z", "d_z")}
        body.append(html_table(cells, columns))
    body.append("<h2>Each metric over all layers</h2>")
    body.append(
        "<p class='note'>Layers share tokens, so they are averaged within each cluster first and "
        "clusters are resampled as wholes; d_z is the mean over layers. Verdicts are for these experts: each "
        "metric is one number an expert, and whether luck over experts would do as well cannot be asked of these "
        "files.</p>"
    )
    names = ("model", "outcome", "metric", "n_layers", "n_documents", "d_z", "d_z_low", "d_z_high")
    names += ("p_maxt", "p_equivalence", "verdict", "supports", "reason")
    body.append(html_table(pooled, {n: "speaks of" if n == "supports" else n for n in names}))
    head = (
        "<meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; "
        "style-src 'unsafe-inline'\"><title>Published audit, re-examined</title>"
    )
    page = f"<!doctype html><html lang='en'><head>{head}<style>{STYLE}</style></head><body>"
    path.write_text(page + "\n".join(body) + "</body></html>\n", encoding="utf-8")


def headline(cells: pd.DataFrame) -> str:
    """What the cells of the metrics show, for these experts."""
    cells = cells[cells["role"] == "metric"]
    n = len(cells)
    small = int((cells["verdict"] == EQUIVALENT).sum())
    open_ = int((cells["verdict"] == INCONCLUSIVE).sum())
    return (
        f"For these experts, of {n} published cells {_present(cells['verdict'])} show harm that goes with the "
        f"metric, {small} are shown to have next to none and {open_} decide nothing; "
        f"{_present(cells['abs_verdict'])} show it for how much a token is disturbed"
    )


def _present(verdicts: pd.Series) -> int:
    return int(verdicts.isin(SHOWN).sum())


def control(cells: pd.DataFrame, prefix: str) -> str:
    """The positive control, or that there is none."""
    if cells.empty:
        return (
            "<p class='note'>There is no control: the pairs of the token's own gate weight were not found "
            "beside the layer files.</p>"
        )
    d = cells[f"{prefix}d_z_ddof1"].astype(float)
    return (
        f"<p class='note'>Control, the token's own gate weight: d_z {d.min():+.3f} to {d.max():+.3f} over "
        f"{len(cells)} layers, {_present(cells[f'{prefix}verdict'])} of them shown. Its file names no texts, so "
        "its tokens are taken as independent, which makes its intervals too short rather than too long.</p>"
    )


def reproduction(cells: pd.DataFrame) -> str:
    counts = cells["reproduced"].value_counts()
    worst = cells["largest_difference"].max()
    gap = "" if np.isnan(worst) else f" The largest difference is {worst:.1e}."
    return (
        f"<p>{counts.get('yes', 0)} of {len(cells)} cells are reproduced from their own pairs to "
        f"one part in a million (mean difference, d, both p-values).{gap}</p>"
    )


def ranks(cells: pd.DataFrame, prefix: str) -> str:
    """Verdicts rest on means; with heavy tails a reader should see what signed ranks say."""
    by_rank = int((cells[f"{prefix}p_rank_maxt"] <= 0.05).sum())
    by_mean = int((cells[f"{prefix}p_maxt"] <= 0.05).sum())
    return (
        f"<p class='note'>Corrected over the family, {by_mean} of {len(cells)} cells differ from zero "
        f"in their mean and {by_rank} in their signed ranks (Wilcoxon's test with clusters). The mean "
        "is what d_z and the verdicts are about; a few very large effects can hide it, or make it. "
        "Where one cluster carries most of a cell, its interval is long: that is then hardly more than "
        "one observation.</p>"
    )


def how(cells: pd.DataFrame, design: dict[float, float], sesoi: float) -> str:
    power = ", ".join(f"{100 * p:.0f} % at d = {d:g}" for d, p in design.items())
    by = ", ".join(sorted(set(cells["clustered_by"])))
    return (
        f"<p class='note'>The published test treats the tokens as independent and calls a cell null "
        f"when p exceeds .05 / 20. With 200 tokens that test has a power of {power}. Here tokens are "
        f"clustered by {escape(by)}, p-values are corrected by step-down max-T over all cells of a "
        f"model, and a null is only claimed when the interval lies within d_z = &plusmn;{sesoi:g} "
        "(two one-sided tests, Holm). The pairs, and whatever is wrong with how they were made, are "
        "the authors' own. In the released files `sample_idx` numbers batches of neighbouring texts, "
        "not texts (the place of a position in the flattened batches shows it); neighbouring lines "
        "of one article are not independent either, so batches are the cautious cluster and single "
        "texts the other reading (cells.csv has the verdicts under both).</p>"
    )


def forest(cells: pd.DataFrame, prefix: str, sesoi: float) -> str:
    """Interval of every cell, coloured by verdict, with the equivalence bound shaded."""
    names = [f"{prefix}{c}" for c in ("d_z_ddof1", "d_z_low", "d_z_high")]
    values = cells[names].to_numpy(float, na_value=np.nan)
    finite = values[np.isfinite(values)]
    reach = max(float(np.abs(finite).max(initial=0.0)), 2 * sesoi) * 1.05
    row, left, width = 18, 330, 560
    height = row * len(cells) + 40

    def x(value: float) -> float:
        return left + width * (value + reach) / (2 * reach)

    parts = [
        f"<svg viewBox='0 0 {left + width + 20} {height}' role='img' "
        "aria-label='Effect size and interval of every cell'>",
        f"<rect x='{x(-sesoi):.1f}' y='8' width='{x(sesoi) - x(-sesoi):.1f}' "
        f"height='{height - 34}' fill='#e6edf6'/>",
        f"<line x1='{x(0):.1f}' x2='{x(0):.1f}' y1='8' y2='{height - 26}' stroke='#68727e'/>",
    ]
    for i, (v, cell) in enumerate(zip(values, cells.itertuples())):
        y = 20 + row * i
        label = f"{cell.model} layer {cell.layer} {cell.metric}"
        label += " (control)" if cell.role == "control" else ""
        parts.append(f"<text x='0' y='{y + 4}'>{escape(label)}</text>")
        if not np.isfinite(v).all():
            parts.append(f"<text x='{x(0) + 4:.1f}' y='{y + 4}'>not estimable</text>")
            continue
        colour = COLOURS.get(getattr(cell, f"{prefix}verdict"), "#8a94a0")
        parts.append(
            f"<line x1='{x(v[1]):.1f}' x2='{x(v[2]):.1f}' y1='{y}' y2='{y}' stroke='{colour}' "
            f"stroke-width='2'/><circle cx='{x(v[0]):.1f}' cy='{y}' r='3.5' fill='{colour}'/>"
        )
    for tick in (-sesoi, 0.0, sesoi):
        parts.append(
            f"<text x='{x(tick):.1f}' y='{height - 8}' text-anchor='middle'>{tick:g}</text>"
        )
    return "".join(parts) + "</svg>"


def html_table(table: pd.DataFrame, columns: dict[str, str]) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in columns.values())
    rows = []
    for record in table[list(columns)].itertuples(index=False):
        rows.append("<tr>" + "".join(_cell(value) for value in record) + "</tr>")
    return f"<div class='scroll'><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _cell(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "<td>&ndash;</td>"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return f"<td>{number:.1e}</td>" if 0 < abs(number) < 5e-4 else f"<td>{number:.3f}</td>"
    text = escape(str(value))
    return f"<td class='{text.split()[0] if text else ''}'>{text}</td>"
