"""Audits of any operator: asked by word, written into the question, checked, tested or said why not."""

from __future__ import annotations

import functools
import html
import re

import pytest
import torch
from made import tiny_run

import moeaudit as ma
from moeaudit.causal.operators import ExpertOutputs, from_dict
from moeaudit.causal.operators.routing import why_not_per_expert
from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.front import Run, audit
from moeaudit.runs.operators import WORDS, operator_of, word_of

# A word, the operator it names, and whether routing metrics can be held against its rows.
NAMED = [
    ("zero", ma.Zero(), True),
    ("renormalize", ma.Renormalize("sum"), True),
    ("renormalize:one", ma.Renormalize("one"), True),
    ("swap:3", ma.Swap(3), True),
    ("swap:all", ma.Swap("all"), False),
    ("scale:0.5", ma.Scale(0.5), True),
    ("reroute", ma.Reroute(), True),
    ("reroute:remaining", ma.Reroute("remaining"), True),
    ("skip", ma.Skip(), False),
    ("skip:0, 1", ma.Skip((0, 1)), False),
    ("coalitions:1,2", ma.Coalitions((1, 2)), False),
    ("permutations:4", ma.Permutations(4), False),
    ("shared-expert", ma.SharedExpert(), False),
    ("shared-gate:0.5", ma.SharedGate(0.5), False),
    ("everywhere:zero", ma.Everywhere(ma.Zero()), True),
    ("everywhere:renormalize:one", ma.Everywhere(ma.Renormalize("one")), True),
    ("everywhere:skip:1", ma.Everywhere(ma.Skip((1,)), by="rank"), False),
    ("bank:0,1", ma.Bank(((0, 1),)), True),
    ("bank:0, 1/2,3", ma.Bank(((0, 1), (2, 3))), True),
    ("without:0/1,0/5,2/3", ma.Without({0: [1, 5], 2: [3]}), False),
    ("pool:4", ma.DocumentPool(4), False),
    ("pool:4, own", ma.DocumentPool(4), False),
    ("pool:4,random", ma.DocumentPool(4, draw="random"), False),
    ("pool:4,random,7", ma.DocumentPool(4, draw="random", seed=7), False),
]


@pytest.mark.parametrize(("word", "operator", "tested"), NAMED, ids=[n[0] for n in NAMED])
def test_words_name_operators(word, operator, tested, tiny_model):
    made = operator_of(word)
    assert made.to_dict() == operator.to_dict()
    assert from_dict(made.to_dict()).to_dict() == made.to_dict()
    if "shared" not in word:  # the tiny model has no shared expert
        reason = why_not_per_expert(made, tiny_model.anatomy.layers)
        assert (reason is None) is tested, reason


def test_words_that_need_held_out_outputs_are_given_them():
    outputs = ExpertOutputs({}, 7)
    assert operator_of("mean-output", lambda: outputs).held_out is outputs
    made = operator_of("everywhere:resample:5", lambda: outputs)
    assert (made.operator.held_out, made.operator.seed) == (outputs, 5)
    assert made.to_dict()["of"]["held_out"]["documents"] == 7
    assert from_dict(made.to_dict(), held_out=outputs).to_dict() == made.to_dict()


def test_every_word_is_named_above_and_in_the_refusal_of_another():
    named = {word.partition(":")[0] for word, _, _ in NAMED} | {"mean-output", "resample"}
    assert set(WORDS) == named
    with pytest.raises(InputError) as caught:
        operator_of("remove")
    assert all(word.usage in str(caught.value) for word in WORDS.values())


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("swap", "needs an argument"),
        ("swap:three", "'three'"),
        ("zero:1", "takes no argument"),
        ("skip:", "ends in a colon"),
        ("skip:1,x", "'x'"),
        ("renormalize:two", "'two'; write renormalize"),
        ("shared-gate:2", "from 0 .closed. to 1"),
        ("without:3", "'3'"),
        ("pool", "needs an argument: pool:D"),
        ("pool:four", "cannot be read at 'four'; write pool:D"),
        ("pool:0", "a whole number, at least the model's top-k"),
        ("pool:4,mine", "'mine'"),
        ("pool:4,own,3", "'3'"),
        ("pool:4,random,1,2", "'2'"),
        ("everywhere:everywhere:zero", "no edit of a single position"),
        ("everywhere:nothing", "Unknown operator 'nothing'"),
    ],
)
def test_words_that_make_no_sense_are_refused(word, says):
    with pytest.raises(InputError, match=says):
        operator_of(word)


