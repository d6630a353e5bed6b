"""Train a recipe into a folder: seeded, logged, resumable, with a card at the end."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from moeaudit.errors import RunError
from moeaudit.frames.waiting import stages
from moeaudit.store.files import locked, replacing, require_place, write_text

from .finished.card import write_card
from .finished.folder import (
    RECORD,
    card_of,
    record_of,
    require_text,
    write_model,
    write_record,
)
from .recipes.whole import Recipe
from .training.data import Mixture
from .training.model import quiet
from .training.resume import between_steps
from .training.scopes import require_pure
from .training.steps import Steps
from .training.text import Texts, texts_of

LOG = "log.jsonl"
_STATE = "state.pt"
_EVERY = 30.0  # seconds between two states on disk


def train(
    recipe: Recipe,
    out: str | Path,
    resume: bool = True,
    progress: Any = None,
    device: str = "cpu",
) -> Path:
    """Train `recipe` into the folder `out`, which `moeaudit.load` loads; the same call resumes or finds it finished.

    On one thread of one machine a resumed training equals an uninterrupted one bit for bit. The folder holds the
    model in hub layout, `lab.json` (recipe, hash, versions, curves), `log.jsonl` (a line a step), `card.json` and
    `card.md`. Ctrl-C ends after the step at hand and keeps its state.

    Parameters
    ----------
    recipe
        A `Recipe`, such as `lab.recipe("olmoe", seed=1)` or `Recipe.read("mine.toml")`.
    out
        A folder, new or of the same recipe.
    resume
        False refuses a folder in which this recipe was begun.
    progress
        None shows a line where somebody watches, False nothing; or a `moeaudit.runs.Progress`, whose method
        `measured(record)`, if it has one, is told the numbers of every step.
    device
        `"cpu"` (with kernels for small models) or another device of torch's (with the class's own code).

    Raises
    ------
    InputError: text that is not there, rows that cannot be shared among domains or groups.
    RunError: a folder that holds something else, the same recipe on other text, or a training when `resume` is False.
    """
    out = Path(out)
    require_place(out, folder=True)
    _require_own(out, recipe, resume)
    if card_of(out) is not None:
        return out
    quiet()
    with stages(progress) as told:
        told.stage("text", 1, "corpus")
        texts = texts_of(recipe.text)
        _require_rows(recipe, texts)
        told.advance(1)
        with locked(out):
            _trained(recipe, texts, out, told, device)
            told.stage("card", 1, "model")
            write_card(out, recipe, device)
            told.advance(1)
            (out / _STATE).unlink(missing_ok=True)
    return out


def _require_own(out: Path, recipe: Recipe, resume: bool) -> None:
    if not (out / RECORD).exists():
        if out.is_dir() and any(out.iterdir()):
            raise RunError(
                f"{out} holds files and no {RECORD}, so it is no training of the lab's. Give a new folder."
            )
        return
    theirs = record_of(out)
    if theirs["hash"] != recipe.hash:
        raise RunError(
            f"{out} holds a training of another recipe: {_difference(theirs['recipe'], recipe)}. Give the same recipe "
            "to go on with it, or a new folder."
        )
    if not resume:
        raise RunError(
            f"{out} holds this training already. Go on with it (resume), or give a new folder."
        )
    require_text(out, recipe)


def _difference(theirs: dict[str, Any], recipe: Recipe) -> str:
    ours = recipe.to_dict()
    for name in ("model", "text", "train", "balance", "mechanisms"):
        for key in dict.fromkeys((*theirs.get(name, {}), *ours[name])):
            a, b = theirs.get(name, {}).get(key), ours[name].get(key)
            if a != b:
                return f"[{name}] {key} = {a!r} there and {b!r} here"
    return "it was made by another version of moeaudit"


def _require_rows(recipe: Recipe, texts: Texts) -> None:
    mixture = Mixture(texts.train, recipe.train.seed)
    mixture.rows_of_domain(recipe.train.rows)
    require_pure(recipe.balance, recipe.train.rows, len(mixture.domains))


def _trained(recipe: Recipe, texts: Texts, out: Path, told: Any, device: str) -> None:
    """Make the steps that are left, and write the model. An interrupt keeps the state of the last whole step."""
    steps = Steps(recipe, texts.vocabulary, device)
    if (out / _STATE).exists():
        steps.restore(torch.load(out / _STATE, weights_only=True, map_location="cpu"))
    facts = {
        "text": {"what": texts.what, "sha256": texts.digest},
        "device": str(device),
        "seconds": round(steps.seconds, 1),
    }
    write_record(out, recipe, **facts)
    log = _until(out / LOG, steps.step)
    each = recipe.train.rows * recipe.train.length
    told.stage("training", recipe.train.tokens, "tokens", steps.step * each)
    measured = getattr(told, "measured", None)
    mixture, kept = Mixture(texts.train, recipe.train.seed), time.monotonic()
    with between_steps() as waiting:
        while steps.step < recipe.train.steps:
            record = steps.advance(mixture)
            log.append(json.dumps(record))
            if measured is not None:
                measured(record)
            told.advance(each)
            if waiting.asked or time.monotonic() - kept > _EVERY:
                _keep(steps, out, log)
                kept = time.monotonic()
                waiting.answer()
        _keep(steps, out, log)
        write_model(steps.model, out)
        write_record(
            out,
            recipe,
            **{**facts, "seconds": round(steps.seconds, 1)},
            log=[json.loads(line) for line in log],
        )
    waiting.answer()


def _keep(steps: Steps, out: Path, log: list[str]) -> None:
    """The state and the log up to it; an interrupted write leaves the ones before."""
    write_text(out / LOG, "".join(f"{line}\n" for line in log))
    with replacing(out / _STATE) as temporary:
        torch.save(steps.state(), temporary)


def _until(path: Path, step: int) -> list[str]:
    """The lines of a log up to a step; those after it will be made again."""
    if not path.exists():
        return []
    lines = path.read_text("utf-8").splitlines()
    return [line for line in lines if json.loads(line)["step"] <= step]
