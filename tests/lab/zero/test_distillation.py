"""The group loss, and what two stages of self-distillation do to a model with zero experts."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.lab import zero
from moeaudit.lab.training.mechanism import MECHANISMS, Batch, Routed, mechanism
from moeaudit.lab.zero.sample import beginnings, continued


def routed(share, n=128, n_zero=64, top_k=8, tokens=16):
    """Picks and probabilities of which the same share falls on zero experts."""
    on_zero = round(share * top_k)
    index = torch.cat([torch.arange(top_k - on_zero), n + torch.arange(on_zero)]).expand(tokens, -1)
    p = torch.cat([torch.full((n,), (1 - share) / n), torch.full((n_zero,), share / n_zero)])
    return p.expand(tokens, -1), index


def test_the_group_loss_is_smallest_and_alpha_at_half():
    value = {s: float(zero.group_loss(*routed(s), zero=64)) for s in np.linspace(0, 1, 9)}
    assert value[0.0] == pytest.approx(0.2) and value[1.0] == pytest.approx(0.2)
    assert value[0.5] == pytest.approx(0.1) == min(value.values())
    assert zero.target_share(128, 64) == 0.5
    assert all(v > 0.1 + 1e-6 for s, v in value.items() if s != 0.5)


def test_the_group_loss_moves_mass_towards_the_target_alone():
    for share, towards in ((0.25, 1), (0.75, -1)):
        p, index = routed(share)
        logits = p.log().clone().requires_grad_(True)
        zero.group_loss(logits.softmax(-1), index, zero=64).backward()
        assert np.sign(-float(logits.grad[:, 128:].sum())) == towards
        # Within a group it asks for nothing: experts of the same probability move alike.
        assert float(logits.grad[:, :128].std()) < 1e-9
    with pytest.raises(InputError, match="at least one"):
        zero.group_loss(*routed(0.5), zero=0)


def test_the_mechanism_adds_rows_and_the_loss():
    made = mechanism("zero_experts", {"count": 4, "weight": 1.0, "alpha": 0.2})
    hf = tiny_moe.build("olmoe")
    made.prepare(hf, hf.config)
    assert hf.config.zero_experts == {"count": 4, "weights": "own"}
    assert MECHANISMS["zero_experts"].from_dict(made.to_dict()) == made
    p, index = routed(0.25, n=8, n_zero=4, top_k=4)
    batch = Batch(torch.zeros(1, 16, dtype=torch.long), ["a"], torch.zeros(1, 16, dtype=torch.long))
    found = made.loss([Routed(0, p.log(), p, index), Routed(1, p.log(), p, index)], batch)
    assert float(found) == pytest.approx(float(zero.group_loss(p, index, 4, 1.0, 0.2)))
    assert made.loss([], batch) is None
    with pytest.raises(InputError, match="alpha"):
        mechanism("zero_experts", {"alpha": -1.0})


def test_sampled_text_goes_on_from_its_prompt_and_follows_the_model():
    hf = tiny_moe.build("olmoe")
    prompts = torch.as_tensor(np.stack([tiny_moe.ids(4, seed) for seed in range(3)]))
    first, again, other = (
        continued(hf, prompts, 20, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(first[:, :4], prompts) and first.shape == (3, 20)
    # Sampled tokens are likelier under the model than uniformly drawn ones.
    with torch.no_grad():
        log_p = hf(first).logits[:, 3:-1].log_softmax(-1)
    own = log_p.gather(-1, first[:, 4:, None]).mean()
    assert float(own) > float(log_p.mean()) + 0.5


def test_distillation_brings_the_student_to_the_target_and_to_its_teacher():
    teacher = tiny_moe.build("olmoe", num_hidden_layers=2, num_experts_per_tok=4)
    student = zero.add_zero_experts(copy.deepcopy(teacher), 4)
    prompts = np.stack([tiny_moe.ids(4, seed) for seed in range(8)])
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    told = []
    how = zero.Distillation(
        sft_steps=30, policy_steps=15, texts=64, rows=8, length=20, prompt=4, sft_rate=3e-3
    )
    log = zero.self_distill(student, teacher, prompts, how, told.append)
    assert all(torch.equal(before[name], p) for name, p in teacher.named_parameters())
    assert all(p.requires_grad for p in teacher.parameters())
    assert log.stage.value_counts().to_dict() == {"sft": 30, "policy": 15} and len(told) == 45
    sft, policy = log[log.stage == "sft"], log[log.stage == "policy"]
    assert sft.loss.tail(5).mean() < sft.loss.head(5).mean()
    assert policy.loss.min() >= 0
    assert abs(log.zero_share.tail(10).mean() - 0.5) < 0.15
    again = zero.add_zero_experts(copy.deepcopy(teacher), 4)
    pd.testing.assert_frame_equal(zero.self_distill(again, teacher, prompts, how), log)
    model = ma.load(student)
    trace = ma.capture(model, [tiny_moe.ids(20, seed) for seed in range(6)])
    table = zero.zero_share(model, trace)
    whole = table[(table.layer == -1) & (table["class"] == "all")].iloc[0]
    assert whole.low <= whole.share <= whole.high and whole.tokens == 6 * 19
    picks = zero.zero_picks(model, trace)
    assert (
        whole.share
        == pytest.approx(picks.skipped.mean())
        == pytest.approx(float((trace.routing.expert >= 8).mean()))
    )
    by_layer = picks.groupby("layer").skipped.mean().to_numpy()
    saved = zero.flops_saved(model, by_layer)
    assert saved["experts"] == pytest.approx(whole.share) and saved["model"] < saved["experts"]
    assert saved["flops"] == pytest.approx(2 * 4 * 2 * 3 * 24 * 32 * whole.share)


def test_classes_of_tokens():
    text = ["The", " cat", "s", "\n", " 42", ",", " 3rd", "Robot"]
    tokens = pd.DataFrame({"position": range(8), "text": text})
    assert zero.token_classes(tokens).tolist() == [
        *("first of a document", "word begins", "word goes on", "space"),
        *("digit", "punctuation", "other", "word begins"),
    ]


def test_what_is_refused():
    hf = tiny_moe.build("olmoe")
    prompts = np.stack([tiny_moe.ids(4)])
    with pytest.raises(InputError, match="one model as teacher and as student"):
        zero.self_distill(hf, hf, prompts)
    with pytest.raises(InputError, match="vocabulary of 50"):
        zero.self_distill(tiny_moe.build("olmoe", vocab_size=50), hf, prompts)
    for wrong, match in (
        ({"sft_steps": -1}, "0 or more"),
        ({"rows": 0}, "at least 1"),
        ({"length": 16}, "nothing to write"),
    ):
        with pytest.raises(InputError, match=match):
            zero.Distillation(**wrong)
    model = tiny_moe.load("olmoe")
    with pytest.raises(InputError, match="no zero experts"):
        zero.zero_picks(model, ma.capture(model, [tiny_moe.ids(9)]))
    with pytest.raises(InputError, match="3 MoE layers"):
        zero.flops_saved(model, [0.5])
    with pytest.raises(InputError, match="to begin a text with"):
        beginnings([], 4)


def test_a_model_is_trained_with_zero_experts_from_the_start(tmp_path):
    import moeaudit.lab as lab

    recipe = lab.recipe(
        "olmoe", quick=True, mechanisms={"zero_experts": {"count": 8}}, train={"steps": 3}
    )
    model = ma.load(lab.train(recipe, tmp_path / "made", progress=False))
    assert {layer.num_experts for layer in model.anatomy.layers} == {24}
    trace = ma.capture(model, [np.arange(20, 60)])
    assert (trace.routing.output_norm[trace.routing.expert >= 16] == 0).all()
    assert 0 < zero.zero_picks(model, trace).skipped.mean() < 1
