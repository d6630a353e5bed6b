"""The first-order screen against finite differences, and against one backward pass a token."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from made.architectures import BY_NAME
from made.plain import logits_with
from scipy.stats import pearsonr, spearmanr

import moeaudit as ma
from moeaudit.causal.screen.gradients import MANY_PASSES, ONE_PASS, slot_gradients
from moeaudit.errors import InputError

TOKENS = 12  # longer than the tiny models' sliding window of 8


@functools.cache
def tiny(name: str) -> ma.Model:
    return ma.load(BY_NAME[name].build())


@functools.cache
def double(name: str) -> torch.nn.Module:
    """The same model in float64, where a difference quotient has digits to spare."""
    model = copy.deepcopy(tiny(name).hf).double()
    model.set_experts_implementation("eager")  # the others take no float64
    return model


def text(seed: int = 0, tokens: int = TOKENS) -> np.ndarray:
    return np.random.default_rng(seed).integers(3, 300, tokens)


@pytest.mark.parametrize(
    "name",
    ["olmoe", "qwen2_moe", "deepseek_v2", "deepseek_v3", "mixtral", "gpt_oss", "flex_olmo"],
)
def test_one_backward_pass_gives_each_token_its_own_gradient(name: str) -> None:
    model, ids = tiny(name), torch.from_numpy(text())[None]
    layers = list(model.anatomy.layers)
    once, _ = slot_gradients(model, layers, ids, one_pass=True)
    each, _ = slot_gradients(model, layers, ids, one_pass=False)
    for a, b in zip(once, each):
        assert float(b.abs().max()) > 1e-3
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "attention_only"),
    [("olmoe", True), ("deepseek_v3", True), ("gpt_oss", True), ("lfm2_moe", False)],
)
def test_the_estimate_is_the_slope_of_the_loss_as_the_weight_shrinks(
    name: str, attention_only: bool
) -> None:
    model, ids = tiny(name), torch.from_numpy(text())[None]
    found = ma.screen(model, [text()], exact=2)
    assert found.method == (ONE_PASS if attention_only else MANY_PASSES)
    step, exact = 1e-2, double(name)  # softmax stays float32 inside
    for row in found.table.sample(6, random_state=0).itertuples():
        t, target = row.position, ids[0, row.position + 1]

        def scaled(by: float, t: int = t, expert: int = row.expert):
            def edit(index: torch.Tensor, weight: torch.Tensor):
                weight[t, index[t] == expert] *= by
                return index, weight

            return edit

        experts = exact.get_submodule(model.anatomy[row.layer].experts_path)
        less = -logits_with(exact, ids, experts, scaled(1 - step))[t, target]
        more = -logits_with(exact, ids, experts, scaled(1 + step))[t, target]
        slope = float(less - more) / (2 * step)
        assert row.estimate == pytest.approx(slope, rel=5e-3, abs=2e-4)


def test_rows_and_weights_are_those_of_the_census() -> None:
    model = tiny("deepseek_v2")  # its router returns slots unsorted
    docs = [text(0), text(1, 9)]
    estimated, exact = ma.screen(model, docs, exact=4).table, ma.ablate(model, docs)
    keys = ["document", "position", "layer", "rank", "expert"]
    assert (estimated[keys].to_numpy() == exact[keys].to_numpy()).all()
    np.testing.assert_allclose(estimated["weight"], exact["weight"], rtol=1e-6)


def test_agreement_is_measured_on_exact_effects_of_the_sampled_tokens() -> None:
    model, docs = tiny("olmoe"), [text(seed) for seed in range(4)]
    found = ma.screen(model, docs, exact=15, seed=1)
    exact = ma.ablate(model, docs)
    sampled = found.exact[["document", "position"]].drop_duplicates()
    assert len(sampled) == 15
    keys = ["document", "position", "layer", "rank"]
    both = found.exact.merge(exact, on=keys, suffixes=("", "_census"))
    assert len(both) == len(found.exact) == 15 * 4 * 3
    np.testing.assert_allclose(both["delta_nll"], both["delta_nll_census"], atol=5e-6)
    values = found.agreement[found.agreement["layer"] == "all"].set_index("measure")["value"]
    x, y = found.exact["estimate"], found.exact["delta_nll"]
    assert values["pearson"] == pytest.approx(pearsonr(x, y)[0], abs=1e-6)
    assert values["spearman"] == pytest.approx(spearmanr(x, y)[0], abs=1e-6)
    assert values["sign"] == pytest.approx(np.mean(np.sign(x) == np.sign(y)))
    again = ma.screen(model, docs, exact=15, seed=1)
    assert again.agreement.equals(found.agreement)


def test_experts_sum_their_tokens_over_all_tokens() -> None:
    model = tiny("olmoe")
    found = ma.screen(model, [text(0), text(1)], exact=4, layers=[2])
    row = found.experts().iloc[0]
    mine = found.table[found.table["expert"] == row["expert"]]
    assert set(found.table["layer"]) == {2}
    assert row["estimate"] == pytest.approx(mine["estimate"].sum() / (2 * (TOKENS - 1)))


def test_the_model_is_left_as_it_was() -> None:
    model = ma.load(BY_NAME["olmoe"].build())
    ids = torch.from_numpy(text())[None]
    before = model.hf(input_ids=ids).logits.detach()
    attention = model.hf.config._attn_implementation  # noqa: SLF001
    ma.screen(model, [text()], exact=2)
    assert model.hf.config._attn_implementation == attention  # noqa: SLF001
    assert all(p.requires_grad and p.grad is None for p in model.hf.parameters())
    assert torch.equal(model.hf(input_ids=ids).logits, before)


def test_an_estimate_without_its_agreement_is_refused() -> None:
    with pytest.raises(InputError, match="exact = 0"):
        ma.screen(tiny("olmoe"), [text()], exact=0)
