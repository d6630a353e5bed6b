"""Losses that train a mixture for the worst case: tilted, filtered, and bounded by a KL radius.

The first two are those of arXiv 2606.20544 as its code has them (`ginawong/calibrated_moe`); the tilt itself stands
in `moeaudit.lab.tilted`, where language models are trained with it as well. An
adversary shifts weight towards samples with a large loss; the paper's name for it is adversarial
reweighting of routing configurations, each sample being a configuration of its own. Neither contains a
calibration error. The third is what the first would be with an adversary of declared strength, who moves
whole configurations and no further than `radius` nats.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from moeaudit.calibration.shift.worst_case_tilt import worst_mean
from moeaudit.errors import InputError
from moeaudit.lab.tilted import tilted

from .soft_moe import Mixed

DISAGREEMENT = 0.01  # thresholds of the published code
REGRET = 1e-6


def relevant(
    mixed: Mixed,
    labels: Int[Tensor, " samples"],
    disagreement: float = DISAGREEMENT,
    regret: float = REGRET,
) -> Bool[Tensor, " samples"]:
    """The samples on which routing matters, by the published rule; no gradient.

    Either the mixture loses more than `regret` nats to its best expert (max(0, l - min_k l_k)), or its
    experts disagree by more than `disagreement`: sum_k r_k ||p_k - f||^2. Experts of a
    hard-routed answer never disagree, since all weight is on one.
    """
    with torch.no_grad():
        rows = torch.arange(len(labels))
        loss = -mixed.log_probs[rows, labels]
        best = -mixed.expert_log_probs[rows, :, labels].amax(1)
        distance = (mixed.expert_log_probs.exp() - mixed.log_probs.exp()[:, None]).square().sum(-1)
        spread = (mixed.routing * distance).sum(-1)
        return ((loss - best).clamp(min=0) > regret) | (spread > disagreement)


def filtered(mixed: Mixed, labels: Int[Tensor, " samples"], strength: float) -> Float[Tensor, ""]:
    """mean_i l_i + the tilted loss over the `relevant` samples alone (twice the mean if none is)."""
    losses = sample_losses(mixed, labels)
    chosen = relevant(mixed, labels)
    tail = tilted(losses[chosen], strength) if bool(chosen.any()) else losses.mean()
    return losses.mean() + tail


def worst_case(
    losses: Float[Tensor, " samples"],
    configuration: Int[Tensor, " samples"],
    n_configurations: int,
    radius: float,
) -> Float[Tensor, ""]:
    """max_q sum_c q_c l_c over mixes q of configurations with KL(q || shares) <= radius nats.

    l_c is the mean loss of configuration c and its share that of the samples. The maximum is at the
    exponential tilt q_c = share_c exp(s l_c) / Z whose KL is the radius (`calibration.worst_mean`).
    The weights ARE detached: by Danskin's theorem sum_c q_c grad l_c is the gradient of the maximum.
    At radius 0 this is the plain mean. Raises InputError for a configuration without samples.
    """
    if not radius >= 0:
        raise InputError(f"A KL radius is 0 nats or more, not {radius}.")
    means, shares = configuration_losses(losses, configuration, n_configurations)
    if radius == 0:
        return losses.mean()
    tilt = worst_mean(shares.double().numpy(), means.detach().double().numpy(), radius)
    return (torch.from_numpy(tilt.mix).to(losses.dtype) * means).sum()


def configuration_losses(
    losses: Float[Tensor, " samples"], configuration: Int[Tensor, " samples"], n_configurations: int
) -> tuple[Float[Tensor, " configurations"], Float[Tensor, " configurations"]]:
    """Mean loss and share of samples of the configurations 0 .. n_configurations - 1."""
    if (
        configuration.numel()
        and not 0 <= int(configuration.min()) <= int(configuration.max()) < n_configurations
    ):
        raise InputError(
            f"Configurations are numbered 0 to {n_configurations - 1}; there are numbers from "
            f"{int(configuration.min())} to {int(configuration.max())}."
        )
    counts = torch.bincount(configuration, minlength=n_configurations)
    if not bool((counts > 0).all()):
        empty = torch.flatten(torch.nonzero(counts == 0)).tolist()
        raise InputError(
            f"No sample is in configuration {', '.join(map(str, empty))} of {n_configurations}, so it has no "
            "loss. Number only the configurations that occur, 0 upwards (torch.unique with "
            "return_inverse does it)."
        )
    sums = torch.zeros(n_configurations, dtype=losses.dtype).index_add(0, configuration, losses)
    return sums / counts, counts.to(losses.dtype) / counts.sum()


def sample_losses(mixed: Mixed, labels: Int[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """-log f(y) of every sample, nats."""
    return -mixed.log_probs[torch.arange(len(labels)), labels]
