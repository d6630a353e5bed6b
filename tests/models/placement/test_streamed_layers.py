"""Streamed models: the same numbers as in memory, each layer read once, never more than one in place."""

from pathlib import Path

import pytest
import torch
from made import architectures, tiny_moe
from made.aligned import aligned

import moeaudit as ma
from moeaudit.errors import ModelError
from moeaudit.models.placement import assembly, driven, weights_here
from moeaudit.models.placement.files import stored_tensors
from moeaudit.models.placement.stream import stream_of, traffic
from moeaudit.models.precision import chosen
from moeaudit.models.sources.files import weight_files
from moeaudit.models.sources.streamed import brought, skeleton
from moeaudit.pruning.export import export_pruned

IDS = [tiny_moe.ids(14), tiny_moe.ids(9, seed=1)]
TARGETS = ["olmoe", "qwen2_moe", "deepseek_v2", "mixtral"]


@pytest.fixture(params=TARGETS)
def folder(request, tmp_path):
    """A checkpoint in many shards, so that one layer lies in several."""
    return saved(tmp_path / "checkpoint", request.param)


def saved(folder, name, dtype=torch.float32, **changes):
    built = (
        tiny_moe.build(name, **changes)
        if name in tiny_moe.ARCHITECTURES
        else architectures.BY_NAME[name].build()
    )
    built.to(dtype).save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 3
    return folder


def layers_in_place(model):
    return [
        i
        for i, layer in enumerate(model.anatomy.decoder_layers)
        if not any(p.is_meta for p in layer.parameters())
    ]


@pytest.mark.parametrize("engine", ["nnsight", "transformer_lens"])
def test_other_engines_check_a_streamed_model(tmp_path, engine):
    streamed = ma.load(saved(tmp_path / "checkpoint", "olmoe"), offload="stream")
    effects = ma.ablate(streamed, IDS)
    found = ma.verify(effects, streamed, n=6, engine=engine)
    assert found.skipped is None and found.agrees and found.n == 6
    assert len(layers_in_place(streamed)) <= 1
    again = ma.ablate(streamed, IDS)  # the original is as it was
    assert (again.delta_nll == effects.delta_nll).all()


def test_a_streamed_model_gives_the_same_tables(folder):
    whole, streamed = aligned(ma.load(folder)), ma.load(folder, offload="stream")
    assert any("are streamed: one stands on cpu in float32" in note for note in streamed.notes)
    assert streamed.provenance == whole.provenance and streamed.dtype == whole.dtype
    mine, theirs = ma.ablate(streamed, IDS), ma.ablate(whole, IDS)
    assert mine.engine.startswith("wavefront") and mine.engine == theirs.engine
    for name in ("delta_nll", "kl", "weight", "expert", "flip"):
        assert (mine[name] == theirs[name]).all()
    assert float(theirs.delta_nll.abs().max()) > 1e-3
    assert ma.capture(streamed, IDS).routing.equals(ma.capture(whole, IDS).routing)
    assert ma.verify(mine, streamed, n=6).agrees
    assert len(layers_in_place(streamed)) == 1


def test_a_walk_reads_each_layer_once(folder):
    model = ma.load(folder, offload="stream")
    stream, _ = stream_of(model.hf)
    whole = sum(layer.stored_bytes for layer in stream.layers)
    ma.ablate(model, IDS[:1])  # the engine is chosen here
    before, layers = traffic(model.hf).bytes_read, traffic(model.hf).layers_read
    ma.ablate(model, IDS[:1])
    assert traffic(model.hf).layers_read - layers == len(stream.layers)
    assert traffic(model.hf).bytes_read - before == whole


