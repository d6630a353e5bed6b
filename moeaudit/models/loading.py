"""`moeaudit.load`: bundled names, folders in hub layout, hub ids, and model objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ContractError, ModelError

from .model import Model
from .placement import input_device, require_device, require_dtype, weights_elsewhere
from .placement.asked import asked
from .placement.spread import returning
from .placement.stream import stream_of
from .placement.summary import packed_share, quantised_by
from .sources.checkpoint import from_place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .precision.chosen import Precision


def load(
    source: Any,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: Any = None,
    device: Any = None,
    experts_implementation: str | None = None,
    revision: str | None = None,
    device_map: Any = None,
    max_memory: Any = None,
    offload: str | None = "auto",
    quantization_config: Any = None,
) -> Model:
    """Load a MoE language model and verify the router contract on a real forward pass.

    `source` is a bundled name (`"tiny-olmoe"`), a folder in hub layout, a hub id, a transformers
    model, a TransformerLens `TransformerBridge` or an nnsight model. `dtype` is `"float32"`,
    `"bfloat16"`, `"float16"`, `"float64"`, a torch dtype or `"auto"` (as stored). By default a checkpoint in half
    precision computes in the fastest kind of number that this device has and that passes a measured check: effects
    of sampled removals off by no more than a tenth of the median effect from float32's (docs/full-size.md; one pass
    over the weights). `provenance["precision"]` and a note say what was measured. Bundled models load as
    float32; quantised ones, and those that `device_map` spreads, as they are. `device` is `"cpu"`, `"cuda"`,
    `"cuda:1"` or whatever torch sees here. Code from a checkpoint is never run, pickles never read.

    `offload` says what happens to a checkpoint that does not fit on the device: `"auto"` streams it then,
    `"stream"` always, None never (it is refused with the numbers). Of a streamed model one decoder layer
    stands on the device and the next is read from the files meanwhile, or brought from host memory where a
    GPU's host holds them all, or where a CPU holds them in half precision and not in float32; nothing is
    written. `max_memory` is what weights may take, `"12GiB"` or bytes; what is free less a tenth, and at
    least 1 GiB, by default.
    `device_map` (`"auto"`, or a dict) spreads layers over several devices by accelerate, with `max_memory` by
    device, and `quantization_config` quantises while loading; both are transformers' own.

    A model object is used as it is, also with layers offloaded by accelerate, or spread over devices (its hooks
    are then told to bring each layer's results back to the caller's device): passes run in
    evaluation mode, and with `experts_implementation` if it is given, and both are put back after
    each. Of a bridge or an nnsight model the transformers model inside is audited, as the wrapper
    runs it. `model.notes` says what was not audited, and what was done so that the model runs.

    Raises ModelError for a model that cannot be loaded, holds NaN, or is no MoE, for an unknown
    dtype or device, and for options that cannot be applied to an object; ContractError for a MoE
    whose experts are not called as `experts(hidden, top_k_index, top_k_weights)`; OutOfMemory.
    """
    from .anatomy import remember
    from .contract.probe import run_probe
    from .find import find_anatomy
    from .forward import evaluating
    from .precision import not_memory
    from .precision.settled import TooLarge, settled
    from .sources.reads import lora_hint, require_logits, require_reader, stale_hint
    from .sources.tied import shared_notes
    from .sources.weights import memory_sha256, require_finite
    from .sources.wrapped import unwrap

    of_place = {
        "dtype": dtype,
        "device": device,
        "revision": revision,
        "device_map": device_map,
        "max_memory": max_memory,
        "offload": None if offload == "auto" else offload,
        "quantization_config": quantization_config,
    }
    if isinstance(source, Model):
        others = {"tokenizer": tokenizer, "experts_implementation": experts_implementation}
        _only_for_places(source, **of_place, **others)
        return source
    place = isinstance(source, (str, Path))
    placing = None
    if place:
        dtype = None if dtype is None else require_dtype(dtype)
        device = None if device is None else require_device(device)
        placing = asked(device, device_map, max_memory, offload, quantization_config)
        name, hf, found_tokenizer, provenance, left = from_place(source, dtype, revision, placing)
    else:
        _only_for_places(source, **of_place)
        hf, found_tokenizer, wrapping = unwrap(source)
        name = getattr(hf.config, "_name_or_path", "") or type(hf).__name__
        provenance = {"source": "object", "revision": None} | wrapping | memory_sha256(hf)
        left = []
    require_reader(hf, name)
    returning(hf)
    notes = _choose_experts(hf, name, experts_implementation, for_good=place)
    try:
        with evaluating(hf):
            probe = run_probe(hf)
    except Exception as error:
        not_memory(error, f"reading a short text with {name}")
        raise ModelError(
            f"{name} ({type(hf).__name__}) did not read a short text: {type(error).__name__}: {error} A "
            "causal language model that is called as model(input_ids=...) and returns logits was expected."
            f"{stale_hint(hf)}"
        ) from error
    require_logits(hf, probe.logits, probe.n_tokens, name)
    require_finite(hf, probe.logits, name)
    try:
        anatomy = find_anatomy(hf, probe)
    except ContractError as error:
        raise type(error)(f"{error}{lora_hint(hf)}") from None
    remember(hf, anatomy)
    model = Model(name, hf, tokenizer or found_tokenizer, anatomy, provenance)
    if placing is not None and dtype is None:
        try:
            precision = settled(model, placing)
        except TooLarge as large:
            del model, hf, probe, anatomy
            again = load(
                source, tokenizer=tokenizer, dtype=large.chosen.computes, device=device, revision=revision,
                experts_implementation=experts_implementation, max_memory=max_memory, offload="stream",
            )  # fmt: skip
            return _noted(again, large.chosen)
        if precision is not None:
            model.provenance["precision"] = precision.to_dict()
            notes.append(str(precision))
    notes = (
        *anatomy.notes,
        *left,
        *notes,
        *shared_notes(hf, anatomy),
        *_offloaded(hf),
        *_quantised(hf),
    )
    model.anatomy = remember(hf, replace(anatomy, notes=notes))
    model.provenance |= {
        "architecture": anatomy.architecture,
        "dtype": str(model.dtype).removeprefix("torch."),
        "experts_implementation": model.experts_implementation,
        "parameters": hf.num_parameters(),
        **_quantisation(hf),
    }
    if (method := quantised_by(hf)) is not None:
        share = packed_share(hf)
        model.provenance["quantised"] = method if share else f"{method}, dequantised"
    return model


def _noted(model: Model, precision: Precision) -> Model:
    """`model`, which was loaded anew in the kind of number that was chosen, with what was measured."""
    from .anatomy import remember

    model.provenance["precision"] = precision.to_dict()
    anatomy = replace(model.anatomy, notes=(*model.anatomy.notes, str(precision)))
    model.anatomy = remember(model.hf, anatomy)
    return model


def _offloaded(hf: PreTrainedModel) -> list[str]:
    brought, _ = weights_elsewhere(hf)
    if not brought:
        return []
    streamed = stream_of(hf)
    if streamed is not None:
        return [streamed[0].note()]
    return [
        f"{len(brought)} weights (the first is '{brought[0]}') are brought to {input_device(hf)} when they are "
        "needed; they were neither hashed nor searched for NaN one by one"
    ]


def _quantised(hf: PreTrainedModel) -> list[str]:
    method = quantised_by(hf)
    if method is None:
        return []
    share = packed_share(hf)
    if not share:
        kind = str(hf.dtype).removeprefix("torch.")
        return [f"stored quantised ({method}) and dequantised to {kind}: memory is that of {kind}"]
    return [f"quantised ({method}): {share:.0%} of its bytes are, the rest is as it was"]


def _quantisation(hf: PreTrainedModel) -> dict[str, str]:
    """How the weights were stored, where the hash is of other numbers than those that compute."""
    quantizer = getattr(hf, "hf_quantizer", None)
    if quantizer is None:
        return {}
    method = str(getattr(quantizer.quantization_config.quant_method, "value", "an unknown method"))
    kind = str(hf.dtype).removeprefix("torch.")
    return {"quantisation": method if packed_share(hf) else f"{method}, dequantised to {kind}"}


def _only_for_places(source: Any, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ModelError(
            f"{given[0]} = {options[given[0]]!r} cannot be applied to a {type(source).__name__} that is already "
            f"loaded. Leave it out, or change the model itself before it is given to load()."
        )


def _choose_experts(
    hf: PreTrainedModel, name: str, wanted: str | None, *, for_good: bool
) -> list[str]:
    """Set which experts function runs; a caller's own model is only lent it, pass by pass."""
    from .forward import lend_experts

    notes = []
    runs = wanted or getattr(hf.config, "_experts_implementation", None)
    if str(hf.dtype) == "torch.float64" and runs == "grouped_mm":
        if wanted is not None:
            raise ModelError(
                f"{name}: experts_implementation = 'grouped_mm' does not compute in float64 (torch's grouped "
                "product takes float32 and below). Use 'eager' or 'batched_mm', or another dtype."
            )
        wanted = "eager"
        notes = ["experts run as 'eager', because 'grouped_mm' does not compute in float64"]
    lend_experts(hf, None)
    if wanted is None:
        return notes
    try:
        if for_good:
            hf.set_experts_implementation(wanted)
        else:
            lend_experts(hf, hf.get_correct_experts_implementation(wanted))
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{name}: experts_implementation = '{wanted}' is not one of transformers': "
            f"{str(error).splitlines()[0]} Use 'eager', 'batched_mm' or 'grouped_mm'."
        ) from error
    return notes
