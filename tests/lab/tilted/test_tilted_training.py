"""The tilted loss in a training of the lab: what it weighs, when it begins, what it refuses."""

import pytest
import torch

import moeaudit.lab as lab
from moeaudit.errors import InputError
from moeaudit.lab.tilted import Tilted, tilted
from moeaudit.lab.training.data import Mixture
from moeaudit.lab.training.mechanism import MECHANISMS, Mechanism, mechanism
from moeaudit.lab.training.steps import Steps
from moeaudit.lab.training.text import texts_of

LOSSES = torch.tensor([0.0, 1.0, 3.0])


def after(steps: int, **settings):
    """Every weight after some steps of a small model of two layers, and the log."""
    shape = {"layers": 2, "experts": 4, "width": 16, **settings}
    recipe = lab.recipe("olmoe", quick=True, steps=10, seed=3).changed(**shape)
    texts = texts_of(recipe.text)
    mixture, made = Mixture(texts.train, 3), Steps(recipe, texts.vocabulary)
    log = [made.advance(mixture) for _ in range(steps)]
    return torch.cat([p.detach().flatten() for p in made.model.parameters()]), log


def test_the_tilt_begins_after_the_warm_up():
    made = mechanism("tilted", {"strength": 2.0, "warm_up": 0.4})
    assert made == Tilted() and mechanism("tilted", made.to_dict()) == made
    assert made.of_tokens(LOSSES, 0.39) is None
    weight = torch.tensor([0.0, 2.0, 6.0]).softmax(0)
    assert made.of_tokens(LOSSES, 0.4) == pytest.approx(float((weight * LOSSES).sum()))
    assert tilted(LOSSES, 0.0) == pytest.approx(4 / 3)


def test_a_tilt_without_strength_trains_the_plain_model_and_one_with_strength_another():
    plain, log = after(2)
    even, same = after(2, mechanisms={"tilted": {"strength": 0.0, "warm_up": 0.0}})
    # Another order of the same sums in bfloat16, so not bit for bit.
    assert [r["nll"] for r in same] == pytest.approx([r["nll"] for r in log], abs=5e-3)
    assert (even - plain).abs().mean() < 1e-3
    late, _ = after(2, mechanisms={"tilted": {"warm_up": 0.2}})
    assert torch.equal(late, even)  # both steps lie in the warm-up
    worst, _ = after(2, mechanisms={"tilted": {"warm_up": 0.0}})
    assert (worst - even).abs().mean() > 3 * (even - plain).abs().mean()


def test_a_dense_model_can_be_tilted():
    made = lab.recipe("dense", mechanisms={"tilted": {}})
    assert [m.name for m in made.mechanisms] == ["tilted"]
    with pytest.raises(
        InputError, match="emo.*changes routing or experts, and a llama has neither"
    ):
        lab.recipe("dense", mechanisms={"tilted": {}, "emo": {}})


def test_what_means_nothing_is_refused(monkeypatch):
    for settings, words in (
        ({"strength": -1.0}, "strength = -1.0: 0 or more was expected"),
        ({"strength": float("nan")}, "0 or more"),
        ({"strength": True}, "0 or more"),
        ({"warm_up": 1.5}, "warm_up = 1.5: a share of the steps"),
        ({"warm_up": "0.4"}, "a share of the steps"),
    ):
        with pytest.raises(InputError, match=words):
            mechanism("tilted", settings)

    class Other(Mechanism):
        name = "other"

        def of_tokens(self, losses, done):  # noqa: ARG002
            return losses.max()

    monkeypatch.setattr(MECHANISMS, "_made", {})
    MECHANISMS.register(Other)
    with pytest.raises(InputError, match="both say what the tokens' losses add up to"):
        lab.recipe("olmoe", mechanisms={"tilted": {}, "other": {}})
