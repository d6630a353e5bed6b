"""Cross-fitted metrics: each token is scored by what other documents say, and by nothing else."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.errors import InputError
from moeaudit.stats import contrast, pooled
from moeaudit.stats.contrast.controls import document_folds


def harm_by_expert(effects, calls=None):
    """A metric measured on the effects themselves: the held-out causal score, made by hand."""

    def measure(documents):
        if calls is not None:
            calls.append(documents)
        part = effects[effects.document.isin(documents)]
        mean = part.groupby(["layer", "expert"]).delta_nll.mean().reset_index(name="value")
        return mean.assign(metric="harm")

    return measure


def test_every_fold_is_scored_by_the_others():
    effects, _ = census(documents=11, slope=0.2)
    calls = []
    table = contrast(effects, harm_by_expert(effects, calls), n_folds=4, seed=3, **QUICK)
    folds = document_folds(11, 4, 3)
    assert [sorted(c) for c in calls] == [list(np.flatnonzero(folds != f)) for f in range(4)]
    assert table.attrs["crossfitted"] == 4
    # The control heldout_causal is this very score through other code: same folds, same numbers.
    own, control = (table[table.metric == m].reset_index() for m in ("harm", "heldout_causal"))
    for column in ("n", "n_unscored", "mean_difference", "d_z", "p_flip"):
        pd.testing.assert_series_equal(own[column], control[column])
    both = pooled(effects, harm_by_expert(effects), n_folds=4, seed=3, **QUICK).set_index("metric")
    assert both.d_z["harm"] == pytest.approx(both.d_z["heldout_causal"], abs=1e-12)


def test_without_it_noise_predicts_itself():
    own, fitted = [], []
    for seed in range(6):
        effects, _ = census(documents=12, tokens=2, seed=seed)
        measure = harm_by_expert(effects)
        for metrics, found in ((measure(effects.document.unique()), own), (measure, fitted)):
            table = contrast(effects, metrics, controls=("random",), **QUICK)
            found += table[table.metric == "harm"].d_z.tolist()
    assert np.mean(own) > 0.25 and np.mean(fitted) < 0.15


def test_a_callable_that_ignores_the_documents_is_a_table():
    effects, metrics = census()
    a = contrast(effects, metrics, **QUICK)
    b = contrast(effects, lambda documents: metrics, **QUICK)
    pd.testing.assert_frame_equal(a, b)


def test_folds_that_do_not_fit_are_refused():
    effects, metrics = census()
    seen = []

    def changing(documents):
        seen.append(1)
        return metrics if len(seen) < 3 else metrics.replace({"metric": {"id": "other"}})

    with pytest.raises(InputError, match="fold 2 gives other, odd and fold 0 gives id, odd"):
        contrast(effects, changing, **QUICK)
    one, metrics = census(documents=1)
    with pytest.raises(InputError, match="at least 2 folds"):
        contrast(one, lambda documents: metrics, **QUICK)
