"""Covariate weights, label marginals and conformal coverage under shifts that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moeaudit.calibration import Predictions
from moeaudit.calibration.shift.conformal import conformal_sets, conformal_threshold, scores
from moeaudit.calibration.shift.label_shift import bbse, em_label_shift
from moeaudit.calibration.shift.shift import covariate_shift
from moeaudit.errors import InputError


def test_gaussian_density_ratio_comes_back():
    rng = np.random.default_rng(0)
    x, z = rng.normal(0, 1, size=20_000), rng.normal(0.7, 1, size=20_000)
    found = covariate_shift(x, z, clip=1e6)
    true = np.exp(0.7 * x - 0.245)
    assert np.corrcoef(np.log(found.weight), np.log(true))[0, 1] > 0.999
    np.testing.assert_allclose(np.average(x, weights=found.weight), 0.7, atol=0.04)
    assert found.raw_mean == pytest.approx(1, abs=0.03)
    assert found.n_effective == pytest.approx(20_000 / np.exp(0.49), rel=0.1)
    assert found.auc == pytest.approx(0.690, abs=0.01)  # Phi(0.7 / sqrt 2)
    assert found.n_clipped == 0


def test_weighted_predictions_have_the_targets_gap():
    """Accuracy falls with x, confidence does not: the weights must find the target's gap."""
    rng = np.random.default_rng(1)
    x, z = rng.normal(0, 1, size=(2, 8000))
    z = z + 0.8

    def right(v):
        return rng.uniform(size=len(v)) < 1 / (1 + np.exp(v - 1))

    source = Predictions.of(np.full(8000, 0.7), right(x))
    shift = covariate_shift(pd.DataFrame({"x": x}), pd.DataFrame({"x": z}), features=["x"])
    weighted = shift.apply(source)
    gap = np.average(weighted.confidence - weighted.correct, weights=weighted.weights)
    assert gap == pytest.approx(0.7 - right(z).mean(), abs=0.03)
    assert abs(gap - np.mean(source.confidence - source.correct)) > 0.1
    assert list(shift.frame()["features"]) == ["x"]


def test_clipping_is_counted_and_no_overlap_is_refused():
    rng = np.random.default_rng(2)
    x, z = rng.normal(0, 1, 2000), rng.normal(4.5, 1, 2000)
    clipped = covariate_shift(x, z, clip=5)
    assert clipped.n_clipped > 0
    assert clipped.auc > 0.99
    free = covariate_shift(x, z, clip=1e9)
    with pytest.raises(InputError, match="where 1 is expected"):
        free.apply(Predictions.of(np.full(2000, 0.5), np.ones(2000)))


def test_too_small_an_effective_sample_is_refused():
    rng = np.random.default_rng(12)
    x, z = rng.normal(0, 1, 2000), rng.normal(0.5, 1, 2000)
    found = covariate_shift(x, z)
    few = Predictions.of(np.full(2000, 0.5), np.ones(2000), weight=np.arange(2000) < 9)
    with pytest.raises(InputError, match="effective sample size"):
        found.apply(few)


def test_cross_fitting_holds_out_whole_documents():
    """A feature that only names the document says nothing about documents held out."""
    rng = np.random.default_rng(3)
    document = np.repeat(np.arange(20), 30)
    mark = rng.normal(size=20)[document]
    found = covariate_shift(
        mark, rng.normal(size=20)[document], source_document=document, target_document=document
    )
    assert 0.2 < found.auc < 0.8
    with pytest.raises(InputError, match="1 document"):
        covariate_shift(mark, mark, source_document=np.zeros(600), target_document=document)
    with pytest.raises(InputError, match="lacks the features"):
        covariate_shift(pd.DataFrame({"a": mark}), pd.DataFrame({"a": mark}), features=["b"])


def mixture(rng, prior, rows):
    """Labels from `prior`, x | y normal, and the exact posterior under equal priors."""
    y = rng.choice(3, size=rows, p=prior)
    means = np.array([-1.5, 0.0, 1.5])
    x = rng.normal(means[y], 1.0)
    like = np.exp(-((x[:, None] - means) ** 2) / 2)
    return like / like.sum(axis=1, keepdims=True), y


@pytest.mark.parametrize("method", ["bbse", "bbse_soft", "em"])
def test_the_target_marginal_comes_back(method):
    rng = np.random.default_rng(4)
    p, y = mixture(rng, [1 / 3] * 3, 30_000)
    q, _ = mixture(rng, [0.7, 0.2, 0.1], 30_000)
    if method == "em":
        found = em_label_shift(y, q)
    else:
        found = bbse(p, y, q, soft=method == "bbse_soft")
    np.testing.assert_allclose(found.target, [0.7, 0.2, 0.1], atol=0.02)
    np.testing.assert_allclose(found.weight, found.target / found.source)
    weighted = found.apply(Predictions.from_probabilities(p, y))
    shares = np.bincount(y, weighted.weights) / weighted.weights.sum()
    np.testing.assert_allclose(shares, found.target, atol=1e-9)


