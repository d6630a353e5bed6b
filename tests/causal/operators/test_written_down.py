"""Operators written down and read back, and what tables and other rooms ask of them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal import Edits, from_dict
from moeaudit.causal.operators.draws import document_key, splitmix64, wrapped
from moeaudit.errors import InputError

WRITTEN = [
    ma.Zero(),
    ma.Renormalize("one"),
    ma.Swap(3),
    ma.Swap("all"),
    ma.Scale(0.5),
    ma.Skip(),
    ma.Skip((0, 2)),
    ma.Reroute("remaining"),
    ma.SharedExpert(),
    ma.SharedGate(0.25),
    ma.Coalitions((1, 2)),
    ma.Permutations(4, seed=7),
    ma.Bank(((1, 2), (0, 3))),
    ma.Everywhere(ma.Renormalize("sum")),
    ma.Everywhere(ma.Skip((1,)), by="rank"),
    ma.Without({1: [0, 2], 2: [3]}, scores="kept"),
    ma.Without({1: [5]}, rule="zero"),
]


@pytest.mark.parametrize("operator", WRITTEN, ids=repr)
def test_an_operator_survives_json(operator):
    values = operator.to_dict()
    again = from_dict(json.loads(json.dumps(values)))
    assert type(again) is type(operator) and again.to_dict() == values
    assert (again.name, again.scope) == (operator.name, operator.scope)
    assert repr(again) == repr(operator)


def test_scopes():
    assert [ma.Zero().scope, ma.Everywhere(ma.Zero()).scope] == ["position", "document"]
    assert ma.Without({1: [0]}).scope == "model"


def test_a_custom_operator_says_its_name_and_that_it_cannot_be_restored():
    custom = ma.Custom(lambda routing: (routing.index, routing.weight), name="as it was")
    assert custom.to_dict() == {"operator": "Custom", "name": "as it was", "rows": 1}
    with pytest.raises(InputError, match=r"'as it was'.*cannot be restored"):
        from_dict(custom.to_dict())


def test_held_out_outputs_are_told_apart_by_their_hash():
    model = tiny_moe.load("olmoe")
    said = ma.expert_outputs(model, [tiny_moe.ids(40, seed=7)])
    other = ma.expert_outputs(model, [tiny_moe.ids(40, seed=8)])
    values = json.loads(json.dumps(ma.Resample(said, seed=3).to_dict()))
    again = from_dict(values, held_out=said)
    assert isinstance(again, ma.Resample) and again.seed == 3 and again.held_out is said
    for given, why in ((None, "none were given"), (other, "others were given")):
        with pytest.raises(InputError, match=why):
            from_dict(values, held_out=given)


def test_unknown_operators_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"'Nothing of the kind' is not known.*Renormalize"):
        from_dict({"operator": "Nothing of the kind"})


def test_two_operators_of_one_name_are_not_guessed_between():
    def made():
        class Twin(ma.Zero):
            name = "twin"

        return Twin

    def again():
        class Twin(ma.Zero):
            name = "twin, too"

        return Twin

    made(), made()  # the same definition run twice is one operator
    assert from_dict({"operator": "Twin"}).to_dict() == {"operator": "Twin"}
    again()
    with pytest.raises(InputError, match="several operators called Twin"):
        from_dict({"operator": "Twin"})


def test_scaling_to_nothing_is_a_removal_and_to_one_is_no_edit():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(9)
    zero, scaled = ma.ablate(model, [ids]), ma.ablate(model, [ids], ma.Scale(0.0))
    pd.testing.assert_frame_equal(pd.DataFrame(zero), pd.DataFrame(scaled), check_exact=True)
    kept = ma.ablate(model, [ids], ma.Scale(1.0))
    assert (kept[["delta_nll", "kl"]] == 0).all(axis=None) and not kept.flip.any()
    with pytest.raises(InputError, match="finite number"):
        ma.Scale(float("inf"))


@pytest.mark.parametrize("make", [ma.Resample, lambda said, seed: ma.Permutations(3, seed)])
def test_seeds_of_any_size_and_documents_that_share_no_draws(make):
    model = tiny_moe.load("olmoe")
    said = ma.expert_outputs(model, [tiny_moe.ids(60, seed=7 + s) for s in range(4)])
    one, two = tiny_moe.ids(9), tiny_moe.ids(9)
    two[-1] = (two[-1] + 1) % tiny_moe.VOCABULARY  # the same routing at positions 0 to 7
    column = "delta_nll" if make is ma.Resample else "members"
    for seed in (0, 2026, 1 << 80, -5):
        both = ma.ablate(model, [one, two], make(said, seed=seed))
        first, second = (both[both.document == d].reset_index(drop=True) for d in (0, 1))
        assert first.expert.equals(second.expert) or column == "members"
        here = first.position < 7
        assert (first[column][here].to_numpy() != second[column][here].to_numpy()).any()
        alone = ma.ablate(model, [two], make(said, seed=seed))  # wherever it stands in a corpus
        np.testing.assert_array_equal(alone[column], second[column])


def test_splitmix64_is_the_published_one():
    # The first outputs of SplitMix64 seeded with 1234567 (the state grows by the golden gamma).
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    gamma, state, got = 0x9E3779B97F4A7C15, 1234567, []
    for _ in published:
        state = (state + gamma) % (1 << 64)
        got.append(int(splitmix64(torch.tensor(wrapped(state)))) % (1 << 64))
    assert got == published


def test_a_document_is_known_by_its_tokens():
    ids = torch.tensor([[3, 1, 4]])
    assert document_key(ids) == document_key(ids.int()[0]) != document_key(torch.tensor([3, 1, 5]))


def test_means_of_half_precision_models_do_not_stop_counting():
    model = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    docs = [tiny_moe.ids(60, seed=s) for s in range(30)]
    said = ma.expert_outputs(model, docs, keep=1 << 20)
    layer = model.anatomy.layers[0]
    for expert in range(layer.num_experts):
        exact = said.some(layer, expert).double().mean(0)
        error = (said.mean(layer, expert).double() - exact).norm() / exact.norm()
        assert error < 1e-5  # a bfloat16 sum was off by percents


def test_an_operator_of_the_users_own_needs_the_protocol_alone():
    class Mine:
        name, scope = "mine", "position"

        def rows(self, layer):
            return 1

        def edits(self, routing):
            first = torch.zeros_like(routing.index[:, :1])
            return Edits(first, routing.index[:, :1, None], -routing.weight[:, :1, None])

        def to_dict(self):
            return {"operator": "Mine"}

    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(9)
    mine, zero = ma.ablate(model, [ids], Mine()), ma.ablate(model, [ids])
    top = zero[zero["rank"] == 0]
    np.testing.assert_allclose(mine.delta_nll, top.delta_nll, atol=1e-6)
