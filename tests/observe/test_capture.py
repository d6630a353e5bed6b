"""The clean pass: tables against quantities computed another way on the same model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ContractError, InputError
from moeaudit.observe import Facts, Trace, capture, capture_documents
from moeaudit.observe.layers import layer_records
from moeaudit.observe.slots import chosen_logits, slot_norms
from moeaudit.text import Corpus, Document, tokenize

LENGTHS = (9, 2, 13)
DOCUMENTS = [tiny_moe.ids(length, seed) for seed, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module", params=tiny_moe.ARCHITECTURES)
def captured(request):
    model = tiny_moe.load(request.param)
    return model, capture(model, DOCUMENTS)


def test_tables_have_the_promised_shape(captured):
    model, trace = captured
    assert len(trace.tokens) == sum(length - 1 for length in LENGTHS)
    assert len(trace.routing) == len(trace.tokens) * 3 * len(model.anatomy.layers)
    dtypes = trace.tokens.dtypes.astype(str).to_dict()
    assert dtypes["nll"] == dtypes["entropy"] == dtypes["confidence"] == "float32"
    assert dtypes["domain"] == "category" and dtypes["correct"] == "bool"
    assert dtypes["document"] == dtypes["position"] == dtypes["target"] == "int32"
    assert trace.layers == model.anatomy.indices == trace.facts.layers
    assert not trace.routing.isna().any().any()
    for document, ids in enumerate(DOCUMENTS):
        rows = trace.tokens[trace.tokens["document"] == document]
        assert rows["token"].tolist() == ids[:-1].tolist()
        assert rows["target"].tolist() == ids[1:].tolist()
        assert rows["position"].tolist() == list(range(len(ids) - 1))


def test_predictions_equal_the_models_own(captured):
    model, trace = captured
    for document, ids in enumerate(DOCUMENTS):
        with torch.no_grad():
            logits = model.hf(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1].double()
        p = logits.softmax(-1).numpy()
        rows = trace.tokens[trace.tokens["document"] == document]
        at_target = p[np.arange(len(p)), ids[1:]]
        np.testing.assert_allclose(rows["nll"], -np.log(at_target), rtol=1e-5)
        np.testing.assert_allclose(rows["entropy"], -(p * np.log(p)).sum(1), rtol=1e-5)
        np.testing.assert_allclose(rows["confidence"], p.max(1), rtol=1e-5)
        assert rows["correct"].tolist() == (p.argmax(1) == ids[1:]).tolist()


def expert_output(experts, expert, x):
    """The expert's own MLP, written out from its parameters."""
    gate, up = (x @ experts.gate_up_proj[expert].T).chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up) @ experts.down_proj[expert].T


def test_routing_equals_a_pass_written_out_by_hand(captured):
    model, trace = captured
    ids = DOCUMENTS[2]
    seen = {}
    layers = model.hf.model.layers
    handles = []
    for index in model.anatomy.indices:
        hook = seen.setdefault(index, {}).__setitem__
        layer = layers[index]
        norm = layer.post_attention_layernorm
        handles += [
            norm.register_forward_hook(lambda m, a, o, hook=hook: hook("h", a[0][0].clone())),
            norm.register_forward_hook(lambda m, a, o, hook=hook: hook("x", o[0].clone())),
            layer.mlp.experts.register_forward_pre_hook(lambda m, a, hook=hook: hook("call", a)),
        ]
    with torch.no_grad():
        model.hf(input_ids=torch.from_numpy(ids)[None])
        for handle in handles:
            handle.remove()
        for index, found in seen.items():
            moe = layers[index].mlp
            x, h = found["x"], found["h"]
            logits = x.float() @ moe.gate.weight.float().T
            _, chosen, weights = found["call"]
            for t in range(len(ids) - 1):
                rows = trace.routing.query("document == 2 and position == @t and layer == @index")
                assert rows["rank"].tolist() == [0, 1, 2]
                assert rows["weight"].is_monotonic_decreasing
                routed = torch.zeros_like(x[t])
                for row in rows.itertuples():
                    slot = chosen[t].tolist().index(row.expert)
                    output = expert_output(moe.experts, row.expert, x[t])
                    assert row.weight == pytest.approx(float(weights[t, slot]), rel=1e-6)
                    assert row.logit == pytest.approx(float(logits[t, row.expert]), rel=1e-4)
                    assert row.output_norm == pytest.approx(float(output.norm()), rel=1e-5)
                    contribution = output * weights[t, slot]
                    assert row.contribution_norm == pytest.approx(
                        float(contribution.norm()), rel=1e-5
                    )
                    routed += contribution
                cosine = torch.cosine_similarity(h[t].double(), (h[t] + routed).double(), dim=0)
                assert rows["change"].tolist() == pytest.approx([1 - float(cosine)] * 3, rel=1e-3)


