"""What rounding explains, and that memory is not rounding; models of other precisions."""

import numpy as np
import pytest
import torch
from made import architectures, tiny_moe
from made.plain import removal

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.errors import ContractError, ModelError, OutOfMemory
from moeaudit.models.contract import slot_contributions, unexplained
from moeaudit.models.precision import is_half, is_out_of_memory, memory_named, rounding


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_fast_products_of_float32_are_allowed_their_digits(tf32):
    assert rounding(torch.zeros(1)) == rounding(torch.zeros(1, dtype=torch.float16))
    assert rounding(torch.zeros(1, dtype=torch.float64)).output == 1e-10


def test_a_sound_model_in_tf32_is_captured(tf32, monkeypatch):
    """Slots whose inputs lose the digits that TF32 drops; a CPU computes in full float32."""
    import moeaudit.observe.slots as slots

    def ten_bits(*args):
        found = slot_contributions(*args)
        return found * (
            1 + 2.0**-11 * torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
        )

    monkeypatch.setattr(slots, "slot_contributions", ten_bits)
    model, ids = tiny_moe.load("olmoe"), [tiny_moe.ids(9)]
    assert len(ma.capture(model, ids).routing)
    torch.set_float32_matmul_precision("highest")
    with pytest.raises(ContractError, match="do not add up"):
        ma.capture(model, ids)


def test_cancelling_contributions_are_not_taken_for_an_error():
    slots = torch.tensor([[[1.0], [-1.0 + 2**-20]]])
    off, allowed = unexplained(slots, torch.ones(1, 2), torch.tensor([[2.0**-20 * 1.5]]))
    assert off < allowed  # half of what is left, a millionth of what was added up


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError(),
    ],
)
def test_the_ways_in_which_memory_runs_out(error):
    assert is_out_of_memory(error) and not is_out_of_memory(RuntimeError("shapes differ"))
    said = "Memory ran out while reading.*max_length"
    with pytest.raises(OutOfMemory, match=said) as caught, memory_named("reading"):
        raise error
    assert "\n" not in str(caught.value) and not isinstance(caught.value, RuntimeError)


def full_memory(*args, **kwargs):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("place", ["Wavefront.run", "_compared", "LoneRows.check"])
def test_memory_that_runs_out_is_no_verdict_about_the_model(monkeypatch, place):
    import moeaudit.causal.walk.choice as choice

    model = ma.load(tiny_moe.build("olmoe"))
    with monkeypatch.context() as full:
        holder, _, name = place.rpartition(".")
        full.setattr(getattr(choice, holder) if holder else choice, name, full_memory)
        with pytest.raises(OutOfMemory, match="Nothing was concluded"):
            ma.ablate(model, [tiny_moe.ids(9)])
    assert replay_for(model).engine == "wavefront"  # nothing was kept of it


def test_memory_that_runs_out_in_one_slot_calls_is_no_verdict(monkeypatch):
    layer = ma.load(tiny_moe.build("olmoe")).anatomy[0]
    fresh = type(layer.experts)(layer.experts.config)
    arguments = (torch.randn(2, 32), torch.tensor([[1], [2]]), torch.ones(2, 1))
    with monkeypatch.context() as full:
        full.setattr(fresh, "forward", full_memory)
        with pytest.raises(OutOfMemory):
            slot_contributions(fresh, *arguments)
    calls = []
    fresh.register_forward_pre_hook(lambda _, args: calls.append(args[1].shape[1]))
    slot_contributions(fresh, *arguments)
    assert calls == [1, 1]  # one slot was tried again, and taken


def test_memory_that_runs_out_in_the_router_is_no_broken_contract(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe"))
    monkeypatch.setattr(model.anatomy[0].router, "forward", full_memory)
    from moeaudit.models.router import answer_without

    with pytest.raises(OutOfMemory):
        answer_without(model.anatomy[0], torch.zeros(2, 32), torch.zeros(2, 8, dtype=torch.bool))


@pytest.mark.parametrize("architecture", ["olmoe", "qwen2_moe", "deepseek_v2"])
def test_float64_models_are_captured_and_walked(architecture):
    built = architectures.BY_NAME[architecture].build().double()
    model = ma.load(built)
    ids = torch.arange(30, 45)
    assert len(ma.capture(model, [ids]).tokens) == 14
    effects = ma.ablate(model, [ids])
    assert effects.engine.startswith("wavefront")
    for row in effects.sample(5, random_state=0).itertuples():
        with torch.no_grad():
            model.hf.set_experts_implementation("eager")
            plain = removal(
                model.hf, ids[None], model.anatomy[row.layer].experts, row.position, row.expert
            )
        assert abs(plain.delta_nll - row.delta_nll) <= 1e-6


def test_grouped_mm_is_blamed_for_what_it_cannot_do(tmp_path):
    tiny_moe.build("olmoe").save_pretrained(tmp_path)
    model = ma.load(tmp_path, dtype="float64")
    assert model.dtype == torch.float64 and model.experts_implementation == "eager"
    assert any("'grouped_mm' does not compute in float64" in note for note in model.notes)
    with pytest.raises(ModelError, match="'grouped_mm' does not compute in float64.*Use 'eager'"):
        ma.load(tmp_path, dtype="float64", experts_implementation="grouped_mm")


@pytest.mark.parametrize("name", ["jamba", "lfm2_moe", "granitemoehybrid", "minimax"])
@pytest.mark.parametrize("init", ["library", "wide"])
def test_half_precision_does_not_hide_what_mixes_tokens(name, init):
    from transformers import AutoModelForCausalLM

    built = architectures.BY_NAME[name].build()
    if init == "library":
        torch.manual_seed(0)
        built = AutoModelForCausalLM.from_config(built.config).eval()
    before = {path: (p.data_ptr(), p.dtype) for path, p in built.bfloat16().named_parameters()}
    model = ma.load(built)
    replay = replay_for(model)
    assert is_half(model.dtype) and replay.engine == "full forwards"
    assert "mixes tokens outside of attention" in replay.reason
    assert {path: (p.data_ptr(), p.dtype) for path, p in built.named_parameters()} == before


@pytest.mark.parametrize("name", ["olmoe", "qwen2_moe", "deepseek_v2", "gpt_oss", "flex_olmo"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_only_models_keep_the_wavefront_in_half_precision(name, dtype):
    model = ma.load(architectures.BY_NAME[name].build().to(dtype))
    assert replay_for(model).engine == "wavefront"


def test_no_more_than_one_layer_is_widened_at_once():
    from moeaudit.models.precision.widened import in_float32

    model = ma.load(tiny_moe.build("olmoe").bfloat16())
    ids = torch.as_tensor(tiny_moe.ids(9))[None]
    exact = tiny_moe.build("olmoe").bfloat16().float()(input_ids=ids).logits
    most = []

    def count(*_):
        wide = [
            any(p.dtype == torch.float32 for p in layer.parameters())
            for layer in model.anatomy.decoder_layers
        ]
        most.append(sum(wide))

    for layer in model.anatomy.decoder_layers:
        layer.self_attn.register_forward_pre_hook(count)
    with torch.no_grad(), in_float32(model):
        found = model.hf(input_ids=ids).logits
    assert torch.equal(found, exact) and most == [1, 1, 1]
    assert np.unique([str(p.dtype) for p in model.hf.parameters()]).tolist() == ["torch.bfloat16"]
