"""Router rows from k-means: the first choice is the cluster, and planted clusters are found."""

from __future__ import annotations

import pytest
import torch

from moeaudit.errors import InputError
from moeaudit.lab.upcycling import kmeans_rows


def planted(groups: int = 4, each: int = 50, hidden: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """States about `groups` orthogonal directions, all shifted by one vector much longer than they are."""
    draw = torch.Generator().manual_seed(1)
    label = torch.arange(groups).repeat_interleave(each)
    noise = 0.05 * torch.randn(groups * each, hidden, generator=draw)
    shift = torch.zeros(hidden)
    shift[-1] = 30.0
    return torch.eye(hidden)[label] + noise + shift, label


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found_whatever_all_share(seed):
    states, label = planted()
    choice = (states @ kmeans_rows(states, 4, seed=seed).T).argmax(1)
    pairs = set(zip(label.tolist(), choice.tolist()))
    assert len(pairs) == 4 and len({c for _, c in pairs}) == 4


def test_logits_have_the_spread_that_was_asked_for():
    states, _ = planted()
    rows = kmeans_rows(states, 4, spread=0.5)
    # In float64: the shift that all states share leaves rounding of float32 in the logits.
    assert (states.double() @ rows.double().T).std().item() == pytest.approx(0.5, rel=1e-3)
    mean = states.mean(0)
    assert (rows @ mean).abs().max() < 1e-3 * rows.norm() * mean.norm()


def test_one_seed_gives_one_router():
    states, _ = planted()
    assert torch.equal(kmeans_rows(states, 6, seed=3), kmeans_rows(states, 6, seed=3))


def test_as_many_different_states_as_experts_are_needed():
    states = torch.ones(20, 4)
    states[:3] += torch.eye(4)[:3]
    with pytest.raises(InputError, match="fewer than 5 different states"):
        kmeans_rows(states, 5)
