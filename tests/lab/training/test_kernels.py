"""The training kernels against the stock implementations: values and gradients."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.olmoe.modeling_olmoe import OlmoeRMSNorm

from moeaudit.lab.bundled.configs import architecture
from moeaudit.lab.training import kernels


def loss_and_gradients(config, state, attention, experts):
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, experts_implementation=experts
    )
    if state is not None:
        model.load_state_dict(state)
    ids = torch.randint(64, (3, 40), generator=torch.Generator().manual_seed(1))
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    if attention == kernels.ATTENTION:
        loss = kernels.head_loss(hidden.flatten(0, 1), model.lm_head.weight, ids[:, 1:].reshape(-1))
    else:
        logits = model.lm_head(hidden).flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, ids[:, 1:].reshape(-1))
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}, model.state_dict()


def test_kernels_equal_stock_code(family):
    kernels.register()
    torch.manual_seed(0)
    config = architecture(family, 64)
    stock, expected, state = loss_and_gradients(config, None, "eager", "eager")
    ours, gradients, _ = loss_and_gradients(config, state, kernels.ATTENTION, kernels.EXPERTS)
    assert ours == pytest.approx(stock, abs=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=2e-6, rtol=1e-3, msg=name)
    assert any(g.abs().max() > 1e-4 for n, g in expected.items() if "experts" in n)


def test_norm_equals_stock_code():
    torch.manual_seed(0)
    stock = OlmoeRMSNorm(16)
    with torch.no_grad():
        stock.weight.normal_()
    x = torch.randn(2, 5, 16, requires_grad=True)
    wanted = torch.randn(2, 5, 16)
    results = []
    for forward in (stock.forward, kernels.norm_forward(stock)):
        x.grad = stock.weight.grad = None
        out = forward(x)
        (out * wanted).sum().backward()
        results.append((out.detach(), x.grad, stock.weight.grad))
    torch.testing.assert_close(results[0], results[1])


def test_head_loss_spans_blocks(monkeypatch):
    monkeypatch.setattr(kernels, "_ROWS_PER_BLOCK", 7)
    torch.manual_seed(0)
    hidden = torch.randn(23, 8, requires_grad=True)
    head = torch.randn(11, 8, requires_grad=True)
    target = torch.randint(11, (23,))
    kernels.head_loss(hidden, head, target).backward()
    got = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    torch.nn.functional.cross_entropy(hidden @ head.T, target).backward()
    torch.testing.assert_close(got[0], hidden.grad)
    torch.testing.assert_close(got[1], head.grad)


def test_attention_refuses_masks_it_would_ignore():
    q = torch.randn(1, 1, 4, 8)
    with pytest.raises(ValueError, match="mask"):
        kernels.training_attention(torch.nn.Identity(), q, q, q, torch.ones(4, 4), 1.0)
