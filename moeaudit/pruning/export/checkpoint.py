"""`moeaudit.export_pruned`: a checkpoint without the pruned experts, checked against the masked model."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.models import Model, load
from moeaudit.models.contract.probe import probe_ids
from moeaudit.models.forward import evaluating
from moeaudit.models.precision import is_half, not_memory, rounding
from moeaudit.models.router import named_experts, without_experts

from ..steps import Steps, steps_of
from .card import card, license_in
from .groups import check_groups
from .kept import Kept
from .place import made_whole, require_new
from .sliced import cut_tensors, smaller_config, smaller_model
from .stored import shard_size, source_of, state_dtype, store_as

FACTS = "moeaudit_pruned.json"
_TOKENS = 48  # of the text that both models read
_GENERATION = "generation_config.json"


def export_pruned(
    model: Model,
    keep: Mapping[int, Sequence[int]],
    folder: str | Path,
    *,
    progress: Steps | None = None,
) -> Path:
    """Write a checkpoint with only the experts of `keep`, which `from_pretrained` and `load` read.

    Experts' tensors, the router's rows and its correction bias lose the other experts; the
    configuration states the new number; tokenizer and generation settings come along as they are. Tensors keep
    the kind of number and files the size that the source's have. `README.md` says in words and
    `moeaudit_pruned.json` in full which expert became which, and, where `keep` comes from a pruning curve,
    how they were chosen and what it cost. What was written is loaded again and must give the logits of the
    masked model (`without_experts`) to 1e-5 (times the largest logit where that is above 1; in half
    precision the median token to its rounding); if it does not, or anything else fails, nothing is left behind.

    Args:
        model: a loaded model.
        keep: decoder layer -> experts that stay, for example `curve.kept("reap", 0.5)`. Every MoE
            layer must keep the same number; layers left out of `keep` keep all of theirs.
        folder: where to write; it must not exist or be empty.
        progress: told of stages, as `moeaudit.audit` tells its own.

    Raises:
        InputError: layers or experts that do not exist, fewer than top-k, different numbers in
            different layers, groups of different size or too small for the router.
        ModelError: an architecture that cannot be written, or logits that do not match.
        RunError: the folder is in use or cannot be written.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"export_pruned() was given a {type(model).__name__} as its model; load it first: "
            "export_pruned(moeaudit.load(...), keep, folder)."
        )
    place, tell = require_new(folder), steps_of(progress)
    kept = check_kept(model, keep)
    count = len(next(iter(kept.values())))
    require_exportable(model, count)
    config, names = smaller_config(model, count)
    small, cut = smaller_model(model, config, kept)
    tell.stage("export", 3, "steps")
    with made_whole(place) as unfinished:
        source = source_of(model)
        _write(model, small, unfinished, shard_size(model, source))
        tell.advance(1)
        stored = store_as(unfinished, source, back="precision" in model.provenance)
        state_dtype(unfinished, model, source, stored)
        tell.advance(1)
        difference = _verify(model, kept, unfinished)
        facts = {
            "source": model.name,
            "source_place": model.provenance.get("source"),
            "source_revision": model.provenance.get("revision"),
            "source_weights_sha256": model.provenance.get("weights_sha256"),
            "experts_before": max(layer.num_experts for layer in model.anatomy.layers),
            "experts_after": count,
            "config_fields": names,
            "kept": {str(layer): list(mine) for layer, mine in kept.items()},
            "chosen": keep.chosen if isinstance(keep, Kept) else None,
            "tensors_cut": cut,
            "stored_bytes": stored,
            "computed_in": str(model.dtype).removeprefix("torch."),
            "largest_logit_difference": difference,
        }
        said = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
        (unfinished / FACTS).write_text(said + "\n", encoding="utf-8")
        words = card(facts, license_in(source.folder))
        (unfinished / "README.md").write_text(words, encoding="utf-8")
        tell.advance(1)
    return place


def require_exportable(model: Model, count: int) -> None:
    """Raises ModelError unless a checkpoint with `count` experts a layer can be written; nothing is copied."""
    if getattr(model.hf.config, "quantization_config", None) is not None:
        raise ModelError(
            f"{model.name} is quantised; packed expert weights cannot be cut by expert. Load it "
            "dequantised, export that, and quantise the result."
        )
    if any(t.device.type == "meta" for t in model.hf.state_dict().values()):
        raise ModelError(
            f"{model.name} keeps weights outside of memory (offloaded), so they cannot be written. Load "
            "it on one device."
        )
    config, _ = smaller_config(model, count)
    cut_tensors(model, config, count)


