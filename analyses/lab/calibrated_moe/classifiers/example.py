"""The closed-form example: soft routing is honest by cancellation, hard routing region by region."""

from __future__ import annotations

import numpy as np
import pandas as pd


def closed_form() -> pd.DataFrame:
    """Two experts that always say 0.5, and three configurations; gap = confidence - P(Y = 1).

    Soft: router weights (r, 1 - r) with r = .2, .5, .8, equally frequent, and P(Y = 1) = .6, .3, .6. The
    mixture says 0.5 everywhere, which is right on average. With all mass on the middle it is
    off by 0.20, in the mix (1/2, 0, 1/2) by -0.10.

    Hard: the same experts, each of them calibrated on the inputs routed to it: P(Y = 1) = 0.5 given the
    chosen expert, so any mix of the two keeps a gap of 0. That premise is about P(Y | chosen expert,
    confidence). The last rows break it: argmax over the soft inputs (the tie goes to the first expert) with
    experts refitted to .45 and .6 is calibrated too, and off by 0.15 once the shift happens
    inside the first expert's region.
    """
    truth = np.array([0.6, 0.3, 0.6])
    refitted = np.array(
        [0.6, 0.45, 0.45]
    )  # r = .2 goes to the second expert, .5 and .8 to the first
    half = np.array([0.5, 0.5])
    cases = [
        ("soft", "before", np.full(3, 0.5), truth, [1 / 3, 1 / 3, 1 / 3], 0.0),
        ("soft", "all mass in the middle", np.full(3, 0.5), truth, [0, 1, 0], 0.2),
        ("soft", "none in the middle", np.full(3, 0.5), truth, [0.5, 0, 0.5], -0.1),
        ("hard", "before", half, half, [0.5, 0.5], 0.0),
        ("hard", "all mass on one expert", half, half, [1, 0], 0.0),
        ("hard", "nine to one", half, half, [0.9, 0.1], 0.0),
        ("hard, premise broken", "before", refitted, truth, [1 / 3, 1 / 3, 1 / 3], 0.0),
        ("hard, premise broken", "all mass in the middle", refitted, truth, [0, 1, 0], 0.15),
    ]
    rows = []
    for routing, mix, said, true, weight, expected in cases:
        gap = float(np.dot(weight, said - true))
        rows.append(
            {
                "routing": routing,
                "mix": mix,
                "gap": round(gap, 12) + 0.0,
                "expected": expected,
                "as_expected": bool(abs(gap - expected) < 1e-12),
            }
        )
    return pd.DataFrame(rows)
