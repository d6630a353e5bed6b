from __future__ import annotations

import torch

from moeaudit.lab.training.muon import Muon, orthogonalise


def test_orthogonalise_evens_out_singular_values():
    torch.manual_seed(0)
    for shape in ((3, 8, 20), (3, 20, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.5
        assert values.max() < 1.4


def test_every_expert_moves_alike():
    """A gradient a thousand times smaller gives the same step; a zero gradient gives none."""
    p = torch.nn.Parameter(torch.zeros(3, 8, 4))
    p.grad = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0))
    p.grad[1] *= 1e-3
    p.grad[2] = 0.0
    Muon([{"params": [p], "parts": 2}], lr=0.1).step()
    size = p.detach().norm(dim=(1, 2))
    assert torch.isclose(size[0], size[1], rtol=0.2)
    assert size[2] == 0


def test_parts_are_orthogonalised_apart():
    gradient = torch.randn(1, 8, 4, generator=torch.Generator().manual_seed(0))
    fused = torch.nn.Parameter(torch.zeros(1, 8, 4))
    halves = [torch.nn.Parameter(torch.zeros(1, 4, 4)) for _ in range(2)]
    fused.grad = gradient
    for half, part in zip(halves, gradient.split(4, dim=1)):
        half.grad = part
    Muon([{"params": [fused], "parts": 2}], lr=0.1).step()
    Muon(halves, lr=0.1).step()
    torch.testing.assert_close(fused.detach(), torch.cat([h.detach() for h in halves], 1))
