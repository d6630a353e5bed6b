"""JSON of commands that load a model, or show a run; the keys are those that the docs name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import synthetic, tiny_run
from made.command_line import call

DOCS = Path(__file__).parents[2] / "docs" / "command-line.md"


def read(text: str) -> dict:
    found = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    documented = DOCS.read_text("utf-8").partition("## JSON")[2].partition("\n## ")[0]
    assert not [key for key in found if f"`{key}`" not in documented], "a key that the docs lack"
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_run.save(tmp_path_factory.mktemp("json") / "tiny")


def test_inspect(model, monkeypatch, capfd):
    assert call(monkeypatch, "inspect", model, "--json") == 0
    found = read(capfd.readouterr().out)
    assert [row["layer"] for row in found["layers"]] == [0, 1, 2]
    assert {row["experts"] for row in found["layers"]} == {8}
    assert found["verification"]["hooks"] is None and found["dtype"] == "float32"


def test_screen(model, tmp_path, monkeypatch, capfd):
    text = tmp_path / "text.jsonl"
    text.write_text("\n".join(json.dumps({"text": each}) for each in tiny_run.TEXTS))
    asked = ["--documents", 4, "--tokens", 8, "--exact", 4, "--out", tmp_path / "new" / "e.parquet"]
    assert call(monkeypatch, "screen", model, "--text", text, *asked, "--json") == 0
    out, err = capfd.readouterr()
    found = read(out)
    assert found["estimates"] == 4 * 7 * 3 * 2 and Path(found["out"]).is_file()
    assert {row["layer"] for row in found["agreement"]} == {"all", "0", "1", "2"}
    assert "screen: 168 estimates" in err


def test_the_answer_of_an_audit(tmp_path, capfd):
    from moeaudit.cli.running.audit import tell
    from moeaudit.front import Run

    folder = synthetic.write_run(tmp_path / "run", documents=8, tokens=12, layers=3)
    run = Run.load(folder)
    tell("audit", run, folder / "report.html", True)
    found = read(capfd.readouterr().out)
    assert found["summary"]["rows"] == run.record["summary"]["rows"]
    assert found["question"] == run.spec.hash and found["alarm"] is None
    first = found["verdicts"][0]
    assert sum(first["delta_nll"]["verdicts"].values()) == first["delta_nll"]["cells"] == 3


def test_inspect_with_batch_mates(model, monkeypatch, capfd):
    assert call(monkeypatch, "inspect", model, "--batch-mates", "--json") == 0
    found = read(capfd.readouterr().out)["batch_mates"]
    assert found["independent"] is True and "does not depend on batch mates" in found["says"]


def test_cards_of_well_known_models(monkeypatch, capfd):
    assert call(monkeypatch, "models", "--all", "--json") == 0
    found = read(capfd.readouterr().out)
    assert {row["name"] for row in found["models"]} == {
        "tiny-olmoe",
        "tiny-qwen2-moe",
        "tiny-deepseek-v2",
    }
    card = next(row for row in found["cards"] if row["name"] == "Mixtral-8x7B")
    assert card["weights_sum"] == "1" and card["sizes"]["experts"] == 8 and card["cannot"]
    assert call(monkeypatch, "models", "--all") == 0
    text = " ".join(capfd.readouterr().out.split())
    assert "Qwen2.5-Max: not published. Audited: no; calibration of a file of its answers" in text
    assert call(monkeypatch, "models", "--json") == 0
    assert "cards" not in read(capfd.readouterr().out)
