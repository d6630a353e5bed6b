"""Pruning curves: identities, bookkeeping and refusals."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made.architectures import BY_NAME
from made.plain import logits_with

import moeaudit as ma
from moeaudit.errors import InputError
from moeaudit.models.router import without_experts
from moeaudit.pruning.asked import KNOWN
from moeaudit.pruning.choose import choose, depth_layers, random_scores, tie_breaks
from moeaudit.pruning.criteria.scores import causal_harm, criterion_scores
from moeaudit.text.for_model import tokens_for


@functools.cache
def tiny(name: str = "olmoe") -> ma.Model:
    return ma.load(BY_NAME[name].build())


def texts(first: int, count: int) -> list[np.ndarray]:
    """Token ids of `count` documents, some of one length."""
    return [
        np.random.default_rng(seed).integers(3, 300, 10 + seed % 2)
        for seed in range(first, first + count)
    ]


@functools.cache
def curve(name: str = "olmoe") -> Any:
    return ma.prune_curve(
        tiny(name),
        texts(0, 6),
        keep=(1.0, 0.5),
        calibration=texts(50, 4),
        scope=("layer", "global"),
        layers=("all", "early"),
        draws=3,
    )


def cell(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table


def test_pruning_nothing_costs_exactly_nothing() -> None:
    whole = cell(curve().table, keep=1.0)
    assert len(whole) == 2 * 2 * (10 + 3)
    assert (whole["dropped"] == 0).all()
    assert (whole["nll"] == curve().clean_nll).all()
    assert (whole[["d_nll", "low", "high", "kl", "kl_low", "kl_high"]] == 0.0).all(axis=None)


def test_losses_are_those_of_the_masked_model_document_by_document() -> None:
    model, found = tiny(), curve()
    rows = cell(found.table, criterion="reap", scope="layer", depth="all", keep=0.5)
    gone = found.banned[int(rows.index[0])]
    nll, kl, count = 0.0, 0.0, 0
    for document in texts(0, 6):
        ids = torch.from_numpy(document)[None]
        clean = logits_with(model.hf, ids, None, None)[:-1]
        with without_experts(model, gone):
            pruned = logits_with(model.hf, ids, None, None)[:-1]
        nll -= float(pruned.gather(-1, ids[0, 1:, None]).sum())
        kl += float((clean.exp() * (clean - pruned)).sum())
        count += len(document) - 1
    assert rows["nll"].item() == pytest.approx(nll / count, abs=1e-5)
    assert rows["kl"].item() == pytest.approx(kl / count, abs=1e-5)
    assert rows["ppl"].item() == pytest.approx(np.exp(nll / count), rel=1e-5)
    assert rows["d_nll"].item() == pytest.approx(rows["nll"].item() - found.clean_nll, abs=1e-9)


def test_models_are_counted_and_compared_with_the_draws_of_their_cell() -> None:
    table = curve().table
    half = cell(table, keep=0.5, scope="layer", depth="all")
    assert (half["dropped"] == 4 * 4).all()  # four layers, half of eight experts
    assert (cell(table, keep=0.5, depth="early")["dropped"] == 2 * 4).all()  # two of four layers
    draws, ours = half[half["criterion"] == "random"], cell(half, criterion="ean")
    assert sorted(draws["draw"]) == [0, 1, 2]
    assert draws["vs_random"].isna().all()
    assert ours["vs_random"].item() == pytest.approx(ours["nll"].item() - draws["nll"].mean())
    assert ours["better_than_random"].item() == (draws["nll"] > ours["nll"].item()).mean()
    band = cell(curve().band(), keep=0.5, scope="layer", depth="all")
    assert band["mean"].item() == pytest.approx(draws["d_nll"].mean())
    assert len(draws["nll"].unique()) == 3
    inside = (table["low"] <= table["d_nll"]) & (table["d_nll"] <= table["high"])
    assert inside.mean() > 0.9


def test_pairs_are_differences_with_one_simultaneous_interval_a_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = curve()
    assert set(found.interchangeability()["verdict"]) == {"undecided"}  # too few documents
    monkeypatch.setattr("moeaudit.pruning.result.DOCUMENTS_FOR_VERDICT", 2)
    pairs = cell(found.pairs(), keep=0.5, scope="global", depth="all")
    nll = cell(found.table, keep=0.5, scope="global", depth="all").set_index("criterion")["nll"]
    assert len(pairs) == 10 * 9 // 2
    for row in pairs.itertuples():
        assert row.difference == pytest.approx(nll[row.a] - nll[row.b])
    summary = cell(found.interchangeability(), keep=0.5, scope="global", depth="all").iloc[0]
    assert summary["spread"] == pytest.approx(pairs["difference"].abs().max())
    assert summary["differ"] == ((pairs["low"] > 0) | (pairs["high"] < 0)).sum()
    nothing = found.interchangeability()
    assert set(nothing.loc[nothing["keep"] == 1.0, "verdict"]) == {"interchangeable"}


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_the_lowest_scores_go_and_no_layer_falls_below_top_k(scope: Any) -> None:
    model = tiny()
    layers, ties = list(model.anatomy.layers), tie_breaks(model, 0)
    # Layer 0 holds the lowest scores of all: a global ranking would empty it.
    scores = {(x.index, e): float(10 * x.index + e) for x in layers for e in range(8)}
    gone = choose(layers, scores, 0.5, scope, ties)
    assert sum(map(len, gone.values())) == 16
    if scope == "layer":
        assert gone == {index: (0, 1, 2, 3) for index in range(4)}
    else:  # five of eight may go (top-3), then the next layer's lowest
        assert gone == {0: (0, 1, 2, 3, 4), 1: (0, 1, 2, 3, 4), 2: (0, 1, 2, 3, 4), 3: (0,)}


def test_nulls_go_first_and_ties_do_not_favour_a_number() -> None:
    model = tiny()
    layers = list(model.anatomy.layers)
    scores = {(x.index, e): 1.0 for x in layers for e in range(8)}
    scores[2, 7] = float("nan")
    ties = [choose(layers, scores, 0.5, "layer", tie_breaks(model, seed)) for seed in range(8)]
    assert all(7 in gone[2] for gone in ties)
    assert len({gone[0] for gone in ties}) > 1
    assert choose(layers, scores, 0.5, "layer", tie_breaks(model, 3)) == ties[3]


def test_random_draws_are_nested_and_seeded() -> None:
    model = tiny()
    layers, ties = list(model.anatomy.layers), tie_breaks(model, 0)
    few, many = (choose(layers, random_scores(model, 1, 0), k, "layer", ties) for k in (0.75, 0.5))
    assert all(set(few[index]) < set(many[index]) for index in few)
    assert random_scores(model, 1, 0) == random_scores(model, 1, 0) != random_scores(model, 1, 1)


def test_harm_is_summed_over_an_experts_tokens_and_divided_by_all() -> None:
    model, held = tiny("deepseek_v2"), texts(50, 3)
    effects = ma.ablate(model, held)
    harm = causal_harm(model, tokens_for(model, held)).set_index(["layer", "expert"])["score"]
    tokens = sum(len(each) - 1 for each in held)
    mine = effects[(effects["layer"] == 1) & (effects["expert"] == 2)]["delta_nll"].sum()
    assert harm[1, 2] == pytest.approx(mine / tokens, abs=1e-7)
    assert len(harm) == 3 * 8  # layer 0 is dense


def test_router_norms_are_the_rows_of_the_router() -> None:
    model = tiny("gpt_oss")
    scores, _ = criterion_scores(
        model, tokens_for(model, texts(50, 2)), ["router_norm"], strict=True
    )
    router: Any = model.anatomy[1].router
    row = scores[(scores["layer"] == 1) & (scores["expert"] == 3)]["score"].item()
    assert row == pytest.approx(float(router.weight[3].detach().norm()))


def test_a_criterion_that_a_model_lacks_is_refused_by_name_and_noted_otherwise() -> None:
    model = tiny("flex_olmo")  # its norm after the experts hides what they add to the residual
    found = ma.prune_curve(model, texts(0, 3), keep=0.5, calibration=texts(50, 3), draws=2)
    assert "easy_ep" not in set(found.table["criterion"])
    assert any("easy_ep" in note for note in found.notes)
    with pytest.raises(InputError, match="easy_ep"):
        ma.prune_curve(model, texts(0, 3), ["easy_ep"], 0.5, calibration=texts(50, 3))


def test_thirds_of_the_depth_are_thirds_of_the_moe_layers() -> None:
    model = tiny("deepseek_v2")  # MoE layers 1, 2, 3
    found = [[x.index for x in depth_layers(model, d)] for d in ("early", "middle", "late")]
    assert found == [[1], [2], [3]]


def test_documents_on_both_sides_are_refused() -> None:
    both = [*texts(50, 3), texts(0, 1)[0]]
    with pytest.raises(InputError, match="1 of the 4 evaluated documents"):
        ma.prune_curve(tiny(), texts(0, 4), ["reap"], 0.5, calibration=both)
    with pytest.raises(InputError, match="calibration="):
        ma.prune_curve(tiny(), texts(0, 4), ["reap"], 0.5)


def test_too_few_experts_are_refused() -> None:
    with pytest.raises(InputError, match="leaves 2 of 8 experts .* need 3 each"):
        ma.prune_curve(tiny(), texts(0, 2), ["reap"], 0.25, calibration=texts(50, 2))
    with pytest.raises(InputError, match="at most 1"):
        ma.prune_curve(tiny(), texts(0, 2), ["reap"], 1.5, calibration=texts(50, 2))


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(InputError, match="taylor") as refused:
        ma.prune_curve(tiny(), texts(0, 2), ["taylor"], 0.5, calibration=texts(50, 2))
    assert all(name in str(refused.value) for name in KNOWN)
    with pytest.raises(InputError, match="scope='row'.*layer, global"):
        ma.prune_curve(tiny(), texts(0, 2), ["reap"], 0.5, calibration=texts(50, 2), scope="row")
    with pytest.raises(InputError, match="draws = 1"):
        ma.prune_curve(tiny(), texts(0, 2), ["random"], 0.5, calibration=texts(50, 2), draws=1)


def test_the_figure_has_a_panel_a_cell_and_the_table_shows() -> None:
    figure = curve().figure("kl")
    named = [trace.name for trace in figure.data if trace.showlegend]
    assert named.count("reap") == 1 and any("random" in name for name in named)
    assert len(figure.layout.annotations) == 4
    page = curve()._repr_html_()
    assert "causal_harm" in page and "undecided" in page
    with pytest.raises(InputError, match="d_nll"):
        curve().figure("accuracy")
