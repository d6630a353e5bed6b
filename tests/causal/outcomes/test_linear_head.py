"""A head in blocks of the vocabulary, against float64 and the formulas on whole logits."""

import pytest
import torch
from torch import nn

import moeaudit as ma
from moeaudit.causal.outcomes.linear import Clean, LinearHead
from moeaudit.causal.outcomes.named import further_outcomes
from moeaudit.causal.outcomes.sums import effects, fusable

ASKED = further_outcomes(["entropy", "confidence", "brier", ma.LogitContrast(4, 9)])


def made(vocab, width=24, bias=False, dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    head = nn.Linear(width, vocab, bias=bias).to(dtype)
    with torch.no_grad():
        head.weight.copy_(torch.randn(vocab, width) * 2 / width**0.5)
        if bias:
            head.bias.copy_(torch.randn(vocab))
    return head.requires_grad_(False)


def rows(places, each, width=24, size=1.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    alone = torch.randn(places, width, generator=generator) * 3
    return alone, alone[:, None] + size * torch.randn(places, each, width, generator=generator)


def whole(head, alone, edited, target):
    """The same outcomes from whole logits in float64."""
    weight, bias = head.weight.double(), 0.0 if head.bias is None else head.bias.double()
    z = alone.double() @ weight.T + bias
    after = edited.double() @ weight.T + bias
    p, q = z.log_softmax(-1)[:, None].expand_as(after), after.log_softmax(-1)
    at = target[:, None, None].expand(-1, q.shape[1], 1)
    columns = {name: outcome(z, after, target) for name, outcome in ASKED.items()}
    nll = (p - q).gather(-1, at).squeeze(-1)
    kl = (p.exp() * (p - q).where(p > -torch.inf, 0.0)).sum(-1)
    return nll, kl, after.argmax(-1) != z.argmax(-1)[:, None], columns


def fused(head, alone, edited, target, at_once=1 << 18, widened=1 << 20):
    one = LinearHead(head)
    before = Clean.of(one, alone.float(), one.logits(alone, widened), target)
    return effects(before, edited.float() - alone.float()[:, None], ASKED, at_once, widened)


def agree(got, expected, atol=2e-6, rtol=1e-5):
    nll, kl, flip, columns = expected
    torch.testing.assert_close(got.delta_nll.double(), nll, atol=atol, rtol=rtol)
    torch.testing.assert_close(got.kl.double(), kl, atol=atol, rtol=rtol)
    assert torch.equal(got.flip, flip)
    for name, column in columns.items():
        # Entropy is a difference of two sums where logits move by tens.
        given = (got.extra[name].double(), column.double())
        torch.testing.assert_close(*given, atol=5 * atol, rtol=5 * rtol)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [1e-4, 1e-2, 0.3, 3.0])
@pytest.mark.parametrize("vocab", [97, 1031])
def test_against_float64(vocab, size, bias):
    head, (alone, edited) = made(vocab, bias=bias), rows(5, 7, size=size)
    target = torch.arange(5) * 11 + 3
    expected = whole(head, alone, edited, target)
    for at_once in (
        1,
        300,
        7 * 5 * 64,
        1 << 18,
    ):  # blocks that do not divide the vocabulary, and one of all
        agree(fused(head, alone, edited, target, at_once), expected, atol=2e-6 * max(1, size))
    if size >= 0.3:
        assert expected[2].any() and not expected[2].all()


@pytest.mark.parametrize("each", [1, 2, 20])
def test_against_float64_over_a_large_vocabulary(each):
    """Added up word by word, 49,152 equal shares in float32 are off by 1e-5."""
    head = made(49_152, width=1)
    head.weight.fill_(0.7)
    head.weight[0] = 0.0
    alone, edited = torch.zeros(3, 1), 1 + torch.arange(3.0 * each).reshape(3, each, 1) / 7
    nll, kl, *_ = whole(head, alone, edited, torch.arange(3))
    got = fused(head, alone, edited, torch.arange(3), at_once=1 << 23)
    torch.testing.assert_close(got.delta_nll.double(), nll, atol=5e-6, rtol=0)
    torch.testing.assert_close(got.kl.double(), kl, atol=5e-6, rtol=0)


def test_small_effects_keep_their_digits():
    """Two logits near 10 differ by 1e-5 with two digits left; their difference itself has all of them."""
    head, (alone, edited) = made(500, seed=2), rows(4, 6, size=1e-5)
    nll, kl, _, _ = whole(head, alone, edited, target := torch.arange(4))
    got = fused(head, alone, edited, target)
    size = float(nll.abs().max())
    assert size < 1e-4 and float((got.delta_nll.double() - nll).abs().max()) < 3e-6 * size
    assert float((got.kl.double() - kl).abs().max()) < 2e-2 * float(kl.max())


def test_one_row_and_one_place():
    head, (alone, edited) = made(113), rows(1, 1, size=0.5)
    target = torch.tensor([7])
    agree(fused(head, alone, edited, target), whole(head, alone, edited, target))


def test_an_edit_of_nothing_is_exactly_zero():
    head, (alone, _) = made(301, bias=True), rows(6, 1)
    got = fused(head, alone, alone[:, None].expand(-1, 3, -1), torch.arange(6), 50)
    assert got.delta_nll.abs().max() == got.kl.max() == 0.0 and not got.flip.any()
    for column in got.extra.values():
        assert column.abs().max() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_are_widened_some_at_a_time(dtype):
    """Exact in the weights as they are: what differs from float64 is float32's rounding alone."""
    head, (alone, edited) = made(203, bias=True, dtype=dtype), rows(3, 5, size=0.2)
    alone, edited = alone.to(dtype), edited.to(dtype)
    target = torch.arange(3)
    expected = whole(head, alone, edited, target)
    for widened in (1, 24 * 10, 1 << 20):
        agree(fused(head, alone, edited, target, widened=widened), expected)


def test_equal_tokens_flip_as_the_first_of_them():
    """Tokens of one and the same row tie whatever is edited, so the first of them stays on top."""
    head, (alone, edited) = made(64), rows(40, 20, size=1.0)
    with torch.no_grad():
        head.weight[40:60] = head.weight[:20]
    target = torch.zeros(40, dtype=torch.long)
    z, after = head(alone), head(edited)
    assert (z.argmax(-1) < 20).any()
    expected = after.argmax(-1) != z.argmax(-1)[:, None]
    assert expected.any() and not expected.all()
    for at_once in (20 * 64, 20 * 30, 1 << 18):
        assert torch.equal(fused(head, alone, edited, target, at_once).flip, expected)


def test_a_forbidden_token_does_not_spoil_the_rest():
    head, (alone, edited) = made(90, bias=True), rows(4, 3, size=0.5)
    target = torch.arange(4) + 10
    with torch.no_grad():
        head.bias[20] = -torch.inf
    nll, kl, flip, _ = whole(head, alone, edited, target)
    got = fused(head, alone, edited, target, 100)
    kept = [i for i in range(90) if i != 20]
    short = nn.Linear(24, 89)
    with torch.no_grad():
        short.weight.copy_(head.weight[kept])
        short.bias.copy_(head.bias[kept])
    nll, kl, flip, columns = whole(short, alone, edited, target)
    agree(got, (nll, kl, flip, columns))


def test_what_overflows_says_so():
    head, (alone, edited) = made(90), rows(2, 3, size=500.0)
    got = fused(head, alone, edited, torch.arange(2))
    assert not torch.isfinite(got.delta_nll).all()


def test_a_function_of_ones_own_needs_whole_logits():
    def margin(clean, edited, target):
        return edited.max(-1).values - clean.max(-1).values[:, None]

    assert fusable(ASKED) and not fusable({**ASKED, **further_outcomes([margin])})
