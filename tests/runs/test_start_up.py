"""Commands import what they use: a page, a look at a model or a finished folder need few of the libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made import tiny_run

# In one process, in this order: each command does its work, then says which of these came with it.
LIBRARIES = [
    "torch",
    "transformers",
    "nnsight",
    "transformer_lens",
    "plotly",
    "statsmodels",
    "wandb",
    "ray",
]
CODE = """
import json, sys
from moeaudit import cli
from moeaudit.front import audit

sys.path.insert(0, {tests!r})
from made.tiny_run import TEXTS

def command(*words):
    sys.argv = ["moeaudit", *words]
    try:
        cli.main()
    except SystemExit as stop:
        assert not stop.code, stop.code

found, known = {{}}, set()

def new(name):
    there = set({libraries!r}) & set(sys.modules)
    found[name] = sorted(there - known)
    known.update(there)

command("report", {run!r}, "--out", {page!r})
new("report")
command("inspect", {model!r})
new("inspect")
audit({model!r}, TEXTS, out={run!r}, tokens=12, verify_rows=2)
new("audit")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def imported(finished, tiny_folder, tmp_path_factory) -> dict[str, list[str]]:
    code = CODE.format(
        tests=str(Path(tiny_run.__file__).parents[1]),
        libraries=LIBRARIES,
        run=str(finished.folder),
        model=str(tiny_folder),
        page=str(tmp_path_factory.mktemp("page") / "p.html"),
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_page_needs_no_model(imported):
    assert imported["report"] == ["plotly"]


def test_looking_at_a_model_needs_torch_and_transformers_alone(imported):
    assert imported["inspect"] == ["torch", "transformers"]


def test_a_finished_audit_is_shown_without_the_libraries_that_check_it(imported):
    assert imported["audit"] == []
