"""Verification must find the census exact, and must notice when it is not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_moe

import moeaudit as ma
from moeaudit.causal.check.verification import TOLERANCE
from moeaudit.causal.check.verify import verify
from moeaudit.errors import InputError


@pytest.fixture(scope="module")
def census():
    documents = [tiny_moe.ids(14, seed) for seed in range(3)]
    return {a: ma.ablate(tiny_moe.load(a), documents, ma.Zero()) for a in tiny_moe.ARCHITECTURES}


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
@pytest.mark.parametrize("engine", ["hooks", "nnsight", "transformer_lens"])
def test_the_census_is_exact(census, architecture, engine):
    result = verify(census[architecture], tiny_moe.load(architecture), n=12, engine=engine)
    if (architecture, engine) == ("deepseek_v2", "transformer_lens"):
        assert result.n == 0 and np.isnan(result.max_abs_delta_nll) and not result.agrees
        assert "DeepSeek-V2" in repr(result) and "Not verified" in repr(result)
        return
    assert result.n == len(result.rows) == 12
    assert result.agrees and result.flips_differ == 0
    assert max(result.max_abs_delta_nll, result.max_abs_kl) <= TOLERANCE
    assert result.rows["engine_delta_nll"].abs().max() > 0.01


def operators(model):
    held_out = ma.expert_outputs(model, [tiny_moe.ids(40, seed) for seed in range(10, 14)])
    everywhere = [
        ma.Renormalize("one"),
        ma.Swap("all"),
        ma.Skip(),
        ma.Scale(2.0),
        ma.MeanOutput(held_out),
        ma.Resample(held_out, seed=3),
        ma.Coalitions(),
        ma.Reroute(),
        ma.Everywhere(ma.Zero()),
        ma.Everywhere(ma.Coalitions((2,)), by="rank"),
        ma.Without({1: [0, 2, 4, 6], 2: [1, 3, 5]}),
        ma.Without({1: [0, 2, 4, 6], 2: [1, 3, 5]}, rule="zero"),
    ]
    return everywhere + ([] if model.name.startswith("Olmoe") else [ma.SharedExpert()])


@pytest.mark.parametrize("architecture", tiny_moe.ARCHITECTURES)
def test_every_operator_is_recomputed_in_every_engine(architecture):
    model = tiny_moe.load(architecture)
    for operator in operators(model):
        effects = ma.ablate(model, [tiny_moe.ids(8)], operator)
        for engine in ("hooks", "nnsight", "transformer_lens"):
            found = verify(effects, model, n=3, engine=engine, operator=operator)
            if (architecture, engine) == ("deepseek_v2", "transformer_lens"):
                assert found.n == 0 and "hook_expert_weights" in str(found.skipped)
            else:
                assert found.n == 3 and found.agrees, (operator.name, engine, found)


def test_nothing_is_guessed_of_a_table_without_a_question():
    model, docs = tiny_moe.load("olmoe"), [tiny_moe.ids(9)]
    for operator in (ma.Zero(), ma.Reroute(), ma.Without({1: [0]}, rule="zero")):
        read = pd.DataFrame(ma.ablate(model, docs, operator))
        with pytest.raises(InputError, match="does not say which operator.*operator="):
            verify(read, model, docs=docs)
        assert verify(read, model, n=2, docs=docs, operator=operator).agrees


def test_the_operator_is_asked_for_and_checked():
    model = tiny_moe.load("olmoe")
    effects = pd.DataFrame(ma.ablate(model, [tiny_moe.ids(9)], ma.Swap(2)))
    wrong = verify(effects, model, docs=[tiny_moe.ids(9)], operator=ma.Renormalize())
    assert not wrong.agrees  # the same cells, another question
    with pytest.raises(InputError, match="has no row with rank"):
        verify(effects, model, docs=[tiny_moe.ids(9)], operator=ma.Swap(3))
    again = ma.ablate(model, [tiny_moe.ids(9)], ma.Swap(2))
    with pytest.raises(InputError, match="was given"):
        verify(again, model, operator=ma.Renormalize())
    with pytest.raises(InputError, match=r"expert 2\), and .*expert 3\) was given"):
        verify(again, model, operator=ma.Swap(3))  # of one name or not: the arguments count
    assert verify(again, model, operator=ma.Swap(2)).agrees


def test_an_operator_of_the_same_name_and_other_arguments_is_refused():
    model = tiny_moe.load("olmoe")
    one, other = (
        ma.MeanOutput(ma.expert_outputs(model, [tiny_moe.ids(40, s) for s in range(first, 14)]))
        for first in (8, 9)
    )
    effects = ma.ablate(model, [tiny_moe.ids(9)], one)
    assert one.name == other.name == effects.question.name
    with pytest.raises(InputError, match="was given"):
        verify(effects, model, operator=other)
    assert verify(effects, model, n=2, operator=one).agrees


def test_a_wrong_table_is_noticed(census):
    effects = census["olmoe"].copy()
    effects["delta_nll"] += 0.25
    effects["flip"] = ~effects["flip"]
    result = verify(effects, tiny_moe.load("olmoe"), n=5)
    assert result.max_abs_delta_nll == pytest.approx(0.25, abs=1e-5)
    assert result.max_abs_kl <= TOLERANCE
    assert result.flips_differ == 5 and not result.agrees
    assert "MORE than" in repr(result)


def test_a_nan_effect_is_not_agreement(census):
    effects = census["olmoe"].head(3).copy()
    effects["kl"] = [0.0, np.nan, 0.0]
    assert not verify(effects, tiny_moe.load("olmoe"), n=3).agrees


def test_the_sample_is_seeded(census):
    model = tiny_moe.load("olmoe")
    cells = ["document", "position", "layer", "expert"]
    first, again, other = (
        verify(census["olmoe"], model, n=6, seed=seed).rows[cells] for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert not first.equals(other)
    assert not first.duplicated().any()


def test_tables_read_back_need_the_documents(census):
    model = tiny_moe.load("olmoe")
    plain = pd.DataFrame(census["olmoe"])
    with pytest.raises(InputError, match="docs="):
        verify(plain, model, operator=ma.Zero())
    documents = [tiny_moe.ids(14, seed) for seed in range(3)]
    assert verify(plain, model, docs=documents, operator=ma.Zero()).agrees


def test_cut_documents_are_found_again():
    model = tiny_moe.load("deepseek_v2")
    effects = ma.ablate(model, [tiny_moe.ids(30)], ma.Zero(), max_length=8)
    assert verify(effects[effects["position"] >= 16], model, n=6).agrees


def test_an_effects_folder_is_sampled_across_shards(tmp_path, census):
    model = tiny_moe.load("olmoe")
    documents = [tiny_moe.ids(14, seed) for seed in range(3)]
    folder = ma.ablate(model, documents, ma.Zero(), out=tmp_path / "effects")
    assert folder.rows == len(census["olmoe"])
    result = verify(folder, model, n=9, docs=documents)
    assert result.n == 9 and result.agrees


def test_rows_of_other_documents_are_refused(census):
    model, zero = tiny_moe.load("olmoe"), ma.Zero()
    plain = pd.DataFrame(census["olmoe"])
    with pytest.raises(InputError, match="is not among the 1 documents"):
        verify(plain[plain["document"] == 2], model, docs=[tiny_moe.ids(14)], operator=zero)
    few = [tiny_moe.ids(5, seed) for seed in range(3)]
    with pytest.raises(InputError, match="positions 0 to 3 only"):
        verify(plain[plain["position"] > 8], model, docs=few, operator=zero)
    others = [tiny_moe.ids(14, seed + 50) for seed in range(3)]
    with pytest.raises(InputError, match="not active"):
        verify(plain, model, n=40, docs=others, operator=zero)


def test_what_cannot_be_recomputed_is_refused(census):
    model = tiny_moe.load("olmoe")
    facts = census["olmoe"].facts
    mean = dataclasses.replace(facts.question, name="mean", operator={"operator": "Meant"})
    of_mean = dataclasses.replace(facts, question=mean)
    effects = ma.Effects.of(pd.DataFrame(census["olmoe"]), of_mean, census["olmoe"].texts)
    with pytest.raises(InputError, match="'mean'.*operator="):
        verify(effects, model)
    with pytest.raises(InputError, match="nothing to verify"):
        verify(census["olmoe"].head(0), model)


def test_html_repeats_the_sentence_and_escapes():
    result = verify(
        ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(6)], ma.Zero()), tiny_moe.load("olmoe"), n=2
    )
    assert "recomputed by one full forward each with hooks" in result._repr_html_()
    assert result._repr_html_().count("<tr") == 3


def test_half_precision_is_judged_by_its_own_rounding():
    model = ma.load(tiny_moe.build("qwen2_moe").to(torch.bfloat16))
    effects = ma.ablate(model, [tiny_moe.ids(14)], ma.Zero())
    result = verify(effects, model, n=8)
    assert result.tolerance == 16 * torch.finfo(torch.bfloat16).eps and result.agrees
    assert "bfloat16 rounding" in repr(result)


def test_effects_below_the_precision_of_the_model_are_not_called_verified():
    from transformers import AutoModelForCausalLM

    built = tiny_moe.build("olmoe")
    torch.manual_seed(0)
    quiet = AutoModelForCausalLM.from_config(built.config).to(torch.bfloat16)
    model = ma.load(quiet)
    effects = ma.ablate(model, [tiny_moe.ids(12)])
    assert effects.delta_nll.abs().max() < 0.1
    found = ma.verify(effects, model, n=5)
    assert found.blind and not found.agrees
    assert "would show nothing" in repr(found)


def test_rounding_of_the_texts_is_measured_where_a_difference_is_more_than_usual():
    hf = tiny_moe.build("olmoe")
    model = ma.load(hf)
    effects = ma.ablate(model, [tiny_moe.ids(14)])
    altered = effects.assign(delta_nll=effects.delta_nll + 3e-5)
    question = {"n": 4, "docs": [tiny_moe.ids(14)], "operator": ma.Zero()}
    quiet = verify(altered, model, **question)
    assert quiet.tolerance == TOLERANCE and not quiet.agrees
    noise = torch.linspace(-2e-5, 2e-5, tiny_moe.VOCABULARY)
    hf.lm_head.register_forward_hook(lambda _m, _a, out: out + noise if len(out) == 2 else out)
    loud = verify(altered, model, **question)
    assert TOLERANCE < 3e-5 < loud.tolerance < 1e-4 and loud.agrees
    assert loud.usual == TOLERANCE and quiet.usual is None
    assert "at most ten times the usual 1e-05" in repr(loud) and "usual" not in repr(quiet)
    assert verify(effects, model, **question).tolerance == TOLERANCE  # not asked where all is well
    wrong = verify(effects.assign(delta_nll=effects.delta_nll + 2e-4), model, **question)
    assert wrong.tolerance < 1e-4 and not wrong.agrees


def test_a_folder_of_cut_texts_is_verified_as_it_was_cut(tmp_path):
    model = tiny_moe.load("olmoe")
    docs = [tiny_moe.ids(40)]
    stored = ma.ablate(model, docs, max_length=16, out=tmp_path / "effects")
    assert ma.verify(stored, model, n=6, docs=docs).agrees


@pytest.mark.parametrize("engine", ["hooks", "nnsight", "transformer_lens"])
def test_effects_with_frozen_routing_are_recomputed_as_such(engine):
    model = tiny_moe.load("qwen2_moe")
    free = ma.ablate(model, [tiny_moe.ids(9)])
    frozen = ma.ablate(model, [tiny_moe.ids(9)], frozen_routing=True)
    assert (free.delta_nll - frozen.delta_nll).abs().max() > 1e-3
    first = frozen[frozen.layer == 0]  # there the later layers have something to keep
    assert verify(first, model, n=6, engine=engine).agrees
    plain, docs = pd.DataFrame(first), [tiny_moe.ids(9)]
    options = {"n": 6, "engine": engine, "docs": docs, "operator": ma.Zero()}
    assert verify(plain, model, frozen_routing=True, **options).agrees
    assert not verify(plain, model, **options).agrees
    with pytest.raises(InputError, match="frozen_routing=False was given.*routing frozen"):
        verify(first, model, frozen_routing=False)


def tied(monkeypatch, misses):
    """Engines whose own forward of a sampled row goes to another expert, `misses` times."""
    from moeaudit.causal.check.engines import HooksEngine
    from moeaudit.causal.check.row import NotActive

    real, calls = HooksEngine.effect, []

    def effect(self, *given, **options):
        calls.append(given)
        if len(calls) <= misses:
            raise NotActive("there experts [1, 2] are active, by rank.")
        return real(self, *given, **options)

    monkeypatch.setattr(HooksEngine, "effect", effect)


def test_a_tie_in_half_precision_is_counted_and_said(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    effects = ma.ablate(model, [tiny_moe.ids(9)])
    tied(monkeypatch, 2)
    found = ma.verify(effects, model, 8)
    assert (found.n, found.elsewhere, len(found.rows)) == (6, 2, 6)
    assert "2 more could not be compared: two experts tie there in bfloat16" in repr(found)


def test_a_table_of_other_documents_is_no_tie(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    effects = ma.ablate(model, [tiny_moe.ids(9)])
    tied(monkeypatch, 5)
    with pytest.raises(InputError, match="are active"):
        ma.verify(effects, model, 8)


def test_in_float32_nothing_ties(monkeypatch):
    model = tiny_moe.load("olmoe")
    effects = ma.ablate(model, [tiny_moe.ids(9)])
    tied(monkeypatch, 1)
    with pytest.raises(InputError, match="are active"):
        ma.verify(effects, model, 8)


def test_a_sample_that_only_ties_verifies_nothing(monkeypatch):
    model = ma.load(tiny_moe.build("olmoe").to(torch.bfloat16))
    effects = ma.ablate(model, [tiny_moe.ids(9)])
    tied(monkeypatch, 1)
    found = ma.verify(effects, model, 1)
    assert found.n == 0 and not found.agrees and "tie at each of the 1" in repr(found)
