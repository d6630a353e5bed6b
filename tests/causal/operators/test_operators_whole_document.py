"""Edits of a whole document: the same edit at every position, and experts gone from several layers."""

import jaxtyping
import numpy as np
import pytest
import torch
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.models.router import without_experts

KEYS = ["position", "layer", "rank", "expert"]


def nll(model, ids, gone=None, scores="remaining"):
    tokens = torch.as_tensor(ids)[None]
    with torch.no_grad(), without_experts(model, gone or {}, scores):
        logits = model.hf(input_ids=tokens, use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits[:-1], tokens[0, 1:], reduction="none").numpy()


def test_at_the_first_position_a_sequence_is_the_single_edit():
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(10)
    for operator in (ma.Zero(), ma.Swap("all"), ma.SharedExpert(), ma.Reroute()):
        single = ma.ablate(model, [ids], operator)
        by = "rank" if operator == ma.SharedExpert() else "expert"
        whole = ma.ablate(model, [ids], ma.Everywhere(operator, by=by))
        for column in KEYS:
            assert (single[column] == whole[column]).all()
        first = single.position == 0
        np.testing.assert_allclose(single[first].delta_nll, whole[first].delta_nll, atol=5e-6)
        assert (single[~first].delta_nll - whole[~first].delta_nll).abs().max() > 1e-3


def test_in_the_last_layer_earlier_edits_do_not_matter():
    # Nothing above the last layer carries an edit from one token to the next.
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(10)
    last = model.anatomy.indices[-1:]
    for operator, by in ((ma.Zero(), "expert"), (ma.Zero(), "rank"), (ma.Coalitions(), "rank")):
        single = ma.ablate(model, [ids], operator, layers=last)
        whole = ma.ablate(model, [ids], ma.Everywhere(operator, by=by), layers=last)
        np.testing.assert_allclose(single.delta_nll, whole.delta_nll, atol=5e-6)


def test_a_sequence_of_rerouting_in_one_layer_is_that_layer_without_the_expert():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(12)
    apart = []
    for scores in ("kept", "remaining"):
        rows = ma.ablate(model, [ids], ma.Everywhere(ma.Reroute(scores)), layers=[1])
        for expert in rows.expert.unique().tolist():
            mine = rows[rows.expert == expert]
            change = nll(model, ids, {1: [expert]}, scores) - nll(model, ids)
            gap = np.abs(mine.delta_nll - change[mine.position]).max()
            if scores == "kept":  # tokens that did not choose the expert stay as they are
                assert gap < 1e-5
            else:  # without it in the softmax the others' weights grow at every token
                apart.append(gap)
    assert max(apart) > 1e-4


def test_blocks_of_positions_give_the_same_sequence(monkeypatch):
    model, ids = tiny_moe.load("deepseek_v2"), tiny_moe.ids(9)
    operators = (ma.Everywhere(ma.Zero()), ma.Without({1: [0, 5], 2: [1]}))
    whole = [ma.ablate(model, [ids], operator) for operator in operators]
    budgets.use(monkeypatch, residuals=1)
    for before, operator in zip(whole, operators):
        pieces = ma.ablate(model, [ids], operator)
        np.testing.assert_allclose(before.delta_nll, pieces.delta_nll, atol=1e-6)


def test_experts_gone_from_all_layers_are_a_checkpoint_without_them():
    keep = [0, 2, 3, 5, 7]
    whole = tiny_moe.build("olmoe")
    small = tiny_moe.build("olmoe", num_experts=len(keep))
    small.load_state_dict(
        {
            name: value[keep] if ".experts." in name or ".gate." in name else value
            for name, value in whole.state_dict().items()
        }
    )
    model, ids = ma.load(whole), tiny_moe.ids(20)
    gone = dict.fromkeys(model.anatomy.indices, [1, 4, 6])
    effects = ma.ablate(model, [ids], ma.Without(gone))
    deleted = nll(ma.load(small), ids) - nll(model, ids)
    np.testing.assert_allclose(effects.delta_nll, deleted, atol=1e-5)
    assert len(effects) == 19 and (effects[["layer", "rank", "expert"]] == -1).all(axis=None)


