"""Who is next in line: the expert that `Reroute` lets in, at the price of the router alone."""

from __future__ import annotations

import pandas as pd
import pytest
from made import tiny_moe

import moeaudit as ma

DOCS = [tiny_moe.ids(9, seed) for seed in range(2)]
KEY = ["document", "position", "layer", "expert"]


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_it_is_whom_rerouting_lets_in(architecture):
    model = tiny_moe.load(architecture)
    trace = ma.capture(model, DOCS, following=True)
    entered = pd.DataFrame(ma.ablate(model, DOCS, ma.Reroute()))
    both = trace.routing.merge(entered, on=KEY)
    assert len(both) == len(entered) and (both["next"] == both["entered"]).all()
    assert trace.routing["next"].dtype == "int16" and not trace.facts.nulls


def test_a_trace_that_was_not_asked_has_no_such_column():
    model = tiny_moe.load("olmoe")
    plain = ma.capture(model, DOCS)
    assert "next" not in plain.routing
    asked = ma.capture(model, DOCS, following=True)
    assert asked.routing[plain.routing.columns].equals(plain.routing)


def test_where_nobody_is_left_it_is_nobody_with_a_reason():
    model = ma.load(tiny_moe.build("olmoe", num_experts=3))
    trace = ma.capture(model, DOCS, following=True)
    assert (trace.routing["next"] == -1).all()
    assert "next" in trace.facts.nulls and "of 3 experts" in trace.facts.nulls["next"]
