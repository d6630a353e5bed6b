"""Only a table made by the declared analysis is confirmatory, and what differs is named."""

from __future__ import annotations

import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.errors import InputError
from moeaudit.stats import Spec, contrast, expert_harm, freeze, mark, pooled, regression, together
from moeaudit.stats.record.marking import differences
from moeaudit.store.files import read_table, write_table

BOTH = ("within-token contrast", "per-expert expected harm")


@pytest.fixture(scope="module")
def tables():
    return census()


def declared(tables, **changes) -> Spec:
    effects, metrics = tables
    asked = {"documents": effects.document.unique(), "sesoi": 0.03, **QUICK, **changes}
    return freeze(metrics, [1, 2], **asked)


def test_the_declared_analysis_is_confirmatory(tables):
    table = mark(contrast(*tables, sesoi=0.03, **QUICK), declared(tables))
    assert set(table.status) == {"confirmatory"} and table.differs.isna().all()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sesoi": 0.3}, ["sesoi: 0.03 was declared, 0.3 was used"]),
        (
            {"alpha": 0.5, "test": "paired_t", "decision": "bonferroni"},
            [
                "test: sign_flip was declared, paired_t was used",
                "decision: maxt was declared, bonferroni was used",
                "alpha: 0.05 was declared, 0.5 was used",
            ],
        ),
        ({"seed": 7}, ["seed: 0 was declared, 7 was used"]),
        ({"layers": [1]}, ["layers: 1, 2 was declared, 1 was used"]),
        ({"outcome": "kl"}, ["outcome: delta_nll was declared, kl was used"]),
        ({"n_flips": 100}, ["n_flips: 200 was declared, 100 was used"]),
        (
            {"controls": ("random",)},
            [
                "controls: random, random_score, gate_weight, heldout_causal was declared, random was used"
            ],
        ),
    ],
)
def test_another_analysis_is_exploratory_and_what_differs_is_named(tables, settings, named):
    asked = {"sesoi": 0.03, **QUICK, **settings}
    table = mark(contrast(*tables, **asked), declared(tables))
    assert set(table.status) == {"exploratory"}
    (why,) = table.differs.unique()
    assert why.split("; ") == named


def test_fewer_or_other_documents_are_exploratory(tables):
    effects, metrics = tables
    few = contrast(effects[effects.document < 10], metrics, sesoi=0.03, **QUICK)
    (why,) = mark(few, declared(tables)).differs.unique()
    assert "documents: 12 was declared, 10 was used" in why
    assert "data.documents" in why
    other = contrast(effects.assign(document=effects.document + 1), metrics, sesoi=0.03, **QUICK)
    (why,) = mark(other, declared(tables)).differs.unique()
    assert why.startswith("data.documents:")
    # A number alone can be declared, too; without one, more could have been added.
    table = contrast(effects, metrics, sesoi=0.03, **QUICK)
    assert set(mark(table, declared(tables, documents=12)).status) == {"confirmatory"}
    (why,) = mark(table, declared(tables, documents=None)).differs.unique()
    assert why.startswith("documents: their number was not declared")


def test_other_values_of_the_metrics_and_another_context_are_named(tables):
    effects, metrics = tables
    table = contrast(effects, metrics.assign(value=-metrics.value), sesoi=0.03, **QUICK)
    assert mark(table, declared(tables)).differs.str.startswith("data.metrics:").all()
    # The order of the rows is no difference.
    table = contrast(effects, metrics.sample(frac=1, random_state=1), sesoi=0.03, **QUICK)
    assert "data.metrics" not in str(list(mark(table, declared(tables)).differs))
    spec = declared(tables, context={"weights": "abc"})
    assert (
        mark(table, spec).differs.str.contains("context.weights: abc was declared, not said").all()
    )
    assert set(mark(table, spec, context={"weights": "abc"}).status) == {"confirmatory"}


def test_a_metric_that_was_not_declared_makes_another_family(tables):
    effects, metrics = tables
    more = pd.concat([metrics, metrics[metrics.metric == "id"].assign(metric="new", value=1.0)])
    more.loc[more.metric == "new", "value"] = range(16)
    table = mark(contrast(effects, more, sesoi=0.03, **QUICK), declared(tables))
    assert set(table.status) == {"exploratory"} and table.differs.str.startswith("metrics:").all()


def test_it_survives_parquet_and_being_put_together(tables, tmp_path):
    spec = declared(tables, questions=BOTH, outcomes=("delta_nll", "kl"))
    kw = {"sesoi": 0.03, **QUICK}
    parts = [
        contrast(*tables, **kw),
        contrast(*tables, outcome="kl", **{**kw, "sesoi": 0.3}),
        expert_harm(*tables, **QUICK),
    ]
    write_table(tmp_path / "t.parquet", together(parts))
    table = mark(read_table(tmp_path / "t.parquet"), spec)
    found = table.groupby(["question", "outcome"]).status.unique().map(list).to_dict()
    assert found == {
        (BOTH[0], "delta_nll"): ["confirmatory"],
        (BOTH[0], "kl"): ["exploratory"],
        (BOTH[1], "delta_nll"): ["confirmatory"],
    }
    # pandas' own concat loses how they were made, which is said rather than guessed.
    lost = mark(pd.concat(parts), spec)
    assert set(lost.status) == {"exploratory"} and lost.differs.str.contains("attrs").all()


def test_rank_correlations_have_a_bound_of_their_own(tables):
    spec = declared(tables, questions=BOTH)
    (why,) = mark(expert_harm(*tables, sesoi=0.2, **QUICK), spec).differs.unique()
    assert why == "sesoi: 0.3 was declared, 0.2 was used"
    (why,) = mark(expert_harm(*tables, per="token", **QUICK), spec).differs.unique()
    assert why == "per: active_token was declared, token was used"


def test_pooled_tables_and_regressions_say_how_they_were_made(tables):
    names = ("pooled over layers", "regression over all layers")
    spec = declared(tables, questions=names)
    for table in (
        pooled(*tables, sesoi=0.03, **QUICK),
        regression(*tables, models=("within_token",), sesoi=0.03, **QUICK),
    ):
        assert set(mark(table, spec).status) == {"confirmatory"}
        (why,) = mark(table, declared(tables, questions=names, alpha=0.01)).differs.unique()
        assert why == "alpha: 0.01 was declared, 0.05 was used"


def test_a_regression_on_fewer_tokens_than_the_default_is_exploratory(tables):
    slopes = ("regression over all layers",)
    table = regression(*tables, models=("mixed",), max_tokens=50, sesoi=0.03, **QUICK)
    table = mark(table, declared(tables, questions=slopes))
    assert set(table.status) == {"exploratory"}
    assert (table.differs == "max_tokens: 20000 was declared, 50 was used").all()


def test_a_bound_in_nats_is_frozen_and_compared(tables):
    spec = declared(tables, sesoi="0.01nats")
    assert Spec.from_json(spec.to_json()) == spec
    assert set(mark(contrast(*tables, sesoi="0.010 nats", **QUICK), spec).status) == {
        "confirmatory"
    }
    (why,) = mark(contrast(*tables, sesoi=0.01, **QUICK), spec).differs.unique()
    assert why == "sesoi: 0.01nats was declared, 0.01 was used"


def test_a_table_without_its_making_is_not_taken_on_trust(tables):
    spec = declared(tables)
    assert "how the table was made" in differences(spec, None, BOTH[0], "delta_nll")[0]
    with pytest.raises(InputError, match="needs the column question"):
        mark(pd.DataFrame({"metric": ["id"]}), spec)
