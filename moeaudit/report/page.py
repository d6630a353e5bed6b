"""From a run to one HTML file that needs nothing else: no network, no Python, no scripts even."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.runs.working.folder import check_report_path
from moeaudit.store.files import write_text

from .audit.command import again
from .audit.drawn import figures
from .audit.drawn import plotly_figures as plotly_figures
from .audit.first import first_screen
from .audit.gathered import lacks_for_bounds, summarised
from .audit.gathered import said_of as said_of
from .audit.pruned import pruning_section
from .audit.rounding import drift_words
from .audit.terms import Explained
from .explore import data as explored
from .figures.domains import where
from .pages import explore
from .pages.browser import browser
from .pages.data import data_tables, facts
from .pages.library import library
from .pages.policy import policy
from .pages.template import static, templates
from .words import where as domains
from .words import words
from .words.answer import answer
from .words.evidence import read
from .words.summary import as_row
from .words.verdicts import SIGNS, strip, symbols, verdicts

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun

CONTENTS = [
    ("verification", "Are the numbers right?"),
    ("maps", "Where"),
    ("contrasts", "What predicts"),
    ("mass", "Equal weight"),
    ("bounds", "Size of interest"),
    ("power", "What could be found"),
    ("associations", "Which experts"),
    ("where", "Where it holds"),
    ("depth", "Depth"),
    ("spread", "Distribution"),
    ("pruning", "Pruning"),
    ("calibration", "Calibration"),
    ("tokens", "Experts and tokens"),
    ("data", "Data"),
    ("method", "Method"),
    ("limits", "Not tested"),
    ("provenance", "Provenance"),
]


def render(run: StoredRun) -> str:
    """The page as text. Every word that comes from a model or a corpus is escaped on the way."""
    from moeaudit.version import __version__, digest

    environment = templates()
    explained = Explained()
    environment.filters |= {"symbols": symbols, "explained": explained}
    style = static("style.css") + explore.style()
    script = "".join(static(name) for name in ("page.js", "tables.js", "bounds.js"))
    script += explore.script()
    code, packed = library()
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
    pruned = pruning_section(run.folder, run.record["model"].get("weights_sha256"))
    if pruned is not None:
        keys.add("pruning")
    lacks = [] if untested or (why := lacks_for_bounds(run)) is None else [why]
    page = environment.get_template("page.html.j2").render(
        version=__version__,
        made_by=digest("report"),
        policy=policy([code, script], [style]),
        style=Markup(style),
        script=Markup(script),
        plotly=Markup(packed),
        model=run.spec.model,
        subtitle=words.subtitle(run, said),
        maker=run.record["model"].get("note"),
        said=said,
        untested=untested,
        drift=drift_words(run),
        strip=strip(evidence) if evidence.outcomes else "",
        answer=answer(evidence, whole, run.spec.model, said),
        first=first_screen(run, evidence, whole, said, domains.told(run)),
        explained=explained,
        again=again(run),
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
        plots={
            f.key: _json(json.loads(str(f.plot.to_json()))) for f in plots if f.plot is not None
        },
        sliding={f.key: _json(f.data) for f in plots if f.data is not None},
        signs=json.dumps({verdict: sign[:2] for verdict, sign in SIGNS.items()}),
        calibration=honesty,
        explorer=explore.explorer(explore.with_pruning(explored(run), run.folder), said),
        pruned=pruned,
        browser=browser(run.tokens, run.shards, tables["tokens"], said),
        data=data_tables(run, tables["domains"], said),
        notes=[*run.record["notes"], *lacks],
        how=words.method(run, said),
        limits=words.limits(run, said),
        provenance=words.provenance(run),
    )
    return page + "\n"


_FIGURE_KEYS = {
    "maps",
    "contrasts",
    "mass",
    "bounds",
    "power",
    "associations",
    "depth",
    "spread",
    "pruning",
    "calibration",
}


def _calibration(run: StoredRun) -> Markup | None:
    if not (run.folder / "calibration.json").is_file():  # as most runs: no calibration is imported
        return None
    from .pages.calibration_section import calibration_section

    return calibration_section(run.folder, run.record["model"].get("weights_sha256"))


def write_report(run: StoredRun, path: Path) -> Path:
    """Write the page atomically. Raises RunError if `path` is taken by anything but such a page."""
    check_report_path(path)
    write_text(path, render(run))
    return path


def _json(value: Any) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"))
    for char, code in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, code)
    return Markup(text)
