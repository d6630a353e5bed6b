"""The census on a card: the numbers of the CPU, exact beside hooks there, in its memory, streamed to it.

Skipped where there is no card: `pytest -m cuda` on a machine that has one runs them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.models.forward import evaluating
from moeaudit.models.precision.widened import in_float32

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
DOCS = [tiny_moe.ids(n, seed) for seed, n in enumerate((9, 14, 2, 9))]
KEYS = ["document", "position", "layer", "expert"]


@pytest.fixture(params=tiny_moe.ARCHITECTURES)
def folder(request, tmp_path):
    tiny_moe.build(request.param).save_pretrained(tmp_path)
    return tmp_path


def same(here, there, within: float) -> None:
    assert here[KEYS].equals(there[KEYS])
    assert here.delta_nll.abs().max() > 0.01
    for column in ("delta_nll", "kl"):
        np.testing.assert_allclose(there[column], here[column], atol=within)


@pytest.mark.parametrize(
    ("operator", "options"),
    [(ma.Zero(), {}), (ma.Reroute(), {"horizon": 3}), (ma.Swap("all"), {"frozen_routing": True})],
)
def test_the_numbers_of_the_cpu(folder, operator, options):
    here, there = ma.load(folder, device="cpu"), ma.load(folder, device="cuda")
    expected, found = (ma.ablate(model, DOCS, operator, **options) for model in (here, there))
    assert replay_for(there).engine == "wavefront"
    same(expected, found, 2e-5)


def test_hooks_on_the_card_agree(folder):
    model = ma.load(folder, device="cuda")
    found = ma.verify(ma.ablate(model, DOCS), model, 12)
    assert found.agrees and found.n == 12


def test_half_precision_walks_and_its_weights_in_float32_are_exact(tmp_path):
    tiny_moe.build("olmoe").bfloat16().save_pretrained(tmp_path)
    model = ma.load(tmp_path, device="cuda", dtype="bfloat16")
    effects = ma.ablate(model, DOCS)
    assert replay_for(model).engine == "wavefront" and effects.drift < 0.5
    with evaluating(model.hf), in_float32(model):
        assert ma.verify(ma.ablate(model, DOCS), model, 12).max_abs_delta_nll < 1e-5


def test_the_kind_of_number_is_measured_on_the_card(tmp_path):
    tiny_moe.build("olmoe").bfloat16().save_pretrained(tmp_path)
    model = ma.load(tmp_path, device="cuda")
    found = model.provenance["precision"]
    assert found["stored"] == "bfloat16" and found["removals"] > 0
    assert set(found["tried"]) >= {"float32", "bfloat16"} and found["tried"]["float32"]["off"] == 0
    assert str(model.dtype).endswith(found["computes"])
    assert len(ma.ablate(model, DOCS[:1]))


def test_an_edit_of_nothing_is_nothing(folder):
    effects = ma.ablate(ma.load(folder, device="cuda"), DOCS, ma.Scale(1.0))
    assert (effects.delta_nll == 0.0).all() and (effects.kl == 0.0).all()
    assert not effects.flip.any()


def test_streamed_to_the_card(folder):
    whole, streamed = (
        ma.load(folder, device="cuda"),
        ma.load(folder, device="cuda", offload="stream"),
    )
    assert any(p.is_meta for p in streamed.hf.parameters())
    same(ma.ablate(whole, DOCS), ma.ablate(streamed, DOCS), 1e-5)


def test_a_walk_keeps_to_its_memory():
    torch.manual_seed(0)
    hf = tiny_moe.build("olmoe", vocab_size=8192, hidden_size=128, intermediate_size=64).cuda()
    model, ids = ma.load(hf), [np.random.default_rng(0).integers(0, 8192, 64)]
    replay_for(model)
    torch.cuda.reset_peak_memory_stats()
    before, memory = torch.cuda.memory_allocated(), 64 << 20
    ma.ablate(model, ids, ma.Swap("all"), memory=memory)
    assert torch.cuda.max_memory_allocated() - before <= memory


def test_an_interrupted_walk_leaves_the_model_as_it_was(monkeypatch):
    from moeaudit.causal.walk.wavefront import Wavefront

    model = ma.load(tiny_moe.build("olmoe").cuda())
    expected = ma.ablate(model, DOCS)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Wavefront, "outcomes", stopped)
    with pytest.raises(KeyboardInterrupt):
        ma.ablate(model, DOCS)
    monkeypatch.undo()
    again = ma.ablate(model, DOCS)
    assert again[KEYS].equals(expected[KEYS]) and again.delta_nll.equals(expected.delta_nll)
