"""The one way to refuse a wrong choice."""

from __future__ import annotations

import pytest

from moeaudit.errors import InputError, RunError, one_of


def test_a_known_choice_comes_back_as_it_is():
    assert one_of("kl", {"delta_nll": 1, "kl": 2}, "outcome") == "kl"
    assert one_of(None, ("group", None), "grouping") is None


def test_the_message_names_what_was_given_and_every_choice():
    with pytest.raises(InputError) as caught:
        one_of("loss", ("delta_nll", "kl"), "outcome")
    assert str(caught.value) == "Unknown outcome 'loss'. Choose one of delta_nll, kl."


def test_a_slip_of_the_pen_is_guessed_at():
    with pytest.raises(
        InputError, match=r"Unknown outcome 'delta_nl'\. .* Did you mean delta_nll\?"
    ):
        one_of("delta_nl", ("delta_nll", "kl"), "outcome")


@pytest.mark.parametrize("value", [None, 3, ["kl"], ("kl",)])
def test_values_of_another_kind_are_refused_and_not_crashed_on(value):
    with pytest.raises(InputError, match="Unknown outcome"):
        one_of(value, ("delta_nll", "kl"), "outcome")


def test_the_kind_of_error_is_the_callers():
    with pytest.raises(RunError):
        one_of("a", "bc", "letter", error=RunError)


def test_an_argument_is_named_as_it_is_written():
    with pytest.raises(InputError, match=r"Unknown per='expert'\. Choose one of token\."):
        one_of("expert", ("token",), "per=")
