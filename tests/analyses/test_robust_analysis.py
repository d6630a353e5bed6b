"""analyses/lab/calibrated_moe: its scores, its example, and a whole run on a toy task."""

from __future__ import annotations

import importlib
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from analyses.lab.calibrated_moe.classifiers.robust_training import Answers, RobustSettings
from analyses.lab.calibrated_moe.classifiers.soft_moe import PixelTrunk
from moeaudit.calibration import Predictions
from moeaudit.calibration.recalibrate.temperature.temperature import fit_temperature
from moeaudit.calibration.scores.points.binned import ece
from moeaudit.errors import InputError

HOME = "analyses.lab.calibrated_moe"
PARTS = ("scores", "figures", "page", "words", "rows", "recipe", "language")
MIXTURES = ("example", "tasks", "methods", "kept")


@pytest.fixture
def analysis() -> SimpleNamespace:
    parts = {p: importlib.import_module(f"{HOME}.{p}") for p in PARTS}
    parts |= {p: importlib.import_module(f"{HOME}.classifiers.{p}") for p in MIXTURES}
    return SimpleNamespace(main=importlib.import_module(f"{HOME}.__main__"), **parts)


def toy(analysis, quick: bool = True):
    """Three classes from six numbers; 20 clusters of 6 rows; one shifted stratum with noise."""

    def draw(seed: int):
        rng = np.random.default_rng(seed)

        def part(n: int):
            x = rng.random((n, 6)).astype(np.float32)
            return torch.from_numpy(x), torch.from_numpy(x[:, :3].argmax(1))

        return part(120), part(60)

    x, y = (a.repeat(2, *[1] * (a.ndim - 1)) for a in draw(99)[0])
    x[120:] += 0.5 * torch.randn(x[120:].shape, generator=torch.Generator().manual_seed(0))
    stratum = np.array(["even", "odd"] * 60 + ["noisy"] * 120)
    cluster = np.tile(np.repeat(np.arange(20), 6), 2)
    test = analysis.tasks.TestSet(
        x, y, cluster, np.arange(20) % 2, stratum, np.repeat([1.0, 0.0], 120), ("even", "odd"),
        ("noisy",),
    )  # fmt: skip
    settings = RobustSettings(epochs=3, batch=32, rate=1e-2)
    return analysis.tasks.Task(
        "toy", 3, lambda: PixelTrunk(6, 16), 16, settings, draw, test, "noisy"
    )


def test_the_example_holds_exactly(analysis):
    table = analysis.example.closed_form()
    assert table["as_expected"].all()
    gaps = table.set_index(["routing", "mix"])["gap"]
    assert gaps["soft", "before"] == 0 and gaps["soft", "all mass in the middle"] == 0.2
    assert (gaps["hard"] == 0).all()
    assert gaps["hard, premise broken", "before"] == 0
    assert gaps["hard, premise broken", "all mass in the middle"] == 0.15


def test_scores_are_those_of_the_calibration_room(analysis):
    test = toy(analysis).test
    logits = np.random.default_rng(0).normal(size=(240, 3))
    log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    sampler = analysis.scores.Sampler(test, draws=50)
    scores = sampler.score(log_probs)
    for stratum in ("even", "noisy"):
        rows, i = test.stratum == stratum, sampler.strata.index(stratum)
        p = Predictions.from_probabilities(np.exp(log_probs[rows]), test.labels.numpy()[rows])
        assert scores.value["ece"][i] == pytest.approx(ece(p), abs=1e-6)
        gap = (p.confidence - p.correct).mean()
        assert scores.value["gap"][i] == pytest.approx(gap, abs=1e-6)
        assert scores.value["accuracy"][i] == pytest.approx(p.correct.mean())
    worst = sampler.strata.index("worst seen")
    each = [sampler.strata.index(s) for s in ("even", "odd")]
    assert scores.value["ece"][worst] == scores.value["ece"][each].max()
    # A resample that happens to draw every cluster once is the data set itself.
    sampler.counts[0] = 1
    again = sampler.score(log_probs)
    for metric in ("gap", "ece", "nll"):
        keep = ~np.isnan(again.value[metric])
        np.testing.assert_allclose(
            again.draws[metric][keep, 0], again.value[metric][keep], atol=1e-5
        )