def test_slot_order_is_not_trusted(monkeypatch):
    # DeepSeek-V2 selects with topk(sorted=False): the same selection in another order must give
    # the same table.
    model = tiny_moe.load("deepseek_v2")
    expected = capture(model, DOCUMENTS).routing
    topk = torch.topk

    def reversed_topk(*args, **kwargs):
        values, indices = topk(*args, **kwargs)
        return values.flip(-1), indices.flip(-1)

    monkeypatch.setattr(torch, "topk", reversed_topk)
    found = capture(model, DOCUMENTS).routing
    exact = ["document", "position", "layer", "rank", "expert"]
    pd.testing.assert_frame_equal(found[exact], expected[exact])
    np.testing.assert_allclose(found["weight"], expected["weight"], rtol=1e-5)


def test_contributions_add_up_to_the_routed_output(captured):
    model, _ = captured
    _, records = layer_records(model, torch.from_numpy(DOCUMENTS[2])[None])
    for index, record in records.items():
        _, relative = slot_norms(model.anatomy[index], record, len(DOCUMENTS[2]))
        assert relative <= 2e-6


def test_a_layer_that_is_not_linear_in_its_weights_is_refused(captured):
    model, _ = captured
    _, records = layer_records(model, torch.from_numpy(DOCUMENTS[2])[None])
    index, record = next(iter(records.items()))
    record.routed = record.routed * 1.001
    with pytest.raises(ContractError, match=f"layer {index}.*do not add up"):
        slot_norms(model.anatomy[index], record, 5)


@pytest.mark.parametrize("squash", ["softmax", "sigmoid"])
def test_probabilities_are_not_taken_for_logits(captured, squash):
    # transformers 5.0 to 5.5.4 return softmaxed values in the place of the router's logits.
    model, _ = captured
    _, records = layer_records(model, torch.from_numpy(DOCUMENTS[2])[None])
    index, record = next(iter(records.items()))
    layer = model.anatomy[index]
    expected, reason = chosen_logits(layer, record)
    assert reason is None
    given, output = record.router_calls[0]
    logits = output[0]
    squashed = logits.softmax(-1) if squash == "softmax" else logits.sigmoid()
    record.router_calls[0] = (given, (squashed, *output[1:]))
    found, reason = chosen_logits(layer, record)
    assert reason is None
    torch.testing.assert_close(found, expected)


def test_a_router_without_logits_gives_null_and_a_reason(captured):
    model, _ = captured
    _, records = layer_records(model, torch.from_numpy(DOCUMENTS[2])[None])
    index, record = next(iter(records.items()))
    given, output = record.router_calls[0]
    record.router_calls[0] = (given, (output[0] ** 2 + 1.0, *output[1:]))
    found, reason = chosen_logits(model.anatomy[index], record)
    assert found is None and "linear map" in reason


def test_the_model_is_left_as_it_was(captured):
    model, _ = captured
    ids = torch.from_numpy(DOCUMENTS[0])[None]
    with torch.no_grad():
        before = model.hf(input_ids=ids).logits
        capture(model, DOCUMENTS)
        assert torch.equal(before, model.hf(input_ids=ids).logits)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.hf.modules())


def test_streaming_gives_the_same_rows(captured):
    model, trace = captured
    stream = capture_documents(model, tokenize(DOCUMENTS, max_length=64))
    frames = list(stream)
    assert len(frames) == len(DOCUMENTS)
    for n, (tokens, routing) in enumerate(frames):
        assert tokens["document"].eq(n).all() and routing["document"].eq(n).all()
    joined = pd.concat([routing for _, routing in frames], ignore_index=True)
    pd.testing.assert_frame_equal(joined, trace.routing)