def test_em_is_the_maximum_of_the_likelihood():
    rng = np.random.default_rng(5)
    _, y = mixture(rng, [1 / 3] * 3, 900)
    q, _ = mixture(rng, [0.6, 0.3, 0.1], 900)
    found = em_label_shift(y, q)

    def value(target):
        return np.log(q @ (target / found.source)).sum()

    best = max(
        value(np.array([a, b, 1 - a - b]))
        for a in np.linspace(0.01, 0.97, 97)
        for b in np.linspace(0.01, 0.97, 97)
        if a + b < 1
    )
    assert value(found.target) >= best
    adjusted = found.adjust(q)
    np.testing.assert_allclose(adjusted.mean(axis=0), found.target, atol=1e-8)


def test_label_shift_refusals():
    p = np.tile([0.5, 0.3, 0.2], (60, 1))
    y = np.arange(60) % 3
    with pytest.raises(InputError, match="condition number"):
        bbse(p, y, p)
    with pytest.raises(InputError, match="no rows of class 2"):
        bbse(p, y % 2, p)
    with pytest.raises(InputError, match="single class"):
        em_label_shift(np.zeros(4, int), np.ones((4, 1)))
    good, label = mixture(np.random.default_rng(6), [1 / 3] * 3, 500)
    found = bbse(good, label, good)
    with pytest.raises(InputError, match="carry none"):
        found.apply(Predictions.of([0.5] * 20, [1] * 20))


def classes(rng, x):
    """A classifier's distribution and labels that depend on x; noisier for large x."""
    z = np.stack([2 * np.sin(3 * x), 2 * np.cos(2 * x), x], axis=1)
    noise = -np.log(-np.log(rng.uniform(size=z.shape)))
    y = (z + noise * np.where(x > 0.5, 2.5, 0.6)[:, None]).argmax(axis=1)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), y


@pytest.mark.parametrize("score", ["lac", "aps"])
def test_weighted_sets_cover_under_a_known_shift_and_split_sets_do_not(score):
    rng = np.random.default_rng(7)
    x, z = rng.normal(0, 1, 20_000), rng.normal(1.2, 1, 20_000)
    p, y = classes(rng, x)
    q, v = classes(rng, z)
    ratio = lambda u: np.exp(1.2 * u - 0.72)  # noqa: E731
    plain = conformal_sets(q, fit_probabilities=p, fit_label=y, score=score)
    weighted = conformal_sets(
        q, fit_probabilities=p, fit_label=y, score=score, fit_weight=ratio(x), weight=ratio(z)
    )
    at_home = conformal_sets(classes(rng, x)[0], fit_probabilities=p, fit_label=y, score=score)
    covered = weighted.coverage(v)["coverage"].iloc[0]
    # aps without randomisation covers too much here: its score has an atom at 1
    assert 0.885 < covered < (0.925 if score == "lac" else 1)
    home = at_home.coverage(y)["coverage"].iloc[0]
    assert home > 0.89
    assert plain.coverage(v)["coverage"].iloc[0] < min(0.87, home - 0.03)
    # and with estimated weights
    found = covariate_shift(x, z, clip=1e6)
    estimated = conformal_sets(
        q,
        fit_probabilities=p,
        fit_label=y,
        score=score,
        fit_weight=found.weight,
        weight=found.target_weight,
    )
    assert estimated.coverage(v)["coverage"].iloc[0] == pytest.approx(covered, abs=0.01)


def test_thresholds_by_hand():
    s = np.array([0.4, 0.1, 0.3, 0.2])
    assert conformal_threshold(s, 0.4, None, None, 2).tolist() == [0.3, 0.3]  # 3rd of 5
    assert np.isinf(conformal_threshold(s, 0.1, None, None, 1)).all()
    many = np.linspace(0.01, 1, 100)
    equal = conformal_threshold(many, 0.1, np.ones(100), np.array([1.0, 0.0, 1e6]), 3)
    assert equal[0] == conformal_threshold(many, 0.1, None, None, 1)[0]
    assert equal[1] == pytest.approx(0.9) and np.isinf(equal[2])
    np.testing.assert_allclose(scores(np.array([[0.2, 0.5, 0.3]]), "aps"), [[1.0, 0.5, 0.8]])


