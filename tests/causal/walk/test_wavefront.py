"""Identities of the replay that hold whatever the effects are."""

from dataclasses import dataclass

import pytest
import torch
from made import architectures, budgets, tiny_moe

from moeaudit.causal import Edits, Routing, Zero, plan_for
from moeaudit.causal.operators.base import BaseOperator
from moeaudit.causal.walk.copies import walk_position
from moeaudit.causal.walk.wavefront import Wavefront

ENGINES = {
    "wavefront": lambda *given: Wavefront(*given).run(),
    "full forwards": walk_position,
}


@dataclass(frozen=True)
class Nothing(BaseOperator):
    """A pass-through: weights change by zero."""

    name: str = "nothing"

    def rows(self, layer):
        return layer.top_k

    def edits(self, routing: Routing) -> Edits:
        edits = Zero().edits(routing)
        return Edits(edits.rank, edits.expert, torch.zeros_like(edits.change))


@dataclass(frozen=True)
class SwapInactive(BaseOperator):
    """Give the first-ranked expert's weight to an expert that is not active."""

    name: str = "swap"

    def rows(self, layer):
        return 1

    def edits(self, routing: Routing) -> Edits:
        active = torch.nn.functional.one_hot(routing.index, routing.layer.num_experts).sum(1)
        stranger = active.argmin(-1)
        expert = torch.stack([routing.index[:, 0], stranger], -1)[:, None]
        change = torch.stack([-routing.weight[:, 0], routing.weight[:, 0]], -1)[:, None]
        return Edits(torch.zeros_like(stranger)[:, None], expert, change)


def run(engine, model, intervention, tokens=17, positions=None, layers=None):
    ids = torch.as_tensor(tiny_moe.ids(tokens))[None]
    plan = plan_for(model, model.anatomy.select(layers), intervention)
    at = torch.arange(tokens - 1) if positions is None else positions
    return ENGINES[engine](plan, ids, at)


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
@pytest.mark.parametrize("engine", ENGINES)
def test_a_pass_through_does_nothing(architecture, engine):
    walked = run(engine, tiny_moe.load(architecture), Nothing())
    # rows and clean tokens go through matrix products of different size, hence not exactly 0.0
    assert walked.outcomes.delta_nll.abs().max() < 5e-6
    assert walked.outcomes.kl.max() < 1e-9
    assert not walked.outcomes.flip.any()


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_both_engines_agree_when_an_inactive_expert_enters(architecture):
    model = tiny_moe.load(architecture)
    rows, full = (
        run("wavefront", model, SwapInactive()),
        run("full forwards", model, SwapInactive()),
    )
    assert rows.outcomes.delta_nll.abs().max() > 0.01
    torch.testing.assert_close(rows.outcomes.delta_nll, full.outcomes.delta_nll, atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.outcomes.kl, full.outcomes.kl, atol=1e-5, rtol=0)


def test_births_by_rerun_handle_an_entering_expert():
    import moeaudit as ma

    model = ma.load(architectures.BY_NAME["flex_olmo"].build())
    rows, full = (
        run("wavefront", model, SwapInactive()),
        run("full forwards", model, SwapInactive()),
    )
    assert rows.outcomes.delta_nll.abs().max() > 0.01
    torch.testing.assert_close(rows.outcomes.delta_nll, full.outcomes.delta_nll, atol=1e-5, rtol=0)


def test_some_positions_give_the_same_rows_as_all_positions():
    model = tiny_moe.load("deepseek_v2")
    everything = run("wavefront", model, Zero())
    some = torch.tensor([2, 9, 15])
    part = run("wavefront", model, Zero(), positions=some)
    torch.testing.assert_close(
        part.outcomes.delta_nll, everything.outcomes.delta_nll[some], atol=1e-5, rtol=0
    )
    assert part.expert.tolist() == everything.expert[some].tolist()


def test_some_layers_give_the_same_rows_as_all_layers():
    model = tiny_moe.load("qwen2_moe")
    everything, one = run("wavefront", model, Zero()), run("wavefront", model, Zero(), layers=[1])
    columns = everything.layer == 1
    torch.testing.assert_close(
        one.outcomes.kl, everything.outcomes.kl[:, columns], atol=1e-5, rtol=0
    )