@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_experts_implementation_gives_the_same_table(captured, implementation):
    model, trace = captured
    architecture = type(model.hf).__name__
    name = {"Olm": "olmoe", "Qwe": "qwen2_moe", "Dee": "deepseek_v2"}[architecture[:3]]
    other = ma.load(tiny_moe.build(name), experts_implementation=implementation)
    assert other.experts_implementation == implementation
    found = capture(other, DOCUMENTS).routing
    exact = ["document", "position", "layer", "rank", "expert"]
    pd.testing.assert_frame_equal(found[exact], trace.routing[exact])
    for column in ("logit", "weight", "output_norm", "contribution_norm"):
        np.testing.assert_allclose(found[column], trace.routing[column], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_captured(dtype):
    model = ma.load(tiny_moe.build("olmoe").to(dtype))
    trace = capture(model, DOCUMENTS)
    assert not trace.routing.isna().any().any() and trace.facts.nulls == {}
    full = capture(tiny_moe.load("olmoe"), DOCUMENTS)
    assert np.corrcoef(trace.tokens["nll"], full.tokens["nll"])[0, 1] > 0.99


def test_long_documents_are_cut_and_positions_go_on():
    model = tiny_moe.load("olmoe")
    trace = capture(model, [DOCUMENTS[2]], max_length=6)
    assert trace.tokens["position"].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9] + (
        [11] if len(DOCUMENTS[2]) == 13 else []
    )
    assert any("cut" in note for note in trace.facts.notes)
    alone = capture(model, [DOCUMENTS[2][6:11]])  # the second chunk attends to nothing before it
    np.testing.assert_allclose(
        trace.tokens.query("6 <= position <= 9")["nll"], alone.tokens["nll"], rtol=1e-5
    )


def test_domains_are_categories_of_the_whole_corpus():
    class Bytes:
        model_max_length = 64

        def __call__(self, texts, **_):
            return {"input_ids": [[b % 97 for b in text.encode()] for text in texts]}

        def decode(self, ids):
            return chr(ids[0])

        def convert_ids_to_tokens(self, token):
            return ("\u2581" if token == ord("t") % 97 else "") + chr(token)

    model = tiny_moe.load("olmoe")
    model = model.__class__(model.name, model.hf, Bytes(), model.anatomy, model.provenance)
    corpus = Corpus([Document("one text", "prose"), Document("x = <b>", "code")])
    trace = capture(model, corpus)
    assert trace.domains == ["prose", "code"]
    assert trace.tokens["text"].iloc[0] == chr(ord("o") % 97)
    assert trace.tokens["text"].iloc[4] == " " + chr(ord("t") % 97)  # its space is given back
    assert "&lt;" not in repr(trace) and "in 2 domains (prose, code)" in repr(trace)
    assert "<td>" in trace._repr_html_()


def test_a_trace_survives_parquet_and_json(captured, tmp_path):
    _, trace = captured
    trace.tokens.to_parquet(tmp_path / "tokens.parquet")
    trace.routing.to_parquet(tmp_path / "routing.parquet")
    facts = json.loads(json.dumps(trace.facts.to_dict()))
    again = Trace.from_frames(
        pd.read_parquet(tmp_path / "tokens.parquet"),
        pd.read_parquet(tmp_path / "routing.parquet"),
        facts,
    )
    assert again.facts == trace.facts and isinstance(again.facts, Facts)
    pd.testing.assert_frame_equal(again.routing, trace.routing)
    assert repr(again) == repr(trace)


def test_html_of_a_trace_is_escaped(captured):
    _, trace = captured
    tokens = trace.tokens.assign(domain=pd.Categorical(["<script>"] * len(trace.tokens)))
    facts = Facts.from_dict(trace.facts.to_dict() | {"notes": ["a <note>"]})
    page = Trace(tokens, trace.routing, facts)._repr_html_()
    assert "<script>" not in page and "&lt;script&gt;" in page and "a &lt;note&gt;" in page


def test_wrong_input_is_refused(captured):
    model, trace = captured
    with pytest.raises(InputError, match="tokenizer"):
        capture(model, ["a text"])
    with pytest.raises(InputError, match="97"):
        capture(model, [np.array([3, 97, 4])])
    other = tokenize([np.array([3, 97, 4])], max_length=8)
    with pytest.raises(InputError, match="97"):
        capture(model, other)
    with pytest.raises(InputError, match="max_length"):
        capture(model, DOCUMENTS, max_length=65)
    with pytest.raises(InputError, match="output_norm"):
        Trace.from_frames(trace.tokens, trace.routing.drop(columns="output_norm"), trace.facts)
