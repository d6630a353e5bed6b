"""From a run to one HTML file that needs nothing else: no network, no Python, no scripts even."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.runs.folder import check_report_path
from moeaudit.store.files import write_text

from .figures.associations import associations
from .figures.contrasts import contrasts
from .figures.depth import depth
from .figures.figure import Figure
from .figures.maps import maps
from .figures.spread import spread
from .pages.browser import browser
from .pages.data import data_tables, facts
from .pages.policy import policy
from .words import words
from .words.answer import answer
from .words.evidence import read
from .words.numbers import significant
from .words.operator import OperatorWords, words_of
from .words.summary import cells as cell_table
from .words.summary import depth as depth_table
from .words.summary import overall, token_effects
from .words.summary import spread as spread_table
from .words.verdicts import strip, symbols, verdicts

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moeaudit.runs.run import StoredRun

CONTENTS = [
    ("verification", "Are the numbers right?"),
    ("maps", "Where"),
    ("contrasts", "What predicts"),
    ("associations", "Which experts"),
    ("depth", "Depth"),
    ("spread", "Distribution"),
    ("calibration", "Calibration"),
    ("tokens", "Tokens"),
    ("data", "Data"),
    ("method", "Method"),
    ("limits", "Not tested"),
    ("provenance", "Provenance"),
]


def figures(run: StoredRun) -> list[Figure]:
    """The report's figures in order."""
    evidence, said = read(run.tests), words_of(run.question)
    effects = run.effects
    out: list[Figure] = []
    if said.scope != "model":  # an edit of the whole model has no place in it
        cells = cell_table(*by_subject(effects, said, experts_of(run)))
        out.append(maps(cells, said))
        if not evidence.untested:
            out.append(contrasts(evidence.contrasts, said))
        if len(evidence.harm):
            out.append(associations(evidence.harm, cells, run.experts, said))
        out.append(depth(depth_table(effects), said))
    return [*out, spread(spread_table(effects), said)]


def by_subject(
    effects: Frame, said: OperatorWords, experts: dict[int, int]
) -> tuple[Frame, dict[int, int]]:
    """The effects with `expert` numbering what their rows are about, and how many of it a layer has."""
    if said.subject == "expert":
        return effects, experts
    if said.subject == "rank":
        number = effects["rank"].to_numpy("int64")
    elif said.subject == "set":
        members = effects["members"].to_numpy("int64")
        number = np.array([int(m).bit_count() - 1 for m in range(int(members.max()) + 1)])[members]
    else:
        number = np.zeros(len(effects), "int64")
    layers = (int(layer) for layer in effects["layer"].unique())
    return effects.assign(expert=number), dict.fromkeys(layers, int(number.max()) + 1)


def plotly_figures(run: StoredRun) -> dict[str, go.Figure]:
    """The interactive figures by name: maps, contrasts, associations, depth, spread."""
    return {f.key: f.plot for f in figures(run) if f.plot is not None}


def experts_of(run: StoredRun) -> dict[int, int]:
    """Number of experts by decoder layer."""
    return {int(layer): n for layer, n in run.record["model"]["num_experts"].items()}


def render(run: StoredRun) -> str:
    """The page as text. Every word that comes from a model or a corpus is escaped on the way."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from moeaudit.version import __version__

    environment = Environment(
        loader=PackageLoader("moeaudit.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["symbols"] = symbols
    style, script = _static("style.css"), _static("page.js")
    library, packed = _plotly()
    drawn = figures(run)
    keys = {f.key for f in drawn}
    evidence, said = read(run.tests), words_of(run.question)
    untested = "; ".join(dict.fromkeys(evidence.untested.values()))
    if untested:
        keys.add("contrasts")
    whole = overall(run.effects)
    honesty = _calibration(run)
    if honesty is not None:
        keys.add("calibration")
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
        alarm=run.alarm,
        checks=words.checks(run, said),
        facts=facts(run, whole, said),
        verdicts=verdicts(evidence) if evidence.outcomes else "",
        figures=drawn,
        standing=words.standing(run),
        plots={f.key: _json(f.plot) for f in drawn if f.plot is not None},
        calibration=honesty,
        browser=browser(run.tokens, run.effects, token_effects(run.effects), said),
        data=data_tables(run, said),
        notes=run.record["notes"],
        how=words.method(run, said),
        limits=words.limits(run, said),
        provenance=words.provenance(run),
    )
    return page + "\n"


def _drift(run: StoredRun) -> str:
    drift = run.record.get("drift")
    if drift is None:
        return ""
    return f"Rows without an edit end within {significant(drift, 2)} nats of the intact model."


_FIGURE_KEYS = {"maps", "contrasts", "associations", "depth", "spread", "calibration"}


def _calibration(run: StoredRun) -> Markup | None:
    from .pages.calibration_section import calibration_section

    return calibration_section(run.folder, run.record["model"].get("weights_sha256"))


def write_report(run: StoredRun, path: Path) -> Path:
    """Write the page atomically. Raises RunError if `path` is taken by anything but such a page."""
    check_report_path(path)
    write_text(path, render(run))
    return path


def _static(name: str) -> str:
    return resources.files("moeaudit.report").joinpath("static", name).read_text("utf-8")


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
