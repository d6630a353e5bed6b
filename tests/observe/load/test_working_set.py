"""Working sets: by hand, against independence where choices are independent, and beside another text."""

from __future__ import annotations

import numpy as np
import pytest
from made import routing_tables

import moeaudit as ma
from moeaudit.errors import InputError


def drawn(documents: int, tokens: int, experts: int, seed: int, sticky: float = 0.0) -> ma.Trace:
    """One slot a token, drawn evenly; with probability `sticky` the expert of the token before."""
    rng = np.random.default_rng(seed)
    seen, routing = [], []
    for d in range(documents):
        expert = 0
        for t in range(tokens):
            if t == 0 or rng.random() >= sticky:
                expert = int(rng.integers(experts))
            seen.append((d, "a", t, 5, 6))
            routing.append((d, t, 0, 0, expert, 1.0, 1.0, 0.1))
    return routing_tables.trace_of(seen, routing, experts)


def test_by_hand():
    found = ma.working_set(routing_tables.by_hand(), [1, 2]).set_index("length")
    # Document 0 touches experts 0 and 1 at once; document 1 starts with 2 and 0.
    assert found.loc[1, "touched"] == 2 and found.loc[1, "even"] == pytest.approx(2.0)
    counts = np.bincount(routing_tables.by_hand().routing["expert"], minlength=4) / 4
    assert counts[3] == 0 and found.loc[2, "experts"] == 4
    assert found.loc[2, "independent"] == pytest.approx(np.sum(1 - (1 - counts) ** 2))


def test_independent_choices_touch_what_independence_expects():
    found = ma.working_set(drawn(200, 16, 12, 0), [4, 16])
    assert found["over_independent"].to_numpy() == pytest.approx([1, 1], abs=0.02)
    assert (found["over_independent_low"] < 1.01).all() and (
        found["over_independent_high"] > 0.99
    ).all()
    assert found["touched"].to_numpy() == pytest.approx(found["even"], abs=0.15)


def test_text_that_stays_with_its_experts_touches_fewer():
    sticky, free = drawn(60, 16, 12, 1, sticky=0.8), drawn(60, 16, 12, 2)
    found = ma.working_set(sticky, [16], beside=free).iloc[0]
    assert found["over_independent_high"] < 0.8 and found["ratio_high"] < 0.8
    assert found["ratio_low"] < found["ratio"] < found["ratio_high"]
    assert found["touched_beside"] == pytest.approx(ma.working_set(free, [16]).iloc[0]["touched"])


def test_short_documents_and_single_ones():
    found = ma.working_set(drawn(1, 8, 4, 0), [4, 8, 16])
    assert list(found["length"]) == [4, 8]  # none reaches 16
    assert found["low"].isna().all() and found["touched"].notna().all()


def test_bad_input():
    trace = drawn(2, 4, 4, 0)
    with pytest.raises(InputError, match="No document"):
        ma.working_set(trace, [5])
    for lengths in ([], [0], [True]):
        with pytest.raises(InputError, match="above 0"):
            ma.working_set(trace, lengths)
    with pytest.raises(InputError, match="different MoE layers or experts"):
        ma.working_set(trace, [2], beside=drawn(2, 4, 5, 0))
