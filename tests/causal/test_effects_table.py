"""A table of effects knows its question, whatever pandas does with it; or says that it does not."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pandas as pd
import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.check.verify import verify
from moeaudit.errors import InputError, RunError

DOCS = [tiny_moe.ids(9), tiny_moe.ids(7, seed=1)]


@pytest.fixture(scope="module")
def model():
    return tiny_moe.load("olmoe")


@pytest.fixture(scope="module")
def effects(model):
    return ma.ablate(model, DOCS)


@pytest.fixture(scope="module")
def swapped(model):
    return ma.ablate(model, DOCS, ma.Swap(2))


def test_the_question_is_what_was_asked(model):
    table = ma.ablate(
        model, DOCS, ma.Swap(2), horizon=2, frozen_routing=True, outcomes=["delta_brier"]
    )
    asked = table.question
    assert asked.operator == ma.Swap(2).to_dict() and asked.name == ma.Swap(2).name
    assert (asked.scope, asked.frozen_routing, asked.horizon) == ("position", True, 2)
    spilled = ("delta_brier", "spill_nll", "spill_kl", "spill_flips")
    assert asked.outcomes == ("delta_nll", "kl", "flip", *spilled)
    assert set(asked.outcomes) <= set(table.columns)
    assert ma.ablate(model, DOCS, ma.Everywhere(ma.Zero())).question.scope == "document"
    assert ma.ablate(model, DOCS, ma.Without({0: [1]})).question.scope == "model"


def test_the_engine_is_the_one_that_ran(model, effects):
    assert effects.engine.startswith("wavefront") and effects.notes == []
    everywhere = ma.ablate(model, DOCS, ma.Everywhere(ma.Zero()))
    assert "full forwards" in everywhere.engine and everywhere.notes == []
    both = ma.Effects.of(
        pd.DataFrame(effects), replace(effects.facts, engine="full forwards", notes=("slower",))
    )
    both = pd.concat([effects, both])  # one question, two engines
    assert both.engine == f"{effects.engine}; then full forwards" and both.notes == ["slower"]


def test_a_decomposition_names_its_own_outcomes(model):
    table = ma.decompose(model, DOCS[:1], horizon=1)
    assert {"direct_nll", "routing_nll", "total_nll"} <= set(table.question.outcomes)
    assert set(table.question.outcomes) <= set(table.columns)
    assert not table.question.frozen_routing and table.drift is not None
    assert verify(table, model, n=3).agrees


@pytest.mark.parametrize(
    "how",
    [
        lambda t: t[t["layer"] == 1],
        lambda t: t.head(3),
        lambda t: t.copy(),
        lambda t: t.sort_values("kl", ignore_index=True),
        lambda t: t.assign(double=2 * t["kl"]),
        lambda t: t[["document", "kl"]],
        lambda t: t.reset_index(drop=True),
        lambda t: t.merge(pd.DataFrame({"layer": [0, 1], "name": ["a", "b"]}), on="layer"),
        lambda t: t.join(pd.DataFrame({"more": range(len(t))})),
        lambda t: pd.concat([t, pd.DataFrame({"more": range(len(t))})], axis=1),
        lambda t: pd.concat([t.head(2), t.tail(2)]),
        lambda t: pd.concat([t.head(2), t.head(2)], axis=1),
        lambda t: pickle.loads(pickle.dumps(t)),
    ],
)
def test_what_pandas_does_keeps_the_facts(effects, how):
    made = how(effects)
    assert made.facts == effects.facts and made.notes == [] and made.drift == effects.drift
    assert "wavefront" in made.engine and made.texts.hash == effects.texts.hash
    assert made.operator == ma.Zero()


def test_tables_of_one_question_and_other_texts_may_be_joined(model, effects):
    other = ma.ablate(model, [tiny_moe.ids(6, seed=5)])
    both = pd.concat([effects, other], ignore_index=True)
    assert both.question == effects.question and both.drift == max(effects.drift, other.drift)
    assert both.engine == effects.engine  # one engine, named once
    assert both.texts is None and both.facts.texts is None
    with pytest.raises(InputError, match="docs="):
        verify(both, model)


@pytest.mark.parametrize("name", ["question", "engine", "drift", "notes", "facts"])
def test_joined_questions_are_not_one_question(model, effects, swapped, name):
    both = pd.concat([effects, swapped])
    assert len(both) == len(effects) + len(swapped) and both.operator is None
    with pytest.raises(InputError, match=r"different questions \(zero; swap"):
        getattr(both, name)
    assert not hasattr(both, name)
    with pytest.raises(InputError, match="different questions"):
        verify(both, model, docs=DOCS)
    with pytest.raises(InputError, match="different questions"):
        getattr(pd.concat([both, effects]), name)  # nor does it become one again
    side = effects.merge(swapped, on=["document", "position", "layer", "rank"])
    with pytest.raises(InputError, match="different questions"):
        getattr(side, name)


def test_frozen_and_free_routing_are_different_questions(model, effects):
    frozen = ma.ablate(model, DOCS, frozen_routing=True)
    with pytest.raises(InputError, match=r"\(zero; zero, routing frozen\)"):
        _ = pd.concat([effects, frozen]).question


def test_rows_of_no_known_question_spoil_the_question(effects):
    both = pd.concat([effects, pd.DataFrame(effects)])
    with pytest.raises(InputError, match="rows that carry no question"):
        _ = both.question


@pytest.mark.parametrize("name", ["question", "engine", "drift", "notes", "facts"])
def test_a_table_made_from_columns_says_that_it_knows_nothing(effects, name):
    bare = ma.Effects(pd.DataFrame(effects))
    with pytest.raises(InputError, match="does not say what was asked"):
        getattr(bare, name)
    assert bare.texts is None and bare.operator is None and not hasattr(bare, name)


def test_a_file_keeps_the_question(model, swapped, tmp_path):
    swapped.to_parquet(tmp_path / "swapped.parquet")
    read = ma.effects(tmp_path / "swapped.parquet")
    assert read.facts == swapped.facts and read.operator is None
    pd.testing.assert_frame_equal(pd.DataFrame(read), pd.DataFrame(swapped))
    assert verify(read, model, n=4, docs=DOCS).agrees  # the operator comes from the question
    plain = pd.read_parquet(tmp_path / "swapped.parquet")
    assert verify(plain, model, n=4, docs=DOCS).agrees


def test_a_file_without_a_question_is_refused(effects, tmp_path):
    pd.DataFrame(effects).to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(RunError, match="no table of effects that says its question"):
        ma.effects(tmp_path / "plain.parquet")
    (tmp_path / "odd.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(RunError, match="cannot be read as Parquet"):
        ma.effects(tmp_path / "odd.parquet")
