"""`moeaudit.export_pruned`: a checkpoint without the pruned experts, checked against the masked model."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moeaudit.errors import InputError, ModelError, RunError
from moeaudit.models import Model, load
from moeaudit.models.forward import evaluating
from moeaudit.models.precision import is_half, rounding
from moeaudit.models.probe import probe_ids
from moeaudit.models.router import without_experts

from .sliced import smaller_config, smaller_model

FACTS = "moeaudit_pruned.json"
_TOKENS = 48  # of the text that both models read
_GROUPS = ("n_group", "num_expert_group", "num_expert_groups")


def export_pruned(model: Model, keep: Mapping[int, Sequence[int]], folder: str | Path) -> Path:
    """Write a checkpoint with only the experts of `keep`, which `from_pretrained` and `load` read.

    Experts' tensors, the router's rows and its correction bias lose the other experts; the
    configuration states the new number; the tokenizer comes along, and `moeaudit_pruned.json` says
    which expert became which. What was written is loaded again and must give the logits of the masked
    model (`without_experts`) to 1e-5 (times the largest logit where that is above 1; in half
    precision the median token to its rounding); if it does not, nothing is left behind.

    Args:
        model: a loaded model.
        keep: decoder layer -> experts that stay, for example `curve.kept("reap", 0.5)`. Every MoE
            layer must keep the same number; layers left out of `keep` keep all of theirs.
        folder: where to write; it must not exist or be empty.

    Raises:
        InputError: layers or experts that do not exist, fewer than top-k, different numbers in
            different layers, groups of different size.
        ModelError: an architecture that cannot be written, or logits that do not match.
        RunError: the folder is in use.
    """
    if not isinstance(model, Model):
        raise InputError(
            f"export_pruned() was given a {type(model).__name__} as its model; load it first: "
            "export_pruned(moeaudit.load(...), keep, folder)."
        )
    kept = check_kept(model, keep)
    place = Path(folder)
    if place.is_file() or (place.is_dir() and any(place.iterdir())):
        raise RunError(
            f"'{place}' exists and is not empty. A checkpoint is written to a new or empty folder, so that "
            "no older file is mixed in; choose another folder or remove this one."
        )
    _require_plain(model)
    count = len(next(iter(kept.values())))
    config, names = smaller_config(model, model.anatomy.layers[0].num_experts, count)
    small, cut = smaller_model(model, config, kept)
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        _write(model, small, unfinished)
        difference = _verify(model, kept, unfinished)
        facts = _facts(model, kept, names, cut, difference)
        (unfinished / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        if place.is_dir():
            place.rmdir()
        unfinished.chmod(0o755)  # mkdtemp's are for their owner alone
        unfinished.rename(place)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return place


def check_kept(model: Model, keep: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    """The kept experts of every MoE layer, ascending. Raises InputError if no config can say it."""
    kept: dict[int, list[int]] = {}
    for index in keep:
        _ = model.anatomy[index]  # raises for a layer that does not exist
    for layer in model.anatomy.layers:
        mine = sorted({int(e) for e in keep.get(layer.index, range(layer.num_experts))})
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
    if len(set(sizes.values())) > 1 or len({x.num_experts for x in model.anatomy.layers}) > 1:
        few, many = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        raise InputError(
            f"{model.name}: layer {few} would keep {sizes[few]} experts and layer {many} {sizes[many]}, but "
            f"a {type(model.hf.config).__name__} states one number for all layers. Prune all layers to the "
            "same number (prune_curve with scope='layer' and layers='all' does), or run the uneven model "
            "with its weights in place: moeaudit.causal.without_experts(model, {layer: experts})."
        )
    _check_groups(model, kept)
    return kept


def _check_groups(model: Model, kept: Mapping[int, Sequence[int]]) -> None:
    """Group-limited routers cut the experts into groups of one size, in order."""
    config = model.hf.config.get_text_config()
    groups = next((n for name in _GROUPS if (n := getattr(config, name, None))), None)
    if not isinstance(groups, int) or groups < 2:
        return
    for layer in model.anatomy.layers:
        size = layer.num_experts // groups
        left = np.bincount([e // size for e in kept[layer.index]], minlength=groups)
        if len(set(left.tolist())) > 1:
            raise InputError(
                f"{model.name}: its router first chooses among {groups} groups of {size} experts, and in "
                f"layer {layer.index} the groups would keep {', '.join(map(str, left))}. A configuration "
                "can only state groups of one size. Keep the same number in each group, or run the "
                "model with its weights in place: moeaudit.causal.without_experts(model, {layer: experts})."
            )


def _require_plain(model: Model) -> None:
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


def _write(model: Model, small: Any, folder: Path) -> None:
    from transformers.utils import logging as hf_logging

    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        small.save_pretrained(folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
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


def _facts(
    model: Model,
    kept: Mapping[int, Sequence[int]],
    names: list[str],
    cut: list[str],
    difference: float,
) -> dict[str, Any]:
    return {
        "source": model.name,
        "source_weights_sha256": model.provenance.get("weights_sha256"),
        "experts_before": model.anatomy.layers[0].num_experts,
        "experts_after": len(next(iter(kept.values()))),
        "config_fields": names,
        "kept": {str(layer): list(mine) for layer, mine in kept.items()},
        "tensors_cut": cut,
        "largest_logit_difference": difference,
    }