def test_coverage_by_domain_says_what_is_not_estimable():
    rng = np.random.default_rng(8)
    p, y = classes(rng, rng.normal(size=600))
    sets = conformal_sets(p[300:], fit_probabilities=p[:300], fit_label=y[:300])
    domain = np.repeat(["a", "b"], [200, 100])
    document = np.r_[np.arange(200) // 10, np.zeros(100)]
    table = sets.coverage(y[300:], domain=domain, document=document).set_index("domain")
    assert table.loc["a", "low"] < table.loc["a", "coverage"] <= table.loc["a", "high"]
    assert table.loc["b", "reason"] == "one document: no interval"
    assert table.loc["all", "n"] == 300
    none = sets.coverage(None, domain=domain)
    assert none["coverage"].isna().all() and none["reason"].str.contains("no labels").all()
    assert (none["mean_size"] > 0).all()
    for alpha in (0.0, 1.0, -0.1):
        with pytest.raises(InputError, match="alpha"):
            conformal_sets(p, fit_probabilities=p, fit_label=y, alpha=alpha)
    with pytest.raises(InputError, match="effective sample size"):
        conformal_sets(
            p,
            fit_probabilities=p,
            fit_label=y,
            fit_weight=np.r_[1.0, np.zeros(599)],
            weight=np.ones(600),
        )


def test_mapie_makes_the_same_sets():
    mapie = pytest.importorskip("mapie.classification", reason="mapie is the oracle")
    base = pytest.importorskip("sklearn.base", reason="mapie needs scikit-learn")
    rng = np.random.default_rng(9)
    p, y = classes(rng, rng.normal(size=900))

    class Given(base.ClassifierMixin, base.BaseEstimator):
        """Hands out rows of p by number."""

        classes_ = np.arange(3)
        is_fitted_ = True

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return p[np.asarray(x)[:, 0].astype(int)]

        def predict(self, x):
            return self.predict_proba(x).argmax(axis=1)

    rows = np.arange(900)[:, None]
    theirs = mapie.SplitConformalClassifier(
        Given(), confidence_level=0.9, conformity_score="lac", prefit=True
    ).conformalize(rows[:450], y[:450])
    _, sets = theirs.predict_set(rows[450:])
    mine = conformal_sets(p[450:], fit_probabilities=p[:450], fit_label=y[:450], alpha=0.1)
    np.testing.assert_array_equal(mine.sets, sets[:, :, 0])


def test_sets_from_clustered_rows_cover_when_documents_are_exchangeable():
    """A score that is one number a document: 8 documents are 8 rows, however many rows they hold."""
    rows, documents, size = [], [], 20
    for seed in range(400):
        rng = np.random.default_rng(seed)
        s = rng.uniform(0, 1, 8).repeat(size)
        p = np.stack([1 - s, s], axis=1)
        s_new = np.linspace(0, 1, 201)
        q = np.stack([1 - s_new, s_new], axis=1)
        given = {"fit_probabilities": p, "fit_label": np.zeros(len(s), int), "alpha": 0.2}
        own = conformal_sets(q, **given)
        tied = conformal_sets(q, **given, fit_document=np.arange(8).repeat(size))
        rows.append(own.sets[:, 0].mean())
        documents.append(tied.sets[:, 0].mean())
    # 7 of 8 order statistics of 8 uniforms: 7 / 9 by rows, 8 / 9 by documents
    assert np.mean(rows) == pytest.approx(7 / 9, abs=0.02)
    assert np.mean(documents) >= 0.8
    table = tied.coverage(np.zeros(201, int))
    assert table["exchangeable"].tolist() == ["documents"] and table["n_effective"].tolist() == [
        8.0
    ]
    assert own.coverage(np.zeros(201, int))["exchangeable"].tolist() == ["rows"]


def test_documents_of_one_row_are_split_conformal():
    rng = np.random.default_rng(0)
    p, y = classes(rng, rng.normal(size=300))
    q, _ = classes(rng, rng.normal(size=50))
    own = conformal_sets(q, fit_probabilities=p, fit_label=y)
    tied = conformal_sets(q, fit_probabilities=p, fit_label=y, fit_document=np.arange(300))
    assert (own.threshold == tied.threshold).all()
    few = conformal_sets(q, fit_probabilities=p, fit_label=y, fit_document=np.arange(300) // 60)
    assert np.isinf(few.threshold).all()  # 5 documents cannot vouch for 0.9
    with pytest.raises(InputError, match="one document for each"):
        conformal_sets(q, fit_probabilities=p, fit_label=y, fit_document=np.arange(9))
    with pytest.raises(InputError, match="no weights beside it"):
        conformal_sets(
            q,
            fit_probabilities=p,
            fit_label=y,
            fit_weight=np.ones(300),
            weight=np.ones(50),
            fit_document=np.arange(300),
        )
