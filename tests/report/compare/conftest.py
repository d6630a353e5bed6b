"""The made-up run, and a copy of it under another operator that harms one expert more."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import altered

HARMED = (2, 3, 0.5)  # layer, expert, nats more under the other operator


def more(effects):
    layer, expert, nats = HARMED
    there = (effects["layer"] == layer) & (effects["expert"] == expert)
    return effects.assign(delta_nll=effects["delta_nll"] + (nats * there).astype("float32"))


@pytest.fixture(scope="session")
def other_operator(made_up, tmp_path_factory) -> Path:
    return altered.copy(
        made_up,
        tmp_path_factory.mktemp("others") / "reroute",
        question={"name": "reroute", "operator": {"operator": "Reroute", "scores": "kept"}},
        effects=more,
    )


@pytest.fixture(scope="session")
def compared(made_up, other_operator):
    from moeaudit import compare

    return compare(other_operator, made_up)
