"""Many documents in one walk: each layer is used once for all of them, and no number moves."""

from __future__ import annotations

import pandas as pd
import pytest
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal import replay_for
from moeaudit.causal.walk import engine
from moeaudit.causal.walk.plan import WalkPlan

DOCS = [tiny_moe.ids(n, seed) for seed, n in enumerate((9, 14, 2, 9))]


@pytest.fixture
def together(monkeypatch):
    """Walks that really were of several documents, by their number."""
    sizes: list[int] = []
    real = engine.walk_together

    def counted(plan, texts):
        sizes.append(len(texts))
        return real(plan, texts)

    monkeypatch.setattr(engine, "walk_together", counted)
    monkeypatch.setattr(WalkPlan, "streams", True)
    return sizes


@pytest.mark.parametrize("architecture", ["olmoe", "qwen2_moe", "deepseek_v2"])
@pytest.mark.parametrize(
    ("operator", "options"),
    [
        (ma.Zero(), {}),
        (ma.Reroute(), {"horizon": 3}),
        (ma.Zero(), {"frozen_routing": True, "outcomes": ["delta_entropy"]}),
    ],
)
def test_not_one_bit_depends_on_what_walks_beside(architecture, operator, options, together):
    model = tiny_moe.load(architecture)
    alone = [ma.ablate(model, [ids], operator, **options) for ids in DOCS[:2]]
    assert not together
    whole = ma.ablate(model, DOCS, operator, **options)
    assert together == [4]
    for document, table in enumerate(alone):
        mine = whole[whole.document == document].drop(columns="document").reset_index(drop=True)
        pd.testing.assert_frame_equal(
            pd.DataFrame(mine), pd.DataFrame(table.drop(columns="document")), check_exact=True
        )


def test_each_layer_is_called_for_all_documents_before_the_next(together):
    model = tiny_moe.load("olmoe")
    replay_for(model)
    called: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_, i=i: called.append(i))
        for i, layer in enumerate(model.anatomy.decoder_layers)
    ]
    try:
        replay_for(model)  # found anew, since the hooks are new
        called.clear()
        ma.ablate(model, DOCS)
    finally:
        for hook in hooks:
            hook.remove()
    assert called == sorted(called) and set(called) == {0, 1, 2}


def test_documents_that_do_not_fit_walk_in_turns(together, monkeypatch):
    model = tiny_moe.load("olmoe")
    whole = ma.ablate(model, DOCS)
    together.clear()
    rows = (9 - 1 + 14 - 1) * (1 + 3 * 3)
    budgets.use(monkeypatch, residuals=rows * 32 * 4)
    turns = ma.ablate(model, DOCS)
    assert together == [2, 2]
    pd.testing.assert_frame_equal(pd.DataFrame(turns), pd.DataFrame(whole), check_exact=True)


def test_layers_that_are_not_called_with_what_came_before_walk_one_by_one(together):
    """Here a hook comes between; in some models the model itself does."""
    built = tiny_moe.build("olmoe")
    built.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0] * 1.5, *args[1:]))
    model = ma.load(built)
    replay = replay_for(model)
    assert replay.engine == "wavefront" and not replay.driven
    effects = ma.ablate(model, DOCS)
    assert not together and ma.verify(effects, model, 6).agrees
