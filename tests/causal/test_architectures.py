"""The census against one plain forward for one removal, architecture by architecture."""

import pytest
import torch
from made import architectures
from made.plain import removal

import moeaudit as ma

TOKENS = 21  # longer than the sliding window of 8
CELLS = 10


def census(model: ma.Model, seed: int = 1):
    ids = torch.randint(
        16, architectures.VOCABULARY, (TOKENS,), generator=torch.Generator().manual_seed(seed)
    )
    return ids, ma.ablate(model, [ids])


def largest_difference(
    model: ma.Model, ids: torch.Tensor, effects, seed: int = 0
) -> tuple[float, float]:
    worst = biggest = 0.0
    for row in effects.sample(CELLS, random_state=seed).itertuples():
        experts = model.anatomy[row.layer].experts
        plain = removal(model.hf, ids[None], experts, row.position, row.expert)
        worst = max(worst, abs(plain.delta_nll - row.delta_nll), abs(plain.kl - row.kl))
        biggest = max(biggest, abs(plain.delta_nll))
    return worst, biggest


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES, ids=lambda a: a.name)
def test_the_census_equals_plain_forwards(architecture):
    model = ma.load(architecture.build())
    ids, effects = census(model)
    assert effects.engine.startswith(architecture.engine.replace("full", "batched full"))
    layers = model.anatomy.layers
    assert len(effects) == (TOKENS - 1) * sum(layer.top_k for layer in layers)
    worst, biggest = largest_difference(model, ids, effects)
    assert biggest > 0.01, "effects this small would hide a wrong replay"
    assert worst <= 1e-5


@pytest.mark.parametrize(
    "architecture", ["olmoe", "qwen2_moe", "deepseek_v2", "gpt_oss", "mixtral"]
)
@pytest.mark.parametrize("implementation", ["eager", "batched_mm", "grouped_mm"])
def test_every_experts_implementation_gives_exact_effects(architecture, implementation):
    built = architectures.BY_NAME[architecture].build()
    model = ma.load(built, experts_implementation=implementation)
    assert model.experts_implementation == implementation
    ids, effects = census(model)
    worst, _ = largest_difference(model, ids, effects)
    assert worst <= 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_attention_implementation_gives_exact_effects(attention):
    built = architectures.BY_NAME["qwen3_moe"].build()
    built.set_attn_implementation(attention)
    model = ma.load(built)
    ids, effects = census(model)
    assert effects.engine.startswith("wavefront")
    assert largest_difference(model, ids, effects)[0] <= 1e-5
    assert built.config._attn_implementation == attention  # put back afterwards


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES, ids=lambda a: a.name)
def test_the_engine_is_chosen_by_what_the_model_does(architecture):
    model = ma.load(architecture.build())
    from moeaudit.causal import replay_for

    replay = replay_for(model)
    assert replay.engine == architecture.engine
    assert (replay.reason is None) == (replay.engine == "wavefront")
    if replay.engine == "wavefront":
        rerun = [scale is None for scale in replay.residual_scale.values()]
        assert all(rerun) if architecture.needs_rerun else not any(rerun)


def test_a_residual_multiplier_is_measured():
    from moeaudit.causal import replay_for

    model = ma.load(architectures.BY_NAME["granitemoe"].build(residual_multiplier=0.22))
    assert list(replay_for(model).residual_scale.values()) == pytest.approx([0.22] * 4, rel=1e-4)


def test_half_precision_is_as_close_to_the_reference_as_a_plain_forward():
    """bf16 replay against fp32 effects, beside bf16 plain forwards against the same."""
    built = architectures.BY_NAME["olmoe"].build()
    reference = ma.load(built)
    ids, true = census(reference)
    half = ma.load(architectures.BY_NAME["olmoe"].build().bfloat16())
    _, effects = census(half)
    key = ["position", "layer", "expert"]
    both = true.merge(effects, on=key, suffixes=("", "_half"))
    sample = both.sample(60, random_state=0)
    replay = (sample.delta_nll_half - sample.delta_nll).abs()
    plain = [
        abs(
            removal(
                half.hf, ids[None], half.anatomy[r.layer].experts, r.position, r.expert
            ).delta_nll
            - r.delta_nll
        )
        for r in sample.itertuples()
    ]
    assert replay.mean() <= 1.1 * sum(plain) / len(plain)


@pytest.mark.parametrize("name", ["jamba", "granitemoehybrid", "lfm2_moe", "minimax"])
def test_a_mixing_layer_is_named_even_if_its_weights_hardly_do_anything(name):
    """The library's default initialisation: effects are tiny, so a comparison of effects is blind."""
    from transformers import AutoModelForCausalLM

    from moeaudit.causal import replay_for

    loud = architectures.BY_NAME[name].build()
    torch.manual_seed(0)
    model = ma.load(AutoModelForCausalLM.from_config(loud.config).eval())
    replay = replay_for(model)
    assert replay.engine == "full forwards"
    assert "mixes tokens outside of attention" in replay.reason
