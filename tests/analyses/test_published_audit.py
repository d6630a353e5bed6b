"""The published-audit script on a small folder in the released format, made here."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats


def comparison(rng, sample, shift):
    high, low = rng.standard_t(4, size=2) * 0.1
    batch, position = int(rng.integers(0, 4)), int(rng.integers(1, 90))
    return {
        "global_token_idx": (sample * 4 + batch) * 100 + position,
        "sample_idx": sample,
        "batch_idx": batch,
        "seq_position": position,
        "high_delta": high + shift,
        "low_delta": low,
    }


def layer_file(folder: Path, layer: int, *, seed: int, broken: bool = False) -> None:
    rng = np.random.default_rng(seed)
    results = {}
    for metric, shift in (("utilization_rate", 0.0), ("activation_norm", 0.3)):
        rows = [comparison(rng, int(rng.integers(0, 20)), shift) for _ in range(200)]
        high, low = (np.array([r[k] for r in rows]) for k in ("high_delta", "low_delta"))
        d = high - low
        published = {
            "mean_difference": d.mean(),
            "cohens_d": d.mean() / d.std(),
            "paired_t_pval": stats.ttest_rel(high, low).pvalue,
            "wilcoxon_pval": stats.wilcoxon(high, low).pvalue,
        }
        if broken:
            rows[3]["high_delta"] = float("nan")
        results[metric] = {"comparisons": rows, "statistics": published}
    content = {"layer_idx": layer, "metric_results": results}
    (folder / f"layer_{layer:02d}_results.json").write_text(json.dumps(content))


@pytest.fixture
def run():
    module = importlib.import_module("analyses.published_audit.__main__")
    return lambda data, out: module.main(["--data", str(data), "--out", str(out)])


def test_cells_are_reproduced_and_judged(tmp_path, run):
    data = tmp_path / "some-moe"
    data.mkdir()
    layer_file(data, 0, seed=1)
    layer_file(data, 9, seed=2, broken=True)
    assert run(data, tmp_path / "out") == 0
    cells = pd.read_csv(tmp_path / "out" / "cells.csv").set_index(["layer", "metric"])
    good, bad = cells.loc[0], cells.loc[9]
    assert set(good.reproduced) == {"yes"} and (good.largest_difference < 1e-12).all()
    assert set(good.model) == {"some-moe"} and set(good.n) == {200}
    assert good.verdict["activation_norm"] == "predictive"
    assert (good.p_maxt >= good.p_flip).all() and (good.n_documents <= 20).all()
    # A NaN in the file is neither dropped in silence nor reproduced.
    assert set(bad.n) == {199} and set(bad.n_dropped) == {1} and set(bad.reproduced) == {"no"}
    assert set(bad.verdict) == {"not estimable"} and bad.reason.str.contains("NaN").all()
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_cell_that_cannot_be_recomputed_is_not_reproduced(tmp_path, run):
    data = tmp_path / "some-moe"
    data.mkdir()
    layer_file(data, 0, seed=1)
    file = data / "layer_00_results.json"
    content = json.loads(file.read_text())
    content["metric_results"]["utilization_rate"]["comparisons"] = []
    del content["metric_results"]["activation_norm"]["statistics"]
    file.write_text(json.dumps(content))
    assert run(data, tmp_path / "out") == 0
    cells = pd.read_csv(tmp_path / "out" / "cells.csv").set_index("metric")
    assert cells.reproduced["utilization_rate"] == "no"
    assert cells.verdict["utilization_rate"] == "not estimable"
    assert cells.reproduced["activation_norm"] == "nothing published"


def test_one_layer_in_two_files_is_refused(tmp_path, run, capsys):
    layer_file(tmp_path, 3, seed=1)
    again = (tmp_path / "layer_03_results.json").read_text()
    (tmp_path / "layer_04_results.json").write_text(again)
    assert run(tmp_path, tmp_path / "out") == 2
    assert "layer 3, utilization_rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no layer_NN"), ("{}", "released format"), ("not json", "released format")],
)
def test_other_folders_are_refused_with_nothing_written(tmp_path, run, capsys, content, message):
    if content is not None:
        (tmp_path / "layer_00_results.json").write_text(content)
    assert run(tmp_path, tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def control_file(folder: Path, *, seed: int = 5, broken: bool = False) -> dict:
    """The control in its released layout: LAYER -> numbers and comparisons that name no text."""
    rng = np.random.default_rng(seed)
    content = {}
    for layer in (0, 9):
        high, low = 0.1 * rng.standard_t(4, size=(2, 200))
        high = high + 0.2
        d = high - low
        rows = [
            {"token_pos": int(rng.integers(1, 90)), "high_expert": 3, "low_expert": 7,
             "high_weight": 0.2, "low_weight": 0.1, "high_delta": a, "low_delta": b}
            for a, b in zip(high, low)
        ]  # fmt: skip
        content[str(layer)] = {
            "layer": layer,
            "n": 200,
            "mean_diff": d.mean(),
            "cohens_d": d.mean() / d.std(),
            "t_pval": stats.ttest_rel(high, low).pvalue,
            "wilcoxon_pval": stats.wilcoxon(high, low).pvalue,
            "comparisons": "none" if broken else rows,
        }
    name = "routing_weight_control_all_layers_full_deepseek.json"
    (folder / name).write_text(json.dumps(content))
    return content


def test_the_control_has_rows_of_its_own_and_moves_nothing_else(tmp_path, run, capsys):
    data = tmp_path / "deepseek"
    data.mkdir()
    layer_file(data, 0, seed=1)
    layer_file(data, 9, seed=2)
    assert run(data, tmp_path / "alone") == 0
    assert "no control" in capsys.readouterr().out
    content = control_file(data)
    summary = data / "routing_weight_control_all_layers_deepseek.json"
    summary.write_text(json.dumps({"0": {"layer": 0, "cohens_d": 1.0}}))  # no pairs: not read
    assert run(data, tmp_path / "both") == 0
    said = capsys.readouterr().out
    assert "control (the token's own gate weight): {'predictive': 2}" in said
    assert "cannot be dealt to others" in said and "no control" not in said
    cells = pd.read_csv(tmp_path / "both" / "cells.csv")
    control = cells[cells.role == "control"].set_index("layer")
    assert list(control.index) == [0, 9] and set(control.metric) == {"gate_weight"}
    assert set(control.reproduced) == {"yes"} and set(control.clustered_by) == {"token"}
    assert control.d_z[9] == pytest.approx(content["9"]["cohens_d"])
    assert set(control.family_size) == {2} and (control.n_documents == 200).all()
    rest = cells[cells.role == "metric"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, pd.read_csv(tmp_path / "alone" / "cells.csv"))
    assert set(rest.family_size) == {4}
    pooled = pd.read_csv(tmp_path / "both" / "pooled.csv")
    told = pooled[pooled.role == "control"]
    assert len(told) == 2 and told.reason.str.contains("which text").all()
    assert set(told.verdict) == {"not estimable"} and told.d_z.isna().all()
    page = (tmp_path / "both" / "index.html").read_text()
    assert "the token's own gate weight" in page and "gate_weight (control)" in page


SILENT = ("inconclusive", "not estimable", "too few documents to say")


def test_verdicts_are_for_these_experts_and_say_why(tmp_path, run):
    data = tmp_path / "some-moe"
    data.mkdir()
    layer_file(data, 0, seed=1)
    assert run(data, tmp_path / "out") == 0
    for name in ("cells", "pooled"):
        table = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        claimed = table[~table.verdict.isin([*SILENT])]
        assert len(claimed) and set(claimed.supports) == {"these experts"}
        assert table.no_experts.str.contains("two of a token's active experts").all()
    assert "For these experts, of 2 published cells" in (
        (tmp_path / "out" / "index.html").read_text()
    )


def test_a_control_of_another_format_is_refused(tmp_path, run, capsys):
    layer_file(tmp_path, 0, seed=1)
    control_file(tmp_path, broken=True)
    assert run(tmp_path, tmp_path / "out") == 2
    assert "released format of the control" in capsys.readouterr().err