def test_a_capture_reads_each_layer_once_for_all_documents(folder):
    whole, model = ma.load(folder), ma.load(folder, offload="stream")
    texts = [tiny_moe.ids(n, seed=n) for n in (14, 9, 11, 2)]
    first = ma.capture(model, texts)  # whether layers can be called one by one is measured here
    before = traffic(model.hf).layers_read
    again, plain = ma.capture(model, texts), ma.capture(whole, texts)
    layers = model.anatomy.n_layers
    assert traffic(model.hf).layers_read - before == layers
    for one in (first, again):
        assert one.routing.equals(plain.routing) and one.tokens.equals(plain.tokens)
    assert driven.can_be_driven(model, torch.as_tensor(texts[0])[None])


def test_a_model_that_works_between_its_layers_is_captured_text_by_text(tmp_path):
    folder = saved(tmp_path / "checkpoint", "olmoe")
    model, whole = ma.load(folder, offload="stream"), ma.load(folder)
    for each in (model, whole):
        # What the model adds after layer 0, outside of it: layers called alone would miss it.
        inner = each.hf.model
        forward = inner.forward

        def shifted(*args, forward=forward, inner=inner, **kwargs):
            handle = inner.layers[0].register_forward_hook(lambda _m, _a, out: out + 0.5)
            try:
                return forward(*args, **kwargs)
            finally:
                handle.remove()

        inner.forward = shifted
    mine, theirs = ma.capture(model, IDS), ma.capture(whole, IDS)
    assert not driven.can_be_driven(model, torch.as_tensor(IDS[0])[None])
    assert mine.routing.equals(theirs.routing) and mine.tokens.equals(theirs.tokens)


def test_no_more_than_one_layer_is_in_place(folder):
    model = ma.load(folder, offload="stream")
    seen = []
    for layer in model.anatomy.decoder_layers:
        layer.register_forward_hook(lambda *_: seen.append(layers_in_place(model)))
    model.hf(input_ids=torch.as_tensor(IDS[0])[None])
    assert seen == [[i] for i in range(model.anatomy.n_layers)]


def test_files_are_neither_mapped_nor_held_open_nor_copied(folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    model = ma.load(folder, offload="stream")
    ma.ablate(model, IDS[:1])
    assert sorted(tmp_path.rglob("*")) == before
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not say which files a process maps")
    assert str(folder) not in Path("/proc/self/maps").read_text()
    links = []
    for handle in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(handle.readlink()))
        except OSError:
            continue
    assert not [link for link in links if link.startswith(str(folder))]


@pytest.mark.parametrize("each", architectures.ARCHITECTURES, ids=lambda each: each.name)
@pytest.mark.parametrize("how", ["by place", "by conversion"])
def test_every_parameter_is_the_one_that_transformers_loads(each, how, tmp_path, monkeypatch):
    from transformers import AutoConfig, AutoModelForCausalLM

    if how == "by conversion":
        monkeypatch.setattr(assembly, "_stacked", lambda *_: None)
    each.build().save_pretrained(tmp_path, max_shard_size="40KB")
    whole = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    files = stored_tensors(weight_files(tmp_path, None))
    config = AutoConfig.from_pretrained(tmp_path)
    bones = skeleton(AutoModelForCausalLM, config, files, None, each.name)
    converted = [r for layer in bones.layers for r in layer if r.convert is not None]
    assert bool(converted) <= (how == "by conversion")
    hf = brought(bones, torch.device("cpu"))
    stream, _ = stream_of(hf)
    wanted = dict(whole.named_parameters()) | dict(whole.named_buffers())
    for i, layer in enumerate(stream.layers):
        stream.bring(i)
        for name in layer.slots:
            assert torch.equal(hf.get_parameter(name), wanted[name]), name
            assert hf.get_parameter(name).dtype == wanted[name].dtype
    stream.release()
    around = dict(hf.named_parameters()) | dict(hf.named_buffers())
    assert set(around) == set(wanted)
    here = {name: tensor for name, tensor in around.items() if not tensor.is_meta}
    assert here and all(torch.equal(x, wanted[name]) for name, x in here.items())
    ids = torch.arange(5, 17)[None]
    with torch.no_grad():
        mine, theirs = (m(input_ids=ids, use_cache=False).logits for m in (hf, whole))
    assert torch.equal(mine, theirs)


