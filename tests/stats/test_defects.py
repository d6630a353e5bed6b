"""Each published defect switched on and off: what it changes, by hand, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made.census import QUICK, census

from moeaudit.errors import InputError
from moeaudit.stats import Defects, contrast, defective_metrics, get_protocol
from moeaudit.store.question import Question

EXPERTS, TOP_K = 8, 3
LENGTHS = (12, 5, 9, 12, 3, 7)


@pytest.fixture
def routed():
    """A softmax router's choices in two layers: the routing table, and every logit (token, expert)."""
    rng = np.random.default_rng(0)
    frames, every = [], {}
    for layer in (1, 4):
        document = np.repeat(np.arange(6), LENGTHS)
        position = np.concatenate([np.arange(n) for n in LENGTHS])
        logits = rng.normal(size=(len(document), EXPERTS)) + np.linspace(-1, 1, EXPERTS)
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        chosen = np.argsort(-p, axis=1)[:, :TOP_K]
        rows = np.arange(len(document))[:, None]
        every[layer] = logits
        frames.append(
            pd.DataFrame(
                {
                    "document": document.repeat(TOP_K),
                    "position": position.repeat(TOP_K),
                    "layer": layer,
                    "rank": np.tile(np.arange(TOP_K), len(document)),
                    "expert": chosen.ravel(),
                    "logit": logits[rows, chosen].ravel(),
                    "weight": p[rows, chosen].ravel(),
                    "output_norm": rng.gamma(3, size=chosen.size),
                }
            )
        )
    return pd.concat(frames, ignore_index=True), every


def build(routed, **options):
    defects = Defects(**{k: True for k in options.pop("on", ())})
    table = defective_metrics(routed, {1: EXPERTS, 4: EXPERTS}, defects, **options)
    return table, table.set_index(["metric", "layer", "expert"]).value.sort_index()


def test_with_all_switches_off_they_are_the_metrics_by_their_definitions(routed):
    routing, _ = routed
    table, got = build(routing)
    assert table.attrs["defects"] == []
    part = routing[(routing.layer == 4) & (routing.expert == 6)]
    assert got["utilisation", 4, 6] == pytest.approx(len(part) / sum(LENGTHS), abs=1e-12)
    assert got["mean_weight", 4, 6] == pytest.approx(part.weight.mean(), abs=1e-12)
    assert got["activation_norm", 4, 6] == pytest.approx(part.output_norm.mean(), abs=1e-12)
    assert got["activation_sd", 4, 6] == pytest.approx(part.output_norm.std(ddof=1), abs=1e-12)


def test_padding_counts_the_last_position_again_up_to_the_longest_document(routed):
    routing, _ = routed
    clean = build(routing)[1]
    table, padded = build(routing, on=["padding_in_metrics"])
    assert table.attrs["defects"] == ["padding_in_metrics"] and not padded.equals(clean)
    for layer, expert in ((1, 2), (4, 7)):
        part = routing[(routing.layer == layer) & (routing.expert == expert)]
        count, total = 0.0, 0.0
        for document, length in enumerate(LENGTHS):
            own = part[part.document == document]
            last = own[own.position == length - 1]
            count += len(own) + (12 - length) * len(last)
            total += own.output_norm.sum() + (12 - length) * last.output_norm.sum()
        assert padded["utilisation", layer, expert] == pytest.approx(count / 72, abs=1e-12)
        assert padded["activation_norm", layer, expert] == pytest.approx(total / count, abs=1e-12)
    # Padding that was really captured is counted as it is.
    real = routing[(routing.document == 0) & (routing.position == 3)]
    given = build(routing, on=["padding_in_metrics"], padding=real)[1]
    by_hand = build(pd.concat([routing, real.assign(document=99)]))[1]
    pd.testing.assert_series_equal(given, by_hand)


def test_documents_of_one_length_have_no_padding(routed):
    routing = routed[0][routed[0].document.isin([0, 3])]
    padded, clean = build(routing, on=["padding_in_metrics"])[1], build(routing)[1]
    pd.testing.assert_series_equal(padded, clean)


