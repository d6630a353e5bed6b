"""The protocol: a mechanism that says nothing changes nothing, and a wrong one is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from moeaudit.errors import InputError
from moeaudit.lab.training.mechanism import MECHANISMS, Batch, Mechanism, Routed, mechanism


@dataclass(frozen=True)
class Noisy(Mechanism):
    name: ClassVar[str] = "noisy"
    strength: float = 1.0


@pytest.fixture
def noisy(monkeypatch):
    monkeypatch.setattr(MECHANISMS, "_made", {})
    return MECHANISMS.register(Noisy)


def test_the_base_class_changes_nothing():
    logits = torch.randn(6, 4)
    batch = Batch(
        torch.zeros(2, 3, dtype=torch.long), ["a", "b"], torch.zeros(2, 3, dtype=torch.long)
    )
    routed = Routed(0, logits, logits.softmax(-1), logits.topk(2).indices)
    plain = Mechanism()
    assert plain.route(0, logits, batch) is logits
    assert plain.loss([routed], batch) is None
    assert plain.rate("model.layers.0.mlp.gate.weight", logits) == 1.0
    assert plain.of_tokens(logits[:, 0], 0.5) is None
    assert plain.to_dict() == {}


def test_settings_go_to_a_dictionary_and_back(noisy):
    made = mechanism("noisy", {"strength": 2.0})
    assert made == noisy(2.0)
    assert noisy.from_dict(made.to_dict()) == made


def test_wrong_names_are_refused_by_name(noisy):
    with pytest.raises(InputError, match="'noise'.*Did you mean noisy"):
        mechanism("noise", {})
    with pytest.raises(InputError, match=r"key of \[mechanisms.noisy\] 'strenght'.*strength"):
        mechanism("noisy", {"strenght": 2.0})
    assert set(MECHANISMS) == {
        "tying",
        "zero_experts",
        "emo",
        "complete_mue",
        "tilted",
        "noisy",
    }
    assert len(MECHANISMS) == 6


def test_a_mechanism_that_is_not_here_yet_is_said(monkeypatch):
    monkeypatch.setitem(MECHANISMS._places, "tying", "moeaudit.lab.nowhere:Tying")
    monkeypatch.setattr(MECHANISMS, "_made", {})
    with pytest.raises(InputError, match="no moeaudit.lab.nowhere to train it"):
        mechanism("tying", {})
