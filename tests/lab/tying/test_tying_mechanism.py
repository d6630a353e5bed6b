"""Expert Tying as a mechanism of training: registered, written down, rates of shared tensors."""

from __future__ import annotations

import pytest
from made.tiny_moe import build

from moeaudit.errors import InputError
from moeaudit.lab.training.mechanism import MECHANISMS, mechanism
from moeaudit.lab.tying import Tying, tied_groups


def test_the_mechanism_is_registered_and_comes_back_from_its_settings():
    assert MECHANISMS["tying"] is Tying
    made = mechanism("tying", {"group": 2, "groups": [[1, 2]], "rate_of_shared": "sqrt"})
    assert isinstance(made, Tying) and mechanism("tying", made.to_dict()) == made
    made.prepare(build("olmoe", num_hidden_layers=4), None)
    assert mechanism("tying", made.to_dict()) == made  # what it learnt of the model is no setting


@pytest.mark.parametrize(("rate", "factor"), [("same", 1.0), ("sqrt", 3**-0.5)])
def test_rates(rate, factor):
    hf = build("olmoe", num_hidden_layers=5)
    made = Tying(group=3, rate_of_shared=rate)
    with pytest.raises(InputError, match="prepare"):
        made.rate("lm_head.weight", hf.lm_head.weight)
    made.prepare(hf, hf.config)
    assert tied_groups(hf) == ((1, 2, 3),)
    rates = {name: made.rate(name, p) for name, p in hf.named_parameters()}
    shared = {f"model.layers.1.mlp.experts.{name}" for name in ("gate_up_proj", "down_proj")}
    assert shared <= rates.keys()
    assert {name for name, value in rates.items() if value != 1.0} == (
        shared if factor != 1 else set()
    )
    assert {rates[name] for name in shared} == {factor}


def test_settings_that_cannot_be():
    with pytest.raises(InputError, match="rate_of_shared"):
        Tying(rate_of_shared="half")
    with pytest.raises(InputError, match="two groups"):
        Tying(groups=[[0, 1], [1, 2]])
    with pytest.raises(InputError, match=r"a key of \[mechanisms.tying\]"):
        mechanism("tying", {"groep": 2})
