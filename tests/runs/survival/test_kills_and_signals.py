"""Processes that end at any moment: SIGKILL, Ctrl-C, a scheduler's SIGTERM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made import tiny_run

from moeaudit.store.shards import Shards

ROOT = Path(__file__).parents[3]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in tiny_run.TEXTS))
    return path


def test_tables_after_three_kills_at_random_moments_are_those_of_a_run_left_alone(
    tiny_folder, texts, tmp_path
):
    figures = tmp_path / "figures.json"
    command = [
        *(sys.executable, "benchmarks/survival.py", "--model", tiny_folder, "--text", texts),
        *("--documents", "10", "--tokens", "6", "--layers", "0", "2", "--kills", "3"),
        *("--seed", "1", "--json", figures),
    ]
    subprocess.run(list(map(str, command)), cwd=ROOT, env=ENV, check=True)
    found = json.loads(figures.read_text())
    assert found["kills"] == 3 == sum(found["by_stage"].values())
    assert found["finished"] >= 1 and found["different"] == 0 and found["files"] > 10


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by the system (SIGTERM)")],
)
def test_a_signal_in_the_census_is_a_sentence_and_finished_shards_are_kept(
    tiny_folder, texts, tmp_path, number, status, word
):
    out = tmp_path / "run"
    code = "from moeaudit.cli import main; main()"
    options = ["--text", texts, "--out", out, "--tokens", "32", "--verify-rows", "1"]
    process = subprocess.Popen(
        list(map(str, [sys.executable, "-c", code, "audit", tiny_folder, *options])),
        cwd=tmp_path,
        env=ENV,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # A shell that started the tests in the background has told them to ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 300
    while not (out / "effects" / "manifest.json").exists() and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(number)
    said, wrong = process.communicate(timeout=300)
    assert process.returncode == status, wrong
    assert f"moeaudit: {word}. What was finished is kept in {out}" in wrong
    assert "Traceback" not in wrong and said == ""
    assert json.loads((out / "audit.json").read_text())["status"] == "running"
    assert Shards(out / "effects").has(0)
    assert not list(out.rglob(".writing-*")) and not (out / ".lock").exists()