def test_intervals_add_the_two_variances(analysis):
    limits = analysis.scores.limits
    rng = np.random.default_rng(1)
    value, draws = np.array([0.1, 0.2, 0.3]), np.tile(rng.normal(0.2, 0.01, 2000), (3, 1))
    only_seeds = limits(value, np.full((3, 10), 0.2))
    assert only_seeds.value == pytest.approx(0.2)
    assert only_seeds.high - 0.2 == pytest.approx(4.3027 * 0.1 / np.sqrt(3), abs=1e-4)
    only_clusters = limits(np.full(3, 0.2), draws)
    assert only_clusters.high - 0.2 == pytest.approx(1.96 * draws[0].std(ddof=1), abs=1e-4)
    both = limits(value, draws)
    assert both.high - 0.2 == pytest.approx(
        np.hypot(only_seeds.high - 0.2, only_clusters.high - 0.2)
    )


def test_the_share_left_of_a_gain(analysis):
    rng = np.random.default_rng(2)

    def scores(level: float):
        noise = rng.normal(0, 1e-4, (4, 200))
        value = level + rng.normal(0, 1e-4, 4)
        return analysis.scores.Scores({"ece": value[:, None]}, {"ece": (level + noise)[:, None]})

    vanilla, robust, robust_t, vanilla_t = (scores(v) for v in (0.5, 0.3, 0.22, 0.24))
    share = analysis.scores.remaining((robust, vanilla), (robust_t, vanilla_t), "ece", 0)
    assert share.value == pytest.approx(0.1, abs=0.01) and share.low < 0.1 < share.high < 0.2
    gain = analysis.scores.difference(robust, vanilla, "ece", 0)
    assert analysis.rows.verdict(gain, share) == "mostly gone"
    none = analysis.scores.remaining((vanilla, robust), (robust_t, vanilla_t), "ece", 0)
    assert none is None
    loss = analysis.scores.difference(vanilla, robust, "ece", 0)
    assert analysis.rows.verdict(loss, none) == "worse as trained"


def test_expert_temperatures_are_applied_before_mixing(analysis):
    rng = np.random.default_rng(3)
    each = np.log(rng.dirichlet(np.ones(3), (50, 2)))
    routing = rng.dirichlet(np.ones(2), 50)
    mixture = np.log((routing[..., None] * np.exp(each)).sum(1))
    answers = Answers(mixture, routing, each)
    np.testing.assert_allclose(analysis.methods.remix(answers, np.ones(2)), mixture, atol=1e-12)
    flat = np.exp(analysis.methods.remix(answers, np.array([1e9, 1e9])))
    np.testing.assert_allclose(flat, 1 / 3, atol=1e-6)


def test_the_plain_loss_s_own_temperature_is_the_usual_one(analysis):
    rng = np.random.default_rng(4)
    each = np.log(rng.dirichlet(np.ones(3), (300, 2)))
    answers = Answers(each[:, 0], np.tile([1.0, 0.0], (300, 1)), each)
    p = np.exp(each[:, 0] / 1.7)
    labels = np.array([rng.choice(3, p=row / row.sum()) for row in p])
    usual = fit_temperature(answers.log_probs, labels).overall
    fitted = analysis.methods._objective_temperature
    plain = fitted(answers, torch.from_numpy(labels), RobustSettings(objective="vanilla"))
    assert plain == pytest.approx(usual, rel=5e-3)
    tilted = fitted(answers, torch.from_numpy(labels), RobustSettings(objective="tilted"))
    assert tilted > plain  # a worst case is best met with less confidence


