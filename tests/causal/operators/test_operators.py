"""Operators on active experts: what they must leave alone, where two agree, what they refuse."""

import jaxtyping
import numpy as np
import pytest
import torch
from made import architectures, tiny_moe

import moeaudit as ma
from moeaudit.causal import (
    Coalitions,
    MeanOutput,
    Renormalize,
    Resample,
    Skip,
    Swap,
    Zero,
    expert_outputs,
)
from moeaudit.errors import InputError

TOKENS = 14


def load(name, **options):
    return ma.load(architectures.BY_NAME[name].build(), **options)


def document(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, architectures.VOCABULARY, (TOKENS,), generator=generator)


def test_swapping_an_expert_for_itself_changes_nothing():
    effects = ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(9)], Swap("all"))
    itself = effects[effects.expert == effects.entered]
    assert len(itself) == 8 * 3 * 3 and itself.delta_nll.abs().max() < 5e-6
    assert effects[effects.expert != effects.entered].delta_nll.abs().max() > 0.01


def test_renormalising_to_one_is_to_the_sum_where_weights_sum_to_one():
    model, ids = load("mixtral"), document()
    one, same = (ma.ablate(model, [ids], Renormalize(to)) for to in ("one", "sum"))
    np.testing.assert_allclose(one.delta_nll, same.delta_nll, atol=5e-6)
    olmoe = load("olmoe")
    one, other = (ma.ablate(olmoe, [ids], Renormalize(to)) for to in ("one", "sum"))
    assert (one.delta_nll - other.delta_nll).abs().max() > 1e-3


def test_skipping_the_last_rank_is_removing_it_and_singletons_are_removals():
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(9)
    zero = ma.ablate(model, [ids], Zero())
    last = zero[zero["rank"] == 2].delta_nll.to_numpy()
    np.testing.assert_allclose(ma.ablate(model, [ids], Skip((2,))).delta_nll, last, atol=5e-6)
    single = ma.ablate(model, [ids], Coalitions((1,)))
    np.testing.assert_allclose(single.delta_nll, zero.delta_nll, atol=5e-6)
    everything = ma.ablate(model, [ids], Coalitions((3,)))
    np.testing.assert_allclose(
        ma.ablate(model, [ids], Skip((0,))).delta_nll, everything.delta_nll, atol=5e-6
    )


def test_what_cannot_be_asked_is_refused():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(6)
    with pytest.raises(
        InputError, match="OlmoeForCausalLM, layer 0: expert 8 does not exist; .* experts 0 to 7"
    ):
        ma.ablate(model, [ids], Swap(8))
    with pytest.raises(
        InputError, match="OlmoeForCausalLM, layer 0 is top-3, .* rank 3: ranks from 0 to 2"
    ):
        ma.ablate(model, [ids], Skip((3,)))
    with pytest.raises(
        InputError, match="OlmoeForCausalLM, layer 0: a coalition of 4 .* sizes from 1 to 3"
    ):
        ma.ablate(model, [ids], Coalitions((4,)))
    with pytest.raises(
        InputError, match="OlmoeForCausalLM, layer 0: .*Collect outputs on more text"
    ):
        ma.ablate(model, [tiny_moe.ids(40)], MeanOutput(expert_outputs(model, [tiny_moe.ids(2)])))
    top_one = ma.load(tiny_moe.build("olmoe", num_experts_per_tok=1))
    with pytest.raises(InputError, match="OlmoeForCausalLM, layer 0 activates one expert"):
        ma.ablate(top_one, [ids], Renormalize())


@pytest.fixture
def untyped(monkeypatch):
    """As users run the package: a wrong argument is not caught by the tests' type checker."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Renormalize("max"), "'one' or 'sum'"),
        (lambda: Swap("every"), "number or 'all'"),
        (lambda: Swap(True), "number or 'all'"),
        (lambda: Swap(2.5), "number or 'all'"),
        (lambda: Skip(2), r"such as Skip\(\(1, 2\)\)"),
        (lambda: Coalitions(()), "different whole numbers"),
        (lambda: Coalitions((2, 2)), "different whole numbers"),
        (lambda: MeanOutput(["a text"]), r"MeanOutput\(expert_outputs\("),
        (lambda: Resample(["a text"]), r"Resample\(expert_outputs\("),
    ],
)
def test_wrong_arguments_are_refused_when_the_operator_is_made(untyped, make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize("given", [Zero, "zero", 3])
def test_what_is_no_operator_is_refused(untyped, given):
    with pytest.raises(InputError, match=r"no operator. Give one such as Zero\(\)"):
        ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(6)], given)
    with pytest.raises(InputError, match="no operator"):
        ma.Everywhere(given)
