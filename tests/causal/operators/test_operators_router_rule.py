"""The router run again without some experts, against each router written out by hand."""

import pytest
import torch
from made import tiny_moe
from made.by_hand import build, choose, document
from torch.overrides import _get_current_function_mode_stack

import moeaudit as ma
from moeaudit.errors import ContractError, InputError
from moeaudit.models.forward import clean_pass
from moeaudit.models.router import answer_without, require_reproduced, without_experts

GROUPS = {"num_experts": 16, "n_routed_experts": 16, "num_local_experts": 16} | {
    "n_group": 4,
    "topk_group": 2,
}
ROUTERS = {
    "olmoe": {},
    "qwen2_moe": {},
    "deepseek_v2": {"routed_scaling_factor": 1.5},
    "deepseek_v2 in groups": GROUPS | {"topk_method": "group_limited_greedy"},
    "deepseek_v3": {"routed_scaling_factor": 2.5},
    "deepseek_v3 in groups": GROUPS,
    "mixtral": {},
    "qwen3_moe": {"norm_topk_prob": True},
    "gpt_oss": {},
}


def loaded(router):
    return ma.load(build(router.split()[0], **ROUTERS[router]))


def by_expert(index, weight):
    order = index.argsort(-1)
    return index.gather(-1, order), weight.gather(-1, order)


@pytest.mark.parametrize("scores", ["kept", "remaining"])
@pytest.mark.parametrize("router", list(ROUTERS))
def test_the_router_without_an_expert_is_the_one_written_by_hand(router, scores):
    model, ids = loaded(router), document(14)
    layers = list(model.anatomy.layers)[-2:]
    _, seen = clean_pass(model, layers, ids[None])
    entered = changed = 0
    for layer in layers:
        given = seen[layer.index]
        require_reproduced(layer, given.hidden, given.index, given.weight)
        generator = torch.Generator().manual_seed(0)
        for count in (0, 1, 3):
            banned = torch.zeros(len(ids), layer.num_experts, dtype=torch.bool)
            for t in range(len(ids)):
                # The first choice, so that something changes, and others at random.
                others = torch.randperm(layer.num_experts, generator=generator)[: count - 1]
                if count:
                    banned[t, [int(given.index[t, 0]), *others.tolist()]] = True
            index, weight = answer_without(layer, given.hidden, banned, scores)
            assert not banned.gather(1, index).any()
            hand = [
                choose(
                    model.hf,
                    layer.index,
                    given.hidden[t],
                    set(banned[t].nonzero().flatten().tolist()),
                    scores,
                )
                for t in range(len(ids))
            ]
            index, weight = by_expert(index, weight)
            other, weighs = by_expert(
                torch.tensor([i for i, _ in hand]), torch.tensor([w for _, w in hand])
            )
            assert torch.equal(index, other)
            torch.testing.assert_close(weight, weighs, atol=2e-6, rtol=1e-5)
            entered += int((index != by_expert(given.index, given.weight)[0]).any(-1).sum())
            changed += count > 0
    assert entered == changed * len(ids)  # banning a token's first choice always lets one in
    assert not _get_current_function_mode_stack()


@pytest.mark.parametrize(
    "name", ["phimoe", "ernie4_5_moe", "longcat_flash", "jamba", "hunyuan_v1_moe", "minimax_m2"]
)
def test_with_remaining_scores_nothing_is_known_of_the_banned(name):
    layer = ma.load(build(name)).anatomy.layers[-1]
    hidden = torch.randn(20, 32, generator=torch.Generator().manual_seed(0))
    banned = torch.zeros(20, layer.num_experts, dtype=torch.bool)
    banned[:, [1, 4]] = True
    nothing = torch.zeros_like(banned)
    before, whole = (answer_without(layer, hidden, b, "remaining") for b in (banned, nothing))
    with torch.no_grad():
        rows = [
            parameter
            for path, parameter in layer.router.named_parameters()
            if parameter.shape[:1] == (layer.num_experts,)
        ]
        for parameter in rows:
            parameter[[1, 4]] *= -3.0
    after, other = (answer_without(layer, hidden, b, "remaining") for b in (banned, nothing))
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert rows and not (torch.equal(whole[0], other[0]) and torch.equal(whole[1], other[1]))


def olmoe_without(keep):
    """tiny OLMoE with only the experts `keep`, built from the rows of the whole model's weights."""
    whole = tiny_moe.build("olmoe")
    small = tiny_moe.build("olmoe", num_experts=len(keep))
    state = {
        name: value[keep] if ".experts." in name or ".gate." in name else value
        for name, value in whole.state_dict().items()
    }
    small.load_state_dict(state)
    return whole, small


