"""Every operator against one plain forward with the same edit, written out by hand here."""

import architectures
import numpy as np
import pytest
import tiny_moe
import torch
from causal.plain import logits_with

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

NAMES = [
    "olmoe",
    "qwen2_moe",
    "deepseek_v2",
    "mixtral",
    "deepseek_v3",
    "qwen3_moe",
    "gpt_oss",
    "flex_olmo",
    "jamba",
]
TOKENS = 14


def load(name, **options):
    return ma.load(architectures.BY_NAME[name].build(), **options)


def document(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, architectures.VOCABULARY, (TOKENS,), generator=generator)


def ranked(index, weight, position):
    order = weight[position].argsort(descending=True, stable=True)
    return order, index[position][order], weight[position][order]


def append(index, weight, position, expert, value):
    """One more slot for every token, of weight 0 everywhere but at `position`."""
    more = torch.zeros_like(index[:, :1])
    extra = torch.zeros_like(weight[:, :1])
    more[position], extra[position] = expert, value
    return torch.cat([index, more], -1), torch.cat([weight, extra], -1)


def plain_edit(operator, row):
    """The edit of `operator` for one row of its table, from its formula."""

    def edit(index, weight):
        at = row.position
        order, _, ranked_weight = ranked(index, weight, at)
        slot = order[row.rank]
        removed = weight[at, slot].clone()
        if isinstance(operator, Zero):
            weight[at, slot] = 0.0
        elif isinstance(operator, Renormalize):
            goal = ranked_weight.sum() if operator.to == "sum" else 1.0
            weight[at, slot] = 0.0
            weight[at] *= goal / weight[at].sum()
        elif isinstance(operator, Swap):
            weight[at, slot] = 0.0
            return append(index, weight, at, row.entered, removed)
        elif isinstance(operator, Skip):
            weight[at, order[row.rank :]] = 0.0
        elif isinstance(operator, Coalitions):
            members = [r for r in range(len(order)) if row.members >> r & 1]
            weight[at, order[members]] = 0.0
        return index, weight

    return edit


def compare_with_plain(model, operator, cells=7):
    ids = document()
    effects = ma.ablate(model, [ids], operator)
    clean = logits_with(model.hf, ids[None], None, None)
    worst = biggest = 0.0
    for row in effects.sample(cells, random_state=0).itertuples():
        edited = logits_with(
            model.hf, ids[None], model.anatomy[row.layer].experts, plain_edit(operator, row)
        )
        target = ids[row.position + 1]
        delta = float((clean - edited)[row.position, target])
        worst, biggest = max(worst, abs(delta - row.delta_nll)), max(biggest, abs(delta))
    return effects, worst, biggest


OPERATORS = [Zero(), Renormalize("sum"), Renormalize("one"), Swap(3), Skip(), Coalitions((1, 2))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("operator", OPERATORS, ids=lambda o: o.name)
def test_operators_equal_plain_forwards(name, operator):
    model = load(name)
    effects, worst, biggest = compare_with_plain(model, operator)
    per_token = sum(operator.rows(layer) for layer in model.anatomy.layers)
    assert len(effects) == (TOKENS - 1) * per_token
    assert worst <= 1e-5 < biggest


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
@pytest.mark.parametrize(
    "operator", [Renormalize("one"), Swap(5), Coalitions()], ids=lambda o: o.name
)
def test_operators_under_every_experts_implementation(implementation, operator):
    model = load("deepseek_v2", experts_implementation=implementation)
    assert compare_with_plain(model, operator)[1] <= 1e-5


def plain_output(model, ids, row, output):
    """NLL with the expert of `row` replaced by the unweighted `output`, by a plain forward."""
    experts = model.anatomy[row.layer].experts

    def add(module, args, out):
        out = out.clone()
        out[row.position] += row.weight * output
        return out

    handle = experts.register_forward_hook(add)
    try:
        return logits_with(model.hf, ids[None], experts, plain_edit(Zero(), row))
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe", "deepseek_v2", "flex_olmo", "jamba"])
def test_mean_and_resampled_outputs_equal_plain_forwards(name):
    model, ids = load(name), document()
    held_out = expert_outputs(model, [document(seed) for seed in range(5, 25)], keep=8)
    clean = logits_with(model.hf, ids[None], None, None)
    for operator in (MeanOutput(held_out), Resample(held_out, seed=3)):
        effects = ma.ablate(model, [ids], operator)
        assert effects.delta_nll.abs().max() > 1e-3
        for row in effects.sample(5, random_state=0).itertuples():
            layer = model.anatomy[row.layer]
            options = (
                [held_out.mean(layer, row.expert)]
                if isinstance(operator, MeanOutput)
                else list(held_out.some(layer, row.expert))
            )
            target = ids[row.position + 1]
            gaps = [
                abs(
                    float((clean - plain_output(model, ids, row, each))[row.position, target])
                    - row.delta_nll
                )
                for each in options
            ]
            assert min(gaps) <= 1e-5


def test_means_are_over_all_tokens_that_chose_the_expert():
    from moeaudit.causal.clean import clean_pass
    from moeaudit.models.contract import slot_contributions

    model = tiny_moe.load("olmoe")
    docs = [tiny_moe.ids(20, seed=s) for s in range(3)]
    layer = model.anatomy.layers[1]
    collected = []
    for ids in docs:
        _, seen = clean_pass(model, [layer], torch.as_tensor(ids)[None])
        given = seen[layer.index]
        out = slot_contributions(
            layer.experts, given.hidden, given.index, torch.ones_like(given.weight)
        )
        collected.append(out[given.index == 2])
    held_out = expert_outputs(model, docs, keep=4)
    torch.testing.assert_close(
        held_out.mean(layer, 2), torch.cat(collected).mean(0), atol=1e-6, rtol=1e-4
    )
    some = held_out.some(layer, 2)
    assert len(some) == 4
    assert all(any(torch.allclose(one, all_) for all_ in torch.cat(collected)) for one in some)


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


def test_resampling_does_not_depend_on_how_positions_are_batched(monkeypatch):
    import moeaudit.causal.plan as plan

    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    held_out = expert_outputs(model, [tiny_moe.ids(40, seed=7 + s) for s in range(4)])
    whole = ma.ablate(model, [ids], Resample(held_out))
    other = ma.ablate(model, [ids], Resample(held_out, seed=1))
    monkeypatch.setattr(plan, "_ROW_BYTES", 1)
    pieces = ma.ablate(model, [ids], Resample(held_out))
    np.testing.assert_allclose(whole.delta_nll, pieces.delta_nll, atol=1e-5)
    assert (whole.delta_nll - other.delta_nll).abs().max() > 1e-3


def test_what_cannot_be_asked_is_refused():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(6)
    with pytest.raises(
        InputError, match="Expert 8 does not exist in layer 0, which has experts 0 to 7"
    ):
        ma.ablate(model, [ids], Swap(8))
    with pytest.raises(InputError, match="top-3: ranks from 0 to 2"):
        ma.ablate(model, [ids], Skip((3,)))
    with pytest.raises(InputError, match="coalition of 4"):
        ma.ablate(model, [ids], Coalitions((4,)))
    with pytest.raises(InputError, match="Collect outputs on more text"):
        ma.ablate(model, [tiny_moe.ids(40)], MeanOutput(expert_outputs(model, [tiny_moe.ids(2)])))
    top_one = ma.load(tiny_moe.build("olmoe", num_experts_per_tok=1))
    with pytest.raises(InputError, match="activates one expert"):
        ma.ablate(top_one, [ids], Renormalize())
