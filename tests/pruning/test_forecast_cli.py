"""`moeaudit prune --forecast`: instead of pruning and before it, and what is refused."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
from made import forecasts, tiny_moe, tiny_run
from made.command_line import call

from moeaudit.pruning.forecast import SIGNS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecast")
    (folder / "text").mkdir()
    for number, text in enumerate(tiny_run.TEXTS):
        (folder / "text" / f"{number}.txt").write_text(text, encoding="utf-8")
    forecasts.table().to_csv(folder / "models.csv", index=False)
    forecasts.table(recipes=1).to_csv(folder / "one.csv", index=False)
    forecasts.table().drop(columns="entropy").to_csv(folder / "lacks.csv", index=False)
    lines = [json.dumps({"text": text}) for text in tiny_run.TEXTS]
    (folder / "seven.jsonl").write_text("\n".join(lines[:7]))
    (folder / "twelve.jsonl").write_text("\n".join(lines[:12]))
    tiny_run.save(folder / "tiny")
    return folder


def test_a_forecast_alone_prunes_nothing(place, monkeypatch, capsys):
    line = ["prune", place / "tiny", "--text", place / "text", "--table", place / "models.csv"]
    monkeypatch.setattr("moeaudit.pruning.curve.evaluate", None)  # would be called
    assert call(monkeypatch, *line, "--forecast", "--documents", 8, "--tokens", 10) == 0
    said, told = capsys.readouterr()
    assert "is expected to lose" in said and "Nothing was pruned." in said
    assert all(name in said for name in SIGNS) and "which needs no census" in said
    assert "knows no more than the mean" in said and "How far to trust it at 25%" in said
    assert "removals: " in told and "rows in" in told
    assert call(monkeypatch, *line, "--forecast", "--documents", 8, "--tokens", 10, "--json") == 0
    out = capsys.readouterr().out
    found = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert found["curve"] is None and found["folder"] is None and found["margin"] is None
    assert [row["keep"] for row in found["forecast"]["loss"]] == [0.75, 0.5]
    assert [row["sign"] for row in found["forecast"]["signs"]] == list(SIGNS)
    assert found["forecast"]["recipes"] == 10 and found["forecast"]["models"] == 30
    assert found["headline"] in said and all(each in said for each in found["sentences"])
    page = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text("utf-8")
    assert not [key for key in found if f"`{key}`" not in page], "a key that the docs lack"


def test_a_forecast_before_pruning_stands_beside_what_was_measured(
    place, tmp_path, monkeypatch, capsys
):
    line = ["prune", place / "tiny", "--text", place / "text", "--forecast", "--criteria", "reap"]
    line += ["--keep", "0.75,0.5", "--draws", 0, "--documents", 8, "--tokens", 10]
    line += ["--out", tmp_path / "out", "--json"]
    known = place / "record.csv"
    known.write_bytes((place / "models.csv").read_bytes())
    about = forecasts.record(known.read_bytes())
    known.with_suffix(".json").write_text(json.dumps(about))
    assert call(monkeypatch, *line, "--table", known) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["forecast"]["criterion"] == "reap" and found["curve"]
    table = pd.read_csv(tmp_path / "out" / "forecast.csv")
    costs = pd.read_csv(tmp_path / "out" / "costs.csv")
    assert table["measured"].tolist() == costs["d_nll"].tolist()
    assert set(pd.read_csv(tmp_path / "out" / "signs.csv")["sign"]) == set(SIGNS)
    record = json.loads((tmp_path / "out" / "pruning.json").read_text())
    assert record["forecast"]["sentences"] == found["forecast"]["sentences"]
    assert record["asked"]["forecast"] and record["asked"]["table"] == str(known)
    page = (tmp_path / "out" / "pruning.html").read_text()
    assert "Was it foreseen?" in page and "Forecast beside what was measured" in page
    said = html.unescape(page)
    assert all(sentence in said for sentence in found["forecast"]["sentences"])
    assert not re.search(r"\bnan\b|None", re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.S))


WRONG = [
    (["--forecast", "--table", "none.csv"], "cannot be read at 'none.csv' (No such file"),
    (["--forecast", "--table", "one.csv"], "models of 1 recipe; 5 or more are needed"),
    (["--forecast", "--table", "lacks.csv"], "lacks entropy (lacks.csv)"),
    (["--forecast", "--table", "text"], "Is a directory"),
    (["--table", "models.csv"], "Give --forecast as well"),
    (["--forecast", "--documents", "7"], "--documents is 7; 8 or more is needed: a forecast"),
    (
        ["--forecast", "--text", "seven.jsonl"],
        "--text has 7 distinct documents; a forecast reads 8",
    ),
    (
        ["--forecast", "--draws", "0", "--text", "twelve.jsonl"],
        "but for the half on which pruning is measured, has 6 distinct documents",
    ),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[" ".join(line) for line, _ in WRONG])
def test_what_was_typed_is_checked_before_a_model_is_loaded(line, said, place, monkeypatch, capsys):
    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(sys.modules["moeaudit.cli.running.prune"], "load_model", load)
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    table = [] if "--table" in line or "--forecast" not in line else ["--table", "models.csv"]
    assert call(monkeypatch, "prune", "tiny-olmoe", *line, *table) == 2
    out, err = capsys.readouterr()
    assert said in err and err.count("\n") == 1 and not out
    assert sorted(place.rglob("*")) == before


def test_models_without_experts_or_with_one_active_are_refused(
    place, tmp_path, monkeypatch, capsys
):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=2048, num_attention_heads=2, **sizes)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "dense")
    tiny_moe.build("olmoe", num_experts_per_tok=1).save_pretrained(tmp_path / "one")
    for file in (place / "tiny").glob("tokenizer*"):
        for name in ("dense", "one"):
            (tmp_path / name / file.name).write_bytes(file.read_bytes())
    line = ["--forecast", "--table", place / "models.csv"]
    capsys.readouterr()
    for name, said in (
        ("dense", "is not a Mixture-of-Experts model"),
        ("one", "one active expert"),
    ):
        assert call(monkeypatch, "prune", tmp_path / name, *line) == 2
        out, err = capsys.readouterr()
        assert said in err and not out
