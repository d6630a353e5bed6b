"""Every statistic against R 4.2.2: the commands, and the numbers they printed.

    x <- data.frame(doc = rep(0:5, each = 4), high = HIGH, low = LOW)
    h <- x$high; l <- x$low; d <- h - l; g <- x$doc; n <- length(d); D <- 6

R printed 12 digits, so agreement is asked to 1e-8.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from moeaudit.stats import adjust, association, effect_size, sign_flip_p, tost
from moeaudit.stats.families.mixed import mixed
from moeaudit.stats.ranking.correlation import kendall_limits, spearman_limits
from moeaudit.stats.sizes import power
from moeaudit.stats.sizes.limits import adjusted_limits, degrees_of_freedom
from moeaudit.stats.sizes.moments import hedges_factor, moments
from moeaudit.stats.sizes.paired import cluster_se, cluster_t, paired_t, signed_rank_sums, wilcoxon

# fmt: off
HIGH = np.array([0.8, 1.19, 0.16, 1.04, 1.32, -0.28, 0.18, 0.26, 1.23, 1.35, 1.16, -0.77, 0.91, 0.49,
                 1.14, 0.31, -1.3, -0.2, -0.03, 0.28, 0.65, -0.3, -2.69, 0.6])
LOW = np.array([0.04, 0.21, -1.12, 1.04, 0.19, -0.13, 0.57, 0.58, 1.28, 0.58, 0.66, -0.27, -1.23,
                -1.2, -0.75, -0.84, -0.25, -1.01, -0.39, 1.44, -0.03, 0.59, -2.28, 0.09])
# fmt: on
DOCUMENT = np.repeat(np.arange(6), 4)
D = HIGH - LOW
EIGHT = {"abs": 1e-8}


def size(name):
    return effect_size(name, HIGH, LOW, DOCUMENT, interval="jackknife")


def test_paired_tests():
    # t.test(h, l, paired = TRUE)$p.value
    assert paired_t(D).p == pytest.approx(0.0399212672341, **EIGHT)
    # wilcox.test(d[d != 0], exact = FALSE, correct = FALSE)$p.value; d has a zero and ties
    assert wilcoxon(np.round(D, 2)).p == pytest.approx(0.0497766994601, **EIGHT)
    # e <- d[d != 0]; u <- e[!duplicated(abs(e))]; wilcox.test(u[1:12], exact = TRUE)$p.value
    e = np.round(D[np.round(D, 2) != 0], 2)
    first = np.sort(np.unique(np.abs(e), return_index=True)[1])
    assert wilcoxon(e[first][:12]).p == pytest.approx(0.02099609375, **EIGHT)


def test_the_mean_with_documents_as_clusters():
    # u <- tapply(d - mean(d), g, sum); se <- sqrt(D / (D - 1) * sum(u^2)) / n
    m = moments(DOCUMENT, HIGH, LOW)
    assert cluster_se(m, "mean_difference") == pytest.approx(0.296589936238, **EIGHT)
    # 2 * pt(-abs(mean(d) / se), D - 1)
    assert cluster_t(m).p == pytest.approx(0.229900985352, **EIGHT)
    # S <- tapply(d, g, sum); F <- as.matrix(expand.grid(rep(list(c(1, -1)), D)))
    # mean(abs(F %*% S) >= abs(sum(S)) - 1e-9)
    assert sign_flip_p(np.bincount(DOCUMENT, D), statistic="t") == pytest.approx(0.3125, **EIGHT)


def test_effect_sizes():
    want = {
        "d_z": 0.444562732109,  # mean(d) / sd(d)
        "d_av": 0.441269483117,  # mean(d) / ((sd(h) + sd(l)) / 2)
        "d_pooled": 0.44113197477,  # mean(d) / sqrt((var(h) + var(l)) / 2)
        "cliffs_delta": 0.298611111111,  # mean(sign(outer(h, l, "-")))
        "cles": 0.649305555556,  # o <- outer(h, l, "-"); mean((o > 0) + (o == 0) / 2)
    }
    for name, value in want.items():
        assert size(name).estimate == pytest.approx(value, **EIGHT), name
    # exp(lgamma(23 / 2) - lgamma(22 / 2)) / sqrt(23 / 2)
    assert float(hedges_factor(23)) == pytest.approx(0.96697212115, **EIGHT)
    # r <- rank(abs(d[d != 0])) * sign(d[d != 0]); sum(r) / sum(abs(r))
    signed = signed_rank_sums(np.round(D, 2), DOCUMENT, 6).sum()
    assert signed / (23 * 24 / 2) == pytest.approx(0.467391304348, **EIGHT)


def test_intervals_by_document():
    # left <- sapply(0:5, function(k) mean(d[g != k]) / sd(d[g != k]))
    # sj <- sqrt((D - 1) / D * sum((left - mean(left))^2)); dz + c(-1, 1) * qt(.975, D - 1) * sj
    got = size("d_z")
    assert got.se == pytest.approx(0.310117278459, **EIGHT)
    assert (got.low, got.high) == pytest.approx((-0.352619110815, 1.24174457503), **EIGHT)
    # m <- left - mean(left); k <- mean(m^4) / mean(m^2)^2 - 3
    # G <- ((D + 1) * k + 6) * (D - 1) / ((D - 2) * (D - 3)) + 3
    # nu <- min(D - 1, 2 * D / (G - (D - 3) / (D - 1)))
    left = []
    for k in range(6):
        kept = D[k != DOCUMENT]
        left.append(kept.mean() / kept.std(ddof=1))
    assert degrees_of_freedom(np.array(left)) == pytest.approx(4.15079423339, **EIGHT)
    # sk <- mean((-m)^3) / mean(m^2)^1.5; q <- qt(.975, D - 1); hv <- qt(.975, nu)
    # ln <- sk * (1 + 2 * q^2) / (6 * sqrt(D)); c(dz - max(hv, q - ln) * sj, dz + max(hv, q + ln) * sj)
    limits = adjusted_limits(got.estimate, np.array(left), 0.95)
    assert limits == pytest.approx((-0.404263798193, 1.41803638634), **EIGHT)
    default = effect_size("d_z", HIGH, LOW, DOCUMENT)
    assert (default.low, default.high) == pytest.approx(limits, abs=1e-12)


def test_rank_correlations():
    # cor(h, l, method = "spearman"); cor(h, l, method = "kendall")
    for name, want in (("spearman", 0.401826493517), ("kendall", 0.264973213154)):
        assert association(name, HIGH, LOW, DOCUMENT).estimate == pytest.approx(want, **EIGHT)
    # z <- atanh(.5); tanh(z + c(-1, 1) * qnorm(.975) * sqrt((1 + .5^2 / 2) / (24 - 3)))
    want = (0.0953718819324, 0.762830156136)
    assert spearman_limits(0.5, 24) == pytest.approx(want, **EIGHT)
    # tanh(z + c(-1, 1) * qnorm(.975) * sqrt(.437 / (24 - 4)))
    assert kendall_limits(0.5, 24) == pytest.approx((0.253911310025, 0.685291249001), **EIGHT)


@pytest.mark.parametrize(
    ("method", "want"),
    [
        ("bonferroni", [0.001, 0.04, 0.19, 0.095, 0.2, 0.31, 1, 1, 1, 0.21]),
        ("holm", [0.001, 0.036, 0.133, 0.076, 0.133, 0.133, 0.9, 1, 1, 0.133]),
        ("hochberg", [0.001, 0.036, 0.105, 0.076, 0.105, 0.124, 0.8, 0.8, 0.8, 0.105]),
        ("bh", [0.001, 0.02, 0.035, 0.95 / 30, 0.035, 0.31 / 7, 0.375, 0.8, 0.8, 0.035]),
        (
            "by",
            [
                *(0.00292896825397, 0.0585793650794, 0.102513888889, 0.0927506613757),
                *(0.102513888889, 0.129711451247, 1, 1, 1, 0.102513888889),
            ],
        ),
    ],
)
def test_corrections(method, want):
    # p.adjust(c(.0001, .004, .019, .0095, .02, .031, .3, .8, .8, .021), m), m one of
    # "bonferroni", "holm", "hochberg", "BH", "BY"
    p = np.array([0.0001, 0.004, 0.019, 0.0095, 0.02, 0.031, 0.3, 0.8, 0.8, 0.021])
    assert adjust(p, method) == pytest.approx(want, **EIGHT)


def test_power_and_equivalence():
    # power.t.test(n = 200, delta = .222, sd = 1, sig.level = .0025, type = "one.sample", strict = TRUE)
    got = power.power_t(0.222, 1 / math.sqrt(200), 199.0, 0.0025)
    assert got == pytest.approx(0.531952232049, **EIGHT)
    # power.t.test(n = 200, power = .8, sd = 1, sig.level = .0025, type = "one.sample",
    #              strict = TRUE, tol = 1e-12)$delta
    found = power.minimum_detectable(1 / math.sqrt(200), 199.0, 0.0025, 0.8)
    assert found == pytest.approx(0.276473458215, **EIGHT)
    # max(pt((dz - .5) / sj, D - 1), pt((dz + .5) / sj, D - 1, lower.tail = FALSE))
    d_z = size("d_z")
    assert tost(d_z.estimate, d_z.se, 5, 0.5).p == pytest.approx(0.432571048233, **EIGHT)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
def test_a_mixed_model():
    # library(nlme); lme(high ~ low, random = ~ 1 + low | doc, data = x, method = "REML")
    # Value and Std.Error of low. Two optimisers of one likelihood agree to 1e-5. The standard errors
    # differ by definition: nlme's are those of least squares given the variances, statsmodels' come
    # from the observed information, 2 % larger here.
    design = np.column_stack([LOW, np.ones(24)])
    fit = mixed(HIGH, design, LOW, DOCUMENT)
    assert fit.random == "intercept and slope"
    assert fit.params[0] == pytest.approx(0.566631223133, rel=1e-5)
    assert fit.bse[0] == pytest.approx(0.251147257058, rel=0.03)
