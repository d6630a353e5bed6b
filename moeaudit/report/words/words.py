"""The report's prose: what was done, what was checked, what was not, where it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from moeaudit.stats.sizes.effect_sizes import INTERVALS

from .numbers import count, layers_text, plural, significant

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun


def subtitle(run: StoredRun) -> str:
    """One line under the title."""
    s = run.record["summary"]
    return (
        f"{run.record['model']['architecture']}; layers {layers_text(list(run.spec.layers))}; "
        f"{plural(s['documents'], 'document')} in {plural(s['domains'], 'domain')}; "
        f"{count(s['removals'])} removals; {run.record['finished'][:10]}"
    )


def checks(run: StoredRun) -> list[dict[str, str]]:
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
        out.append(
            {
                "css": "passed" if passed else "failed",
                "text": (
                    f"{plural(v['n'], 'removal')} recomputed by {name}: largest difference "
                    f"{significant(v['max_abs_delta_nll'], 2)} nats in loss and "
                    f"{significant(v['max_abs_kl'], 2)} in KL; "
                    f"{plural(v['flips_differ'], 'top prediction')} differ"
                    f"{'s' if v['flips_differ'] == 1 else ''}. "
                    + (
                        f"Within {tolerance:g}, which {run.spec.dtype} rounding explains."
                        if passed
                        else f"This is more than the {tolerance:g} that {run.spec.dtype} rounding explains: do not "
                        "use these numbers."
                    )
                ),
            }
        )
    return out


def method(run: StoredRun) -> dict[str, Any]:
    """What the method section needs to know of this run."""
    spec = run.spec
    protocol = run.record["protocol"]
    return {
        "intervention": spec.intervention,
        "scope": spec.scope,
        "metric_documents": count(spec.metric_documents),
        "interval": INTERVALS.get(protocol["interval"], protocol["interval"]),
        "n_flips": count(protocol["n_flips"]),
        "decision": {"maxt": "step-down max-T"}.get(protocol["decision"], protocol["decision"]),
        "sesoi": protocol["sesoi"],
    }


def limits(run: StoredRun) -> list[str]:
    """What the numbers do not speak about."""
    facts = run.record["model"]
    moe = sorted(int(layer) for layer in facts["num_experts"])
    left = [layer for layer in moe if layer not in run.spec.layers]
    out = [
        "Only the model above, on the text above. Other models, domains and languages were not run.",
        "One expert at a time. Experts that stand in for each other look harmless one by one and are "
        "not when removed together; joint removal was not tested.",
        "One position at a time. What removing an expert everywhere in a text would do, through "
        "attention to earlier positions, was not tested; nor were effects on later tokens.",
        "Removal without renormalising and without letting the next expert in. Other edits of the "
        "routing can have other effects.",
        "Only experts the router chose. What an expert would have done for tokens that were not sent "
        "to it was not tested.",
        "The prediction of the true next token, not accuracy on any task.",
    ]
    if left:
        out.insert(1, f"The MoE layers {layers_text(left)} were not audited.")
    if run.spec.text == "bundled" or str(facts.get("source", "")).startswith("bundled"):
        out.insert(
            1,
            "The bundled models are small. They test the instrument and are no evidence about large "
            "models.",
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
        ("precision, experts", f"{spec.dtype}, {model.get('experts_implementation')}"),
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


def standing(run: StoredRun) -> dict[str, str]:
    """Per figure: whether its numbers were declared before the effects were computed."""
    seen = "Exploratory: a description of what was seen, not declared in advance and not tested."
    out: dict[str, str] = {"maps": seen, "depth": seen, "spread": seen}
    frozen = run.record.get("analysis")
    tests = run.tests
    for key, question in (
        ("contrasts", "within-token contrast"),
        ("associations", "per-expert expected harm"),
    ):
        rows = tests[tests["question"] == question]
        declared = int((rows["status"] == "confirmatory").sum()) if "status" in rows else 0
        if frozen is None or declared == 0:
            out[key] = (
                "Exploratory: this analysis was not declared before the effects were computed."
            )
            continue
        share = "all" if declared == len(rows) else f"{declared} of"
        out[key] = (
            f"Confirmatory: {share} {len(rows)} tests were declared, and frozen as {frozen['hash'][:12]}, "
            "before the effects were computed. Anything else read off this figure is exploratory."
        )
    return out
