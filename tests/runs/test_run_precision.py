"""An audit of a checkpoint in half precision: measured once, recorded, said on the page, kept when it is resumed."""

from __future__ import annotations

import json
import re

import pytest
import torch
from made import tiny_run

import moeaudit as ma
from moeaudit.front import audit
from moeaudit.models.precision import chosen, sampled
from moeaudit.report.audit.rounding import drift_words
from moeaudit.report.page import render


@pytest.fixture
def half_folder(tiny_folder, tmp_path, monkeypatch):
    """The tiny model stored in bfloat16, on a device on which float16 is fast and keeps its effects."""
    folder = tmp_path / "half"
    built = ma.load(tiny_folder, dtype="bfloat16")
    built.hf.save_pretrained(folder)
    built.tokenizer.save_pretrained(folder)

    def timed(self, kind, layer):
        output = layer()
        self.seconds.setdefault(kind, []).append(1.0 if kind == torch.float32 else 0.1)
        return output

    monkeypatch.setattr(sampled._Pass, "_timed", timed)
    monkeypatch.setattr(chosen, "fast_halves", lambda _: [torch.bfloat16, torch.float16])
    return folder


def test_the_run_says_what_it_computes_in_and_what_that_costs(half_folder, tmp_path, monkeypatch):
    tried = dict.fromkeys(("bfloat16", "float16"), 0.1)
    asked = {"tokens": 12, "verify_rows": 1, "documents": 4, "layers": [1], "out": tmp_path / "run"}
    run = audit(half_folder, tiny_run.TEXTS, **asked)
    record = json.loads((run.folder / "audit.json").read_text())
    found = record["model"]["precision"]
    assert found["stored"] == "bfloat16" and tried.keys() < found["tried"].keys()
    assert run.spec.dtype == record["model"]["dtype"] == found["computes"] == "float16"
    off = found["tried"]["float16"]["off"]
    above = int((run.effects["delta_nll"].abs() > off).sum())
    assert "Effects in float16 are off by " in drift_words(run)
    assert (
        f"{above:,} of {len(run.effects):,}"
        in drift_words(run).rpartition("when the model was loaded")[2]
    )
    page = re.sub(r"\s+", " ", render(run))
    assert "stored in bfloat16 and computed in float16; on 127 removals beside float32" in page
    # Going on does not measure again: another day's clock might choose another kind.
    monkeypatch.setattr(chosen, "sampled", lambda *_: pytest.fail("measured again"))
    record["status"] = "running"
    (run.folder / "audit.json").write_text(json.dumps(record))
    again = audit(half_folder, tiny_run.TEXTS, **asked)
    assert again.spec.dtype == "float16" and again.record["model"]["precision"] == found
    assert again.tests.equals(run.tests)


def test_a_frozen_plan_says_the_kind_and_nothing_is_measured(tmp_path):
    from types import SimpleNamespace

    from moeaudit.runs.working.folder import measured_dtype

    planned = SimpleNamespace(spec=SimpleNamespace(dtype="float32"))
    assert measured_dtype("a/model", None, tmp_path, planned) == "float32"
    assert measured_dtype("a/model", "bfloat16", tmp_path, planned) == "bfloat16"  # then refused
    assert measured_dtype(object(), None, tmp_path, planned) is None
    assert measured_dtype("a/model", None, tmp_path) is None
