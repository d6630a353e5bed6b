"""The page of a comparison: one HTML file without scripts, fonts or network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.errors import RunError
from moeaudit.runs.working.folder import check_report_path
from moeaudit.runs.working.provenance import now, package_versions
from moeaudit.store.files import write_text

from ..pages.policy import policy
from ..pages.template import static, templates, without_scripts
from ..words.evidence import outcome_name
from ..words.numbers import percent
from ..words.words import provenance
from . import about, sections, words
from .drawn.maps import MOST_NARROW, depth_drawing, map_drawings

if TYPE_CHECKING:
    from .pairs import Pair
    from .result import Compared

MAPPED = ("delta_nll", "kl")
MANY_CELLS = 3_000  # rows of the table of cells: above it, maps are drawn of these outcomes only


def write_comparison(compared: Compared, path: Path, *, force: bool = False) -> Path:
    """Write the page atomically. Raises RunError where `path` holds anything but a page of these very runs; with
    `force` where it holds anything but a page of moeaudit."""
    check_report_path(path)
    if path.is_file() and path.stat().st_size and not force:
        mark = f'<meta name="moeaudit-runs" content="{runs_hash(compared)}">'
        if mark not in path.read_text(encoding="utf-8", errors="replace")[:8192]:
            raise RunError(
                f"{path} exists and is a page of something else. Nothing was written. Choose another name, or replace "
                "it with --force (force=True in Python)."
            )
    write_text(path, render_comparison(compared))
    return path


def runs_hash(compared: Compared) -> str:
    """What was compared: the questions of all runs in order, their folders, and what is compared."""
    told = [
        [s.run.record["spec_hash"], str(s.run.folder.resolve()), s.name] for s in compared.sides
    ]
    return hashlib.sha256(json.dumps([told, compared.outcomes]).encode()).hexdigest()[:32]


def render_comparison(compared: Compared) -> str:
    """The page as text. Names of models, operators and folders are escaped."""
    base = without_scripts()
    style = static("style.css") + static("compare.css")
    maps = _maps(compared)
    said = {
        **base,
        "style": Markup(style),
        "policy": policy([], [style]).replace("script-src ", "script-src 'none'"),
        "runs_hash": runs_hash(compared),
        "names": " and ".join(f"{s.letter} ({s.name})" for s in compared.sides),
        "headline": words.headline(compared),
        "follows": words.follows(compared),
        "answer": words.answer(compared),
        "paired": about.paired(compared),
        "alarms": [f"{s.letter}: {s.run.alarm}" for s in compared.sides if s.run.alarm],
        "runs": sections.runs_table(compared),
        "whole": sections.differences_table(compared, compared.whole, "All rows"),
        "maps": maps,
        "depth": [depth_drawing(compared, outcome) for outcome in compared.outcomes],
        "layers_said": words.layers(compared),
        "depth_tables": sections.depth_tables(compared),
        "ranks": sections.ranks_table(compared),
        "ranks_said": words.ranks(compared),
        "agreed": sections.agreed_tables(compared),
        "level": percent(compared.how.level, 0),
        "method": about.method(compared),
        "meanings": sections.meanings(compared),
        "limits": about.limits(compared),
        "provenance": _provenance(compared),
    }
    said["contents"] = _contents(said)
    return templates().get_template("compare.html.j2").render(**said) + "\n"


def _contents(said: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [("runs", "What is compared"), ("whole", "All rows")]
    parts += [(figure["key"], figure["title"]) for figure in said["maps"]]
    parts.append(("depth", "Depth"))
    parts += [("ranks", "Order of experts")] if said["ranks"] else []
    parts += [("verdicts", "Verdicts")] if said["agreed"] else []
    return [*parts, ("method", "Method"), ("limits", "Not compared"), ("provenance", "Provenance")]


def _maps(compared: Compared) -> list[dict[str, Any]]:
    """A figure for each pair whose experts are compared, and each of two outcomes."""
    mapped = compared.outcomes
    if len(compared.cells) > MANY_CELLS:  # to keep the page light
        mapped = [o for o in MAPPED if o in compared.outcomes] or compared.outcomes[:1]
    out = []
    for pair in compared.pairs:
        if not pair.cells:
            continue
        for outcome in compared.outcomes:
            out.append(_figure(compared, pair, outcome, outcome in mapped))
    return out


def _figure(compared: Compared, pair: Pair, outcome: str, drawn: bool) -> dict[str, Any]:
    name = outcome_name(outcome)
    many = f", {pair.a.letter} and {pair.b.letter}" if len(compared.pairs) > 1 else ""
    caption = Markup(
        "Each cell is the mean over the rows of one expert in one layer, at the same place in every map; {} and {} "
        "share one scale, and colours end at the 98% quantile of the sizes. On the difference: a dot where one is "
        "shown, a triangle where it is shown to be larger than {} (up: larger in {}, down: larger in {}), corrected "
        "over all cells. Resting on a cell shows its numbers; the table has them all."
    ).format(
        pair.a.letter,
        pair.b.letter,
        words.bound_words(compared, outcome),
        pair.a.letter,
        pair.b.letter,
    )
    return {
        "key": f"map-{outcome}-{pair.b.letter}".replace("_", "-"),
        "title": f"{name} by expert{many}",
        "sentences": words.cells(compared, outcome, pair),
        "drawings": map_drawings(compared, pair, outcome) if drawn else [],
        "wide": 1 + max(e for _, e in pair.cells) > MOST_NARROW,
        "caption": caption,
        "table": sections.cells_table(compared, pair, outcome),
    }


def _provenance(compared: Compared) -> list[dict[str, Any]]:
    versions = {k: v for k, v in package_versions().items() if v is not None}
    how = compared.how
    here = {
        "written": now(),
        "smallest difference of interest": "none set"
        if how.sesoi is None
        else f"{how.sesoi:g} (nats; of rates, a share)",
        "error rate of a family, level of limits, seed": f"{how.alpha:g}, {how.level:g}, {how.seed}",
        "packages": ", ".join(f"{k} {v}" for k, v in versions.items()),
    }
    runs = [
        {
            "title": f"{side.letter}: {side.name}",
            "said": {"folder": str(side.run.folder), **dict(provenance(side.run))},
        }
        for side in compared.sides
    ]
    return [*runs, {"title": "This comparison", "said": here}]
