"""Domains may be called by any word, those that tables use inside too."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from made import tiny_run

import moeaudit as ma

WORDS = {"first": "all", "second": "nan", "third": "domain", "fourth": "none"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same texts audited under plain names of domains and under words of ours."""
    folder = tmp_path_factory.mktemp("names")
    model = tiny_run.save(folder / "model")
    found = []
    for rename in ({name: name for name in WORDS}, WORDS):
        lines = [
            json.dumps({"text": text, "domain": rename[list(WORDS)[number % 4]]}) + "\n"
            for number, text in enumerate(tiny_run.TEXTS)
        ]
        path = folder / f"{rename['first']}.jsonl"
        path.write_text("".join(lines))
        out = folder / f"run-{rename['first']}"
        found.append(
            ma.audit(str(model), path, out=out, documents=8, tokens=12, layers=[0], verify_rows=1,
                     verify_engines=("hooks",), metrics=["utilisation", "domain_mi"])
        )  # fmt: skip
    return found


def test_every_table_is_the_same_but_for_the_names(runs):
    plain, renamed = runs
    for name in ("documents", "tokens"):
        one, two = (pd.read_parquet(run.folder / f"{name}.parquet") for run in runs)
        one = one.assign(domain=one["domain"].astype(str).map(WORDS))
        two = two.assign(domain=two["domain"].astype(str))
        keys = [c for c in ("document", "position", "domain") if c in one.columns]
        one, two = (t.sort_values(keys).reset_index(drop=True) for t in (one, two))
        pd.testing.assert_frame_equal(one, two, check_like=True)
    same = ["metric", "layer", "value"]
    for metric in ("utilisation", "domain_mi"):
        a, b = (t[t["metric"] == metric][same].reset_index(drop=True) for t in
                (pd.read_parquet(run.folder / "experts.parquet") for run in runs))  # fmt: skip
        pd.testing.assert_frame_equal(a, b)
    assert set(renamed.domains["domain"].astype(str)) <= set(WORDS.values())
    assert len(renamed.domains) == len(plain.domains)


def test_the_page_of_such_a_run_is_written(runs, tmp_path):
    page = runs[1].report(tmp_path / "x.html").read_text()
    assert all(f">{name}<" in page or f"{name} " in page for name in WORDS.values())
    assert page.endswith("</html>\n")
