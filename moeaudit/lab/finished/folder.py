"""Write a trained model as a folder in hub layout, and load it again."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from moeaudit.errors import RunError
from moeaudit.models import load
from moeaudit.store.files import copied, write_json
from moeaudit.version import __version__

from ..recipes.whole import Recipe
from ..training.text import digest_of, tokenizer_files

RECORD = "lab.json"
CARD = "card.json"
_PACKAGES = ("torch", "transformers", "numpy", "tokenizers")


def write_model(model: Any, out: Path) -> None:
    """Weights in float32, configuration and tokenizer, as `from_pretrained` and `moeaudit.load` read them."""
    from transformers import PreTrainedTokenizerFast

    for file in tokenizer_files():
        copied(file, out / file.name)
    fast = PreTrainedTokenizerFast.from_pretrained(out)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(fast, name))
        setattr(model.generation_config, name, getattr(fast, name))
    model.config.use_cache = True
    model.save_pretrained(out)


def write_record(out: Path, recipe: Recipe, **facts: Any) -> None:
    """`lab.json`: the recipe, its hash, versions, and what of the training is told in `facts`."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    write_json(
        out / RECORD,
        {
            "recipe": recipe.to_dict(),
            "hash": recipe.hash,
            **facts,
            "versions": {"moeaudit": __version__, **versions},
        },
    )


def record_of(folder: Path | str) -> dict[str, Any]:
    """`lab.json` of a folder. Raises RunError where it is missing or damaged."""
    path = Path(folder) / RECORD
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(
            f"{folder} holds no {RECORD}, so it is no model of the lab. `moeaudit lab train` makes one."
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} cannot be read ({error}). Train into another folder, or delete this one."
        ) from error


def card_of(folder: Path | str) -> dict[str, Any] | None:
    """`card.json` of a folder, or None where the training is not finished."""
    path = Path(folder) / CARD
    return json.loads(path.read_text("utf-8")) if path.is_file() else None


def require_text(folder: Path | str, recipe: Recipe) -> None:
    """Raise RunError unless the training begun in `folder` read the text that `recipe` finds today.

    A recipe names its text, and what stands under that name may change; the digest in `lab.json` tells.
    """
    theirs = (record_of(folder).get("text") or {}).get("sha256")
    ours = digest_of(recipe.text)
    if theirs != ours:
        said = "no text at all" if theirs is None else f"text of SHA-256 {theirs}"
        raise RunError(
            f"{folder} was trained on {said}, and what its recipe names ({_named(recipe)}) has SHA-256 {ours} now. "
            "Put the text back as it was, or train into a new folder."
        )


def _named(recipe: Recipe) -> str:
    return recipe.text.documents or f"corpus {recipe.text.corpus!r}"


def loaded(folder: Path, recipe: Recipe, device: str = "cpu") -> Any:
    """The trained model by transformers' own code, in evaluation mode; a MoE through `moeaudit.load`."""
    if recipe.model.family != "llama":
        return load(str(folder), device=device, dtype="float32").hf
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.to(device).eval()