@pytest.mark.parametrize(
    ("switch", "metric"),
    [("logits_as_utilisation", "utilisation"), ("weight_over_all_tokens", "mean_weight")],
)
def test_logits_stand_where_a_frequency_or_a_weight_should(routed, switch, metric):
    routing, every = routed
    clean = build(routing)[1]
    table, got = build(routing, on=[switch], logits=mean_logits(every))
    assert table.attrs["defects"] == [switch]
    for layer, logits in every.items():
        np.testing.assert_allclose(got[metric, layer].to_numpy(), logits.mean(axis=0), atol=1e-12)
    assert (got[metric] < 0).any()  # what gave the published defect away
    others = [
        m for m in ("utilisation", "activation_norm", "mean_weight", "activation_sd") if m != metric
    ]
    pd.testing.assert_series_equal(got[others], clean[others])


def test_logits_are_not_made_up(routed):
    routing, _ = routed
    for switch in ("logits_as_utilisation", "weight_over_all_tokens"):
        with pytest.raises(InputError, match="router_logits"):
            build(routing, on=[switch])
    part = pd.DataFrame({"layer": 1, "expert": range(EXPERTS), "logit": 0.5})
    with pytest.raises(InputError, match="table of logits, layer 4, holds 8"):
        build(routing, on=["logits_as_utilisation"], logits=part)


def test_metrics_come_from_the_tested_documents_or_from_the_others(routed):
    routing, _ = routed
    apart = build(routing, tested=[0, 1])[1]
    pd.testing.assert_series_equal(apart, build(routing[routing.document > 1])[1])
    table, same = build(routing, tested=[0, 1], on=["metrics_from_tested_documents"])
    assert table.attrs["defects"] == ["metrics_from_tested_documents"]
    pd.testing.assert_series_equal(same, build(routing[routing.document <= 1])[1])
    with pytest.raises(InputError, match="needs tested"):
        build(routing, on=["metrics_from_tested_documents"])
    with pytest.raises(InputError, match="no document outside the tested"):
        build(routing, tested=range(6))


def mean_logits(every):
    rows = [(y, e, v) for y, x in every.items() for e, v in enumerate(x.mean(axis=0))]
    return pd.DataFrame(rows, columns=["layer", "expert", "logit"])


def test_the_published_protocol_runs_with_each_defect_of_the_metrics(routed):
    routing, every = routed
    rng = np.random.default_rng(1)
    effects = routing.assign(delta_nll=rng.normal(size=len(routing)) + routing.logit)
    recipe = get_protocol("engmann2026").with_(positions=None, n_layers=None)
    off = contrast(effects, build(routing, tested=[])[0], protocol=recipe, **QUICK)
    for name in Defects.IN_METRICS:
        tested = range(6) if name == "metrics_from_tested_documents" else None
        table = build(routing, on=[name], tested=tested, logits=mean_logits(every))[0]
        on = recipe.with_(defects=Defects(**{name: True}))
        result = contrast(effects, table, protocol=on, **QUICK)
        assert result.attrs["defects"] == [name]
        moved = result[result.role == "metric"].d_z.ne(off[off.role == "metric"].d_z)
        # Here all documents are tested, so this switch alone has the same documents either way.
        assert moved.any() != (name == "metrics_from_tested_documents"), name
        if name != "metrics_from_tested_documents":
            with pytest.raises(InputError, match="has it switched off"):
                contrast(effects, table, protocol=recipe, **QUICK)


class Asked(pd.DataFrame):
    """Effects that know their question, as `ablate` returns them."""

    _metadata = ["question", "intervention"]


def asked(effects, scope, name="zero"):
    table = Asked(effects)
    object.__setattr__(table, "question", Question(name, {"operator": "zero"}, scope))
    object.__setattr__(table, "intervention", name)
    return table


@pytest.mark.parametrize("scope", ["document", "model"])
def test_whole_sequence_effects_are_known_by_their_question(scope):
    effects, metrics = census()
    on = get_protocol("moeaudit").with_(defects=Defects(whole_sequence_ablated=True))
    with pytest.raises(InputError, match="Everywhere"):
        contrast(effects, metrics, protocol=on, **QUICK)
    table = contrast(asked(effects, scope), metrics, protocol=on, **QUICK)
    assert table.attrs["defects"] == ["whole_sequence_ablated"]
    # A name decides nothing: an operator of one token may be called what it likes.
    with pytest.raises(InputError, match="Everywhere"):
        contrast(asked(effects, "position", "sequence odds"), metrics, protocol=on, **QUICK)
    # With the switch off the numbers are those of the table that is given.
    np.testing.assert_array_equal(
        contrast(effects, metrics, **QUICK).d_z.to_numpy(float), table.d_z.to_numpy(float)
    )
