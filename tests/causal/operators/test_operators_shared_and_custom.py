"""The shared expert, operators written by the user, and rerouting: identities and refusals."""

import jaxtyping
import numpy as np
import pytest
import torch
from made import tiny_moe
from made.by_hand import build

import moeaudit as ma
from moeaudit.errors import ContractError, InputError, ModelError


def test_closing_the_gate_is_removing_the_shared_expert_and_its_own_value_changes_nothing():
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(9)
    closed = ma.ablate(model, [ids], ma.SharedGate(0.0))
    removed = ma.ablate(model, [ids], ma.SharedExpert())
    np.testing.assert_allclose(closed.delta_nll, removed.delta_nll, atol=1e-6)
    assert removed.delta_nll.abs().max() > 0.1
    assert (removed[["rank", "expert"]] == -1).all(axis=None) and removed.layer.nunique() == 3
    row = removed.iloc[7]
    at_its_gate = ma.ablate(model, [ids], ma.SharedGate(float(row.weight)))
    assert abs(at_its_gate.iloc[7].delta_nll) < 2e-6
    assert at_its_gate.iloc[7].gate == row.weight and at_its_gate.delta_nll.abs().max() > 1e-3


def test_without_a_gate_the_shared_expert_weighs_one():
    effects = ma.ablate(tiny_moe.load("deepseek_v2"), [tiny_moe.ids(6)], ma.SharedExpert())
    assert (effects.weight == 1).all() and effects.layer.unique().tolist() == [1, 2]


@pytest.mark.parametrize("name", ["cohere2_moe", "ernie4_5_moe", "hunyuan_v1_moe", "glm4_moe"])
def test_shared_experts_of_other_models_are_found(name):
    effects = ma.ablate(ma.load(build(name)), [tiny_moe.ids(5) + 16], ma.SharedExpert())
    assert effects.delta_nll.abs().max() > 1e-3


@pytest.fixture
def untyped(monkeypatch):
    """As users run the package: a wrong argument is not caught by the tests' type checker."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_what_a_model_has_not_is_refused_with_what_it_has(untyped):
    ids = tiny_moe.ids(5)
    with pytest.raises(
        ModelError, match=r"OlmoeForCausalLM, layer 0: SharedExpert\(\).* has gate, experts\)"
    ):
        ma.ablate(tiny_moe.load("olmoe"), [ids], ma.SharedExpert())
    with pytest.raises(ModelError, match=r"DeepseekV2Moe adds .* without a gate.*SharedExpert\(\)"):
        ma.ablate(tiny_moe.load("deepseek_v2"), [ids], ma.SharedGate())
    with pytest.raises(InputError, match="from 0 .closed. to 1"):
        ma.SharedGate(1.5)
    with pytest.raises(InputError, match="from 0 .closed. to 1"):
        ma.SharedGate(float("nan"))
    with pytest.raises(InputError, match="Layer 0 is a dense layer"):
        ma.ablate(tiny_moe.load("deepseek_v2"), [ids], ma.Swap(3), layers=[0])
    everybody = ma.load(tiny_moe.build("olmoe", num_experts_per_tok=8))
    with pytest.raises(InputError, match="8 of 8 experts; with 1 of them gone only 7 are left"):
        ma.ablate(everybody, [ids], ma.Reroute())
    with pytest.raises(InputError, match="'kept' .* or 'remaining'"):
        ma.Reroute("softmax")


def test_a_shared_expert_that_is_not_simply_added_is_refused(monkeypatch):
    model = ma.load(tiny_moe.build("deepseek_v2"))
    block = model.anatomy.layers[0].block
    plain = type(block).forward

    def squared(hidden):
        return plain(block, hidden) + block.shared_experts(hidden) ** 2

    monkeypatch.setattr(block, "forward", squared)
    with pytest.raises(ContractError, match="layer 1: DeepseekV2Moe does not add"):
        ma.ablate(model, [tiny_moe.ids(5)], ma.SharedExpert())


def test_custom_operators_that_write_out_known_ones_agree_with_them():
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(9)

    def remove_each(routing):
        p, k = routing.index.shape
        weight = routing.weight[:, None].expand(p, k, k) * (1 - torch.eye(k))
        return routing.index[:, None].expand(p, k, k), weight

    def only_the_first(routing):
        return routing.index[:, :1], routing.weight[:, :1]

    def twice_the_same(routing):  # two slots of one expert add up to the weight it had
        return (
            torch.cat([routing.index, routing.index], -1),
            torch.cat([routing.weight * 0.25, routing.weight * 0.75], -1),
        )

    zero, each = ma.Zero(), ma.Custom(remove_each, name="each", rows="active")
    a, b = (ma.ablate(model, [ids], operator) for operator in (zero, each))
    np.testing.assert_allclose(a.delta_nll, b.delta_nll, atol=1e-6)
    assert (a["expert"] == b["expert"]).all() and b.question.name == "each"
    a, b = (ma.ablate(model, [ids], o) for o in (ma.Skip((1,)), ma.Custom(only_the_first)))
    np.testing.assert_allclose(a.delta_nll, b.delta_nll, atol=1e-6)
    assert (b["rank"] == -1).all() and (b["expert"] == -1).all()
    same = ma.ablate(model, [ids], ma.Custom(lambda routing: (routing.index, routing.weight)))
    assert (same.delta_nll == 0).all() and (same.kl == 0).all()
    assert ma.ablate(model, [ids], ma.Custom(twice_the_same)).delta_nll.abs().max() < 1e-6
    # As many rows as asked for, told apart by `row`.
    two = ma.ablate(
        model,
        [ids],
        ma.Custom(
            lambda r: (r.index[:, None].repeat(1, 2, 1), r.weight[:, None] * torch.eye(3)[:2]),
            rows=2,
        ),
    )
    assert two.groupby(["position", "layer"]).row.agg(list).map(lambda x: x == [0, 1]).all()


WRONG = {
    "a Tensor": (lambda r: r.index, "returned a Tensor; a pair"),
    "a shape": (lambda r: (r.index[1:], r.weight[1:]), r"\(8, 1, slots\) was expected"),
    "a sentinel": (lambda r: (r.index + 8, r.weight), "chose expert .* experts 0 to 7"),
    "a negative": (lambda r: (r.index - 8, r.weight), "chose expert -"),
    "a NaN": (lambda r: (r.index, r.weight * float("nan")), "NaN or infinite"),
    "kinds": (lambda r: (r.weight, r.weight), "whole numbers"),
}


@pytest.mark.parametrize("wrong", list(WRONG))
def test_an_answer_that_cannot_be_given_is_refused(wrong):
    fn, message = WRONG[wrong]
    with pytest.raises(InputError, match=f"mine, layer 0 of OlmoeForCausalLM: .*{message}"):
        ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(9)], ma.Custom(fn, name="mine"))


def test_a_custom_operator_is_a_function_and_counts_its_rows(untyped):
    with pytest.raises(InputError, match="a function from the routing"):
        ma.Custom(3)
    for rows in (0, "all", True, 1.5):
        with pytest.raises(InputError, match="from 1 up or 'active'"):
            ma.Custom(lambda r: (r.index, r.weight), rows=rows)


def test_rerouting_in_half_precision_stays_by_the_rule():
    # Run on other rows, a router may differ by a rounding; its choice must still be the model's.
    model = ma.load(tiny_moe.build("qwen2_moe").bfloat16())
    effects = ma.ablate(model, [tiny_moe.ids(12)], ma.Reroute())
    assert effects.delta_nll.abs().max() > 0.01
    assert (effects.entered != effects.expert).all()