def test_small_pieces_give_the_same_rows(monkeypatch):
    model = tiny_moe.load("olmoe")
    whole = run("wavefront", model, Zero())
    budgets.use(monkeypatch, layer_rows=5, logits=1, scores=1)
    pieces = run("wavefront", model, Zero())
    torch.testing.assert_close(
        whole.outcomes.delta_nll, pieces.outcomes.delta_nll, atol=1e-5, rtol=0
    )


def test_the_model_is_left_as_it_was():
    model = tiny_moe.load("olmoe")
    ids = torch.as_tensor(tiny_moe.ids(12))[None]
    before = model.hf(input_ids=ids).logits
    implementation = model.hf.config._attn_implementation
    run("wavefront", model, Zero())
    assert torch.equal(before, model.hf(input_ids=ids).logits)
    assert model.hf.config._attn_implementation == implementation
    for module in model.hf.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks
        assert "forward" not in module.__dict__


def test_an_error_in_the_middle_leaves_the_model_as_it_was(monkeypatch):
    import moeaudit.causal.walk.head.by_words as head

    model = tiny_moe.load("olmoe")
    monkeypatch.setattr(head, "effects", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("wavefront", model, Zero())
    assert model.hf.config._attn_implementation in ("sdpa", "eager")
    assert not any(module._forward_hooks for module in model.hf.modules())


def test_a_model_that_changes_on_longer_texts_falls_back_and_says_so(monkeypatch):
    import moeaudit as ma
    import moeaudit.causal.walk.engine as replay
    from moeaudit.causal.attention.reroute import RowsDoNotHold

    model = ma.load(tiny_moe.build("olmoe"))
    exact = ma.ablate(model, [tiny_moe.ids(10)])

    def surprised(*_):
        raise RowsDoNotHold("it compresses its keys")

    monkeypatch.setattr(replay, "walk_rows", surprised)
    slower = ma.ablate(model, [tiny_moe.ids(10)])
    assert "it compresses its keys" in slower.engine and "10 tokens" in slower.engine
    torch.testing.assert_close(
        torch.tensor(exact.delta_nll.to_numpy()),
        torch.tensor(slower.delta_nll.to_numpy()),
        atol=1e-5,
        rtol=0,
    )


def test_a_model_left_in_training_mode_is_audited_in_evaluation_mode_and_given_back():
    import moeaudit as ma

    built = tiny_moe.build("qwen2_moe", attention_dropout=0.3)
    model = ma.load(built)
    before = ma.ablate(model, [tiny_moe.ids(10)])
    built.train()
    again = ma.ablate(model, [tiny_moe.ids(10)])
    assert abs(again.delta_nll - before.delta_nll).max() <= 1e-6
    assert all(module.training for module in built.modules())
    assert ma.verify(again, model, n=4).agrees


def test_a_hook_added_to_a_layer_later_is_part_of_the_model():
    """Steering a layer changes the model; effects must be of the steered one."""
    from made.plain import removal

    import moeaudit as ma

    built = tiny_moe.build("olmoe")
    model = ma.load(built)
    ids = torch.as_tensor(tiny_moe.ids(10))
    before = ma.ablate(model, [ids])
    handle = built.model.layers[1].register_forward_hook(lambda m, a, out: out * 1.5)
    try:
        after = ma.ablate(model, [ids])
        assert abs(after.delta_nll - before.delta_nll).max() > 0.01
        for row in after.sample(8, random_state=0).itertuples():
            plain = removal(
                built, ids[None], model.anatomy[row.layer].experts, row.position, row.expert
            )
            assert abs(plain.delta_nll - row.delta_nll) <= 1e-5
    finally:
        handle.remove()


def test_two_threads_take_turns():
    from concurrent.futures import ThreadPoolExecutor

    import moeaudit as ma

    models = [ma.load(tiny_moe.build(name)) for name in ("olmoe", "qwen2_moe")]
    docs = [tiny_moe.ids(n, seed=n) for n in (9, 12, 15, 18)]
    alone = [ma.ablate(model, docs) for model in models]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(ma.ablate, model, docs) for model in models * 2]
        together = [future.result() for future in futures]
    for got, expected in zip(together, alone * 2):
        assert got.engine.startswith("wavefront")
        assert abs(got.delta_nll - expected.delta_nll).max() <= 1e-6
