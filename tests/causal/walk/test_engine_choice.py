"""Which engine computes what: chosen cheaply, kept with the model, by length of text."""

import logging

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.causal.attention.registry import RowsDoNotHold
from moeaudit.causal.operators.weights import Zero
from moeaudit.causal.walk import choice, wavefront
from moeaudit.causal.walk.checks.cells import sampled
from moeaudit.causal.walk.engine import plan_for, walk
from moeaudit.causal.walk.wavefront import Wavefront

LIMIT = 12


class Compresses(Wavefront):
    """Rows of a model whose attention compresses the keys of texts of more than `LIMIT` tokens."""

    def run(self):
        if self.ids.shape[1] > LIMIT:
            raise RowsDoNotHold("it compresses its keys")
        return super().run()


def test_a_long_text_does_not_slow_the_others(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe"))
    short, long = tiny_moe.ids(10), tiny_moe.ids(20, 1)
    exact = ma.ablate(model, [long, short])
    with monkeypatch.context() as patched:
        patched.setattr(wavefront, "Wavefront", Compresses)
        effects = ma.ablate(model, [long, short])
        assert "it compresses its keys" in effects.engine and "20 tokens" in effects.engine
        assert "wavefront replay" in effects.engine  # the short text after the long one
        alone = ma.ablate(model, [short])
        assert alone.engine.startswith("wavefront") and not alone.notes
    assert abs(effects.delta_nll - exact.delta_nll).max() <= 1e-5
    assert replay_for(model).engine == "wavefront"
    assert replay_for(model, 25).engine == "full forwards"
    assert replay_for(model, 19).engine == "wavefront"


@pytest.mark.parametrize("tokens", [20, 30])
def test_a_walk_says_which_engine_it_used(monkeypatch, tokens):
    model = ma.load(tiny_moe.build("olmoe"))
    plan = plan_for(model, list(model.anatomy.layers), Zero())
    monkeypatch.setattr(wavefront, "Wavefront", Compresses)

    def walked(length):
        return walk(plan, torch.as_tensor(tiny_moe.ids(length))[None], torch.arange(3))

    assert walked(10).engine.startswith("wavefront") and not walked(10).slower
    for length in (tokens, tokens + 5):
        found = walked(length)
        assert found.slower and f"on a text of {tokens} tokens" in found.engine
    assert not walked(10).slower


def test_choosing_costs_a_few_forwards_and_is_told(caplog):
    model = ma.load(tiny_moe.build("olmoe"))
    rows = []
    model.anatomy[0].experts.register_forward_pre_hook(lambda _, args: rows.append(len(args[1])))
    with caplog.at_level(logging.INFO, "moeaudit"):
        replay = replay_for(model)
    said = [record.getMessage() for record in caplog.records if record.name == "moeaudit"]
    assert "comparing rows with full forwards" in said[0] and str(replay) in said[-1]
    whole = [n for n in rows if n % choice.TOKENS == 0 and n > 4 * choice.TOKENS]
    assert whole == [(1 + choice.CELLS) * choice.TOKENS]


def test_the_sampled_cells_cover_layers_and_ranks_and_are_the_same_again():
    model = tiny_moe.load("deepseek_v2")
    cells = sampled(list(model.anatomy.layers), choice.TOKENS - 1)
    assert len(cells) == choice.CELLS and len(set(cells)) == choice.CELLS
    assert {(cell.layer.index, cell.rank) for cell in cells} == {
        (layer.index, rank) for layer in model.anatomy.layers for rank in range(layer.top_k)
    }
    assert cells == sampled(list(model.anatomy.layers), choice.TOKENS - 1)


def test_rows_that_are_wrong_in_one_layer_are_found(monkeypatch):
    """An error in the deepest layer's rows alone, a hundredth of their effect."""

    class Off(Wavefront):
        def run(self):
            found = super().run()
            found.outcomes.delta_nll[:, found.layer == max(found.layer)] *= 1.01
            return found

    model = ma.load(tiny_moe.build("deepseek_v2"))
    monkeypatch.setattr(choice, "Wavefront", Off)
    replay = replay_for(model)
    assert replay.engine == "full forwards" and "disagree on a short text" in replay.reason
