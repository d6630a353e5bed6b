"""The data of the map, the cards and the tokens: the numbers of the tables, and null with a reason."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made import synthetic
from made.shards import Cut

from moeaudit.report.explore import data
from moeaudit.report.explore.data import gathered
from moeaudit.report.explore.sample import sample, whole_documents
from moeaudit.report.explore.source import Source
from moeaudit.stats.clustered import Clustered


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    return synthetic.tables(documents=12, tokens=30)


@pytest.fixture(scope="module")
def source(tables) -> Source:
    effects = tables["effects"].assign(top=np.arange(len(tables["effects"])) % 12)
    routing = tables["routing"].assign(next=(tables["routing"]["expert"] + 1) % 16)
    return Source(
        model="made up",
        operator="zero",
        effects=effects,
        tokens=tables["tokens"].assign(top=3),
        experts=dict.fromkeys(range(6), 16),
        columns=tuple(effects.columns),
        routing=routing,
        routing_columns=tuple(routing.columns),
        metrics=tables["experts"],
        strings=dict(enumerate(synthetic.WORDS)),
    )


@pytest.fixture(scope="module")
def found(source):
    return gathered(source)


def test_cells_have_the_means_and_limits_of_the_report(found, source):
    cells = pd.DataFrame(found["cells"])
    assert len(cells) == 6 * 16
    values = ["delta_nll", "kl", "flip", "weight"]
    by_document = Clustered(["layer", "expert"], values, level=0.95, limits="adjusted")
    means = by_document(source.effects)
    both = cells.merge(means, on=["layer", "expert"], how="left", suffixes=("", "_table"))
    never = both["n"] == 0
    assert never.sum() == 1 and both.loc[never, ["delta_nll", "kl_low", "flip"]].isna().all(
        axis=None
    )
    for name in (
        "delta_nll",
        "delta_nll_low",
        "delta_nll_high",
        "kl",
        "kl_low",
        "kl_high",
        "weight",
    ):
        assert both.loc[~never, name].to_numpy() == pytest.approx(
            both.loc[~never, f"{name}_table"].to_numpy(), rel=1e-3, abs=1e-9
        )
    assert both["use"].groupby(both["layer"]).sum().to_numpy() == pytest.approx(1, rel=1e-3)
    order = cells[cells["layer"] == 1]["delta_nll"].rank(ascending=False, method="min")
    assert found["harm_rank"][16:32] == order.astype(int).tolist()


def test_domains_are_means_over_their_own_documents(found, source):
    part = pd.DataFrame(found["by_domain"])
    assert part["n"].sum() == len(source.effects)
    one = part[(part["cell"] == 17) & (part["domain"] == 0)].iloc[0]
    domain = source.tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)
    mine = source.effects[source.effects["document"].map(domain) == found["domains"][0]]
    mine = mine[(mine["layer"] == 1) & (mine["expert"] == 1)]
    assert (one["n"], one["delta_nll"]) == (
        len(mine),
        pytest.approx(mine["delta_nll"].mean(), rel=1e-2),
    )


def test_who_stands_beside_an_expert_and_who_is_next(found, source):
    layer = source.routing[source.routing["layer"] == 4]
    chosen = layer.groupby(["document", "position"])["expert"].agg(set)
    for expert in (0, 3, 15):
        with_it = [s for s in chosen if expert in s]
        for other, share, lift in found["beside"][4 * 16 + expert]:
            both = np.mean([other in s for s in with_it])
            assert share == pytest.approx(both, rel=1e-3)
            assert lift == pytest.approx(both / np.mean([other in s for s in chosen]), rel=1e-3)
        assert found["replaced"][4 * 16 + expert] == [[(expert + 1) % 16, 1]]


def test_contexts_are_the_strongest_rows_of_each_expert(found, source):
    cell = source.effects[(source.effects["layer"] == 3) & (source.effects["expert"] == 7)]
    sizes = cell["delta_nll"].abs().sort_values(ascending=False)
    strong, weak = (found["contexts"][3 * 16 + 7][side] for side in ("strong", "weak"))
    assert [abs(r["delta_nll"]) for r in strong] == pytest.approx(sizes.head(6).tolist(), rel=1e-3)
    assert [abs(r["delta_nll"]) for r in weak] == pytest.approx(
        sizes.tail(3)[::-1].tolist(), rel=1e-3
    )
    first = strong[0]
    text = source.tokens[source.tokens["document"] == first["d"]].set_index("position")["text"]
    assert (
        first["token"] == text[first["p"]] and first["before"] == "".join(text[: first["p"]])[-48:]
    )
    assert first["next"] == text.get(first["p"] + 1, first["next"])
    assert first["top"] == synthetic.WORDS[3] and first["edited"] in synthetic.WORDS


def test_documents_show_every_row_of_their_tokens(found, source):
    assert found["rows"] == len(source.effects)
    assert found["rows_shown"] == len(source.effects)  # a small run is shown whole
    one = found["documents"][5]
    rows = source.effects[
        (source.effects["document"] == one["document"]) & (source.effects["layer"] == 2)
    ]
    assert one["layers"]["2"]["expert"] == rows["expert"].to_numpy().reshape(-1, 4).tolist()
    assert np.ravel(one["layers"]["2"]["delta_nll"]) == pytest.approx(
        rows["delta_nll"].to_numpy(), rel=1e-2
    )
    tops = [found["strings"][i] for i in np.ravel(one["layers"]["2"]["top"])]
    assert tops == [synthetic.WORDS[i] for i in rows["top"]]
    assert len(one["text"]) == len(one["positions"]) == len(one["nll"]) == 30


def test_shards_give_the_same_as_one_table(found, source):
    cut = replace(source, effects=Cut(source.effects, 5), routing=Cut(source.routing, 4))
    cut.effects.rows = len(source.effects)
    assert gathered(cut) == found


def test_shards_of_an_earlier_version_have_nulls_of_their_own(source):
    """A run that was begun before predictions were recorded, and finished after."""
    mixed = Cut(source.effects, 3)
    mixed.parts[0] = mixed.parts[0].drop(columns="top")
    mixed.frames = lambda columns=None: (
        part[[c for c in columns if c in part]] for part in mixed.parts
    )
    mixed.rows = len(source.effects)
    found = gathered(replace(source, effects=mixed))
    old = set(mixed.parts[0]["document"])
    for one in found["documents"]:
        tops = {top for layer in one["layers"].values() for row in layer["top"] for top in row}
        assert (tops == {None}) == (one["document"] in old)


def test_a_large_run_is_sampled_by_domain_and_says_so(source):
    drawn = sample(source.tokens, len(source.effects), 0, most=2_880)
    assert drawn == sample(source.tokens, len(source.effects), 0, most=2_880)
    domain = source.tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)
    assert sorted(domain[list(drawn.shown)]) == sorted(set(domain))  # one of each
    assert "4 of 12 documents are shown" in drawn.said and "seed 0" in drawn.said
    assert drawn.shown != sample(source.tokens, len(source.effects), 1, most=2_880).shown
    some = gathered(source, rows=2_880)
    assert some["rows_shown"] <= 2_880 < some["rows"] and len(some["documents"]) == 4


def test_token_identity_of_a_large_run_is_read_in_documents_of_every_domain(source, monkeypatch):
    every = source.tokens["document"].nunique()
    assert "What the token explains" not in gathered(source)["sample"]
    module = importlib.import_module("moeaudit.report.explore.data")
    monkeypatch.setattr(module, "MOST_ROWS", len(source.effects) // 2)
    part = gathered(source)
    assert f"What the token explains is read in {every // 2} of {every} documents" in part["sample"]
    read = whole_documents(source.tokens, len(source.effects), 0, len(source.effects) // 2)
    assert len(read) == every // 2 and sorted(read) == list(read)
    domain = source.tokens.drop_duplicates("document").set_index("document")["domain"].astype(str)
    assert set(domain[read]) == set(domain), "the first documents would be of the first domains"
    # However the run is cut into shards, the same documents are read.
    cut = replace(source, effects=Cut(source.effects, 5), routing=Cut(source.routing, 4))
    cut.effects.rows = len(source.effects)
    assert json.dumps(gathered(cut)["identity"]) == json.dumps(part["identity"])


def test_what_an_old_run_lacks_is_null_with_a_reason(run):
    found = data(run)
    json.dumps(found, allow_nan=False)
    assert found["absent"] is None and found["model"] == run.spec.model
    assert found["replaced"] is None and "before that was recorded" in found["replaced_why"]
    assert "before that was recorded" in found["top_why"]
    assert all(c["top"] is None for d in found["documents"] for c in d["layers"].values())


def test_rows_that_are_about_no_expert_have_no_cards(run, monkeypatch):
    monkeypatch.setattr(
        run, "spec", replace(run.spec, question=replace(run.question, per_expert=False))
    )
    found = data(run)
    assert "not about one active expert each" in found["absent"] and "cells" not in found


def test_a_sample_without_a_routing_table_does_not_guess(source):
    found = gathered(replace(source, routing=None, share=0.3))
    assert found["beside"] is None and "sample" in found["beside_why"]
    assert set(found["cells"]["use"]) == {None}
