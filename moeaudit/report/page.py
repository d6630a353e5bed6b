"""From a run to one HTML file that needs nothing else: no network, no Python, no scripts even."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.runs.working.folder import check_report_path
from moeaudit.store.files import write_text

from .explore import data as explored
from .figures.associations import associations
from .figures.bounds import bounds
from .figures.contrasts import contrasts
from .figures.depth import depth
from .figures.domains import where
from .figures.figure import Figure
from .figures.maps import maps
from .figures.mass import mass
from .figures.spread import spread
from .pages.browser import browser
from .pages.data import data_tables, facts
from .pages import explore
from .pages.policy import policy
from .pages.template import static, templates
from .words import where as domains
from .words import words
from .words.answer import answer
from .words.evidence import read
from .words.numbers import count, percent, significant
from .words.operator import OperatorWords, words_of
from .words.subject import SubjectCells
from .words.summary import (
    ByDomain,
    Cells,
    Means,
    Spread,
    TokenEffects,
    as_row,
    limits_of,
    summaries,
)
from .words.verdicts import strip, symbols, verdicts

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moeaudit.runs.run import StoredRun

CONTENTS = [
    ("verification", "Are the numbers right?"),
    ("maps", "Where"),
    ("contrasts", "What predicts"),
    ("mass", "Equal weight"),
    ("bounds", "Size of interest"),
    ("associations", "Which experts"),
    ("where", "Where it holds"),
    ("depth", "Depth"),
    ("spread", "Distribution"),
    ("calibration", "Calibration"),
    ("tokens", "Experts and tokens"),
    ("data", "Data"),
    ("method", "Method"),
    ("limits", "Not tested"),
    ("provenance", "Provenance"),
]


def figures(run: StoredRun, tables: Mapping[str, Frame] | None = None) -> list[Figure]:
    """The report's figures in order. `tables` are those of `summarised`, where they are there."""
    evidence, said = read(run.tests), said_of(run)
    tables = tables or summarised(run, said)
    out: list[Figure] = []
    if said.scope != "model":  # an edit of the whole model has no place in it
        out.append(maps(tables["cells"], said))
        if not evidence.untested:
            out.append(contrasts(evidence, said))
            out += [f for f in [mass(run.equal_mass, said)] if f is not None]
            if lacks_for_bounds(run) is None:
                out.append(bounds(run.tests, run.spec.sesoi))
        if len(evidence.harm):
            out.append(associations(evidence.harm, tables["cells"], run.experts, said))
        out.append(depth(tables["depth"], said))
    return [*out, spread(tables["spread"], said)]


def lacks_for_bounds(run: StoredRun) -> str | None:
    """Why verdicts cannot be shown for other sizes of interest; None if they can."""
    from moeaudit.stats.record.made import analyses
    from moeaudit.stats.sensitivity import NEEDS

    absent = [name for name in NEEDS if name not in run.tests]
    if not absent and analyses(run.tests):
        return None
    what = f"has no column {', '.join(absent)}" if absent else "does not say how it was made"
    return (
        f"Verdicts for other sizes of interest are not shown, because the table of tests {what}: it was "
        "written by another version."
    )


def said_of(run: StoredRun) -> OperatorWords:
    """The words for the run's operator; of one that is not known here the rows say what they are about."""
    said = words_of(run.question)
    first = next(run.shards.frames(["expert"]))
    about_none = said.subject == "expert" and bool((first["expert"] < 0).any())
    return replace(said, subject="layer") if about_none else said


def summarised(run: StoredRun, said: OperatorWords) -> dict[str, Frame]:
    """Every summary of the effects that the page needs, in one pass over the shards."""
    experts = {int(layer): n for layer, n in run.record["model"]["num_experts"].items()}
    by_expert, kind = said.subject == "expert", limits_of(run.question.share)
    wanted = {
        "all": Means(("all",), limits=kind),
        "cells": Cells(experts, kind) if by_expert else SubjectCells(said.subject, kind),
        "depth": Means(("layer",), limits=kind),
        "spread": Spread(),
        "domains": ByDomain(run.tokens, kind),
        "tokens": TokenEffects(),
    }
    return summaries(run.shards, wanted)


def plotly_figures(run: StoredRun) -> dict[str, go.Figure]:
    """The interactive figures by name: maps, contrasts, mass, bounds, associations, depth, spread, where."""
    held = where(run)
    drawn = figures(run) if held is None else [*figures(run), held]
    return {f.key: f.plot for f in drawn if f.plot is not None}


