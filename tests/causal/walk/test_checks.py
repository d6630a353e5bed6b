"""What is looked at before the first row, how often weights are needed for it, and when a run is stopped."""

import logging

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.causal.walk import choice
from moeaudit.causal.walk.checks import told
from moeaudit.causal.walk.checks.aside import layout_aside
from moeaudit.causal.walk.checks.cells import Compared, spread
from moeaudit.causal.walk.layout import layer_layout
from moeaudit.errors import ModelError
from moeaudit.models.placement.stream import stream_of, traffic

TARGETS = ["olmoe", "qwen2_moe", "deepseek_v2"]


@pytest.mark.parametrize("name", TARGETS)
def test_weights_are_gone_through_three_times(name, tmp_path):
    tiny_moe.build(name).save_pretrained(tmp_path, max_shard_size="20KB")
    model = ma.load(tmp_path, offload="stream")
    stream, _ = stream_of(model.hf)
    before = traffic(model.hf).layers_read
    assert replay_for(model).engine == "wavefront" and replay_for(model).driven
    assert traffic(model.hf).layers_read - before <= 3 * len(stream.layers)


@pytest.mark.parametrize("name", TARGETS)
def test_layers_that_stand_aside_are_called_as_in_a_forward(name):
    model = tiny_moe.load(name)
    aside = layout_aside(model)
    assert aside == layer_layout(model) and any(dims for layer in aside for dims in layer.values())


def test_a_layout_that_is_not_the_real_one_is_measured_again(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe"))
    right, asked = layer_layout(model), []
    wrong = [dict.fromkeys(layer, ()) for layer in right]
    monkeypatch.setattr(choice, "layout_aside", lambda _: asked.append(1) or [{} for _ in wrong])
    replay = replay_for(model)
    assert asked and replay.layout == right and replay.engine == "wavefront"


def test_a_deep_model_is_compared_in_some_layers_the_first_and_last_among_them():
    layers = list(ma.load(tiny_moe.build("deepseek_v2", num_hidden_layers=14)).anatomy.layers)
    assert [layer.index for layer in spread(layers)] == [1, 4, 7, 10, 13]
    assert spread(layers[:5]) == layers[:5]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_over_a_large_vocabulary_is_not_mixing(dtype):
    """Effects of the library's small random weights are below the last places of a loss of 11.5 nats."""
    from transformers import OlmoeConfig, OlmoeForCausalLM

    torch.manual_seed(0)
    config = OlmoeConfig(
        vocab_size=102_400,
        hidden_size=64,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        num_experts=8,
        num_experts_per_tok=2,
    )
    model = ma.load(OlmoeForCausalLM(config).to(dtype).eval())
    replay = replay_for(model)
    assert replay.engine == "wavefront", replay


def test_what_rounding_explains_grows_with_the_loss_and_with_measured_noise():
    model = ma.load(tiny_moe.build("olmoe"))

    def holds(off, loss, noise=0.0):
        return choice._holds(model, loss, Compared(off, 1e-4, noise))

    assert holds(2e-6, 5.0) and not holds(4e-6, 5.0) and holds(4e-6, 5.0, noise=1e-6)
    assert holds(4.7e-6, 11.5) and not holds(1e-5, 11.5)


def test_a_long_check_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(told, "EVERY", 0.0)
    model = ma.load(tiny_moe.build("olmoe"))
    with caplog.at_level(logging.INFO, "moeaudit"):
        replay_for(model)
    said = [r.getMessage() for r in caplog.records if r.name == "moeaudit.checking"]
    assert any("each layer with rows of its own: layer 3 of 3" in line for line in said)
    assert any("full forwards of the same cells: layer 1 of 3" in line for line in said)


def test_the_command_line_shows_it(monkeypatch, capfd):
    from moeaudit.cli.terminal.console import tell_of_checks

    monkeypatch.setattr(told, "EVERY", 0.0)
    log = logging.getLogger("moeaudit.checking")
    before = list(log.handlers)
    monkeypatch.setattr(log, "handlers", before.copy())
    monkeypatch.setattr(log, "level", log.level)
    tell_of_checks()
    tell_of_checks()
    assert len(log.handlers) == len({*before, *log.handlers}) <= len(before) + 1
    replay_for(ma.load(tiny_moe.build("olmoe")))
    lines = capfd.readouterr().err.splitlines()
    assert len(set(lines)) == 9 and "layer 3 of 3" in lines[-1]  # three passes of three layers


@pytest.mark.parametrize("option", ["output_router_logits", "output_hidden_states"])
@pytest.mark.parametrize("name", TARGETS)
def test_what_a_configuration_collects_slows_nothing(name, option):
    plain, built = tiny_moe.load(name), tiny_moe.build(name)
    setattr(built.config, option, True)
    model, ids = ma.load(built), [tiny_moe.ids(9)]
    effects = ma.ablate(model, ids)
    assert effects.engine == ma.ablate(plain, ids).engine and "wavefront" in effects.engine
    assert (effects.delta_nll == ma.ablate(plain, ids).delta_nll).all()
    assert getattr(built.config, option) is True  # put back


def steering(position, size=0.5):
    def hook(module, args, output):  # noqa: ARG001
        if output.shape[1] > position:
            output = output.clone()
            output[:, position] += size
        return output

    return hook


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_hook_at_a_late_position_stops_the_run_by_position_and_layer(dtype):
    built = tiny_moe.build("olmoe").to(dtype)
    model = ma.load(built)
    ids = [tiny_moe.ids(40), tiny_moe.ids(20, 1)]
    assert len(ma.ablate(model, ids, layers=[0]))
    handle = built.model.layers[1].mlp.register_forward_hook(steering(30, 4.0))
    with pytest.raises(ModelError, match=r"at position 30 of document 0, decoder layer 1 \(Olmoe"):
        ma.ablate(model, ids, layers=[0])
    assert ma.ablate(model, ids[1:], layers=[0]).engine.startswith("wavefront")  # too short for it
    handle.remove()
    assert len(ma.ablate(model, ids, layers=[0]))


def test_a_hook_after_the_layers_is_named_as_such():
    built = tiny_moe.build("olmoe")
    model, ids = ma.load(built), [tiny_moe.ids(40)]
    built.model.norm.register_forward_hook(steering(30))
    with pytest.raises(ModelError, match="position 30 of document 0, what follows the last"):
        ma.ablate(model, ids, layers=[0])


def test_in_half_precision_a_few_texts_are_looked_at(monkeypatch):
    """Rows are made to end far off; no layer is at fault, which a few texts show for all as short."""
    from moeaudit.causal import blocks
    from moeaudit.models.precision import Rounding

    strict, looked = Rounding(0.0, 0.0, (0.0, 0.0), (0.0, 0.0), -1.0, 0.0), []
    monkeypatch.setattr(blocks, "rounding", lambda _: strict)
    monkeypatch.setattr(blocks, "departure", lambda plan, ids, far: looked.append(ids.shape[1]))
    docs = [tiny_moe.ids(n, seed) for seed, n in enumerate((9, 9, 8, 9, 8, 12))]
    noted = ma.ablate(ma.load(tiny_moe.build("olmoe").bfloat16()), docs)
    assert looked == [9, 9, 8, 9, 12] and any("carry no edit" in note for note in noted.notes)
    looked.clear()
    ma.ablate(ma.load(tiny_moe.build("olmoe")), docs)
    assert looked == [9, 9, 8, 9, 8, 12]
