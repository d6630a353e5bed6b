"""A calibration audit: the tables are those of the models themselves, paired and on other documents."""

from __future__ import annotations

import html
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from made import tiny_run

import moeaudit as ma
from moeaudit.calibration import Predictions, calibration_scores
from moeaudit.causal.operators.whole.without import Without
from moeaudit.causal.walk.forwards import applied
from moeaudit.errors import InputError, RunError
from moeaudit.front import calibration_audit
from moeaudit.runs.calibration.tables import BETWEEN, IN, SHIFTED
from moeaudit.text import Corpus, Document

GONE = {0: [0, 3], 2: [1]}


def corpus(first: int, n: int, domains: tuple[str, ...]) -> Corpus:
    lines = [
        f"{k}. {tiny_run.SENTENCES[k % len(tiny_run.SENTENCES)]}" for k in range(first, first + n)
    ]
    return Corpus([Document(t, domains[i % len(domains)]) for i, t in enumerate(lines)])


@pytest.fixture(scope="module")
def sides():
    return (
        corpus(0, 14, ("prose", "<code>")),
        corpus(100, 12, ("verse",)),
        corpus(200, 12, ("prose",)),
    )


@pytest.fixture(scope="module")
def done(tiny_model, sides):
    home, away, fit = sides
    edits = {"dropped": Without(GONE), "itself": tiny_model}
    return calibration_audit(tiny_model, home, away, edits, fit=fit, draws=40)


def test_clean_scores_are_those_of_a_capture(done, tiny_model, sides):
    tokens = ma.capture(tiny_model, sides[0]).tokens
    p = Predictions.of(
        tokens["confidence"], tokens["correct"], tokens["domain"], tokens["document"].astype(str)
    )
    want = calibration_scores(p, draws=40).set_index(["stratum", "score"])["value"]
    s = done.tables["scores"]
    mine = s[(s["condition"] == "clean") & (s["side"] == IN) & (s["method"] == "none")]
    mine = mine.set_index(["stratum", "score"])["value"]
    assert {"all", "prose", "<code>"} == set(mine.index.get_level_values(0))
    for key in (("all", "gap"), ("all", "ece_mass_l1"), ("prose", "accuracy")):
        assert mine[key] == pytest.approx(want[key], abs=1e-6)


def test_the_edited_loss_is_that_of_a_forward_without_the_experts(done, tiny_model, sides):
    total, n = 0.0, 0
    edit = Without(GONE)
    for document in sides[1]:
        ids = torch.tensor([tiny_model.tokenizer(document.text)["input_ids"]])
        with applied(edit, tiny_model), torch.no_grad():
            log_p = tiny_model.hf(input_ids=ids).logits[0].double().log_softmax(-1)
        total -= float(log_p[:-1].gather(1, ids[0, 1:, None]).sum())
        n += ids.shape[1] - 1
    row = done.difference("dropped", "loss", SHIFTED)
    assert row["n"] == n and row["edited"] == pytest.approx(total / n, abs=1e-5)
    assert row["difference"] == pytest.approx(row["edited"] - row["clean"], abs=1e-9)
    assert row["low"] <= row["difference"] <= row["high"] and row["difference"] != 0


def test_a_model_beside_itself_differs_by_nothing(done):
    d = done.tables["differences"]
    same = d[d["condition"] == "itself"]
    assert len(same) and (same["difference"].abs() < 1e-12).all()
    assert same.loc[same["low"].notna(), ["low", "high"]].abs().to_numpy().max() < 1e-12


def test_the_sides_are_subtracted(done):
    for score in ("gap", "ece_mass_l1", "loss"):
        home, away = (done.difference("dropped", score, side) for side in (IN, SHIFTED))
        both = done.difference("dropped", score, BETWEEN)
        assert both["difference"] == pytest.approx(away["difference"] - home["difference"])
        assert both["documents"] == home["documents"] + away["documents"]


