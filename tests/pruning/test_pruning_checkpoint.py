"""A pruned checkpoint lies in its files as its source does, has a card, and is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made.architectures import BY_NAME
from made.tiny_run import save
from safetensors import safe_open

import moeaudit as ma
from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.pruning.export import checkpoint

HALF = {0: [0, 2, 4, 6], 1: [1, 3, 5, 7], 2: [0, 1, 2, 3]}


def stored(folder: Path) -> dict[str, tuple[torch.dtype, torch.Tensor]]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as stream:
            for name in stream.keys():  # noqa: SIM118
                found[name] = (stream.get_tensor(name).dtype, stream.get_tensor(name))
    return found


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with float16 weights in four shards, the norms in float32, and a config that asks for float32."""
    from transformers import AutoModelForCausalLM

    source = tmp_path_factory.mktemp("source")
    hf = AutoModelForCausalLM.from_pretrained(save(source / "wide"), dtype="float16")
    hf.save_pretrained(source / "tiny", max_shard_size="150KB")
    for path in (source / "wide").glob("tokenizer*"):
        (source / "tiny" / path.name).write_bytes(path.read_bytes())
    for path in (source / "tiny").glob("*.safetensors"):
        from safetensors.torch import load_file, save_file

        tensors = {n: t.float() if "norm" in n else t for n, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((source / "tiny" / "config.json").read_text())
    config["dtype"] = "float32"
    (source / "tiny" / "config.json").write_text(json.dumps(config))
    (source / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n# mine\n")
    return source / "tiny"


def test_kinds_of_numbers_and_shards_are_those_of_the_source(halved: Path, tmp_path: Path):
    model = ma.load(halved)
    assert model.dtype == torch.float32
    folder = ma.export_pruned(model, HALF, tmp_path / "small")
    before, after = stored(halved), stored(folder)
    assert {kind for kind, _ in after.values()} == {torch.float16, torch.float32}
    assert all(before[name][0] == kind for name, (kind, _) in after.items())
    assert torch.equal(  # expert 1 of the new layer 1 was expert 3
        after["model.layers.1.mlp.experts.1.up_proj.weight"][1],
        before["model.layers.1.mlp.experts.3.up_proj.weight"][1],
    )
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    largest = max(path.stat().st_size for path in halved.glob("*.safetensors"))
    assert len(sizes) > 1 and max(sizes) <= largest
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(
        t.numel() * t.element_size() for _, t in after.values()
    )
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"
    assert sum(sizes) < sum(p.stat().st_size for p in halved.glob("*.safetensors"))
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    narrow = ma.load(halved, dtype="bfloat16")
    written = ma.export_pruned(narrow, HALF, tmp_path / "narrow")
    kinds = {kind for kind, _ in stored(written).values()}  # what was asked for on loading stays
    assert kinds == {torch.bfloat16}
    assert json.loads((written / "config.json").read_text())["dtype"] == "bfloat16"


def test_a_source_that_has_gone_is_remembered_by_its_kind(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    wide = save(tmp_path / "wide")
    AutoModelForCausalLM.from_pretrained(wide, dtype="float16").save_pretrained(tmp_path / "half")
    model = ma.load(tmp_path / "half", dtype="float32")
    (tmp_path / "half").rename(tmp_path / "moved")
    found = stored(ma.export_pruned(model, HALF, tmp_path / "small"))
    assert {kind for kind, _ in found.values()} == {torch.float16}


def test_numbers_that_the_narrow_kind_does_not_hold_stay_wide(halved: Path, tmp_path: Path):
    model = ma.load(halved)
    with torch.no_grad():
        model.hf.get_input_embeddings().weight.add_(1e-6)
    found = stored(ma.export_pruned(model, HALF, tmp_path / "changed"))
    assert found["model.embed_tokens.weight"][0] == torch.float32
    assert found["model.layers.0.self_attn.q_proj.weight"][0] == torch.float16


def test_the_card_says_from_what_which_how_and_what_it_costs(halved: Path, tmp_path: Path):
    model = ma.load(halved)
    docs = [np.random.default_rng(s).integers(3, 300, 9) for s in range(6)]
    curve = ma.prune_curve(model, docs[:3], ["reap"], 0.5, calibration=docs[3:], draws=3)
    folder = ma.export_pruned(model, curve.kept("reap", 0.5), tmp_path / "small")
    card = (folder / "README.md").read_text("utf-8")
    row = curve.table.set_index("criterion").loc["reap"]
    shown = [f"{curve.clean_nll:.4f}", f"{np.exp(curve.clean_nll):.3f}", f"{row['ppl']:.3f}"]
    shown += [f"{row['d_nll']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]", "`reap`"]
    shown += [f"{curve.band()['mean'].item():+.4f}", "license: mit", "tiny with 4 of 8 experts"]
    shown += [
        "3 documents (24 tokens",
        "float16",
        "| 2 | " + ", ".join(map(str, curve.kept("reap", 0.5)[2])),
    ]
    assert [each for each in shown if each not in card] == []
    assert "nan" not in card
    facts = json.loads((folder / "moeaudit_pruned.json").read_text("utf-8"))
    assert facts["chosen"]["criterion"] == "reap" and facts["chosen"]["random"]["draws"] == 3
    by_hand = ma.export_pruned(model, HALF, tmp_path / "by hand")
    assert "named by hand" in (by_hand / "README.md").read_text("utf-8")
    drawn = ma.export_pruned(model, curve.kept("random", 0.5, draw=1), tmp_path / "drawn")
    assert "at random (draw 1, seed 0)" in (drawn / "README.md").read_text("utf-8")


def test_generation_settings_that_transformers_would_not_save_come_along(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    hf: Any = BY_NAME["olmoe"].build(num_hidden_layers=2)
    hf.generation_config.do_sample, hf.generation_config.temperature = False, 0.6
    with pytest.raises(ValueError):
        hf.save_pretrained(tmp_path / "refused")
    keep = {0: range(6), 1: range(6)}
    folder = ma.export_pruned(ma.load(hf), keep, tmp_path / "small")
    again = AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert again.temperature == 0.6 and again.do_sample is False and again.eos_token_id == 2
    assert hf.generation_config.temperature == 0.6


def uneven() -> ma.Model:
    """Layers of eight, six and eight experts, as a user's own surgery leaves them."""
    hf: Any = BY_NAME["olmoe"].build(num_hidden_layers=3)
    block, few = hf.model.layers[1].mlp, torch.arange(6)
    for owner, name in (
        (block.experts, "gate_up_proj"),
        (block.experts, "down_proj"),
        (block.gate, "weight"),
    ):
        setattr(owner, name, torch.nn.Parameter(getattr(owner, name)[few].detach()))
    block.experts.num_experts = block.gate.num_experts = 6
    return ma.load(hf)


def test_uneven_sources_become_even_and_uneven_results_are_refused_with_the_counts(tmp_path: Path):
    model = uneven()
    folder = ma.export_pruned(model, {i: range(5) for i in range(3)}, tmp_path / "even")
    assert {x.num_experts for x in ma.load(folder).anatomy.layers} == {5}
    assert json.loads((folder / "moeaudit_pruned.json").read_text())["experts_before"] == 8
    with pytest.raises(
        InputError, match="layer 1 would keep 4 experts and layer 0 5.*scope 'layer'"
    ):
        ma.export_pruned(model, {0: range(5), 1: range(4), 2: range(5)}, tmp_path / "no")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["store_as", "_verify"])
def test_nothing_half_written_is_left(where: str, stop: Any, tmp_path: Path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise stop

    monkeypatch.setattr(checkpoint, where, fail)
    model = ma.load(BY_NAME["olmoe"].build(num_hidden_layers=1))
    wanted = RunError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(wanted):
        ma.export_pruned(model, {0: range(4)}, tmp_path / "small")
    assert not any(tmp_path.iterdir())


def test_places_are_refused_before_anything_is_built(tmp_path: Path, monkeypatch):
    def build(*_: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(checkpoint, "smaller_model", build)
    model = ma.load(BY_NAME["olmoe"].build(num_hidden_layers=1))
    (tmp_path / "file").write_text("mine")
    for place, said in (
        (tmp_path, "is not empty .it has file"),
        (tmp_path / "file", "is a file"),
        (tmp_path / "file" / "x", "is a file and no folder"),
        ("/proc/x", "cannot be written"),
    ):
        with pytest.raises(RunError, match=said):
            ma.export_pruned(model, {0: range(4)}, place)


def test_what_transformers_does_not_save_is_said_in_words(tmp_path: Path, monkeypatch):
    from transformers import PreTrainedModel

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no such thing")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", refuse)
    model = ma.load(BY_NAME["olmoe"].build(num_hidden_layers=1))
    with pytest.raises(ModelError, match="refuses to save it: no such thing"):
        ma.export_pruned(model, {0: range(4)}, tmp_path / "small")
    assert not any(tmp_path.iterdir())


def test_another_half_precision_is_brought_back_to_the_sources(tmp_path: Path):
    from transformers import AutoModelForCausalLM

    hf = AutoModelForCausalLM.from_pretrained(save(tmp_path / "wide"), dtype="bfloat16")
    hf.save_pretrained(tmp_path / "source")
    for path in (tmp_path / "wide").glob("tokenizer*"):
        (tmp_path / "source" / path.name).write_bytes(path.read_bytes())
    model = ma.load(tmp_path / "source", dtype="float16")
    model.provenance["precision"] = {"computes": "float16"}  # as if the check had chosen it
    ma.export_pruned(model, HALF, tmp_path / "out")
    kinds = {kind for kind, _ in stored(tmp_path / "out").values()}
    asks = json.loads((tmp_path / "out" / "config.json").read_text())["dtype"]
    # All of them where nothing was lost; else config.json asks for the kind that is there.
    assert asks == ("bfloat16" if kinds == {torch.bfloat16} else "float16")
    assert torch.bfloat16 in kinds