def test_an_expert_that_no_token_chose_can_go_without_effect():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(5)
    active = ma.ablate(model, [ids], ma.Zero(), layers=[1])
    last = torch.as_tensor(ids)[None]
    idle = set(range(8)) - set(active.expert) - set(_chosen(model, last, 1))
    assert idle
    for expert in idle:
        kept = ma.ablate(model, [ids], ma.Without({1: [expert]}, scores="kept"))
        zero = ma.ablate(model, [ids], ma.Without({1: [expert]}, rule="zero"))
        assert (kept.delta_nll == 0).all() and (zero.delta_nll == 0).all()
        assert (kept.weight == 0).all()
        # Out of the softmax it makes the others' weights larger: OLMoE does not normalise them.
        assert ma.ablate(model, [ids], ma.Without({1: [expert]})).delta_nll.abs().max() > 1e-5


def _chosen(model, ids, layer):
    from moeaudit.models.forward import clean_pass

    return clean_pass(model, [model.anatomy[layer]], ids)[1][layer].index.flatten().tolist()


def test_the_weight_of_a_set_is_what_the_gates_gave_it():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(9)
    zero = ma.ablate(model, [ids], ma.Zero())
    gone = {0: [1, 2], 2: [5]}
    effects = ma.ablate(model, [ids], ma.Without(gone, rule="zero"))
    mine = zero[
        (zero.layer.eq(0) & zero.expert.isin([1, 2])) | (zero.layer.eq(2) & zero.expert.eq(5))
    ]
    mass = mine.groupby("position").weight.sum().reindex(range(8), fill_value=0.0)
    np.testing.assert_allclose(effects.weight, mass, atol=1e-6)


def test_what_comes_later_does_not_matter():
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(12)
    operators = [
        ma.Reroute(),
        ma.SharedExpert(),
        ma.SharedGate(0.3),
        ma.Custom(lambda routing: (routing.index, routing.weight / 2)),
        ma.Everywhere(ma.Zero()),
        ma.Everywhere(ma.Skip(), by="rank"),
        ma.Without({0: [1], 2: [3, 4]}),
    ]
    for operator in operators:
        whole = ma.ablate(model, [ids], operator)
        cut = ma.ablate(model, [ids[:6]], operator)
        whole = whole[whole.position < 5]
        np.testing.assert_allclose(cut.delta_nll, whole.delta_nll, atol=5e-6)
        assert cut.delta_nll.abs().max() > 1e-3


@pytest.fixture
def untyped(monkeypatch):
    """As users run the package: a wrong argument is not caught by the tests' type checker."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def test_edits_of_a_document_that_cannot_be_made_are_refused(untyped):
    model, ids = tiny_moe.load("deepseek_v2"), tiny_moe.ids(5)
    with pytest.raises(InputError, match="by='rank'"):
        ma.Everywhere(ma.Skip())
    with pytest.raises(InputError, match="by='rank'"):
        ma.Everywhere(ma.Coalitions())
    with pytest.raises(InputError, match="no edit of a single position"):
        ma.Everywhere(ma.Everywhere(ma.Zero()))
    with pytest.raises(InputError, match="'expert' or 'rank'"):
        ma.Everywhere(ma.Zero(), by="token")
    with pytest.raises(InputError, match="names no expert"):
        ma.Without({1: []})
    with pytest.raises(InputError, match="mapping from decoder layers"):
        ma.Without([1, 2])
    with pytest.raises(InputError, match="Layer 0 is a dense layer .* are \\[1, 2\\]"):
        ma.ablate(model, [ids], ma.Without({0: [1]}))
    with pytest.raises(InputError, match="Layer 9 does not exist"):
        ma.ablate(model, [ids], ma.Without({9: [1]}))
    with pytest.raises(InputError, match="expert 8 does not exist in layer 1"):
        ma.ablate(model, [ids], ma.Without({1: [8]}, rule="zero"))
    with pytest.raises(InputError, match="At most 5 can go"):
        ma.ablate(model, [ids], ma.Without({1: range(6)}))
    with pytest.raises(InputError, match="Leave `layers` out"):
        ma.ablate(model, [ids], ma.Without({1: [0]}), layers=[2])
    with pytest.raises(InputError, match="rule 'absent' or 'zero'"):
        ma.Without({1: [0]}, rule="gone")
    unknown = without_experts(model, {1: [0]}, scores="all")
    with pytest.raises(InputError, match="'remaining' .* or 'kept'"), unknown:
        pass
    for whole in (ma.Everywhere(ma.Zero()), ma.Without({1: [0]})):
        with pytest.raises(InputError, match="Give it to ablate"):
            whole.edits(_routing(model.anatomy[1]))


def _routing(layer):
    from moeaudit.causal import Routing

    return Routing(
        layer,
        torch.zeros(1, 3, dtype=torch.long),
        torch.zeros(1, 3),
        torch.zeros(1, 32),
        torch.zeros(1, dtype=torch.long),
    )
