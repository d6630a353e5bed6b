r"""`expert_metrics`: what observation alone says about each expert of each layer.

Notation: \(T\) tokens pass a layer; \(A_e\) are those that chose expert \(e\), \(N_e = |A_e|\);
\(w_t\) is the routing weight the model gave the expert, \(f_t = E_e(x_t)\) its output before the
weight, \(\|\cdot\|\) the L2 norm. No padding enters, and tokens without a next token do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from moeaudit.errors import InputError

from .domains import domain_specialisation
from .grouping import Cells, divide
from .trace import Trace
from .vocabulary import expert_vocabulary

Column = Float[np.ndarray, " cells"]


def expert_metrics(trace: Trace, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Observational metrics of every expert, one row per layer, expert and metric.

    Args:
        trace: what `capture` returned.
        metrics: names from `METRICS`; all of them if None.

    Returns:
        Columns layer, expert, metric, value, n_active (tokens that chose the expert). Sums over
        active tokens are 0 for an expert that no token chose; everything that is a mean over
        active tokens is null there, because there is nothing to average. `activation_sd` needs
        two active tokens, `domain_mi` two domains, `easy_ep` the residual stream (the trace's
        facts say why it may be missing), `vocabulary_specialisation` a token that occurs often.

    Raises:
        InputError: an unknown metric, or tables that do not belong together.
    """
    names = list(METRICS) if metrics is None else list(metrics)
    unknown = [name for name in names if name not in METRICS]
    if unknown:
        raise InputError(
            f"Unknown metric {', '.join(map(repr, unknown))}. Known are {', '.join(METRICS)}."
        )
    if not names:
        raise InputError(f"No metric was named. Known are {', '.join(METRICS)}; None means all.")
    cells = Cells.of(trace)
    frames = [
        pd.DataFrame(
            {
                "layer": cells.layer,
                "expert": cells.expert,
                "metric": name,
                "value": METRICS[name](trace, cells),
                "n_active": cells.n_active,
            }
        )
        for name in names
    ]
    return pd.concat(frames, ignore_index=True)


def _column(trace: Trace, name: str) -> Float[np.ndarray, " rows"]:
    return trace.routing[name].to_numpy(np.float64)


def score_family(trace: Trace, cells: Cells, a: float, b: float, c: float) -> Column:
    r"""The family of arXiv 2606.15716: \(S_e = N_e^{b-1} \sum_{t \in A_e} w_t^a \|f_t\|^c\).

    b = 1 sums over tokens (frequency counts), b = 0 averages over them. Null for b < 1 where no
    token chose the expert.
    """
    total = cells.sum(_column(trace, "weight") ** a * _column(trace, "output_norm") ** c)
    counts = cells.n_active
    if b >= 1:
        return counts.astype(np.float64) ** (b - 1) * total
    return divide(total, counts) * np.where(counts > 0, counts, 1).astype(np.float64) ** b


def utilisation(_trace: Trace, cells: Cells) -> Column:
    r"""Share of the layer's tokens that chose the expert, \(N_e / T\); sums to k over experts.

    The selection frequency of arXiv 2606.10703. (Its released code for OLMoE averages router
    logits under this name; that is not what is computed here.)
    """
    return divide(cells.n_active.astype(np.float64), cells.tokens)


def mean_weight(trace: Trace, cells: Cells) -> Column:
    r"""Mean routing weight when active, \(N_e^{-1} \sum w_t\) (2606.10703), as the model uses it.

    Not renormalised: in OLMoE, Qwen2-MoE and DeepSeek-V2 a token's weights sum to less than 1.
    """
    return cells.mean(_column(trace, "weight"))


def activation_norm(trace: Trace, cells: Cells) -> Column:
    r"""Mean norm of the expert's output, \(N_e^{-1} \sum \|f_t\|\), over active tokens (2606.10703)."""
    return cells.mean(_column(trace, "output_norm"))


def activation_sd(trace: Trace, cells: Cells) -> Column:
    r"""Standard deviation (n - 1) of \(\|f_t\|\) over active tokens (2606.10703, code for OLMoE).

    Null with fewer than two active tokens.
    """
    norm = _column(trace, "output_norm")
    centred = norm - cells.mean(norm)[cells.of_row]  # two passes: no cancellation
    return np.sqrt(divide(cells.sum(centred**2), cells.n_active - 1))


def weighted_frequency(trace: Trace, cells: Cells) -> Column:
    r"""Sum of the routing weights, \(\sum w_t\): frequency, each choice counted by its weight.

    One of the criteria the released code of REAP (arXiv 2510.13999) computes beside its own.
    """
    return score_family(trace, cells, a=1.0, b=1.0, c=0.0)


def ean(trace: Trace, cells: Cells) -> Column:
    r"""Expert activation norm, \(\sum \|f_t\|\), summed over active tokens, gate-free.

    From the suite of criteria of arXiv 2504.05586, also in the released code of REAP.
    """
    return score_family(trace, cells, a=0.0, b=1.0, c=1.0)


def reap(trace: Trace, cells: Cells) -> Column:
    r"""Router-weighted activation, \(N_e^{-1} \sum w_t \|f_t\|\) (REAP, arXiv 2510.13999).

    With the weights the model uses; later releases of its code renormalise the top k to sum to 1.
    """
    return score_family(trace, cells, a=1.0, b=0.0, c=1.0)


def man(trace: Trace, cells: Cells) -> Column:
    r"""Mean activation norm, \(N_e^{-1} \sum \|f_t\|\) (arXiv 2606.15716: a = 0, b = 0, c = 1).

    The same number as `activation_norm`, listed under the name that pruning work knows it by.
    """
    return score_family(trace, cells, a=0.0, b=0.0, c=1.0)


def msan(trace: Trace, cells: Cells) -> Column:
    r"""Mean squared activation norm, \(N_e^{-1} \sum \|f_t\|^2\) (2606.15716: a = 0, b = 0, c = 2)."""
    return score_family(trace, cells, a=0.0, b=0.0, c=2.0)


def easy_ep(trace: Trace, cells: Cells) -> Column:
    r"""\(\sum w_t \|f_t\| \max(1 - \cos(h_t, h_t + r_t), 0)\) (EASY-EP, arXiv 2504.06792).

    \(h_t\) is the residual stream before the block and \(r_t\) the routed experts' output: tokens
    whose residual the routed experts turn further count more. Null in layers without `change`.
    """
    change = np.maximum(_column(trace, "change"), 0.0)  # NaN stays NaN
    return cells.sum(_column(trace, "weight") * _column(trace, "output_norm") * change)


METRICS: dict[str, Callable[[Trace, Cells], Column]] = {
    "utilisation": utilisation,
    "mean_weight": mean_weight,
    "activation_norm": activation_norm,
    "activation_sd": activation_sd,
    "weighted_frequency": weighted_frequency,
    "ean": ean,
    "reap": reap,
    "man": man,
    "msan": msan,
    "easy_ep": easy_ep,
    "domain_mi": domain_specialisation,
    "vocabulary_specialisation": expert_vocabulary,
}
