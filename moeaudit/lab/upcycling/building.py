"""Models that are built rather than shipped: `lab.build("smollm2-moe", folder)`."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from moeaudit.errors import RunError, one_of
from moeaudit.store.files import write_json
from moeaudit.text.bundled import corpus

from .convert import upcycle
from .distance import expert_distances
from .held_out import by_domain
from .tune import Tuning, train_experts

Say = Callable[[str], None]
LAYERS = (20, 23, 26, 29)
EXPERTS, TOP_K = 4, 2
TUNING = Tuning(steps=160, rows=8, length=64, rate=3e-4)
NOTE = (
    "A fixture, made by moeaudit from SmolLM2-135M: experts are copies of a dense model's MLPs{trained}, and their "
    "routing was planted by k-means, not learnt with the model. It shows what an audit reads like in English; it is no "
    "evidence of how mixtures of experts behave."
)
_LENGTH = 256  # tokens of a held-out document
_BEGUN, _TRAINING, _DONE = "building.json", "training.pt", "lab.json"


def smollm2_moe(folder: Path, wheels: Path | None, tuning: Tuning | None, say: Say) -> None:
    """SmolLM2-135M, four of its thirty layers routed among 4 experts, 2 active; see docs/lab/upcycling.md."""
    from transformers import AutoTokenizer, Qwen2MoeForCausalLM

    if not (folder / _BEGUN).is_file():
        _upcycled(folder, wheels, tuning, say)
    begun = json.loads((folder / _BEGUN).read_text("utf-8"))
    words = AutoTokenizer.from_pretrained(folder)
    model: Any = Qwen2MoeForCausalLM.from_pretrained(folder, dtype="float32")
    curve = None
    if tuning is not None:
        say(
            f"training experts and gates, {tuning.steps} steps of {tuning.rows * tuning.length} tokens"
        )
        curve = train_experts(
            model,
            _documents(words),
            tuning,
            low=True,
            checkpoint=folder / _TRAINING,
            progress=lambda row: say(
                f"step {row['step']}: {row['nll']:.4f} nats, balance {row['balance']:.2f}, {row['seconds']:.0f} s"
            ),
        )
        begun["nll"]["trained"] = by_domain(model, _some(words, "calibration"))
        with TemporaryDirectory(
            dir=folder
        ) as scratch:  # an interrupted write leaves the untrained weights
            model.save_pretrained(scratch)
            (Path(scratch) / "model.safetensors").replace(folder / "model.safetensors")
    distances = expert_distances(model).groupby("layer").distance
    facts = {
        **begun,
        "note": note(tuning),
        "tokens": 0 if tuning is None else tuning.steps * tuning.rows * tuning.length,
        "distance": {
            int(layer): {
                "least": round(d.min(), 5),
                "mean": round(d.mean(), 5),
                "most": round(d.max(), 5),
            }
            for layer, d in distances
        },
        "curve": None if curve is None else curve.round(5).to_dict("list"),
        "versions": _versions(),
    }
    write_json(folder / _DONE, facts)
    for name in (_BEGUN, _TRAINING):
        (folder / name).unlink(missing_ok=True)


def note(tuning: Tuning | None) -> str:
    """What a reader of an audit of this model has to know of it."""
    if tuning is None:
        return NOTE.format(trained="")
    tokens = tuning.steps * tuning.rows * tuning.length
    return NOTE.format(trained=f", trained a little further on {tokens:,} tokens")


def _upcycled(folder: Path, wheels: Path | None, tuning: Tuning | None, say: Say) -> None:
    """The model before training, saved in the folder, and what is known of it."""
    from .smollm2 import file_bytes, llama, read_gguf, tokenizer
    from .smollm2.package import LOCK, PACKAGE, SHA256

    say("reading SmolLM2-135M from its package")
    file = read_gguf(file_bytes(wheels))
    dense, words = llama(file), tokenizer(file)
    say("routers from k-means over what the MLPs read")
    model = upcycle(dense, EXPERTS, TOP_K, list(LAYERS), tokenizer=words)
    held_out = _some(words, "calibration")
    say(f"held-out loss of both on {len(held_out)} documents")
    nll = {"dense": by_domain(dense, held_out), "upcycled": by_domain(model, held_out)}
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    facts = {
        "made_by": "smollm2-moe",
        "tuning": None if tuning is None else asdict(tuning),
        "package": LOCK.read_text("utf-8").splitlines()[-1],
        "file_sha256": SHA256,
        "licence": f"Apache-2.0 (SmolLM2-135M-Instruct, as {PACKAGE} ships it)",
        "parameters": model.num_parameters(),
        "layers": list(LAYERS),
        "experts": EXPERTS,
        "top_k": TOP_K,
        "held_out": f"bundled text, calibration part: {len(held_out)} documents, at most {_LENGTH} tokens of each",
        "nll": nll,
    }
    write_json(folder / _BEGUN, facts)


BUILT: dict[str, Callable[..., None]] = {"smollm2-moe": smollm2_moe}


def build(
    name: str,
    folder: Path | str,
    *,
    wheels: Path | str | None = None,
    tuning: Tuning | None = TUNING,
    progress: Say | None = None,
) -> Path:
    """Build the model `name` ("smollm2-moe") into `folder`, in hub layout, for `moeaudit.load(folder)`.

    `wheels`: a folder for the hash-locked wheel of SmolLM2-135M, downloaded there by pip if it is missing; without it
    the installed package is read (`moeaudit[smollm2]`). `tuning`: settings of the training of experts and gates; None
    leaves the experts copies of the dense MLP. `progress` is told what is done, line by line. `lab.json` in the
    folder says what the model was made of and what was measured; a folder that has it is returned as it is, and one
    whose building was interrupted is built further.

    Raises InputError for an unknown name or a missing package, ModelError for another file than the locked one,
    RunError for a folder that holds something else.
    """
    make = BUILT[one_of(name, BUILT, "model to build")]
    folder = Path(folder).expanduser()
    said = next((folder / f for f in (_DONE, _BEGUN) if (folder / f).is_file()), None)
    if said is not None:
        _require_same(said, name, tuning)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(
            f"{folder} holds something else (no {_DONE}). Give an empty folder, or a new one."
        )
    if said is not None and said.name == _DONE:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    make(folder, None if wheels is None else Path(wheels), tuning, progress or (lambda _line: None))
    return folder


def _require_same(said: Path, name: str, tuning: Tuning | None) -> None:
    facts = json.loads(said.read_text("utf-8"))
    wanted = {"made_by": name, "tuning": None if tuning is None else asdict(tuning)}
    for field, value in wanted.items():
        if facts.get(field) != value:
            raise RunError(
                f"{said.parent} holds a model with {field} = {facts.get(field)!r}; this one has {value!r}. Give "
                "the same settings, or another folder."
            )


def _documents(words: Any) -> dict[str, list[Any]]:
    """The training part of the bundled text by domain, each document led by the boundary token."""
    import numpy as np

    boundary = words.convert_tokens_to_ids("<|endoftext|>")
    documents: dict[str, list[Any]] = {}
    for document in corpus("bundled", split="train"):
        ids = words(document.text, verbose=False)["input_ids"]
        documents.setdefault(document.domain, []).append(np.array([boundary, *ids]))
    return documents


def _some(words: Any, split: str) -> list[Any]:
    """The beginning of the first document of every domain: (domain, token ids)."""
    first = {
        document.domain: document for document in reversed(list(corpus("bundled", split=split)))
    }
    return [
        (domain, torch.tensor(words(first[domain].text, verbose=False)["input_ids"][:_LENGTH]))
        for domain in sorted(first)
    ]


def _versions() -> dict[str, str]:
    import transformers

    return {"torch": torch.__version__, "transformers": transformers.__version__}
