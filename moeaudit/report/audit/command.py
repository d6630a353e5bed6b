"""The command and the Python that ask a run's question again, written from its spec."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from moeaudit.runs.operators import word_of
from moeaudit.runs.spec import ALPHA, SESOI, TESTED, TOKENS, WITHOUT_NATS

if TYPE_CHECKING:
    from moeaudit.runs.run import StoredRun

NATS = {"delta_nll", "abs_delta_nll", "kl"}


def again(run: StoredRun) -> dict[str, str]:
    """`command` and `python` that ask the same question, each empty where it cannot be written, and `note`: why."""
    spec, question = run.spec, run.spec.question
    word = word_of(question.operator)
    own_text = spec.text not in ("bundled", "documents")
    options: dict[str, Any] = {"documents": spec.effect_documents}
    if word != "zero":
        options["operator"] = word
    if spec.tested != TESTED:
        options["outcome"] = list(spec.tested)
    if question.frozen_routing:
        options["frozen_routing"] = True
    if sorted(int(x) for x in run.record["model"]["num_experts"]) != sorted(spec.layers):
        options["layers"] = list(spec.layers)
    if spec.tokens != TOKENS:
        options["tokens"] = spec.tokens
    options["max_length"] = spec.max_length
    if spec.seed:
        options["seed"] = spec.seed
    if spec.sesoi != (SESOI if set(spec.tested) <= NATS else WITHOUT_NATS):
        options["sesoi"] = spec.sesoi
    if spec.alpha != ALPHA:
        options["alpha"] = spec.alpha
    if spec.metrics:
        options["metrics"] = list(spec.metrics)
    if question.share != 1:
        options["share"] = question.share
    if spec.verify_rows != 8:
        options["verify_rows"] = spec.verify_rows
    if spec.dtype != "float32":
        options["dtype"] = spec.dtype
    if spec.text == "bundled" and not spec.shift:
        options["shift"] = False
    elif spec.shift not in ("", "bundled", "documents"):
        options["shift"] = spec.shift
    if word is None:
        note = f"The operator {question.name} has no word on the command line; give it as a Python object."
    elif "documents" in (spec.text, spec.shift):
        note = (
            "The text was given as Python objects and is not in the run folder; its hash is below."
        )
    else:
        text = {"text": spec.text} if own_text else {}
        asked = {**text, **options}
        out = f"runs/{run.folder.name}"
        return {
            "command": _command(spec.model, asked, out),
            "python": _python(spec.model, {**text, **options}, out),
            "note": "",
        }
    return {"command": "", "python": "", "note": note}


def _command(model: str, asked: Mapping[str, Any], out: str) -> str:
    parts = ["moeaudit", "audit", shlex.quote(model)]
    for name, value in asked.items():
        option = f"--{name.replace('_', '-')}"
        if name == "shift" and value is False:
            parts.append("--no-shift")
        elif value is True:
            parts.append(option)
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            parts += [option, shlex.quote(text)]
    return " ".join([*parts, "--out", shlex.quote(out)])


def _python(model: str, asked: Mapping[str, Any], out: str) -> str:
    text = f", {asked['text']!r}" if "text" in asked else ""
    given = "".join(f", {name}={value!r}" for name, value in asked.items() if name != "text")
    return (
        f"import moeaudit as ma\nrun = ma.audit({model!r}{text}, out={out!r}{given})\n"
        'run.report("report.html")'
    )
