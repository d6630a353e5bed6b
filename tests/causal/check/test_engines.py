"""Three engines that share no code with each other must tell the same story, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.check.engines import (
    HooksEngine,
    NNsightEngine,
    TransformerLensEngine,
    make_engine,
)
from moeaudit.causal.check.engines.base import outcome, structural_twin
from moeaudit.causal.check.row import Row, row_edit
from moeaudit.errors import InputError, ModelError

LENGTH = 18


def active_cells(model, ids, positions=(0, 7, LENGTH - 2)):
    """Active (position, layer, expert) triples, read by a hook of the test's own."""
    chosen = {}
    handles = [
        layer.experts.register_forward_pre_hook(
            lambda _module, args, layer=layer: chosen.__setitem__(layer.index, args[1].tolist())
        )
        for layer in model.anatomy.layers
    ]
    with torch.no_grad():
        model.hf(input_ids=torch.from_numpy(ids)[None])
    for handle in handles:
        handle.remove()
    return [(t, layer, e) for t in positions for layer, index in chosen.items() for e in index[t]]


def removal(model, position, layer, expert):
    row = Row(layer, position, expert=expert)
    return {layer: row_edit(ma.Zero(), model.anatomy[layer], row)}


def supported(architecture):
    names = ["hooks", "nnsight", "transformer_lens"]
    return names if architecture != "deepseek_v2" else names[:2]


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_the_engines_agree(architecture):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(LENGTH)
    cells = active_cells(model, ids)
    found = {}
    for name in supported(architecture):
        engine = make_engine(name, model)
        outcomes = [engine.effect(ids, *cell) for cell in cells]
        found[name] = np.array([(o.delta_nll, o.kl, o.flip) for o in outcomes], dtype=float)
    reference = found["hooks"]
    assert np.abs(reference[:, 0]).max() > 0.1  # something happens, so agreement means something
    assert (reference[:, 1] > 0).all()
    for name, values in found.items():
        assert np.abs(values[:, :2] - reference[:, :2]).max() <= 1e-5, name
        assert (values[:, 2] == reference[:, 2]).all(), name


@pytest.mark.parametrize(
    ("architecture", "engine"), [(a, e) for a in tiny_moe.ARCHITECTURES for e in supported(a)]
)
def test_the_model_is_left_as_it_was(architecture, engine):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(LENGTH)
    tokens = torch.from_numpy(ids)[None]
    modules = [id(module) for module in model.hf.modules()]
    attention = model.hf.config._attn_implementation
    with torch.no_grad():
        before = model.hf(input_ids=tokens).logits
    make_engine(engine, model).effect(ids, *active_cells(model, ids)[5])
    with torch.no_grad():
        after = model.hf(input_ids=tokens).logits
    assert torch.equal(before, after)
    assert modules == [id(module) for module in model.hf.modules()]
    assert model.hf.config._attn_implementation == attention
    for module in model.hf.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_only_the_named_position_is_edited():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(LENGTH)
    last = model.anatomy.indices[-1]
    engine = HooksEngine(model)
    position, layer, expert = next(c for c in active_cells(model, ids) if c[:2] == (7, last))
    tokens = torch.from_numpy(ids)[None]
    seen = {}
    handle = model.anatomy[layer].experts.register_forward_hook(
        lambda _module, _args, output: seen.__setitem__("routed", output.clone())
    )
    with torch.no_grad():
        engine.logits(tokens)
        clean = seen["routed"]
        engine.edited_logits(tokens, removal(model, position, layer, expert))
    handle.remove()
    changed = (seen["routed"] != clean).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [position]


def test_a_removed_slot_takes_exactly_its_contribution_away():
    # The experts' weights are summed linearly, so what is missing is w * E(x) of that expert alone.
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(LENGTH)
    position, layer, expert = active_cells(model, ids)[4]
    experts, seen = model.anatomy[layer].experts, []
    handle = experts.register_forward_hook(lambda _m, args, output: seen.append((args, output)))
    with torch.no_grad():
        engine = HooksEngine(model)
        engine.logits(torch.from_numpy(ids)[None])
        engine.edited_logits(torch.from_numpy(ids)[None], removal(model, position, layer, expert))
        handle.remove()
        (hidden, index, weight), clean = seen[0]
        alone = experts(
            hidden[position : position + 1],
            torch.tensor([[expert]]),
            weight[position][index[position] == expert][None],
        )
    torch.testing.assert_close(clean[position] - seen[1][1][position], alone[0])


def test_outcome_equals_a_hand_calculation():
    clean = torch.tensor([0.7, 0.2, 0.1]).log()
    ablated = torch.tensor([0.25, 0.5, 0.25]).log() + 3.0  # a constant shift changes nothing
    result = outcome(clean, ablated, target=2)
    assert result.delta_nll == pytest.approx(np.log(0.1 / 0.25), abs=1e-7)
    kl = 0.7 * np.log(0.7 / 0.25) + 0.2 * np.log(0.2 / 0.5) + 0.1 * np.log(0.1 / 0.25)
    assert result.kl == pytest.approx(kl, abs=1e-7)
    assert result.flip
    same = outcome(clean, clean, target=0)
    assert (same.delta_nll, same.kl, same.flip) == (0.0, 0.0, False)


def test_outcome_allows_impossible_tokens_and_refuses_nan():
    clean = torch.tensor([0.0, 0.0, -torch.inf])
    result = outcome(clean, clean + 1.0, target=0)
    assert result.kl == pytest.approx(0.0, abs=1e-7)
    with pytest.raises(ModelError, match="NaN"):
        outcome(clean, torch.tensor([0.0, torch.nan, 0.0]), target=0)


def test_transformer_lens_refuses_by_name():
    model = tiny_moe.load("deepseek_v2")
    with pytest.raises(ModelError, match="hook_expert_weights"):
        TransformerLensEngine(model)


@pytest.mark.parametrize("engine", [HooksEngine, NNsightEngine, TransformerLensEngine])
def test_a_cell_that_does_not_exist_is_refused(engine):
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(LENGTH)
    made = engine(model)
    idle = next(e for e in range(8) if (0, 1, e) not in active_cells(model, ids))
    with pytest.raises(InputError, match="not active"):
        made.effect(ids, 0, 1, idle)
    with pytest.raises(InputError, match="no next token"):
        made.effect(ids, LENGTH - 1, 1, idle)
    with pytest.raises(InputError, match="no expert 8"):
        made.effect(ids, 0, 1, 8)
    with pytest.raises(InputError, match="Layer 9"):
        made.effect(ids, 0, 9, 0)


def test_unknown_engine_names_the_known_ones():
    with pytest.raises(InputError, match="hooks, nnsight, transformer_lens"):
        make_engine("pyvene", tiny_moe.load("olmoe"))


def test_a_twin_shares_the_weights():
    model = tiny_moe.build("olmoe")
    twin = structural_twin(model)
    assert twin is not model and twin.model.layers[0] is not model.model.layers[0]
    assert twin.lm_head.weight is model.lm_head.weight
