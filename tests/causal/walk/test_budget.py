"""The budget holds whatever the operator and the horizon: rows are cut, then their later tokens."""

import numpy as np
import pytest
import torch
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal.outcomes import linear
from moeaudit.causal.walk.budget import Budget
from moeaudit.causal.walk.head import by_rows as rows_road
from moeaudit.causal.walk.head import roads
from moeaudit.errors import InputError

BLOCKS = {"layer_rows": 7, "logits": 3 * tiny_moe.VOCABULARY, "residuals": 1, "scores": 1}
BLOCKS["compared"] = BLOCKS["logits"]


@pytest.mark.parametrize(
    ("operator", "horizon", "architecture", "road"),
    [
        (ma.Swap("all"), 0, "olmoe", "rows"),
        (ma.Swap("all"), 0, "deepseek_v2", "words"),
        (ma.Zero(), "all", "olmoe", "words"),
        (ma.Zero(), "all", "deepseek_v2", "rows"),
        (ma.Swap("all"), 3, "olmoe", "words"),
        (ma.Swap("all"), 3, "deepseek_v2", "rows"),
    ],
)
def test_cut_rows_are_the_same_rows(operator, horizon, architecture, road, monkeypatch):
    model, ids = tiny_moe.load(architecture), tiny_moe.ids(9)
    largest, seen = 0, []

    def watched(*given):
        nonlocal largest
        logits = real(*given)
        largest = max(largest, logits.numel())
        return logits

    def layer_rows(module, args, kwargs):
        hidden = args[0] if args else kwargs["hidden_states"]
        seen.append(hidden.shape[1])

    # Where a head is taken in blocks of the vocabulary, those; else whole logits of blocks of rows.
    at, name = (linear, "_product") if road == "words" else (rows_road, "tail_logits")
    real = getattr(at, name)
    monkeypatch.setattr(at, name, watched)
    if road == "rows":
        monkeypatch.setattr(roads, "linear_head", lambda *_: None)
    hooks = [
        layer.register_forward_pre_hook(layer_rows, with_kwargs=True)
        for layer in model.anatomy.decoder_layers
    ]
    try:
        whole = ma.ablate(model, [ids], operator, horizon=horizon)
        assert (
            max(seen) > BLOCKS["layer_rows"] and largest > BLOCKS["logits"]
        )  # there is something to cut
        largest = 0
        seen.clear()
        budgets.use(monkeypatch, **BLOCKS)
        pieces = ma.ablate(model, [ids], operator, horizon=horizon)
    finally:
        for hook in hooks:
            hook.remove()
    assert largest <= BLOCKS["logits"]
    # Rows of one position, at most 7 of them (or one row with all its later tokens), and the clean text.
    assert max(seen) <= max(BLOCKS["layer_rows"], len(ids))
    assert pieces[["position", "layer", "rank", "expert"]].equals(
        whole[["position", "layer", "rank", "expert"]]
    )
    for name in ("delta_nll", "kl", *(["spill_nll", "spill_kl"] if horizon else [])):
        np.testing.assert_allclose(pieces[name], whole[name], atol=1e-5)
    if horizon:
        assert (pieces.tokens_after == whole.tokens_after).all()


@pytest.mark.parametrize("horizon", [0, 2])
def test_attention_scores_are_cut_by_rows(horizon, monkeypatch):
    from moeaudit.causal.attention import rows

    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(9)
    whole = ma.ablate(model, [ids], horizon=horizon)
    largest = 0

    def watched(scores, *given):
        nonlocal largest
        largest = max(largest, scores.numel())
        return real(scores, *given)

    real = rows._softmax
    monkeypatch.setattr(rows, "_softmax", watched)
    at_most = 3 * model.hf.config.num_attention_heads * (1 + horizon) * (len(ids) + 1 + horizon)
    budgets.use(monkeypatch, scores=at_most)
    pieces = ma.ablate(model, [ids], horizon=horizon)
    assert at_most // 3 <= largest <= at_most  # about three rows of one position
    np.testing.assert_allclose(pieces.delta_nll, whole.delta_nll, atol=1e-5)


