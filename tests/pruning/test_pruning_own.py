"""What a pruning curve is asked: random draws beside everything, rankings of one's own, refusals before any work."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made.architectures import BY_NAME

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.pruning.asked import asked_of
from moeaudit.pruning.steps import steps_of


@functools.cache
def tiny() -> ma.Model:
    return ma.load(BY_NAME["olmoe"].build(num_hidden_layers=2))


def texts(first: int, count: int) -> list[np.ndarray]:
    return [np.random.default_rng(s).integers(3, 300, 9) for s in range(first, first + count)]


def curve(criteria: Any, **more: Any) -> Any:
    asked = {"keep": 0.5, "calibration": texts(50, 3), "draws": 2} | more
    return ma.prune_curve(tiny(), texts(0, 3), criteria, **asked)


def ranking(**changed: Any) -> pd.DataFrame:
    """Expert 7 is the best of every layer, expert 0 the first to go."""
    rows = [(layer, e, float(e)) for layer in (0, 1) for e in range(8)]
    return pd.DataFrame(rows, columns=["layer", "expert", "score"]).assign(**changed)


def test_random_draws_stand_beside_every_criterion_also_unasked():
    table = curve(["reap"]).table
    assert (table["criterion"] == "random").sum() == 2
    assert table.loc[table["criterion"] == "reap", "vs_random"].notna().all()
    asked = asked_of(["reap", "random"], draws=5)
    assert asked.names == ("reap", "random") and asked_of("reap", draws=5).names == asked.names
    shares = asked_of("reap", np.array([0.5, 0.75]), draws=np.int64(5)).shares
    assert shares == (0.75, 0.5) and asked_of("reap", np.float32(0.5)).shares == (0.5,)
    assert asked_of(None, draws=0).names == asked_of(None).names[:-1]


def test_what_is_not_known_of_random_choices_has_a_reason():
    found = curve(["reap", "ean"], draws=0)
    assert found.table["vs_random"].isna().all() and found.table["verdict"].isna().all()
    assert set(found.table["reason"]) == {"no random choices were drawn (draws = 0)"}
    assert set(found.pairs()["reason"]) == {"no random choices were drawn (draws = 0)"}
    assert any("No random choices were drawn" in note for note in found.notes)
    few = curve(["reap", "ean", "msan"]).interchangeability()
    assert few["spread_random"].isna().all()
    assert set(few["reason"]) == {"2 random choices are fewer than the 3 criteria"}
    asked = curve(["reap"]).table
    assert asked.set_index("criterion").loc["reap", "reason"] is None
    assert set(asked.loc[asked["criterion"] == "random", "reason"]) == {"a random choice itself"}


def test_a_table_a_function_and_a_mapping_rank_experts():
    def mine(model: Any, docs: Any) -> pd.DataFrame:
        assert model is tiny() and docs.n_documents == 3
        return ranking()

    shuffled = ranking().sample(frac=1, random_state=0)
    for criteria, name in ((shuffled, "own"), (mine, "mine"), ({"by hand": ranking()}, "by hand")):
        kept = curve(criteria, draws=0).kept(name, 0.5)
        assert kept == {0: [4, 5, 6, 7], 1: [4, 5, 6, 7]}
    both = curve({"by hand": ranking(), "reap": None})
    assert list(dict.fromkeys(both.table["criterion"])) == ["by hand", "reap", "random"]
    listed = curve(["reap", mine], draws=0)
    assert set(listed.scores["criterion"]) == {"reap", "mine"}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (ranking().drop(columns="score"), "has no column 'score' .it has layer, expert"),
        (ranking().drop(index=11), "no row for layer 1, expert 3: 1 of 16 experts are missing"),
        (ranking(layer=[0] * 8 + [4] * 8), "row 8: layer is 4, .* layers 0, 1"),
        (ranking(expert=[*range(8), *range(7), 12]), "row 15: expert is 12, .* experts 0 to 7"),
        (ranking(expert=[*range(8), *range(7), 6]), "row 15: layer 1, expert 6 stands in row 14"),
        (ranking(score=[*map(float, range(15)), np.nan]), "row 15: score is nan"),
        (ranking(score=[*range(15), "high"]), "row 15: score is 'high'"),
        (ranking(expert=[0.5, *range(1, 8), *range(8)]), "row 0: expert is 0.5"),
        (ranking(layer=["0", *[0] * 7, *[1] * 8]), "row 0: layer is '0'"),
    ],
)
def test_a_ranking_that_does_not_fit_is_refused_with_row_and_value(table, said):
    with pytest.raises(InputError, match=said):
        curve(table)


def test_other_things_than_rankings_are_refused_in_words():
    for criteria, said in (
        ({"reap": ranking()}, "has the name of a criterion"),
        ([3], "neither a name nor a ranking"),
        (7, "neither names nor a ranking"),
        ({"mine": "reap"}, "is a str"),
        ({"mine": None}, "is none of utilisation"),
        ({}, "names no criterion"),
        ([ranking(), ranking()], "Two criteria are called 'own'"),
        ({"mine": lambda model, docs: [1, 2]}, "returned a list"),
        ({"mine": lambda model: ranking()}, "cannot be called with .model, calibration documents."),
        (pd.concat([ranking(), ranking()[["score"]]], axis=1), "has the column 'score' twice"),
        (["reep"], "Did you mean reap"),
        ("Easy-EP", "Did you mean easy_ep"),
    ):
        with pytest.raises(InputError, match=said):
            curve(criteria)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"draws": 1}, "draws = 1 random choices have no spread"),
        ({"draws": -3}, "draws = -3"),
        ({"draws": True}, "draws = True"),
        ({"draws": 10**6}, "at most 10,000"),
        ({"keep": None}, "keep = None"),
        ({"scope": None}, "scope=None"),
        ({"draws": 2.5}, "draws = 2.5"),
        ({"keep": "half"}, "keep = 'half'"),
        ({"keep": (0.5, 1.2)}, "keep = 1.2"),
        ({"keep": float("nan")}, "keep = nan"),
        ({"keep": ()}, "at most 1"),
        ({"scope": "row"}, "scope='row'.*layer, global"),
        ({"layers": ()}, "layers = .. is empty"),
        ({"seed": -1}, "seed is -1"),
        ({"level": 1}, "level = 1"),
        ({"margin": -0.1}, "margin = -0.1"),
    ],
)
def test_wrong_settings_are_refused_in_words(wrong, said):
    with pytest.raises(InputError, match=said):
        asked_of(["reap"], **wrong)


def test_settings_are_checked_before_any_text_is_read(monkeypatch):
    def read(*_: object, **__: object) -> None:
        raise AssertionError("a text was read")

    monkeypatch.setattr("moeaudit.pruning.curve.two_sides", read)
    for wrong, said in (
        ({"draws": 1}, "have no spread"),
        ({"keep": 0.25}, "leaves 2 of 8"),
        ({"layers": "early"}, "2 MoE layer.s., which make no early"),
        ({"scope": "row"}, "scope='row'"),
    ):
        with pytest.raises(InputError, match=said):
            curve(["reap"], **wrong)


def test_every_stage_is_told_to_its_end():
    class Told:
        def __init__(self) -> None:
            self.stages: dict[str, list[int]] = {}

        def stage(self, name: str, total: int, unit: str, done: int = 0) -> None:
            self.stages[name] = [total, done]

        def advance(self, amount: int) -> None:
            self.stages[list(self.stages)[-1]][1] += amount

        def note(self, message: str) -> None:
            raise AssertionError(message)

    told = Told()
    curve({"mine": lambda model, docs: ranking(), "reap": None, "causal_harm": None}, progress=told)
    assert list(told.stages) == ["routing", "ranking 'mine'", "causal harm", "pruned models"]
    assert all(total == done for total, done in told.stages.values())
    assert told.stages["causal harm"] == [3 * 8 * 2 * 3, 3 * 8 * 2 * 3]
    with pytest.raises(InputError, match="progress = 3 has no methods"):
        steps_of(3)