@pytest.fixture(scope="module")
def audited(tiny_model, tmp_path_factory):
    """Audits of the tiny model by operator, each run once."""

    @functools.cache
    def run(word: str) -> Run:
        out = tmp_path_factory.mktemp("operators") / "run"
        return audit(
            tiny_model,
            tiny_run.TEXTS,
            out=out,
            tokens=12,
            verify_rows=2,
            layers=[0, 2],
            operator=word,
        )

    return run


def text_of(run: Run) -> str:
    """The page as a reader sees it: no scripts, no marks."""
    page = (run.folder / "report.html").read_text("utf-8")
    shown = re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", shown)).split())


@pytest.mark.parametrize("word", ["reroute", "swap:3", "everywhere:zero", "renormalize:one"])
def test_an_operator_of_single_experts_is_tested_and_told(word, audited):
    run = audited(word)
    assert run.alarm is None and all(v["agrees"] and v["n"] == 2 for v in run.verification)
    assert run.question == Run.load(run.folder).question
    assert from_dict(run.question.operator).to_dict() == operator_of(word).to_dict()
    assert set(run.tests["status"]) == {"confirmatory"}
    assert run.tests["p"].notna().any()
    assert run.record["drift"] < 1e-4
    text = text_of(run)
    assert f"({run.question.name})" in text
    assert "within 0 nats" not in text and "Rows without an edit end within" in text
    if "zero" not in word:
        assert "gate weight becomes zero" not in text
        assert "Removal without renormalising" not in text
    assert ("At every token of a document at once" in text) == ("everywhere" in word)
    assert ("One position at a time" in text) == ("everywhere" not in word)
    figures = {"maps", "contrasts", "mass", "bounds", "power", "associations", "depth", "spread"}
    assert set(run.figures()) == figures


@pytest.mark.parametrize(
    ("word", "figures"),
    [
        ("skip", {"maps", "depth", "spread"}),
        ("coalitions:1,2", {"maps", "depth", "spread"}),
        ("swap:all", {"maps", "depth", "spread"}),
        ("everywhere:skip", {"maps", "depth", "spread"}),
        ("without:0/1,2/3", {"spread"}),
    ],
)
def test_what_cannot_be_tested_says_so_and_the_rest_stands(word, figures, audited):
    run = audited(word)
    assert run.alarm is None and all(v["n"] == 2 for v in run.verification)
    assert set(run.tests["verdict"]) == {"not tested"}
    assert len(run.tests) == 4  # two questions of two outcomes
    (reason,) = set(run.tests["reason"])
    text = text_of(run)
    assert f"Not tested, because {reason}." in text
    assert f"Routing metrics were not tested, because {reason}." in run.record["notes"]
    assert set(run.figures()) == figures
    assert len(run.effects) == run.record["summary"]["rows"]
    assert Run.load(run.folder).question == run.question


def test_a_map_of_sets_has_a_column_for_each_size(audited):
    run = audited("coalitions:1,2")
    sizes = run.effects["members"].map(lambda m: bin(m).count("1"))
    mean = run.effects[(run.effects["layer"] == 2) & (sizes == 2)]["delta_nll"].mean()
    plot = run.figures()["maps"].data[0]
    assert list(plot.x) == [1, 2] and plot.z[1][1] == pytest.approx(mean, rel=1e-2)


def test_other_outcomes_are_tested_when_they_are_asked_for(tiny_model, tmp_path):
    call = functools.partial(
        audit, tiny_model, tiny_run.TEXTS, tokens=12, verify_rows=2, layers=[0], out=tmp_path / "x"
    )
    run = call(outcome=["flip", "delta_entropy"])
    assert set(run.tests["outcome"]) == {"flip", "delta_entropy"} == set(run.spec.tested)
    assert "delta_entropy" in run.effects and run.question.outcomes[-1] == "delta_entropy"
    text = text_of(run)
    assert "Entropy is the change of the prediction's entropy" in text
    assert "Top prediction changed: 0 of 11" in text and "Harm:" not in text
    with pytest.raises(
        RunError, match=r"tested is \['flip', 'delta_entropy'\] there and \['flip'\]"
    ):
        call(outcome="flip")
    with pytest.raises(InputError, match="Unknown outcome 'harm'"):
        call(outcome="harm")
    with pytest.raises(InputError, match="each once"):
        call(outcome=["kl", "kl"])


def test_another_operator_is_refused_by_the_field_inside_the_question(audited, tiny_model):
    run = audited("swap:3")
    with pytest.raises(RunError, match=r"question.operator.expert is 3 there and 4 here"):
        audit(
            tiny_model, tiny_run.TEXTS, out=run.folder, tokens=12, verify_rows=2, layers=[0, 2],
            operator=ma.Swap(4),
        )  # fmt: skip


