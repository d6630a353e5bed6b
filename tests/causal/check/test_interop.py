"""Models of other libraries come in, interventions go out, and the numbers stay the same."""

from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.check.edits import CannotExpress
from moeaudit.causal.check.row import Change, edited_slots, edited_weights
from moeaudit.errors import InputError, ModelError

TOKENS = 12
IDS = tiny_moe.ids(TOKENS)
TEXT = torch.from_numpy(IDS)[None]
IN_BRIDGES = ("olmoe", "qwen2_moe")


def build(architecture):
    """A model of its own, with norm gains that are not 1, so that folding them does something."""
    hf = tiny_moe.build(architecture)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in hf.named_parameters():
            if "norm" in name:
                parameter.copy_(1 + 0.5 * torch.rand(parameter.shape, generator=generator))
    return hf


@functools.cache
def plain(architecture):
    return ma.load(build(architecture))


@functools.cache
def bridge(architecture, processed=False):
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    hf = build(architecture)
    made = build_bridge_from_module(hf, type(hf).__name__, hf_config=hf.config)
    if processed:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an adapter cannot fold
            made.enable_compatibility_mode()
    return made


@functools.cache
def traced(architecture):
    from nnsight import NNsight

    wrapped = NNsight(build(architecture))
    ma.load(wrapped)
    return wrapped


@functools.cache
def held_out(architecture):
    return ma.expert_outputs(plain(architecture), [tiny_moe.ids(40, s) for s in range(10, 14)])


@functools.cache
def operators(architecture):
    """Each operator, and the further columns that name one of its rows."""
    held = held_out(architecture)
    everywhere = [
        (ma.Zero(), {}),
        (ma.Renormalize("one"), {}),
        (ma.Swap("all"), {"entered": 2}),
        (ma.Coalitions(), {"members": 0b110}),
        (ma.MeanOutput(held), {}),
        (ma.Reroute(), {}),
        (ma.Everywhere(ma.Zero(), by="rank"), {}),
        (ma.Everywhere(ma.Zero()), {}),
        (ma.Without({1: [0, 5]}, rule="zero"), {"rank": -1}),
    ]
    shared = [] if architecture == "olmoe" else [(ma.SharedExpert(), {"rank": -1})]
    return everywhere + shared


def expected(architecture, operator, position, layer, about):
    effects = ma.ablate(plain(architecture), [IDS], operator, layers=[layer])
    here = effects[effects.position == position]
    for name, value in ({"rank": 1} | about).items():
        here = here[here[name] == value]
    assert len(here) == 1
    return float(here.delta_nll.iloc[0])


def delta(clean, edited, position):
    """Difference in NLL of the next token, from logits `"tokens vocab"`."""
    clean, edited = (torch.log_softmax(x.double(), -1)[position] for x in (clean, edited))
    return float((clean - edited)[IDS[position + 1]])


@pytest.mark.parametrize("architecture", IN_BRIDGES)
def test_handed_over_hooks_reproduce_the_row(architecture):
    made = bridge(architecture)
    run = functools.partial(made.run_with_hooks, TEXT, return_type="logits", prepend_bos=False)
    with torch.no_grad():
        clean = run(fwd_hooks=[])[0]
        found = 0.0
        for operator, about in operators(architecture):
            row = {"rank": 1} | about
            # A bridge wraps the shared expert's gate; the plain model's modules can be asked instead.
            of = plain(architecture) if row["rank"] < 0 else made
            hooks = operator.as_transformer_lens_hooks(of, layer=1, position=6, **row)
            got = delta(clean, run(fwd_hooks=hooks)[0], 6)
            assert abs(got - expected(architecture, operator, 6, 1, about)) <= 1e-5, operator.name
            found = max(found, abs(got))
    assert found > 0.05
    assert not made.hook_dict["blocks.1.mlp.hook_out"].fwd_hooks


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_an_edit_inside_a_trace_reproduces_the_row(architecture):
    nn = traced(architecture)
    with torch.no_grad():
        with nn.trace(input_ids=TEXT):
            clean = nn.output.logits.save()
        for operator, about in operators(architecture):
            row = {"rank": 1} | about
            with nn.trace(input_ids=TEXT):
                operator.apply_in_trace(nn, layer=1, position=6, **row)
                edited = nn.output.logits.save()
            got = delta(clean[0], edited[0], 6)
            assert abs(got - expected(architecture, operator, 6, 1, about)) <= 1e-5, operator.name


@pytest.mark.parametrize(
    ("architecture", "processed"),
    [("olmoe", False), ("olmoe", True), ("qwen2_moe", True), ("deepseek_v2", False)],
)
def test_a_bridge_gives_the_effects_of_the_model_inside(architecture, processed):
    model = ma.load(bridge(architecture, processed))
    assert model.provenance["wrapped_in"] == "TransformerBridge"
    assert model.provenance.get("weights_processed", False) == processed
    effects = ma.ablate(model, [IDS])
    want = ma.ablate(plain(architecture), [IDS])
    np.testing.assert_allclose(effects.delta_nll, want.delta_nll, atol=1e-5)
    engine = "transformer_lens" if architecture in IN_BRIDGES else "nnsight"
    assert ma.verify(effects, model, n=3, engine=engine).agrees


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_an_nnsight_model_gives_the_effects_of_the_model_inside(architecture):
    model = ma.load(traced(architecture))
    assert model.provenance["wrapped_in"] == "NNsight"
    effects = ma.ablate(model, [IDS])
    want = ma.ablate(plain(architecture), [IDS])
    np.testing.assert_allclose(effects.delta_nll, want.delta_nll, atol=1e-6)
    assert ma.verify(effects, model, n=3, engine="nnsight").agrees