def test_a_whole_run_is_written_and_the_same_twice(analysis, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(analysis.main, "TASKS", {"toy": lambda quick: toy(analysis, quick)})
    monkeypatch.setitem(analysis.words.WHAT, "toy", "A toy <task>.")
    config = tmp_path / "toy.toml"
    config.write_text("[toy]\nepochs = 8\nbatch = 32\nrate = 0.01\n", "utf-8")

    def run(out: str, *more: str) -> dict:
        args = ["--out", str(tmp_path / out), "--tasks", "toy", "--config", str(config), "--quick"]
        assert analysis.main.main([*args, *more]) == 0
        return json.loads((tmp_path / out / "result.json").read_text("utf-8"))

    found, again = run("a"), run("b")
    assert "settings and raises it in" in capsys.readouterr().out
    assert found["tasks"]["toy"]["seeds"] == 2 and found["recipe"]["toy"]["epochs"] == 3
    assert {k: v for k, v in found.items() if k != "minutes"} == {
        k: v for k, v in again.items() if k != "minutes"
    }
    assert {"advantage", "example"} == set(found["tables"])
    names = sorted(
        p.name for p in (tmp_path / "a").iterdir() if p.name not in ("result.json", "pool")
    )
    assert len(names) == 11 and {"index.html", "gaps-toy-soft.svg"} <= set(names)
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # Sixteen classifiers were kept, and a second analysis reads them: without one of them it is trained again.
    kept = sorted((tmp_path / "a" / "pool" / "calibrated-moe").iterdir())
    assert len(kept) == 2 * 4 * 2
    monkeypatch.setattr(analysis.methods, "train", lambda *_: pytest.fail("trained again"))
    run("c", "--pool", str(tmp_path / "a" / "pool"))
    assert (tmp_path / "a" / "scores.csv").read_bytes() == (
        tmp_path / "c" / "scores.csv"
    ).read_bytes()
    scores = pd.read_csv(tmp_path / "a" / "scores.csv")
    usual = scores[scores["metric"] == "ece"]
    assert (usual["low"] <= usual["value"]).all() and (usual["value"] <= usual["high"]).all()
    assert set(scores["training"]) == {"vanilla", "tilted", "filtered", "bounded"}
    assert set(scores["routing"]) == {"soft", "hard"}
    # Dividing by one temperature never changes an answer.
    acc = (
        scores[scores["metric"] == "accuracy"]
        .set_index(["routing", "training", "stratum", "recalibration"])["value"]
        .unstack()
    )
    np.testing.assert_array_equal(acc["none"], acc["one temperature"])
    page = (tmp_path / "a" / "index.html").read_text()
    assert (
        "<script" not in page and "A toy &lt;task&gt;." in page and "Read nothing into it" in page
    )
    assert page.count("<svg") == 4


def test_digits_are_fixed_in_the_test_set_and_drawn_anew_for_training(analysis):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra `analyses`)")
    task, again = analysis.tasks.digits(), analysis.tasks.digits()
    assert torch.equal(task.test.inputs, again.test.inputs)
    assert task.test.inputs.min() >= 0 and task.test.inputs.max() <= 1
    (x, y), (vx, _) = task.draw(0)
    assert len(x) + len(vx) + 500 == 1797 and not torch.equal(y, task.draw(1)[0][1])
    easy = task.test.inputs[torch.from_numpy(task.test.stratum == "easy")]
    seen = {row.numpy().tobytes() for row in easy}
    assert not any(row.numpy().tobytes() in seen for row in torch.cat([x, vx]))
    assert task.test.weight.sum() == pytest.approx(500)


def test_text_classes_and_contexts(analysis):
    classes = [analysis.tasks._class(c) for c in "aZ\u00e9 \n7,.'-\u20ac\u4e2d"]
    assert classes == [0, 25, 4, 26, 27, 28, 29, 30, 31, 32, 32, 33]
    symbols, labels = analysis.tasks._codes("abcdefghij" * 3)
    before, after, cluster = analysis.tasks.sample([(symbols, labels)], 5, np.random.default_rng(0))
    for row, label in zip(before.numpy(), after.numpy()):
        assert (row[-1] - ord("a") + 1) % 10 == label and (np.diff(row) % 10 == 1).all()
    assert cluster.tolist() == [0] * 5


def test_what_cannot_be_run_is_refused(analysis, tmp_path, capsys):
    def refused(*args: str) -> str:
        out = tmp_path / "x"
        assert analysis.main.main(["--out", str(out), *args]) == 2
        assert not any(out.iterdir())
        return capsys.readouterr().err

    assert "task 'images'" in refused("--tasks", "images")
    assert "at least 2 seeds" in refused("--tasks", "text", "--seeds", "1")
    config = tmp_path / "mine.toml"
    for words, error in (
        ("[digit]", "section of this recipe 'digit'.*Did you mean digits"),
        ("[digits]\nepoch = 3", "key of .digits. 'epoch'.*epochs"),
        ("[digits]\nepochs = 'many'", "a whole number was expected"),
        ("[digits]\nepochs = 0", "epochs is 0; at least 1"),
        ("[text]\nseeds = 1", r"\[text\] has 1 seed; at least 2"),
        ("[language]\narms = 'olmoe, olmo-none'", "arm 'olmo-none'.*olmoe-none"),
        ("[language]\narms = 'olmoe-none'", "to compare with 'olmoe'"),
        ("[digits", "cannot be read as a recipe"),
    ):
        config.write_text(words, "utf-8")
        assert re.search(error, refused("--config", str(config))), words
    test = toy(analysis).test
    with pytest.raises(InputError, match="at least two clusters"):
        analysis.scores.Sampler(replace(test, block=np.zeros(1)))
