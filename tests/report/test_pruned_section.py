"""The audit's page beside a pruning in the run's folder."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from made.pruning_curve import curve_of

from moeaudit.errors import RunError
from moeaudit.report.audit.pruned import pruning_section
from moeaudit.report.pruning.folder import write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from dataclasses import replace

    place = tmp_path_factory.mktemp("pruned")
    scores = pd.DataFrame({"layer": [0], "expert": [0], "criterion": ["reap"], "score": [1.0]})
    curve = replace(curve_of({"reap": 0.05, "utilisation": 0.1}), scores=scores)
    write_folder(replace(curve, provenance={"weights_sha256": "a" * 64}), place / "pruning", {})
    return place


def test_its_answer_and_every_cost_stand_on_the_page(folder):
    section = pruning_section(folder, "a" * 64)
    assert section is not None
    record = json.loads((folder / "pruning" / "pruning.json").read_text())
    overview = pd.read_parquet(folder / "pruning" / "overview.parquet")
    assert section.count('<th scope="row"') == len(overview) == 2 * (1 + 1 + 2)
    assert record["answer"].split(":")[0].replace("'", "&#39;") in section
    reap = overview[(overview["criterion"] == "reap") & (overview["keep"] == 0.75)]
    assert f'data-value="{float(reap["d_nll"].iloc[0]):.9g}"' in section


def test_a_pruning_of_other_weights_is_refused_and_none_is_none(folder, tmp_path):
    with pytest.raises(RunError, match="written for other weights"):
        pruning_section(folder, "b" * 64)
    assert pruning_section(tmp_path, "a" * 64) is None