def test_half_precision_is_widened_layer_by_layer_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(chosen, "fast_halves", lambda _: [])  # one without units for it
    folder = saved(tmp_path / "half", "deepseek_v2", torch.bfloat16)
    streamed = ma.load(folder, offload="stream")
    assert streamed.dtype == torch.float32
    assert ma.load(folder, dtype="auto").dtype == torch.bfloat16
    mine, theirs = ma.ablate(streamed, IDS), ma.ablate(ma.load(folder, dtype="float32"), IDS)
    assert (mine.delta_nll == theirs.delta_nll).all() and (mine.kl == theirs.kl).all()


@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe"])
def test_half_precision_stays_where_it_is_asked_for(name, tmp_path):
    folder = saved(tmp_path / "half", name, torch.bfloat16)
    streamed = ma.load(folder, offload="stream", dtype="bfloat16")
    assert streamed.dtype == torch.bfloat16
    whole = ma.load(folder, dtype="bfloat16")
    mine, theirs = ma.ablate(streamed, IDS), ma.ablate(whole, IDS)
    assert mine.engine == theirs.engine  # chosen in float32, by widening what is brought
    assert (mine.delta_nll == theirs.delta_nll).all() and (mine.kl == theirs.kl).all()
    assert {p.dtype for p in streamed.hf.parameters()} == {torch.bfloat16}


def test_tied_embeddings(tmp_path):
    folder = saved(tmp_path / "tied", "qwen2_moe", tie_word_embeddings=True)
    streamed = ma.load(folder, offload="stream")
    assert streamed.hf.lm_head.weight is streamed.hf.model.embed_tokens.weight
    mine, theirs = ma.ablate(streamed, IDS), ma.ablate(aligned(ma.load(folder)), IDS)
    assert (mine.delta_nll == theirs.delta_nll).all()


def test_a_held_layer_stays_while_others_come(folder):
    model = ma.load(folder, offload="stream")
    routers = [layer.router for layer in model.anatomy.layers[:2]]
    with weights_here(routers[0]), weights_here(routers[1]):
        assert not any(p.is_meta for r in routers for p in r.parameters())
    assert all(p.is_meta for p in routers[0].parameters())


def test_running_the_head_alone_reads_no_layer(folder):
    model = ma.load(folder, offload="stream")
    ma.ablate(model, IDS[:1])
    before = traffic(model.hf).layers_read
    model.hf.lm_head(torch.zeros(1, model.hf.config.hidden_size))
    assert traffic(model.hf).layers_read == before


def test_a_weight_that_is_not_finite_stops_the_audit_by_name(tmp_path):
    built = tiny_moe.build("olmoe")
    with torch.no_grad():
        built.model.layers[2].mlp.experts.down_proj[3, 1, 1] = torch.inf
    built.save_pretrained(tmp_path)
    with pytest.raises(
        ModelError, match=r"'model\.layers\.2\.mlp\.experts\.down_proj' are NaN or inf"
    ):
        ma.load(tmp_path, offload="stream")


def test_files_that_go_away_are_named(folder):
    model = ma.load(folder, offload="stream")
    for file in folder.glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="leave them where they were"):
        ma.ablate(model, IDS[:1])


def test_what_needs_all_weights_says_so(tmp_path):
    folder = saved(tmp_path / "checkpoint", "olmoe")
    model = ma.load(folder, offload="stream")
    with pytest.raises(
        ModelError, match=r"(?s)needs all weights of .* in memory at once.*offload=None"
    ):
        ma.screen(model, IDS)
    kept = {layer.index: [0, 1, 2, 3] for layer in model.anatomy.layers}
    with pytest.raises(ModelError, match="keeps weights outside of memory"):
        export_pruned(model, kept, tmp_path / "small")
