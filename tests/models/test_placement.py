"""Where weights are: offloaded layers, empty models, devices, and options that objects cannot take."""

import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import ContractError, ModelError
from moeaudit.models.contract import slot_contributions
from moeaudit.models.precision import rounding

IDS = [tiny_moe.ids(12)]


def same(model, plain, within=0.0):
    got, expected = ma.ablate(model, IDS), ma.ablate(plain, IDS)
    assert got.engine.startswith("wavefront")
    for column in ("delta_nll", "kl"):
        assert (got[column] - expected[column]).abs().max() <= within
    assert ma.capture(model, IDS).routing.equals(ma.capture(plain, IDS).routing)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("where", ["one layer", "everything"])
def test_offloaded_layers_are_walked_exactly(tmp_path, where, dtype):
    accelerate = pytest.importorskip("accelerate")
    built = tiny_moe.build("qwen2_moe").to(dtype)
    offloaded, folder = tiny_moe.build("qwen2_moe").to(dtype), tmp_path / "offload"
    whole = offloaded if where == "everything" else offloaded.model.layers[1]
    accelerate.disk_offload(whole, folder, execution_device=torch.device("cpu"))
    assert any(p.is_meta for p in offloaded.parameters())
    model = ma.load(offloaded)
    assert model.device == torch.device("cpu")
    assert any("brought to cpu when they are needed" in note for note in model.notes)
    # A head that is elsewhere is taken in blocks of rows, with logits as the model rounds them; one that is here is
    # taken in blocks of the vocabulary, in float32.
    same(model, ma.load(built), rounding(model).verified if where == "everything" else 0.0)
    assert {p.dtype for p in offloaded.parameters()} == {dtype}


def test_a_hook_of_ones_own_may_bring_the_weights():
    plain, built = tiny_moe.build("olmoe"), tiny_moe.build("olmoe")
    layer = built.model.layers[1]
    kept = {name: p.detach().clone() for name, p in layer.named_parameters()}

    def put(device):
        for name in kept:
            owner, _, last = name.rpartition(".")
            tensor = kept[name] if device == "cpu" else torch.empty_like(kept[name], device="meta")
            setattr(layer.get_submodule(owner), last, torch.nn.Parameter(tensor))

    put("meta")
    layer.register_forward_pre_hook(lambda *_: put("cpu"))
    model = ma.load(built)
    got, expected = ma.ablate(model, IDS), ma.ablate(ma.load(plain), IDS)
    assert (got.delta_nll == expected.delta_nll).all()


def test_an_empty_model_is_refused_with_advice_that_helps():
    with torch.device("meta"):
        empty = tiny_moe.build("olmoe")
    with pytest.raises(ModelError, match=r"holds no weights.*from_pretrained") as caught:
        ma.load(empty)
    assert "dispatch=True" not in str(caught.value)


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "xyz:0"])
def test_a_device_that_is_not_there(device):
    with pytest.raises(ModelError, match=r"Use one that torch sees.*cpu"):
        ma.load("tiny-olmoe", device=device)


def test_device_and_dtype_are_set(tmp_path):
    tiny_moe.build("olmoe").bfloat16().save_pretrained(tmp_path)
    assert ma.load(tmp_path, dtype="auto").dtype == torch.bfloat16
    model = ma.load(tmp_path, device="cpu", dtype="float32")
    assert model.dtype == torch.float32 and model.device == torch.device("cpu")
    assert ma.load(tmp_path, device=torch.device("cpu"), dtype=torch.float16).dtype == torch.float16
    with pytest.raises(ModelError, match="dtype = 'int8' is unknown"):
        ma.load(tmp_path, dtype="int8")


@pytest.mark.parametrize(
    "option", [{"dtype": "bfloat16"}, {"device": "cpu"}, {"tokenizer": object()}]
)
def test_a_loaded_model_takes_no_options(option):
    with pytest.raises(ModelError, match=f"{next(iter(option))} = .* already loaded"):
        ma.load(tiny_moe.load("olmoe"), **option)


