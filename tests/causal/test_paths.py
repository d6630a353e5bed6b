"""Horizons, frozen routing and further outcomes, each against plain forwards written out here."""

import numpy as np
import pytest
import torch
from made import architectures, budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal import Renormalize, Swap, Zero
from moeaudit.causal.operators.routing import Edits
from moeaudit.errors import InputError
from moeaudit.models.router import named_experts

NAMES = ["olmoe", "qwen2_moe", "deepseek_v2", "mixtral", "deepseek_v3", "qwen3_moe", "gpt_oss"]
NAMES += ["flex_olmo", "jamba", "mimo_v2_flash"]
TOKENS, HORIZON = 13, 3


def load(name):
    return ma.load(architectures.BY_NAME[name].build())


def document(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(16, architectures.VOCABULARY, (TOKENS,), generator=generator)


def forward(model, ids, row=None, answers=None, heard=None):
    """Log-probabilities of one forward; `row` is removed, later routers say what `answers` holds."""
    handles = []
    for layer in model.anatomy.layers:

        def hook(module, args, kwargs, layer=layer):
            hidden, index, weight = [*args, *kwargs.values()]
            if heard is not None:
                heard[layer.index] = (index.clone(), weight.clone())
            if answers is not None and layer.index != row.layer:
                index, weight = answers[layer.index]
            weight = weight.clone()
            if row is not None and layer.index == row.layer:
                weight[row.position, index[row.position] == row.expert] = 0.0
            return (hidden, index, weight), {}

        handles.append(layer.experts.register_forward_pre_hook(hook, with_kwargs=True))
    with torch.no_grad():
        logits = model.hf(input_ids=ids[None], use_cache=False).logits[0].double()
    for handle in handles:
        handle.remove()
    return torch.log_softmax(logits, -1)


def changes(clean, edited, ids):
    """Change in NLL of each prediction, nats."""
    targets = ids[1:, None]
    return (clean[:-1].gather(1, targets) - edited[:-1].gather(1, targets))[:, 0]


@pytest.mark.parametrize("name", NAMES)
def test_paths_equal_plain_forwards(name):
    model, ids = load(name), document()
    effects = ma.decompose(model, [ids], horizon=HORIZON)
    answers = {}
    clean = forward(model, ids, heard=answers)
    last = TOKENS - 2
    for row in effects.sample(5, random_state=3).itertuples():
        live = changes(clean, forward(model, ids, row), ids)
        frozen = changes(clean, forward(model, ids, row, answers), ids)
        after = slice(row.position + 1, row.position + 1 + HORIZON)
        assert row.tokens_after == min(HORIZON, last - row.position)
        assert live[: row.position].abs().sum() < 1e-5  # what came before the edit stands
        found = (row.delta_nll, row.direct_nll, row.spill_nll, row.spill_direct)
        plain = (live[row.position], frozen[row.position], live[after].sum(), frozen[after].sum())
        np.testing.assert_allclose(found, plain, atol=1e-5)
    assert effects.spill_nll.abs().max() > 1e-3
    assert effects.routing_nll.abs().max() > 1e-6


def test_parts_add_up():
    effects = ma.decompose(tiny_moe.load("olmoe"), [tiny_moe.ids(10)], horizon="all")
    np.testing.assert_allclose(
        effects.direct_nll + effects.routing_nll, effects.delta_nll, atol=1e-7
    )
    np.testing.assert_allclose(effects.total_nll, effects.delta_nll + effects.spill_nll, atol=1e-7)
    np.testing.assert_allclose(
        effects.spill_direct + effects.spill_routing, effects.spill_nll, atol=1e-6
    )
    last = effects[effects.layer == effects.layer.max()]
    # Above the last MoE layer there is neither a router nor attention that an edit could pass.
    assert last.routing_nll.abs().max() < 5e-6 and last.spill_nll.abs().max() < 1e-5
    assert effects[effects.layer == 0].spill_nll.abs().max() > 1e-3


def test_a_horizon_does_not_change_the_own_effect():
    model, ids = tiny_moe.load("deepseek_v2"), tiny_moe.ids(11)
    plain = ma.ablate(model, [ids], Renormalize())
    wide = ma.ablate(model, [ids], Renormalize(), horizon="all")
    np.testing.assert_allclose(wide.delta_nll, plain.delta_nll, atol=5e-6)
    assert list(wide.tokens_after.unique()) == list(range(9, -1, -1))
    short = ma.ablate(model, [ids], Renormalize(), horizon=2)
    near = wide[wide.tokens_after <= 2]
    np.testing.assert_allclose(short.spill_nll[near.index], near.spill_nll, atol=5e-6)


def test_small_pieces_give_the_same_spill(monkeypatch):
    model, ids = tiny_moe.load("qwen2_moe"), tiny_moe.ids(9)
    whole = ma.ablate(model, [ids], horizon=4)
    budgets.use(monkeypatch, scores=1, residuals=1, logits=1)
    pieces = ma.ablate(model, [ids], horizon=4)
    np.testing.assert_allclose(pieces.spill_nll, whole.spill_nll, atol=1e-5)


class Nothing(Zero):
    """Every row is there and none is edited."""

    @property
    def name(self):
        return "nothing"

    def edits(self, routing):
        edits = super().edits(routing)
        return Edits(edits.rank, edits.expert, torch.zeros_like(edits.change))


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_of_nothing_does_exactly_nothing(name):
    effects = ma.ablate(
        load(name), [document()], Nothing(), horizon=2, outcomes=["entropy", "confidence", "brier"]
    )
    columns = ["delta_nll", "kl", "flip", "spill_nll", "spill_kl", "spill_flips"]
    columns += ["delta_entropy", "delta_confidence", "delta_brier"]
    assert (effects[columns].to_numpy(float) == 0.0).all()
    assert 0 < effects.drift < 1e-5  # what a row that is carried without an edit shows of rounding


def test_swapping_an_expert_for_itself_is_exactly_nothing():
    effects = ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(9)], Swap("all"))
    itself = effects[effects.expert == effects.entered]
    assert len(itself) and (itself.delta_nll == 0.0).all() and (itself.kl == 0.0).all()