def check_kept(model: Model, keep: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """The kept experts of every MoE layer, ascending. Raises InputError if no config can say it."""
    named = named_experts(keep)
    kept: dict[int, list[int]] = {}
    for index in named:
        _ = model.anatomy[index]  # raises for a layer that does not exist
    for layer in model.anatomy.layers:
        mine = sorted(set(named.get(layer.index, range(layer.num_experts))))
        wrong = [e for e in mine if not 0 <= e < layer.num_experts]
        if wrong:
            raise InputError(
                f"{model.name}: expert {wrong[0]} does not exist in layer {layer.index}, which has "
                f"experts 0 to {layer.num_experts - 1}."
            )
        if len(mine) < layer.top_k:
            raise InputError(
                f"{model.name}: {len(mine)} experts would be left in layer {layer.index}, whose tokens "
                f"need {layer.top_k} each. Keep at least that many."
            )
        kept[layer.index] = mine
    sizes = {layer: len(mine) for layer, mine in kept.items()}
    if len(set(sizes.values())) > 1:
        few, many = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise InputError(
            f"{model.name}: layer {few} would keep {sizes[few]} experts and layer {many} {sizes[many]}, but "
            f"a {type(model.hf.config).__name__} states one number for all layers. Prune all layers to the "
            "same number (scope 'layer' and layers 'all' do), or run the uneven model with its weights in place: "
            "moeaudit.without_experts(model, {layer: experts})."
        )
    check_groups(model, kept)
    return kept


def _write(model: Model, small: Any, folder: Path, size: int | str) -> None:
    from transformers import GenerationConfig
    from transformers.utils import logging as hf_logging

    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    generation = copy.deepcopy(model.hf.generation_config)
    try:
        # transformers refuses to save settings it finds at odds (a temperature without sampling); the source's own
        # are written as they are.
        small.generation_config = GenerationConfig()
        small.save_pretrained(folder, max_shard_size=size)
        if generation is not None:
            (folder / _GENERATION).write_text(generation.to_json_string(), encoding="utf-8")
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:
        not_memory(error, f"writing {model.name} without some experts")
        if "os error" in str(error).lower():  # the tensor library's own class for a full disk
            raise RunError(
                f"'{folder.parent}' took no more while the checkpoint was written ({error}). Nothing was left there."
            ) from error
        raise ModelError(
            f"{model.name}: transformers refuses to save it: {' '.join(str(error).split())} Put that right in the "
            "source, or run the pruned model with its weights in place: moeaudit.without_experts(model, "
            "{layer: experts})."
        ) from error
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()


@torch.no_grad()
def _verify(model: Model, kept: Mapping[int, Sequence[int]], folder: Path) -> float:
    """Largest difference of a logit between the written model and the masked one.

    In half precision, of the median token: near ties between experts fall either way there.
    """
    written = load(
        folder,
        dtype=model.dtype,
        device=str(model.device),
        experts_implementation=model.experts_implementation,
    )
    gone = {
        layer.index: [e for e in range(layer.num_experts) if e not in set(kept[layer.index])]
        for layer in model.anatomy.layers
    }
    ids = probe_ids(model.hf, min(_TOKENS, model.max_length))
    with evaluating(model.hf), without_experts(model, gone, scores="remaining"):
        masked = model.hf(input_ids=ids, use_cache=False).logits.double()
    logits = written.hf(input_ids=ids, use_cache=False).logits.double()
    finite = torch.isfinite(masked)
    largest = torch.where(finite, (logits - masked).abs(), 0.0).amax(-1)[0]  # (tokens,)
    half = is_half(model.dtype)
    # Rounding may turn a near tie in half precision, so there the median token speaks.
    difference = float(largest.median() if half else largest.max())
    allowed = rounding(model).logit * max(1.0, float(masked[finite].abs().max()))
    if not difference <= allowed or not torch.equal(finite, torch.isfinite(logits)):
        raise ModelError(
            f"{model.name}: the written checkpoint's logits differ from the masked model's by "
            f"{difference:.1e}; at most {allowed:.1e} was expected. Its router does something that a "
            "smaller configuration does not repeat. The checkpoint was removed."
        )
    return difference