def test_a_language_model_of_nnsight_is_loaded_once_it_has_weights(tmp_path):
    import nnsight

    hf, tokenizer = build("olmoe"), ma.load("tiny-olmoe").tokenizer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nnsight renames the class
        ready = nnsight.LanguageModel(hf, tokenizer=tokenizer)
        hf.save_pretrained(tmp_path)
        empty = nnsight.LanguageModel(str(tmp_path), tokenizer=tokenizer)
    model = ma.load(ready)
    assert model.hf is hf and model.tokenizer is not None
    with pytest.raises(ModelError, match="dispatch=True"):
        ma.load(empty)


def test_what_cannot_be_loaded_says_what_to_give():
    import nnsight

    with pytest.raises(ModelError, match="around a Linear, which is not a transformers model"):
        ma.load(nnsight.NNsight(torch.nn.Linear(2, 2)))
    hooked = type("HookedTransformer", (), {})()
    with pytest.raises(ModelError, match="Build a TransformerBridge"):
        ma.load(hooked)


def test_a_bridge_without_the_hook_is_refused():
    with pytest.raises(ModelError, match="hook_expert_weights"):
        ma.Zero().as_transformer_lens_hooks(bridge("deepseek_v2"), layer=1, position=0)


def test_an_answer_that_a_bridge_cannot_hold_is_refused():
    def everyone(routing):
        index = torch.arange(8).expand(len(routing.index), 8)
        return index, torch.full(index.shape, 0.1)

    made = bridge("olmoe")
    cases = [
        (ma.Custom(everyone), "8 experts for one token"),
        (ma.Custom(lambda routing: (routing.index, -routing.weight)), "a negative weight"),
    ]
    for operator, message in cases:
        hooks = operator.as_transformer_lens_hooks(made, layer=1, position=6, rank=-1)
        with pytest.raises(CannotExpress, match=message):
            made.run_with_hooks(TEXT, return_type="logits", prepend_bos=False, fwd_hooks=hooks)


def test_rows_that_are_not_there_are_named():
    made = bridge("olmoe")
    run = functools.partial(made.run_with_hooks, return_type="logits", prepend_bos=False)

    def hooks(operator, **row):
        return operator.as_transformer_lens_hooks(made, **({"layer": 1, "position": 6} | row))

    with pytest.raises(InputError, match="Layer 9"):
        hooks(ma.Zero(), layer=9)
    for operator, row, message in (
        (ma.Zero(), {"rank": 3}, "no row with rank 3"),
        (ma.Zero(), {"position": TOKENS}, "Position 12 does not exist"),
        (ma.Everywhere(ma.Zero()), {"position": TOKENS}, "Position 12 does not exist"),
        (ma.Zero(), {"entered": 3}, "has no column 'entered'"),
        (ma.Swap("all"), {}, "Say which, by a value of entered"),
    ):
        with pytest.raises(InputError, match=message):
            run(TEXT, fwd_hooks=hooks(operator, **row))
    with pytest.raises(InputError, match="one prompt at a time"):
        run(TEXT.expand(2, -1), fwd_hooks=hooks(ma.Zero()))
    with pytest.raises(InputError, match="TransformerBridge"):
        ma.Zero().as_transformer_lens_hooks(torch.nn.Linear(2, 2), layer=1, position=0)
    with pytest.raises(InputError, match="nnsight model"):
        ma.Zero().apply_in_trace(torch.nn.Linear(2, 2), layer=1, position=0)


def test_a_model_that_was_not_looked_at_before_the_trace_is_refused():
    from nnsight import NNsight

    nn = NNsight(build("olmoe"))
    with pytest.raises(InputError, match="moeaudit.load"):
        ma.Zero().apply_in_trace(nn, layer=1, position=0)


def test_an_entering_expert_gets_a_slot_and_others_keep_theirs():
    index, weight = torch.tensor([[2, 0], [1, 3]]), torch.tensor([[0.5, 0.3], [0.6, 0.2]])
    change = Change(torch.tensor([1]), torch.tensor([[3, 0]]), torch.tensor([[-0.2, 0.1]]))
    new_index, new_weight = edited_slots(index, weight, change, num_experts=4)
    dense = torch.zeros(2, 4).scatter_add(1, new_index, new_weight)
    want = torch.tensor([[0.3, 0, 0.5, 0], [0.1, 0.6, 0, 0.0]])
    torch.testing.assert_close(dense, want)
    assert torch.equal(new_index[:, :2], index) and new_weight[1, 1] == 0
    before = torch.zeros(2, 4).scatter(1, index, weight)
    torch.testing.assert_close(edited_weights(before, change), want)
