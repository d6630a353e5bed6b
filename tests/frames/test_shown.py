"""Every public result shows itself in a notebook and in plain text: small, and with hostile text inert."""

from __future__ import annotations

import dataclasses
import inspect
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from made import pruning_curve, tiny_run
from made.without_page import without_page

import moeaudit as ma
from moeaudit.frames.said import Said
from moeaudit.frames.shown import clip

MOST = 200_000  # bytes of a cell
HOSTILE = "<script>alert(1)</script>&<img src=x onerror=alert(2)>"


HARMLESS = {
    *(
        "p",
        "b",
        "code",
        "small",
        "pre",
        "div",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
    ),
    *("caption", "h3", "h4", "strong", "br", "sub", "sup"),
    *("svg", "g", "rect", "text", "title", "style"),
}


class Tags(HTMLParser):
    """The tags and the names of attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    found = ma.load(tiny_run.save(tmp_path_factory.mktemp("model") / "tiny"))
    found.name = f"tiny {HOSTILE}"
    return found


@pytest.fixture(scope="module")
def docs():
    texts = [f"{HOSTILE} {text}" for text in tiny_run.TEXTS]
    return ma.Corpus(
        [
            ma.Document(t, HOSTILE if i % 2 else "plain", source=HOSTILE)
            for i, t in enumerate(texts)
        ],
        notes=[HOSTILE],
    )


@pytest.fixture(scope="module")
def world(model, docs, tmp_path_factory):
    """What the public calls return, small and with hostile names in it."""
    folder = tmp_path_factory.mktemp("shown")
    some = docs[:6]
    effects = ma.ablate(model, some, max_length=24)
    trace = ma.capture(model, docs[6:14], max_length=24)
    metrics = ma.expert_metrics(trace, ["utilisation", "mean_weight"])
    rng = np.random.default_rng(0)
    predictions = ma.Predictions.of(
        rng.random(400),
        rng.random(400) < 0.6,
        group=[HOSTILE, "plain"] * 200,
        document=np.repeat(np.arange(40), 10),
    )
    small = {"tokens": 12, "layers": [0, 1], "metrics": ["utilisation"], "outcome": "delta_nll"}
    checked = {"verify_rows": 1, "verify_engines": ("hooks",)}
    with without_page():
        run = ma.audit(model, docs, out=folder / "run", **small, **checked)
        other = ma.audit(model, docs, out=folder / "other", operator="reroute", **small, **checked)
    quick = {"layers": [0, 1], "n_boot": 200, "n_flips": 200}
    curve = pruning_curve.curve_of({"reap": 0.1, HOSTILE: 0.2})
    heard = ma.expert_outputs(model, docs[6:14])
    return {
        "Model": model,
        "Corpus": docs,
        "Document": docs[1],
        "Effects": effects,
        "EffectsFolder": ma.ablate(model, some, max_length=24, out=folder / "effects"),
        "Trace": trace,
        "Predictions": predictions,
        "Run": run,
        "Comparison": ma.compare(run, other),
        "Plan": ma.plan(model, docs, path=folder / "plan.json", **small),
        "Cost": ma.cost("tiny-olmoe", documents=4, tokens=8),
        "Screened": ma.screen(model, some, max_length=24, exact=4),
        "Verification": ma.verify(effects, model, n=2),
        "PruneCurve": dataclasses.replace(curve, model=HOSTILE, notes=(HOSTILE,)),
        "CalibrationAudit": ma.calibration_audit(
            model,
            docs,
            [f"{i} {HOSTILE} elsewhere" for i in range(12)],
            {HOSTILE: {1: [0]}},
            draws=20,
            routing=False,
        ),
        "contrast": ma.contrast(effects, metrics.replace("utilisation", HOSTILE), **quick),
        "expert_harm": ma.expert_harm(effects, metrics, outcome="kl", **quick),
        "harm_by_expert": ma.harm_by_expert(effects),
        "tests": run.tests,
        "calibration_scores": ma.calibration_scores(predictions, draws=20),
        "reliability": ma.reliability(predictions, draws=20),
        "expert_metrics": metrics,
        "decompose": ma.decompose(model, some[:1], max_length=24),
        "ExpertOutputs": heard,
        "LogitContrast": ma.LogitContrast(1, 2),
        "Zero": ma.Zero(),
        "Renormalize": ma.Renormalize(),
        "Reroute": ma.Reroute(),
        "Resample": ma.Resample(heard),
        "MeanOutput": ma.MeanOutput(heard),
        "Scale": ma.Scale(0.5),
        "SharedExpert": ma.SharedExpert(),
        "SharedGate": ma.SharedGate(),
        "Skip": ma.Skip(),
        "Swap": ma.Swap(3),
        "Without": ma.Without({1: [0]}),
        "Coalitions": ma.Coalitions((1, 2)),
        "Bank": ma.Bank([[1, 2]]),
        "DocumentPool": ma.DocumentPool(4),
        "batch_mates": ma.batch_mates(model, samples=2, tokens=4, experts="eager"),
        "accounting": ma.accounting("tiny-olmoe"),
        "router_precision": ma.router_precision(model, some),
        "Permutations": ma.Permutations(),
        "Everywhere": ma.Everywhere(ma.Zero()),
        "Custom": ma.Custom(lambda routing: (routing.index, routing.weight), name=HOSTILE),
    }


def test_every_public_class_has_a_row(world):
    classes = {n for n in ma.__all__ if inspect.isclass(getattr(ma, n)) and n != "MoeAuditError"}
    assert classes and not classes - set(world)


def test_each_shows_itself_in_both_ways_small_and_escaped(world):
    for name, thing in world.items():
        page, text = thing._repr_html_(), repr(thing)
        assert page and text, name
        assert len(page.encode()) <= MOST and len(text.encode()) <= MOST, name
        assert "object at 0x" not in text, name
        found = Tags()
        found.feed(page)
        assert found.tags <= HARMLESS, (name, found.tags - HARMLESS)
        assert not {a for a in found.attributes if a.startswith("on") or a in ("src", "href")}, name
        # Colours are the page's own: no background or text colour that only one of light and dark reads.
        assert not re.search(r"(background|[^-]color)\s*:", page), name


def test_hostile_text_is_there_and_inert(world):
    for name in ("Model", "Corpus", "Document", "Predictions", "PruneCurve", "Run", "contrast"):
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in world[name]._repr_html_(), name


def test_effects_say_what_was_asked_and_found(world):
    effects = world["Effects"]
    mean = pd.DataFrame(effects)["delta_nll"].mean()
    said = repr(effects).splitlines()[0]
    assert said.startswith(
        f"{len(effects):,} effects of zero in 6 documents, mean harm {mean:+.4f} nats"
    )
    assert effects.engine in said
    part = effects[effects["layer"] == 1]
    assert repr(part).startswith(f"{len(part):,} effects of zero")


def test_a_selection_is_shown_as_pandas_shows_it(world):
    for name, columns in (("Effects", ["layer", "kl"]), ("contrast", ["metric", "d_z"])):
        part = world[name][columns]
        plain = pd.DataFrame(part)
        assert repr(part) == repr(plain), name
        assert part._repr_html_() == plain._repr_html_(), name
        empty = world[name].head(0)
        assert repr(empty).partition("\n")[2] == repr(pd.DataFrame(empty)).partition("\n")[2], name


def test_effects_without_their_question_are_plain_tables(world):
    bare = ma.Effects(pd.DataFrame(world["Effects"]).head(3))
    bare.attrs = {}
    assert repr(bare) == repr(pd.DataFrame(bare))


def test_contrasts_count_their_verdicts_and_leave_pandas_alone(world):
    table = world["contrast"]
    metrics = pd.DataFrame(table)[table["role"] == "metric"]
    said = repr(table).splitlines()[0]
    for verdict, count in metrics["verdict"].value_counts().items():
        assert f"{count} {verdict}" in said
    shown = table._repr_html_().partition("</thead>")[0].count("<th>")
    assert 5 < shown < 20 < len(table.columns)
    assert table[table["layer"] == 1].attrs == table.attrs
    assert isinstance(table.groupby("metric")["d_z"].mean(), pd.Series)
    whole = pd.DataFrame(table)
    for column in table:
        pd.testing.assert_series_equal(table[column], whole[column])
    both = ma.stats.together([table, world["expert_harm"]])
    assert len(both) == len(table) + len(world["expert_harm"]) and isinstance(both, Said)
    assert "per-expert expected harm of kl" in repr(both)


def test_pandas_options_hold(world):
    with pd.option_context("display.notebook_repr_html", False):
        assert world["contrast"]._repr_html_() is None
    with pd.option_context("display.max_rows", 4, "display.min_rows", 4):
        assert repr(world["Effects"]).count("\n") < 12


def test_an_operator_of_ones_own_says_so(world):
    assert "does not say what it does" in world["Custom"]._repr_html_()

    def halved(routing):
        """Halve the largest weight."""
        return routing.index, routing.weight

    assert "Halve the largest weight." in ma.Custom(halved)._repr_html_()


def test_long_text_is_cut_with_its_length():
    long = ma.Document("a" * 500_000)
    assert len(long._repr_html_()) < 3_000 and "498,800 more characters" in long._repr_html_()
    assert clip("a" * 10, 4) == "aaaa... (6 more characters)"
