"""Complete-muE's multipliers: the authors' example, dense and hybrid layers, and impossible sizes."""

from __future__ import annotations

import numpy as np
import pytest

from moeaudit.errors import InputError
from moeaudit.lab.mue import multipliers
from moeaudit.lab.mue.sweep import optimum


def test_the_authors_example():
    """128 experts, 8 active, 1 shared, each as wide as the model: A = 1/9, R = 8, down projections start at x3."""
    of = multipliers(1024, active=8, width=1024, shared=1024)
    assert pytest.approx(1 / 9) == of.A
    assert of.R == 8 and of.sigma == pytest.approx(3)


def test_a_dense_layer_is_one_active_expert():
    dense = multipliers(64, 1, 256)
    assert (dense.A, dense.R, dense.sigma) == (0.25, 1, 2)
    # Bridge I: a dense layer cut into 4 parts that are all active: A is that of the whole.
    assert multipliers(64, 4, 64).A == dense.A


def test_folded_factors_keep_the_output_whatever_the_number_of_active_experts():
    """The routed sum with gates of 1/a and starts and rates folded in has the size of the dense layer's."""
    rng = np.random.default_rng(0)
    d, base = 32, 32
    sizes = []
    for a, h in ((1, 64), (4, 16), (8, 32), (2, 128)):
        of = multipliers(d, a, h, base=base)
        phi = rng.standard_normal((400, a * h))
        down = rng.standard_normal((a * h, d)) * 0.02 * of.routed_start
        sizes.append(np.sqrt(np.mean((phi @ down / a) ** 2)))
    assert np.array(sizes) == pytest.approx(sizes[0], rel=0.1)
    # An aligned update of rate eta on each weight adds A H_act eta = d eta.
    updates = [multipliers(d, a, h).routed_rate * h * a / a for a, h in ((1, 64), (4, 16), (8, 32))]
    assert updates == pytest.approx([d] * 3)


def test_width_scales_as_in_mup():
    wide = multipliers(256, 2, 128, base=64)
    assert wide.rho == 4 and wide.routed_rate == pytest.approx(wide.A * wide.R / 4)
    assert wide.shared_start == pytest.approx(wide.A * wide.sigma / 2)


@pytest.mark.parametrize("sizes", [(0, 1, 4), (8, 0, 4), (8, 1, 0), (8, 1, 4, -1)])
def test_impossible_sizes(sizes):
    with pytest.raises(InputError, match="at least"):
        multipliers(*sizes)


def test_the_optimum_of_a_sweep():
    factor = np.array([4.0, 1.0, 2.0, 0.5])
    assert optimum(factor, (np.log2(factor) - 0.6) ** 2) == (pytest.approx(0.6), False)
    assert optimum(factor, -factor) == (2.0, True)
    # A diverged neighbour leaves the lowest point itself.
    assert optimum(factor, np.array([np.nan, 1.0, 0.5, 2.0])) == (1.0, False)
    with pytest.raises(InputError, match="diverged"):
        optimum(factor, np.full(4, np.nan))