def test_rows_beyond_the_budget_walk_in_groups(monkeypatch):
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(7)
    whole = ma.ablate(model, [ids], ma.Swap("all"))
    width = model.hf.config.hidden_size
    budgets.use(monkeypatch, residuals=width * 4 * 10)  # ten rows
    widest = 0

    def watched(self, first):
        nonlocal widest
        real(self, first)
        widest = max(widest, self.held.numel() // width)

    from moeaudit.causal.walk.wavefront import Wavefront

    real = Wavefront._set_out
    monkeypatch.setattr(Wavefront, "_set_out", watched)
    pieces = ma.ablate(model, [ids], ma.Swap("all"))
    assert widest <= 10
    columns = [c for c in whole.columns if c not in ("delta_nll", "kl", "flip")]
    assert pieces[columns].equals(whole[columns])
    np.testing.assert_allclose(pieces.delta_nll, whole.delta_nll, atol=1e-5)


def test_batched_mm_copies_no_more_weights_than_the_budget():
    model = tiny_moe.load("olmoe", experts_implementation="batched_mm")
    layer = model.anatomy.layers[0]
    size = sum(p.numel() * p.element_size() for p in layer.experts.parameters())
    each = size // layer.num_experts
    budget = Budget(gathered=5 * each)
    assert budget.pairs(model, layer) == 5
    assert budget.rows_through(model, layer) == max(1, 5 // layer.top_k)
    assert budget.rows_through(model, None) == budget.layer_rows


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_larger_blocks():
    on_gpu, on_cpu = Budget.of(torch.device("cuda")), Budget.of(torch.device("cpu"))
    assert on_gpu.compared > on_cpu.compared and on_gpu.layer_rows > on_cpu.layer_rows


def test_a_memory_is_shared_out_and_held(monkeypatch):
    from moeaudit.causal.walk.budget import row_bytes
    from moeaudit.causal.walk.wavefront import Wavefront

    model, ids = tiny_moe.load("deepseek_v2"), tiny_moe.ids(12)
    whole = ma.ablate(model, [ids], ma.Swap("all"))
    held = []
    real = Wavefront._through

    def watched(self, *given, **named):
        held.append(self.held.numel() * self.held.element_size())
        return real(self, *given, **named)

    monkeypatch.setattr(Wavefront, "_through", watched)
    least = 8 * max(row_bytes(model), 16 * model.vocab_size)
    pieces = ma.ablate(model, [ids], ma.Swap("all"), memory=3 * least)
    assert 0 < max(held) <= 3 * least / 4
    np.testing.assert_allclose(pieces.delta_nll, whole.delta_nll, atol=1e-5)
    small = Budget.within(least, model)
    assert small.layer_rows * row_bytes(model) <= least / 8 and small.logits * 16 <= least / 8
    with pytest.raises(InputError, match=r"too little for one row.*at least that much"):
        ma.ablate(model, [ids], memory=least - 1)


@pytest.mark.parametrize("memory", ["twelve", "12 parsecs", "-3GiB", True, "0", "9" * 400])
def test_what_is_no_memory_is_refused(memory):
    with pytest.raises(InputError, match="12GiB"):
        Budget.within(memory, tiny_moe.load("olmoe"))


def test_sizes_are_read_as_written():
    from moeaudit.causal.walk.budget import bytes_of

    assert [bytes_of(x) for x in ("12GiB", "1.5 gb", 7, "800MB")] == [
        12 * 2**30,
        15 * 10**8,
        7,
        8 * 10**8,
    ]


def test_a_row_of_olmoe_at_true_size_takes_what_its_widths_say():
    """Top-8 slots of width 2048 and 1024 inside, in bfloat16: an eighth of 12 GiB is over 4,000 rows."""
    from transformers import AutoModelForCausalLM, OlmoeConfig

    from benchmarks import gpu
    from moeaudit.causal.walk.budget import row_bytes
    from moeaudit.models.anatomy import Anatomy, MoELayer

    with torch.device("meta"):
        config = OlmoeConfig(**gpu._COMMON | gpu.REAL["OLMoE-1B-7B"][1])
        hf = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    layers = tuple(hf.model.layers)
    sparse = tuple(
        MoELayer(i, "", "", layer.mlp.experts, None, None, 64, 8, False)
        for i, layer in enumerate(layers)
    )
    model = ma.Model("olmoe", hf, None, Anatomy("", "", layers, sparse), {})
    slots = 8 * (4 * 2048 + 4 * 1024)
    assert row_bytes(model) == 2 * (slots + 2 * (4 * 2048 + 64 + 8 * 2048))
    assert (12 * 2**30 // 8) // row_bytes(model) > 4000