def test_a_function_of_ones_own_is_audited_with_a_note(tiny_model, tmp_path):
    def halve(routing):
        weight = routing.weight.clone()
        weight[:, 0] /= 2
        return routing.index, weight

    run = audit(
        tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[1],
        operator=ma.Custom(halve, name="half {of} it"),
    )  # fmt: skip
    assert any("cannot be restored from this record" in note for note in run.record["notes"])
    assert set(run.tests["verdict"]) == {"not tested"}
    assert "half {of} it" in text_of(run)
    with pytest.raises(InputError, match="cannot be restored"):
        from_dict(Run.load(run.folder).question.operator)


def test_frozen_routing_is_part_of_the_question(tiny_model, tmp_path):
    call = functools.partial(
        audit, tiny_model, tiny_run.TEXTS, tokens=12, verify_rows=2, layers=[0], out=tmp_path / "x"
    )
    run = call(frozen_routing=True)
    assert run.alarm is None and run.question.frozen_routing
    assert "Later layers keep the router's answers of the intact model" in text_of(run)
    with pytest.raises(RunError, match="question.frozen_routing is True there and False here"):
        call()
    with pytest.raises(InputError, match="frozen routing is not available"):
        call(frozen_routing=True, operator="everywhere:zero")


def test_outputs_for_replacing_come_from_the_metric_documents(tmp_path):
    model, out = ma.load("tiny-olmoe"), tmp_path / "x"
    call = functools.partial(
        audit,
        model,
        out=out,
        documents=4,
        tokens=48,
        verify_rows=2,
        layers=[3],
        operator="mean-output",
    )
    run = call()
    held = run.question.operator["held_out"]
    assert held["documents"] == run.spec.metric_documents
    assert any("collected on the" in note for note in run.record["notes"])
    assert f"its mean over {held['documents']} held-out documents" in text_of(run)
    assert call().record == run.record  # the same outputs are the same question


def test_wrong_operators_leave_no_folder(small_audit, tmp_path):
    out = tmp_path / "out"
    for wrong in ("nothing", "swap", "swap:99", "shared-expert", ma.Zero, 3):
        with pytest.raises((InputError, ModelError)):
            small_audit(out=out, operator=wrong)
    assert not out.exists()


def test_precision_and_device_are_asked_for_and_recorded(tiny_folder, tmp_path):
    run = audit(
        tiny_folder, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, verify_rows=2, layers=[0],
        device="cpu", dtype="bfloat16", experts_implementation="eager",
    )  # fmt: skip
    model = run.record["model"]
    assert (model["dtype"], model["device"]) == ("bfloat16", "cpu")
    assert model["experts_implementation"] == "eager" and run.spec.dtype == "bfloat16"
    assert "bfloat16, eager, cpu" in text_of(run)
    with pytest.raises(ModelError, match="'nowhere'"):
        audit(tiny_folder, tiny_run.TEXTS, out=tmp_path / "y", device="nowhere")
    assert not (tmp_path / "y").exists()


def test_the_model_itself_is_not_moved(tiny_model):
    assert next(tiny_model.hf.parameters()).device == torch.device("cpu")


def test_a_pool_of_documents_is_audited(tiny_model, tmp_path):
    call = functools.partial(audit, tiny_model, tiny_run.TEXTS, tokens=12, verify_rows=2)
    run = call(out=tmp_path / "x", operator="pool:4")
    assert run.alarm is None and all(v["agrees"] and v["n"] == 2 for v in run.verification)
    assert "pool of 4 experts a document (the document's own)" in text_of(run)
    assert (run.effects["layer"] == -1).all() and (run.effects["delta_nll"] != 0).any()


@pytest.mark.parametrize("word", ["pool:1", "pool:99", "bank:0,9", "bank:0,1/1,2", "bank:2"])
def test_what_does_not_fit_the_model_is_refused_before_a_folder_is_made(word, tiny_model, tmp_path):
    says = {
        "pool:1": "gives each token 2 of 8 experts, and a pool of 1 was asked for. Name from 2",
        "pool:99": "to 8 .the model as it is",
        "bank:0,9": "Layer 9 does not exist",
        "bank:0,1/1,2": "Layer 1 is in two groups",
        "bank:2": "two layers",
    }[word]
    with pytest.raises(InputError, match=says):
        audit(tiny_model, tiny_run.TEXTS, out=tmp_path / "x", tokens=12, operator=word)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "word",
    ["zero", "renormalize:one", "reroute:kept", "swap:3", "swap:all", "scale:0.5", "skip", "skip:2",
     "coalitions:2,3", "permutations:3", "everywhere:zero", "shared-expert", "shared-gate:0.5", "mean-output",
     "resample:4", "bank:0,1/2,3", "pool:4", "pool:4,random,7"],
)  # fmt: skip
def test_the_word_of_an_operator_is_the_one_that_makes_it(word):
    assert word_of(operator_of(word).to_dict()) == word
