"""Outcomes against float64, small and large, and their identities."""

import pytest
import torch

from moeaudit.causal.outcomes.compare import compare


def reference(clean, edited, target):
    p, q = torch.log_softmax(clean.double(), -1), torch.log_softmax(edited.double(), -1)
    p = p[:, None].expand_as(q)
    at = target[:, None, None].expand(-1, q.shape[1], 1)
    nll = p.gather(-1, at).squeeze(-1) - q.gather(-1, at).squeeze(-1)
    return nll, (p.exp() * (p - q)).sum(-1)


@pytest.mark.parametrize("size", [1e-6, 1e-4, 1e-2, 1.0, 10.0, 300.0])
def test_against_float64(size):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(5, 400, generator=generator) * 4
    edited = clean[:, None] + size * torch.randn(5, 7, 400, generator=generator)
    target = torch.arange(5) * 30
    nll, kl = reference(clean, edited, target)
    got = compare(clean, edited.clone(), target)
    # float32 logits near 10 carry about 1e-6; nothing may be lost beyond that
    torch.testing.assert_close(got.delta_nll.double(), nll, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(got.kl.double(), kl, atol=2e-7 * max(1.0, size), rtol=2e-5)
    assert (got.kl >= 0).all()
    assert (got.flip == (edited.argmax(-1) != clean.argmax(-1)[:, None])).all()


@pytest.mark.parametrize("rows", [1, 2])
def test_against_float64_over_a_large_vocabulary(rows):
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(4, 49_152, generator=generator) * 3
    clean[:, 7] += 12  # one likely word, as in a trained model, that an edit takes away
    edited = clean[:, None] + 2 * torch.randn(4, rows, 49_152, generator=generator)
    edited[:, :, 7] -= 6
    target = torch.arange(4) * 30
    nll, kl = reference(clean, edited, target)
    assert kl.min() > 1  # the sum of all probabilities is a factor of large effects alone
    got = compare(clean, edited, target)
    torch.testing.assert_close(got.kl.double(), kl, atol=2e-6, rtol=0)
    torch.testing.assert_close(got.delta_nll.double(), nll, atol=2e-6, rtol=0)


def test_no_edit_is_exactly_zero():
    clean = torch.randn(6, 50)
    got = compare(clean, clean[:, None].repeat(1, 3, 1), torch.zeros(6, dtype=torch.long))
    assert got.delta_nll.abs().max() == 0.0
    assert got.kl.max() == 0.0
    assert not got.flip.any()


def test_a_shift_of_all_logits_changes_nothing():
    clean = torch.randn(4, 80)
    got = compare(clean, clean[:, None] + 7.0, torch.arange(4))
    assert got.delta_nll.abs().max() < 2e-6
    assert got.kl.max() < 1e-7


def test_pieces_do_not_change_the_result():
    clean, target = torch.randn(9, 64), torch.arange(9)
    edited = torch.randn(9, 4, 64)
    whole = compare(clean, edited.clone(), target)
    pieces = compare(clean, edited.clone(), target, at_once=1)
    torch.testing.assert_close(whole.delta_nll, pieces.delta_nll)
    torch.testing.assert_close(whole.kl, pieces.kl)


def test_a_forbidden_token_does_not_spoil_the_rest():
    clean = torch.randn(3, 40)
    edited = clean[:, None] + torch.randn(3, 2, 40)
    target = torch.tensor([5, 6, 7])
    without = compare(clean[:, 1:], edited[:, :, 1:].clone(), target - 1)
    clean[:, 0], edited[:, :, 0] = -torch.inf, -torch.inf
    got = compare(clean, edited, target)
    torch.testing.assert_close(got.delta_nll, without.delta_nll)
    torch.testing.assert_close(got.kl, without.kl)


def test_equal_logits_flip_as_the_first_of_them():
    clean = torch.tensor([[0.0, 2.0, 1.0, 2.0]])
    edited = torch.tensor([[[0.0, 2.0, 2.0, 2.0], [2.0, 2.0, 0.0, 0.0], [0.0, 1.0, 1.0, 2.0]]])
    got = compare(clean, edited, torch.tensor([0]))
    assert got.flip.tolist() == [[False, True, True]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("levels", [3, 40, 10**6])
def test_a_flip_is_another_first_largest_logit_also_where_logits_are_equal(dtype, levels):
    generator = torch.Generator().manual_seed(levels)
    drawn = torch.randint(levels, (6, 8, 9, 50), generator=generator).to(dtype)
    drawn[0, :, :, 7] = -torch.inf  # a forbidden token
    drawn[1, 0, 0] = -torch.inf
    drawn[1, 0, 0, 3] = 0.0
    for logits in drawn:
        clean, edited = logits[:, 0], logits[:, 1:]
        want = edited.argmax(-1) != clean.argmax(-1)[:, None]
        found = compare(clean, edited.clone(), torch.zeros(8, dtype=torch.long))
        assert torch.equal(found.flip, want)
