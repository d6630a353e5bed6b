from __future__ import annotations

import numpy as np
import pytest

from moeaudit.errors import InputError
from moeaudit.lab.training.data import Mixture


def documents(n: int, size: int, offset: int) -> list[np.ndarray]:
    return [np.arange(size, dtype=np.uint16) + offset + i * size for i in range(n)]


def test_reads_every_token_once_an_epoch_in_equal_parts():
    mixture = Mixture({"a": documents(10, 8, 0), "b": documents(5, 16, 1000)}, seed=3)
    seen = [mixture.batch(step, 4, 10) for step in range(4)]  # 4 steps x 20 tokens = one epoch
    inputs = np.concatenate([b[:, :-1] for b in seen])
    a, b = inputs[inputs < 1000], inputs[inputs >= 1000]
    assert sorted(a) == list(range(80))
    assert sorted(b - 1000) == list(range(80))


def test_rows_are_consecutive_and_targets_are_the_next_token():
    mixture = Mixture({"a": documents(10, 8, 0)}, seed=3)
    first, second = mixture.batch(0, 2, 10), mixture.batch(1, 2, 10)
    assert first[0, -1] == first[1, 0]
    assert first[1, -1] == second[0, 0]


def test_a_step_depends_on_seed_and_step_alone():
    texts = {"a": documents(10, 8, 0), "b": documents(5, 16, 1000)}
    straight = Mixture(texts, seed=3)
    late = Mixture(texts, seed=3).batch(9, 4, 10)
    for step in range(10):
        read = straight.batch(step, 4, 10)
    assert (read == late).all()
    assert not (late == Mixture(texts, seed=4).batch(9, 4, 10)).all()


def test_row_length_does_not_change_how_far_a_step_reads():
    texts = {"a": documents(10, 8, 0)}
    short = Mixture(texts, 0).batch(2, 4, 5)[:, :-1].reshape(-1)
    long = Mixture(texts, 0).batch(2, 2, 10)[:, :-1].reshape(-1)
    assert (short == long).all()


def test_beginning_is_what_was_read_first():
    mixture = Mixture({"a": documents(10, 8, 0)}, seed=3)
    start = mixture.beginning("a", 20)
    assert [len(d) for d in start] == [8, 8, 4]
    assert (np.concatenate(start) == mixture.batch(0, 1, 20)[0, :-1]).all()
    assert sum(len(d) for d in mixture.beginning("a", 1000)) == 80


def test_refuses_what_it_cannot_mix():
    with pytest.raises(InputError, match="no tokens in \\['b'\\]"):
        Mixture({"a": documents(1, 8, 0), "b": []}, 0)
    mixture = Mixture({"a": documents(1, 8, 0), "b": documents(1, 8, 0)}, 0)
    with pytest.raises(InputError, match="equally among 2"):
        mixture.batch(0, 3, 4)
