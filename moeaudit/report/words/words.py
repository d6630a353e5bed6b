"""The report's prose: what was done, what was checked, what was not, where it comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.frames import Frame
from moeaudit.runs.analysis import NOT_TESTED
from moeaudit.runs.spec import SESOI
from moeaudit.stats.contrast.contrast import QUESTION as WITHIN
from moeaudit.stats.ranking.table import QUESTION as ACROSS
from moeaudit.stats.sizes.effect_sizes import INTERVALS

from .bound import bound_words
from .evidence import read
from .numbers import count, layers_text, plural, significant
from .operator import OperatorWords

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


def subtitle(run: StoredRun, said: OperatorWords) -> str:
    """One line under the title."""
    s = run.record["summary"]
    return (
        f"{run.record['model']['architecture']}; layers {layers_text(list(run.spec.layers))}; "
        f"{plural(s['documents'], 'document')} in {plural(s['domains'], 'domain')}; "
        f"{count(s['rows'])} {said.many} ({run.question}); {run.record['finished'][:10]}"
    )


def checks(run: StoredRun, said: OperatorWords) -> list[dict[str, str]]:
    """One entry per engine: passed, failed or skipped, in a sentence."""
    out = []
    for v in run.verification:
        name = {"hooks": "raw PyTorch hooks", "transformer_lens": "TransformerLens"}.get(
            v["engine"], v["engine"]
        )
        if v["skipped"]:
            out.append({"css": "skipped", "text": f"Not checked by {name}: {v['skipped']}"})
            continue
        passed, tolerance = v["agrees"], v["tolerance"]
        explains = v.get("explained", f"{run.spec.dtype} rounding explains")
        out.append(
            {
                "css": "passed" if passed else "failed",
                "text": (
                    f"{plural(v['n'], said.one, said.many)} recomputed by {name}: largest difference "
                    f"{significant(v['max_abs_delta_nll'], 2)} nats in loss and "
                    f"{significant(v['max_abs_kl'], 2)} in KL; "
                    f"{plural(v['flips_differ'], 'top prediction')} differ"
                    f"{'s' if v['flips_differ'] == 1 else ''}. "
                    + (
                        f"Within {tolerance:.3g}, which {explains}."
                        if passed
                        else f"This is more than the {tolerance:.3g} that {explains}: do not "
                        "use these numbers."
                    )
                ),
            }
        )
    return out


def method(run: StoredRun, said: OperatorWords) -> dict[str, Any]:
    """What the method section needs to know of this run."""
    spec = run.spec
    protocol = run.record["protocol"]
    return {
        "edit": _edit(run, said),
        "rows": _rows(said) if run.question.share == 1 else _sampled(run, said),
        "outcomes": [OUTCOMES[o] for o in spec.question.outcomes if o in OUTCOMES],
        "tested": not read(run.tests).untested,
        "metric_documents": count(spec.metric_documents),
        "interval": INTERVALS.get(protocol["interval"], protocol["interval"]),
        "argued": ARGUED if str(protocol["sesoi"]) == SESOI else "",
        "n_flips": count(protocol["n_flips"]),
        "decision": {"maxt": "step-down max-T"}.get(protocol["decision"], protocol["decision"]),
        "sesoi": Markup(bound_words(protocol["sesoi"]).replace("d_z", "d<sub>z</sub>")),
    }


ARGUED = (
    "That size is what pruning would notice: if a metric chose, in one layer, which of two active experts every token "
    "loses, choosing right instead of wrong would be worth 1% of perplexity."
)

OUTCOMES = {
    "delta_entropy": ("entropy", "the change of the prediction's entropy, in nats"),
    "delta_confidence": ("confidence", "the change of the largest probability"),
    "delta_brier": ("Brier score", "the change of the squared error of all probabilities, 0 to 2"),
}


def _edit(run: StoredRun, said: OperatorWords) -> str:
    """What was done, in a sentence or two."""
    name = run.question.name
    if said.scope == "model":
        where = "At every token, in every layer that is named"
    elif said.scope == "document":
        where = "At every token of a document at once, in one layer"
    else:
        where = "For one token, in one layer"
    frozen = " Later layers keep the router's answers of the intact model." if said.frozen else ""
    if said.scope == "document":
        frozen += (
            " What earlier edited tokens change reaches a token through attention, and is part of its "
            "outcome."
        )
    return f"{where}, {said.what} ({name})." + frozen


def _rows(said: OperatorWords) -> str:
    """What a row is, and that there is one of each."""
    if said.scope == "model":
        return "Every token is read in the model so edited: a census, not a sample."
    each = {
        "expert": "every token, every audited layer and every active expert",
        "rank": "every token, every audited layer and every rank named",
        "set": "every token, every audited layer and every such set",
        "layer": "every token and every audited layer",
    }[said.subject]
    if said.scope == "document":
        return (
            f"There is a row for {each}: the edit about it was made at all tokens of the document where "
            "it can be, and the outcome read at this one. A census, not a sample."
        )
    return f"This is done for {each}, one at a time: a census, not a sample."


def _sampled(run: StoredRun, said: OperatorWords) -> str:
    """How many of all rows there are, how they were drawn, and what the numbers are then."""
    share, made = run.question.share, run.record["summary"]
    return (
        f"This was done for a sample: {count(made['rows'])} of {count(made['possible'])} {said.many} that are "
        f"possible, a share of {share:g}. Tokens were drawn by chance in every document and layer (seed "
        f"{run.question.seed}), stratified by their least used expert, each with all its active experts and each with "
        f"the probability {share:g}. So all numbers are design-based estimates of what a census would give; their "
        "limits by document hold what the sample leaves open as well. Limits of means are longer on the "
        "side to which documents are skewed."
    )


def limits(run: StoredRun, said: OperatorWords) -> list[str]:
    """What the numbers do not speak about."""
    facts = run.record["model"]
    moe = sorted(int(layer) for layer in facts["num_experts"])
    left = [layer for layer in moe if layer not in run.spec.layers]
    out = [
        "Only the model above, on the text above"
        + (
            ". Other models, domains"
            if run.shift is None
            else " and below. Other models, further domains"
        )
        + " and languages were not run.",
        *_limits_of(run, said),
        "The prediction of the true next token, not accuracy on any task.",
    ]
    if run.question.share != 1:
        out.insert(
            1,
            f"A share of {run.question.share:g} of all {said.many}: the largest single effects, and the tokens they "
            "are at, are those of the sample.",
        )
    if left:
        out.insert(1, f"The MoE layers {layers_text(left)} were not audited.")
    if note := facts.get("note"):
        out.insert(1, note)
    if str(facts.get("source", "")).startswith("bundled"):
        out.insert(
            1,
            "The bundled models are small. They test the instrument and are no evidence about large "
            "models.",
        )
    return out


def _limits_of(run: StoredRun, said: OperatorWords) -> list[str]:
    """What this operator leaves open."""
    out = []
    kind = run.question.operator.get("operator")
    if said.subject == "expert":
        out.append(
            "One expert at a time. Experts that stand in for each other look harmless one by one and "
            "are not when removed together; joint removal was not tested."
        )
    if said.scope == "position":
        out.append(
            "One position at a time. What the same edit everywhere in a text would do, through "
            "attention to earlier positions, was not tested; nor were effects on later tokens."
        )
    out.append(
        "Removal without renormalising and without letting the next expert in. Other edits of the "
        "routing can have other effects."
        if kind == "Zero"
        else f"One meaning of the edit: {run.question.name}. Other edits of the routing can have other effects."
    )
    if said.subject == "expert":
        out.append(
            "Only experts the router chose. What an expert would have done for tokens that were not "
            "sent to it was not tested."
        )
    return out


def provenance(run: StoredRun) -> list[tuple[str, Any]]:
    """Names and values, in reading order."""
    record, spec = run.record, run.spec
    model = record["model"]
    sessions = record["sessions"]
    last = sessions[-1]
    code = last["code"]
    seconds = sum(stage["seconds"] for stage in record["stages"].values())
    stages = ", ".join(
        f"{name} {stage['seconds']:.0f} s" for name, stage in record["stages"].items()
    )
    commit = code["commit"] or code["reason"]
    if code["dirty"]:
        commit += " with uncommitted changes"
    versions = ", ".join(f"{name} {v}" for name, v in last["packages"].items() if v)
    out = [
        ("question (hash of the spec)", Markup("<code>{}</code>").format(record["spec_hash"])),
        ("model", f"{spec.model} from {model.get('source')}"),
        ("revision", model.get("revision") or "none recorded"),
        ("weights, SHA-256", Markup("<code>{}</code>").format(spec.weights)),
        ("text for metrics, SHA-256", Markup("<code>{}</code>").format(spec.metric_text)),
        ("text for effects, SHA-256", Markup("<code>{}</code>").format(spec.effect_text)),
        ("operator", Markup("<code>{}</code>").format(json.dumps(dict(run.question.operator)))),
        (
            "precision, experts, device",
            f"{spec.dtype}, {model.get('experts_implementation')}, {model.get('device')}",
        ),
        ("seed", spec.seed),
        ("longest chunk", plural(spec.max_length, "token")),
        ("code", commit),
        ("versions", versions),
        (
            "machine",
            f"{last['platform']}, Python {last['python']}, {last['torch_threads']} thread(s)",
        ),
        ("started, finished", f"{sessions[0]['started']}, {record['finished']} (UTC)"),
        ("wall time", f"{seconds:.0f} s: {stages}"),
    ]
    if len(sessions) > 1:
        same = all(s["packages"] == last["packages"] for s in sessions)
        out.append(
            (
                "sessions",
                f"{len(sessions)}: the run was resumed"
                + ("" if same else ", and package versions CHANGED between sessions"),
            )
        )
    return out


BOUNDS = (
    "Exploratory but for the declared row: a size chosen after seeing the verdicts proves nothing."
)


PLAN = "A plan read off the design of this run; the effects seen have no part in the curves."


def standing(run: StoredRun) -> dict[str, str]:
    """Per figure: whether its numbers were declared before the effects were computed."""
    seen = "Exploratory: a description of what was seen, not declared in advance and not tested."
    out: dict[str, str] = {
        "maps": seen,
        "depth": seen,
        "spread": seen,
        "bounds": BOUNDS,
        "power": PLAN,
    }
    out["mass"] = (
        "Exploratory: a control that was not declared in advance, for these experts alone."
    )
    out["where"] = _where(run)
    frozen = run.record.get("analysis")
    tests = run.tests
    for key, question in (("contrasts", WITHIN), ("associations", ACROSS)):
        rows = tests[tests["question"] == question]
        if len(tests) and bool((tests["verdict"] == NOT_TESTED).all()):
            continue
        said = _confirmed(rows, frozen)
        out[key] = (
            "Exploratory: this analysis was not declared before the effects were computed."
            if said is None
            else f"Confirmatory: {said} Anything else read off this figure is exploratory."
        )
    return out


def _where(run: StoredRun) -> str:
    """How domains differ was declared by nobody; the tests on text of other domains may have been."""
    text = (
        "Exploratory: how far domains differ, what a new one would show and what metrics from other domains do "
        "was not declared in advance."
    )
    other = None
    if run.shift is not None:
        other = _confirmed(run.shift.tests, run.shift.record.get("analysis"))
    return text if other is None else f"{text} Confirmatory, on the other domains: {other}"


def _confirmed(rows: Frame, frozen: dict[str, Any] | None) -> str | None:
    """How many tests were declared; None if none was."""
    declared = int((rows["status"] == "confirmatory").sum()) if "status" in rows else 0
    if frozen is None or declared == 0:
        return None
    share = "all" if declared == len(rows) else f"{declared} of"
    return (
        f"{share} {len(rows)} tests were declared, and frozen as {frozen['hash'][:12]}, before the effects were "
        "computed."
    )