def test_an_experts_implementation_is_lent_and_given_back():
    built = tiny_moe.build("olmoe")
    before = built.config._experts_implementation
    assert before != "eager"
    seen = []
    built.model.layers[0].mlp.experts.register_forward_pre_hook(
        lambda module, _: seen.append(module.config._experts_implementation)
    )
    model = ma.load(built, experts_implementation="eager")
    ma.capture(model, IDS)
    ma.ablate(model, IDS)
    assert set(seen) == {"eager"} and model.experts_implementation == "eager"
    assert built.config._experts_implementation == before
    built(input_ids=torch.as_tensor(IDS[0])[None])
    assert seen[-1] == before
    assert ma.load(built).experts_implementation == before
    with pytest.raises(ModelError, match="'bogus' is not one of transformers'"):
        ma.load(built, experts_implementation="bogus")


class Uncounted(torch.nn.Module):
    """Experts that do not say how many they are: another module's, flattened."""

    def __init__(self, experts):
        super().__init__()
        flat = torch.cat([p.detach().flatten() for p in experts.parameters()])
        self.flat = torch.nn.Parameter(flat)
        self.hidden = [experts]

    def forward(self, hidden, index, weight):
        return self.hidden[0](hidden, index, weight)


def test_the_number_of_experts_is_never_guessed():
    built = tiny_moe.build("olmoe")
    mlp = built.model.layers[2].mlp
    mlp.experts = Uncounted(mlp.experts)
    with pytest.raises(ContractError, match="layer 2: Uncounted.*how many experts.*num_experts"):
        ma.load(built)
    mlp.experts.num_experts = 8
    model = ma.load(built)
    assert model.anatomy[2].num_experts == 8
    hidden, index = torch.zeros(2, 32), torch.tensor([[0], [7]])
    assert slot_contributions(mlp.experts, hidden, index, torch.ones(2, 1)).shape == (2, 1, 32)


def test_what_is_not_audited_is_said():
    from moeaudit.models.find import find_anatomy

    built = tiny_moe.build("olmoe")
    built.add_module("tower_experts", type(built.model.layers[0].mlp.experts)(built.config))
    torch.nn.Module.train(built, False)
    for parameter in built.tower_experts.parameters():
        torch.nn.init.zeros_(parameter)
    assert find_anatomy(built).notes
    model = ma.load(built)
    assert any("not audited" in note for note in model.notes)
    assert "tower_experts" in repr(model) and model.notes == model.anatomy.notes


def parts(layers, rest="cpu", deep="cpu"):
    around = ("model.embed_tokens", "model.rotary_emb", "model.norm", "lm_head")
    placed = {f"model.layers.{i}": deep if i else rest for i in range(layers)}
    return dict.fromkeys(around, rest) | placed


def test_a_device_map_is_walked_or_refused_with_what_streams(tmp_path):
    tiny_moe.build("deepseek_v2").save_pretrained(tmp_path)
    same(ma.load(tmp_path, device_map=parts(3)), ma.load(tmp_path))
    with pytest.raises(ModelError, match=r"second time.*give offload='stream'"):
        ma.load(tmp_path, device_map=parts(3, deep="disk"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="one card split in two needs a card")
def test_a_card_split_in_two_is_walked(tmp_path):
    tiny_moe.build("olmoe").save_pretrained(tmp_path)
    split, whole = (
        ma.load(tmp_path, device_map=parts(3, 0, "cpu")),
        ma.load(tmp_path, device="cuda"),
    )
    assert any(p.is_meta for p in split.hf.parameters())
    same(split, whole)


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2"])
def test_a_model_half_of_which_stands_elsewhere(name):
    """What accelerate makes of a map over two devices: half stays, half is brought from another place."""
    accelerate = pytest.importorskip("accelerate")
    built = tiny_moe.build(name)
    for layer in built.model.layers[1:]:
        accelerate.cpu_offload(layer, execution_device=torch.device("cpu"))
    away = [any(p.is_meta for p in layer.parameters()) for layer in built.model.layers]
    assert away == [False, True, True]
    same(ma.load(built), ma.load(tiny_moe.build(name)))