def test_experts_gone_in_every_layer_are_a_checkpoint_with_their_rows_deleted():
    whole, small = olmoe_without([0, 2, 3, 5, 7])
    model, ids = ma.load(whole), torch.as_tensor(tiny_moe.ids(40)).view(2, 20)
    gone = {layer: [1, 4, 6] for layer in model.anatomy.indices}
    with torch.no_grad():
        before = model.hf(input_ids=ids).logits
        with without_experts(model, gone):
            pruned = model.hf(input_ids=ids).logits
            with pytest.raises(RuntimeError, match="on the way"):
                model.anatomy.layers[0].block.gate.register_forward_hook(_stumble)
                model.hf(input_ids=ids)
            assert not _get_current_function_mode_stack()
        model.anatomy.layers[0].block.gate._forward_hooks.clear()
        with without_experts(model, gone, scores="kept"):
            kept = model.hf(input_ids=ids).logits
        after = model.hf(input_ids=ids).logits
        deleted = small(input_ids=ids).logits
    torch.testing.assert_close(pruned, deleted, atol=1e-5, rtol=0)
    assert float((kept - deleted).abs().max()) > 1e-2  # OLMoE does not renormalise
    assert float((before - pruned).abs().max()) > 1e-2 and torch.equal(before, after)
    assert not _get_current_function_mode_stack()


def _stumble(module, args, output):
    raise RuntimeError("on the way")


def test_a_pool_of_all_experts_is_the_model():
    for router in ROUTERS:
        model, ids = loaded(router), document(9)[None]
        with torch.no_grad():
            clean = model.hf(input_ids=ids, use_cache=False).logits
            with without_experts(model, {layer: [] for layer in model.anatomy.indices}):
                assert torch.equal(model.hf(input_ids=ids, use_cache=False).logits, clean)


def test_a_pruned_model_can_be_audited_as_any_other():
    whole, small = olmoe_without([0, 2, 3, 5, 7])
    model, ids = ma.load(whole), tiny_moe.ids(8)
    gone = {layer: [1, 4, 6] for layer in model.anatomy.indices}
    for operator in (ma.Zero(), ma.Reroute("remaining")):
        with without_experts(model, gone):
            masked = ma.ablate(model, [ids], operator)
        deleted = ma.ablate(ma.load(small), [ids], operator)
        assert (masked.delta_nll - deleted.delta_nll).abs().max() < 1e-5
        assert deleted.delta_nll.abs().max() > 0.1


def test_too_few_experts_are_refused_by_name():
    model = tiny_moe.load("olmoe")
    layer, hidden = model.anatomy.layers[0], torch.randn(4, 32)
    banned = torch.zeros(4, 8, dtype=torch.bool)
    banned[2, :6] = True
    with pytest.raises(InputError, match="OlmoeForCausalLM, layer 0: OlmoeTopKRouter .* only 2"):
        answer_without(layer, hidden, banned)
    with pytest.raises(InputError, match="At most 5 can go"), without_experts(model, {0: range(6)}):
        pass
    with (
        pytest.raises(InputError, match="expert 8 does not exist in layer 1"),
        without_experts(model, {1: [8]}),
    ):
        pass
    with pytest.raises(InputError, match="MoE layers"), without_experts(model, {7: [0]}):
        pass


def test_a_group_limit_that_leaves_too_few_is_refused():
    model, ids = loaded("deepseek_v3 in groups"), document(9)
    layer = model.anatomy.layers[0]
    _, seen = clean_pass(model, [layer], ids[None])
    banned = torch.zeros(9, 16, dtype=torch.bool)
    banned[:, 2:] = True  # two experts of one group, and one more in another
    banned[:, 5] = False
    with pytest.raises(InputError, match="limits on groups"):
        answer_without(layer, seen[layer.index].hidden, banned)


def test_a_router_that_does_not_rank_is_refused(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe"))
    layer = model.anatomy.layers[0]

    def always_the_same(hidden):
        weight = torch.full((len(hidden.reshape(-1, 32)), 3), 0.2)
        return weight, weight, torch.arange(3).expand(len(weight), 3)

    monkeypatch.setattr(layer.router, "forward", always_the_same)
    nothing = torch.zeros(4, 8, dtype=torch.bool)
    with pytest.raises(ContractError, match="OlmoeTopKRouter chooses .* by other means"):
        answer_without(layer, torch.randn(4, 32), nothing)
    with pytest.raises(ContractError, match="rule='zero'"), without_experts(model, {0: [1]}):
        model.hf(input_ids=torch.arange(5)[None])
    assert not _get_current_function_mode_stack()


def test_a_rule_that_depends_on_more_than_the_hidden_state_is_noticed():
    model, ids = tiny_moe.load("olmoe"), torch.as_tensor(tiny_moe.ids(9))[None]
    layer = model.anatomy.layers[1]
    _, seen = clean_pass(model, [layer], ids)
    given = seen[1]
    require_reproduced(layer, given.hidden, given.index.flip(-1), given.weight.flip(-1))
    with pytest.raises(ContractError, match="9 of 9 tokens another answer"):
        require_reproduced(layer, given.hidden * 1.5, given.index, given.weight)
