"""The figures of a run, in the order of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from moeaudit.frames import Frame

from ..figures.associations import associations
from ..figures.contrasts import contrasts
from ..figures.domains import where
from ..figures.figure import Figure
from ..figures.layers.depth import depth
from ..figures.layers.spread import spread
from ..figures.maps import maps
from ..figures.mass import mass
from ..figures.sizes.bounds import bounds
from ..figures.sizes.power import power
from ..words.evidence import read
from .gathered import lacks_for_bounds, said_of, summarised

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from moeaudit.runs.run import StoredRun


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
            out += [f for f in [power(run.tests, run.spec.sesoi)] if f is not None]
        if len(evidence.harm):
            out.append(associations(evidence.harm, tables["cells"], run.experts, said))
        out.append(depth(tables["depth"], said))
    return [*out, spread(tables["spread"], said)]


def plotly_figures(run: StoredRun) -> dict[str, go.Figure]:
    """The interactive figures by name: maps, contrasts, mass, bounds, associations, depth, spread, where."""
    held = where(run)
    drawn = figures(run) if held is None else [*figures(run), held]
    return {f.key: f.plot for f in drawn if f.plot is not None}