def render(run: StoredRun) -> str:
    """The page as text. Every word that comes from a model or a corpus is escaped on the way."""
    from moeaudit.version import __version__

    environment = templates()
    environment.filters["symbols"] = symbols
    style, script = static("style.css") + explore.style(), static("page.js") + explore.script()
    library, packed = _plotly()
    evidence, said = read(run.tests), said_of(run)
    tables = summarised(run, said)
    drawn = figures(run, tables)
    keys = {f.key for f in drawn}
    held = where(run)
    plots = drawn if held is None else [*drawn, held]
    untested = "; ".join(dict.fromkeys(evidence.untested.values()))
    if untested:
        keys.add("contrasts")
    whole = as_row(tables["all"])
    honesty = _calibration(run)
    if honesty is not None:
        keys.add("calibration")
    lacks = [] if untested or (why := lacks_for_bounds(run)) is None else [why]
    page = environment.get_template("page.html.j2").render(
        version=__version__,
        policy=policy([library, script], [style]),
        style=Markup(style),
        script=Markup(script),
        plotly=Markup(packed),
        model=run.spec.model,
        subtitle=words.subtitle(run, said),
        said=said,
        untested=untested,
        drift=_drift(run),
        strip=strip(evidence) if evidence.outcomes else "",
        answer=answer(evidence, whole, run.spec.model, said),
        contents=[c for c in CONTENTS if c[0] in keys or c[0] not in _FIGURE_KEYS],
        engine=run.record["engine"],
        made="census" if run.question.share == 1 else "sample",
        alarm=run.alarm,
        checks=words.checks(run, said),
        facts=facts(run, whole, said),
        verdicts=verdicts(evidence) if evidence.outcomes else "",
        figures=drawn,
        standing=words.standing(run),
        where=held,
        where_said=domains.sentences(run),
        plots={f.key: _json(f.plot) for f in plots if f.plot is not None},
        calibration=honesty,
        explorer=explore.explorer(explored(run), said),
        browser=browser(run.tokens, run.shards, tables["tokens"], said),
        data=data_tables(run, tables["domains"], said),
        notes=[*run.record["notes"], *lacks],
        how=words.method(run, said),
        limits=words.limits(run, said),
        provenance=words.provenance(run),
    )
    return page + "\n"


def _drift(run: StoredRun) -> str:
    drift = run.record.get("drift")
    if drift is None:
        return ""
    off, kind = _measured_rounding(run)
    rows = above = beyond = 0
    for frame in run.shards.frames(["delta_nll"]):
        size = frame["delta_nll"].abs()
        rows, above = rows + len(frame), above + int((size > drift).sum())
        beyond += 0 if off is None else int((size > off).sum())
    said = (
        f"Rows without an edit end within {significant(drift, 2)} nats of the intact model, which is rounding: "
        f"{count(above)} of {count(rows)} effects ({percent(above / max(rows, 1), 0)}) are larger than that."
    )
    if off is None:
        return said
    return (
        f"{said} Effects in {kind} are off by {significant(off, 2)} nats at the median from those in float32, "
        f"measured on a sample of removals when the model was loaded: {count(beyond)} of {count(rows)} "
        f"({percent(beyond / max(rows, 1), 0)}) are larger than that."
    )


def _measured_rounding(run: StoredRun) -> tuple[float | None, str]:
    """What an effect is off by in the half precision that the run computes in, where that was measured."""
    found = run.record["model"].get("precision") or {}
    kind = str(found.get("computes", ""))
    tried = (found.get("tried") or {}).get(kind) or {}
    return (None if kind == "float32" else tried.get("off")), kind


_FIGURE_KEYS = {
    "maps",
    "contrasts",
    "mass",
    "bounds",
    "associations",
    "depth",
    "spread",
    "calibration",
}


def _calibration(run: StoredRun) -> Markup | None:
    from .pages.calibration_section import calibration_section

    return calibration_section(run.folder, run.record["model"].get("weights_sha256"))


def write_report(run: StoredRun, path: Path) -> Path:
    """Write the page atomically. Raises RunError if `path` is taken by anything but such a page."""
    check_report_path(path)
    write_text(path, render(run))
    return path


@cache
def _plotly() -> tuple[str, str]:
    """The plotting library, and the same compressed as base64: 2.0 instead of 4.8 MB in the page."""
    from plotly.offline import get_plotlyjs

    library = get_plotlyjs()
    packed = gzip.compress(library.encode("utf-8"), compresslevel=9, mtime=0)
    return library, base64.b64encode(packed).decode("ascii")


def _json(plot: Any) -> Markup:
    """A figure as JSON that cannot end the script element it stands in."""
    value = json.loads(plot.to_json())
    text = json.dumps(value, separators=(",", ":"))
    for char, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, code)
    return Markup(text)
