"""Ctrl-C in the middle of a call leaves the model as it was: no hook, no mode, no gradient, the same numbers."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from made import tiny_run

import moeaudit as ma

LENGTH = {"max_length": 16}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return ma.load(tiny_run.save(tmp_path_factory.mktemp("model") / "tiny"))


@pytest.fixture(scope="module")
def before(model):
    """Numbers from before any interruption."""
    return ma.ablate(model, tiny_run.TEXTS[:2], **LENGTH)


def state(model):
    """Everything of a model that a call may change while it runs."""
    hf = model.hf
    return {
        "hooks": {n: [len(getattr(m, h)) for h in HOOKS] for n, m in hf.named_modules()},
        "training": {n: m.training for n, m in hf.named_modules()},
        "own": {n: sorted(set(vars(m)) - {"forward"}) for n, m in hf.named_modules()},
        "grad": {n: (p.requires_grad, p.grad is None) for n, p in hf.named_parameters()},
        "attention": hf.config._attn_implementation,
        "experts": model.experts_implementation,
        "enabled": torch.is_grad_enabled(),
    }


class Interrupting:
    """Raises KeyboardInterrupt at the n-th time that the last decoder layer's norm is asked."""

    def __init__(self, model, n):
        self.norm, self.n, self.calls = model.anatomy.decoder_layers[-1].input_layernorm, n, 0

    def __enter__(self):
        forward = self.norm.forward

        def interrupted(*args, **kwargs):
            self.calls += 1
            if self.calls == self.n:
                raise KeyboardInterrupt
            return forward(*args, **kwargs)

        self.norm.forward = interrupted
        return self

    def __exit__(self, *_):
        del self.norm.forward


SOME = tiny_run.TEXTS[:4]
REST = tiny_run.TEXTS[4:]
HOME, AWAY, FIT = ([f"{i} {side} of a text" for i in range(12)] for side in ("home", "away", "fit"))
CALLS = {
    "ablate": (lambda m, _: ma.ablate(m, SOME, **LENGTH), 3),
    "ablate to a folder": (lambda m, out: ma.ablate(m, SOME, out=out / "effects", **LENGTH), 3),
    "everywhere": (lambda m, _: ma.ablate(m, SOME, ma.Everywhere(ma.Zero()), **LENGTH), 2),
    "without": (lambda m, _: ma.ablate(m, SOME, ma.Without({1: [0]}), **LENGTH), 2),
    "capture": (lambda m, _: ma.capture(m, SOME, **LENGTH), 2),
    "screen": (lambda m, _: ma.screen(m, SOME, exact=4, **LENGTH), 2),
    "decompose": (lambda m, _: ma.decompose(m, SOME, **LENGTH), 6),
    "expert_outputs": (lambda m, _: ma.expert_outputs(m, SOME), 2),
    "coalitions": (lambda m, _: ma.ablate(m, SOME, ma.Coalitions((1, 2)), **LENGTH), 3),
    "prune_curve": (
        lambda m, _: ma.prune_curve(m, SOME, ["utilisation"], 0.5, calibration=REST, draws=2),
        6,
    ),
    "calibration_audit": (
        lambda m, _: ma.calibration_audit(m, HOME, AWAY, [{1: [0]}], fit=FIT, draws=20),
        30,
    ),
    "audit": (lambda m, out: ma.audit(m, tiny_run.TEXTS, out=out / "run", tokens=12), 12),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupted_call_leaves_the_model_clean(name, model, before, tmp_path):
    call, n = CALLS[name]
    was = state(model)
    with Interrupting(model, n) as at, pytest.raises(KeyboardInterrupt):
        call(model, tmp_path)
    assert at.calls == n
    assert state(model) == was
    after = ma.ablate(model, tiny_run.TEXTS[:2], **LENGTH)
    pd.testing.assert_frame_equal(pd.DataFrame(after), pd.DataFrame(before), check_exact=True)


@pytest.mark.parametrize("engine", ["hooks", "nnsight"])
def test_an_interrupted_verification_does_too(engine, model, before):
    ma.verify(before, model, n=1, engine=engine)  # nnsight wraps the model once, for good
    was = state(model)
    with Interrupting(model, 2), pytest.raises(KeyboardInterrupt):
        ma.verify(before, model, n=4, engine=engine)
    assert state(model) == was
    after = ma.ablate(model, tiny_run.TEXTS[:2], **LENGTH)
    pd.testing.assert_frame_equal(pd.DataFrame(after), pd.DataFrame(before), check_exact=True)


def test_a_model_in_training_mode_is_given_back_in_it(model, before):
    model.hf.train()
    try:
        was = state(model)
        with Interrupting(model, 2), pytest.raises(KeyboardInterrupt):
            ma.ablate(model, SOME, **LENGTH)
        assert state(model) == was and model.hf.training
    finally:
        model.hf.eval()
