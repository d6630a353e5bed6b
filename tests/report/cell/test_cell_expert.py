"""`ma.expert`: the card's numbers, its faces, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from made import tiny_moe

import moeaudit as ma
from moeaudit.errors import InputError

DOCS = [tiny_moe.ids(14, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def model():
    return tiny_moe.load("olmoe")


@pytest.fixture(scope="module")
def effects(model):
    return ma.ablate(model, DOCS, layers=[0, 2], predictions=True)


@pytest.fixture(scope="module")
def trace(model):
    return ma.capture(model, DOCS, following=True)


def busiest(effects, layer=2):
    return int(effects[effects["layer"] == layer]["expert"].mode()[0])


def test_a_card_of_effects_has_their_numbers_and_texts(effects):
    number = busiest(effects)
    card = ma.expert(effects, 2, number)
    mine = effects[(effects["layer"] == 2) & (effects["expert"] == number)]
    assert card.values["n"] == len(mine)
    assert card.values["delta_nll"] == pytest.approx(mine["delta_nll"].mean(), rel=1e-3)
    assert card.values["strong"][0]["delta_nll"] == pytest.approx(
        mine.loc[mine["delta_nll"].abs().idxmax(), "delta_nll"], rel=1e-3
    )
    assert f"layer 2, expert {number}" in repr(card) and "Limits hold 95%, by document" in repr(
        card
    )
    assert card.values["replaced"] is None and "next in line is not known" in repr(card)
    assert re.search(r"\[\[\d+\]\]", repr(card))  # a model without a tokenizer: ids in brackets


def test_a_trace_brings_predictions_ranks_and_who_is_next(effects, trace, model):
    number = busiest(effects)
    metrics = ma.expert_metrics(trace)
    card = ma.expert(effects, 2, number, tokens=trace, metrics=metrics)
    assert card.values["experts"] == 8 and card.values["metrics"]["REAP"]["rank"] in range(1, 9)
    entered = ma.ablate(model, DOCS, ma.Reroute(), layers=[2])
    share = entered[entered["expert"] == number]["entered"].value_counts(normalize=True)
    assert {e: s for e, s in card.values["replaced"]} == pytest.approx(
        {int(e): s for e, s in share.head(5).items()}, rel=1e-3
    )
    row = card.values["strong"][0]
    clean = trace.tokens.set_index(["document", "position"])["top"]
    assert row["top"] == f"[{clean[row['d'], row['p']]}]" and row["edited"] is not None


def test_faces_are_light_without_scripts_and_escaped(effects):
    card = ma.expert(effects, 2, busiest(effects))
    bundle = card._repr_mimebundle_()
    assert bundle["text/html"] == card._repr_html_() and bundle["text/plain"] == repr(card)
    assert len(card.html.encode()) < 200_000
    assert "<script" not in card.html and "javascript:" not in card.html and "http" not in card.html
    hostile = effects.texts.chunks[0].ids
    table = ma.capture(tiny_moe.load("olmoe"), DOCS).tokens
    table["text"] = "<img src=x onerror=alert(1)>"
    html = ma.expert(effects, 2, busiest(effects), tokens=table).html
    assert "<img" not in html and "&lt;img" in html and len(hostile)


def test_an_expert_that_nobody_chose_is_said_to_be_one(effects):
    some = effects[~((effects["layer"] == 2) & (effects["expert"] == 1))]
    card = ma.expert(some, 2, 1)
    assert "No token of these documents chose this expert" in repr(card) and card.values["n"] == 0


def test_effects_in_a_folder_and_of_a_sample(effects, model, tmp_path):
    number = busiest(effects)
    folder = ma.ablate(model, DOCS, layers=[0, 2], predictions=True, out=tmp_path / "effects")
    card = ma.expert(folder, 2, number)
    assert card.values["delta_nll"] == ma.expert(effects, 2, number).values["delta_nll"]
    assert "named by their positions" in repr(card)
    part = ma.ablate(model, DOCS, layers=[2], share=0.5)
    assert "a sample" in repr(ma.expert(part, 2, busiest(part)))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda e: ma.expert("runs/x", 2, 0), "Effects were expected, and this is a str"),
        (lambda e: ma.expert(e, 1, 0), "Unknown layer 1. Choose one of 0, 2"),
        (lambda e: ma.expert(e, 2, 8), "Layer 2 has no expert 8"),
        (lambda e: ma.expert(e, 2, True), "The expert is True; a whole number"),
        (lambda e: ma.expert(e.drop(columns="kl"), 2, 1), "lacks the column kl"),
        (lambda e: ma.expert(e, 2, 1, tokens=e), "The tokens table"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_paragraph(effects, asked, said):
    with pytest.raises(InputError, match=re.escape(said)) as error:
        asked(effects)
    assert "\n" not in str(error.value)


def test_tokens_of_other_documents_are_refused(effects, model):
    other = ma.capture(model, DOCS[:3])
    with pytest.raises(InputError, match="lacks .* tokens of the effects"):
        ma.expert(effects, 2, 0, tokens=other)


def test_rows_that_are_not_about_experts_are_refused(model):
    with pytest.raises(InputError, match="not one for each active expert"):
        ma.expert(ma.ablate(model, DOCS[:2], ma.Skip()), 0, 0)


def test_a_run_brings_its_own(run):
    number = int(np.argmax(run.experts[run.experts["layer"] == 1]["value"]) % 16)
    card = ma.expert(run, 1, number)
    assert run.spec.model in repr(card) and card.values["metrics"]
    assert "By domain" in card.html