def test_the_temperature_comes_from_the_fit_documents(done, tiny_model, sides):
    """The reported temperature has the least loss on the fit documents, by whole forwards."""
    logits, targets = [], []
    for document in sides[2]:
        ids = torch.tensor([tiny_model.tokenizer(document.text)["input_ids"]])
        with torch.no_grad():
            logits.append(tiny_model.hf(input_ids=ids).logits[0, :-1].double())
        targets.append(ids[0, 1:])
    z, y = torch.cat(logits), torch.cat(targets)

    def loss(t):
        return float(-(z / t).log_softmax(-1).gather(1, y[:, None]).mean())

    t = done.tables["temperatures"].set_index("condition").loc["clean"]
    assert t["nll_after"] == pytest.approx(loss(t["temperature"]), abs=1e-5)
    assert t["nll_before"] == pytest.approx(loss(1.0), abs=1e-5)
    inside = 0.26 < t["temperature"] < 3.9
    for other in (0.97, 1.03) if inside else (1.0,):
        assert loss(t["temperature"]) <= loss(t["temperature"] * other) + 1e-9


def test_routing_tables_name_every_layer(done, tiny_model):
    routing = done.tables["routing"]
    layers = {f"layer {layer.index} top-1" for layer in tiny_model.anatomy.layers}
    assert layers <= set(routing["grouping"])
    assert set(routing["method"]) == {"none", "temperature"}
    tokens = done.record["tokens"][IN]
    whole = routing[(routing["bin"] == "all") & (routing["method"] == "none")]
    assert (whole.groupby("grouping")["n"].sum() == tokens).all()
    assert done.tables["worst"]["worst"].notna().all()


def test_written_read_and_shown(done, tmp_path):
    out = done.write(tmp_path / "audit")
    record = json.loads((out / "calibration.json").read_text("utf-8"))
    assert record["conditions"] == ["clean", "dropped", "itself"]
    back = pd.read_parquet(out / "calibration" / "differences.parquet")
    assert len(back) == len(done.tables["differences"])
    page = done.report(tmp_path / "page.html").read_text("utf-8")
    assert page.count("<script") == 1 and "&lt;code&gt;" in page and "<code>" not in page
    assert "What each edit did" in page and "Which experts are over-confident" in page
    assert "dropped" in done._repr_html_() and "dropped" in repr(done)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="Nothing was written"):
        done.write(tmp_path / "other")


def test_refusals(tiny_model, sides):
    home, away, fit = sides
    with pytest.raises(InputError, match="both in 'in domain' and in 'shifted'"):
        calibration_audit(tiny_model, home, home, fit=fit)
    with pytest.raises(InputError, match="edits single positions"):
        calibration_audit(tiny_model, home, away, [ma.Zero()], fit=fit, routing=False, draws=20)
    with pytest.raises(InputError, match="at least 10"):
        calibration_audit(tiny_model, home, corpus(300, 4, ("few",)), fit=fit)
    with pytest.raises(InputError, match="called"):
        calibration_audit(tiny_model, home, away, [Without(GONE), Without(GONE)], fit=fit)


def test_without_fit_documents_a_third_is_set_aside(tiny_model):
    audit = calibration_audit(
        tiny_model, corpus(0, 40, ("a",)), corpus(100, 12, ("b",)), routing=False, draws=20
    )
    documents = audit.record["documents"]
    assert documents["fit"] + documents[IN] == 40 and 5 < documents["fit"] < 25
    assert "set aside" in audit.record["notes"][0] or "fitted on" in audit.record["notes"][0]
    assert np.isfinite(audit.tables["temperatures"]["temperature"]).all()


def test_the_page_of_a_run_has_the_calibration_audit_of_its_folder(done, finished, tmp_path):
    from moeaudit.front import Run

    without = finished.report(tmp_path / "without.html").read_text("utf-8")
    assert 'id="calibration"' not in without and 'href="#calibration"' not in without
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    done.write(folder)
    page = Run.load(folder).report(tmp_path / "with.html").read_text("utf-8")
    assert 'id="calibration"' in page and 'href="#calibration"' in page
    for sentence in done.sentences():
        assert sentence in html.unescape(page)
    assert ">nan<" not in page
    record = json.loads((folder / "calibration.json").read_text("utf-8"))
    record["provenance"]["weights_sha256"] = "0" * 64
    (folder / "calibration.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(RunError, match="other weights"):
        Run.load(folder).report(tmp_path / "other.html")