def test_further_outcomes_equal_their_formulas():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(8)

    def margin(clean, edited, target):
        return edited.max(-1).values - clean.max(-1).values[:, None]

    effects = ma.ablate(
        model,
        [ids],
        outcomes=["entropy", "delta_confidence", "brier", ma.LogitContrast(5, 9), margin],
    )
    clean = forward(model, torch.as_tensor(ids))
    for row in effects.sample(6, random_state=0).itertuples():
        edited = forward(model, torch.as_tensor(ids), row)
        a, b = clean[row.position], edited[row.position]
        p, q = a.exp(), b.exp()
        y = torch.zeros_like(p)
        y[ids[row.position + 1]] = 1
        assert row.delta_entropy == pytest.approx(float((p * a).sum() - (q * b).sum()), abs=1e-5)
        assert row.delta_confidence == pytest.approx(float(q.max() - p.max()), abs=1e-6)
        brier = ((q - y) ** 2).sum() - ((p - y) ** 2).sum()
        assert row.delta_brier == pytest.approx(float(brier), abs=1e-6)
        assert row.contrast_5_9 == pytest.approx(float(b[5] - b[9] - a[5] + a[9]), abs=1e-5)
    assert effects.margin.abs().max() > 0.01


def test_tables_carry_the_routing_that_resulted():
    model, ids = tiny_moe.load("olmoe"), tiny_moe.ids(7)
    zero = ma.ablate(model, [ids])
    assert not [name for name in zero if name.startswith("after_")]
    swap = ma.ablate(model, [ids], Swap(3))
    for row in swap.itertuples():
        after = {row.after_expert_0, row.after_expert_1, row.after_expert_2}
        assert 3 in after
        assert row.after_weight_0 >= row.after_weight_1 >= row.after_weight_2
    summed = ma.ablate(model, [ids], Renormalize("one"))
    total = summed.after_weight_0 + summed.after_weight_1
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert "after_weight_2" not in summed


def wrong_shape(clean, edited, target):
    return clean


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"horizon": 7}, "at most 5 predictions come after"),
        ({"horizon": -1}, "a number of tokens from 0"),
        ({"outcomes": ["surprise"]}, "no outcome called 'surprise'. Expected one of delta_entropy"),
        ({"outcomes": "entropy"}, "a list was expected"),
        ({"outcomes": [ma.LogitContrast(1, 10**6)]}, "token 1000000 does not exist"),
        ({"outcomes": [lambda clean, edited, target: clean]}, "no name for a column"),
        ({"outcomes": [wrong_shape]}, "one number for each position and row was expected"),
        ({"outcomes": ["entropy", "delta_entropy"]}, "a second column of that name"),
    ],
    ids=["far", "negative", "unknown", "bare", "token", "lambda", "wrong", "twice"],
)
def test_what_cannot_be_asked(options, words):
    with pytest.raises(InputError, match=words):
        ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(7)], **options)


@pytest.mark.parametrize("experts", [{3: 5}, [3], {0: ["a"]}, {"0": [1]}], ids=str)
def test_experts_named_in_another_way(experts):
    with pytest.raises(InputError, match="such as {3"):
        named_experts(experts)
