"""The analysis is frozen before effects are computed, and tables are held against it."""

import json

import pandas as pd
import pytest

from moeaudit.errors import RunError
from moeaudit.runs.analysis import declare, freeze_in
from moeaudit.stats import Spec


def test_every_test_of_a_run_was_declared(finished):
    assert set(finished.tests["status"]) == {"confirmatory"}
    analysis = finished.record["analysis"]
    spec = Spec.from_json(json.dumps(analysis["spec"]))
    assert spec.hash == analysis["hash"]
    assert set(spec.layers) == set(finished.spec.layers)
    assert set(spec.outcomes) == {"delta_nll", "kl"}


def test_it_was_frozen_before_the_census_ended(finished):
    frozen = pd.Timestamp(finished.record["analysis"]["frozen"])
    assert pd.Timestamp(finished.record["stages"]["metrics"]["done"]) <= frozen
    assert frozen <= pd.Timestamp(finished.record["stages"]["census"]["done"])


def test_a_declaration_is_not_changed_after_the_fact(finished):
    experts = finished.experts
    declared = declare(experts, finished.spec, finished.record["model"])
    record: dict = {}
    freeze_in(record, declared)
    first = dict(record["analysis"])
    freeze_in(record, declared)  # the same question again: nothing happens
    assert record["analysis"] == first
    fewer = experts[experts["metric"] != "utilisation"]
    with pytest.raises(RunError, match="differs in: metrics"):
        freeze_in(record, declare(fewer, finished.spec, finished.record["model"]))


def test_the_page_says_which_is_which(finished):
    from moeaudit.report.words.words import standing

    words = standing(finished)
    assert words["contrasts"].startswith("Confirmatory: all")
    assert finished.record["analysis"]["hash"][:12] in words["contrasts"]
    assert words["maps"].startswith("Exploratory")
