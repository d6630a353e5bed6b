"""`moeaudit.load`: bundled names, folders in hub layout, hub ids, and model objects."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

from .bundled import TOKENIZER, bundled_folder, bundled_models
from .model import Model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def load(
    source: Any,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: Any = None,
    device: str | None = None,
    experts_implementation: str | None = None,
    revision: str | None = None,
) -> Model:
    """Load a MoE language model and verify the router contract on a real forward pass.

    `source` is a bundled name (`"tiny-olmoe"`), a folder in hub layout, a hub id, a transformers
    model, a TransformerLens `TransformerBridge` or an nnsight model. `dtype` is `"float32"`,
    `"bfloat16"`, `"float16"`, a torch dtype or `"auto"` (as stored, the default; bundled models are stored in
    half precision and load as float32). Code from a checkpoint is never run, pickles never read.
    A model object is used as it is; passes run in evaluation mode and leave its mode alone. Of a
    bridge or an nnsight model the transformers model inside is audited, as the wrapper runs it.

    Raises ModelError for a model that cannot be loaded, holds NaN, or is no MoE, and ContractError
    for a MoE whose experts are not called as `experts(hidden, top_k_index, top_k_weights)`.
    """
    from .find import find_anatomy
    from .known import remember
    from .modes import evaluating
    from .probe import run_probe
    from .weights import require_finite, tensors_sha256
    from .wrapped import unwrap

    if isinstance(source, Model):
        return source
    if isinstance(source, (str, Path)):
        name, hf, found_tokenizer, provenance = _from_place(source, dtype, device, revision)
        tokenizer = tokenizer or found_tokenizer
    else:
        _only_for_places(source, dtype=dtype, device=device, revision=revision)
        hf, found_tokenizer, wrapping = unwrap(source)
        tokenizer = tokenizer or found_tokenizer
        name = getattr(hf.config, "_name_or_path", "") or type(hf).__name__
        provenance = {"source": "object", "revision": None} | wrapping | tensors_sha256(hf)
    if experts_implementation is not None:
        _set_experts(hf, name, experts_implementation)
    try:
        with evaluating(hf):
            probe = run_probe(hf, 7)
    except Exception as error:
        raise ModelError(
            f"{name} ({type(hf).__name__}) did not read a short text: {type(error).__name__}: {error} A "
            "causal language model that is called as model(input_ids=...) and returns logits was expected."
        ) from error
    require_finite(hf, probe.logits, name)
    with evaluating(hf):
        anatomy = find_anatomy(hf)
    remember(hf, anatomy)
    model = Model(name, hf, tokenizer, anatomy, provenance)
    model.provenance |= {
        "architecture": anatomy.architecture,
        "dtype": str(model.dtype).removeprefix("torch."),
        "experts_implementation": model.experts_implementation,
        "parameters": hf.num_parameters(),
    }
    return model


def _from_place(
    source: str | Path, dtype: Any, device: str | None, revision: str | None
) -> tuple[str, PreTrainedModel, PreTrainedTokenizerBase | None, dict[str, Any]]:
    text = str(source)
    if text in bundled_models():
        folder = bundled_folder(text)
        hf = _read(folder, text, dtype or "float32", device, None)
        return text, hf, _tokenizer(TOKENIZER), _provenance(folder, f"bundled:{text}", None)
    path = Path(source).expanduser()
    if path.is_dir():
        _check_folder(path)
        hf = _read(path, text, dtype or "auto", device, None)
        return path.resolve().name, hf, _tokenizer(path), _provenance(path, "folder", None)
    if path.exists():
        raise ModelError(
            f"'{text}' is a file; a folder in hub layout (config.json beside *.safetensors) was expected. "
            "Give the folder that holds it."
        )
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelError(
            f"'{text}' is not a bundled model ({', '.join(bundled_models()) or 'none installed'}), not a "
            "folder, and not a hub id of the form 'owner/name'. Check the spelling or the path."
        )
    hf = _read(text, text, dtype or "auto", device, revision)
    commit = getattr(hf.config, "_commit_hash", None) or revision
    from .weights import tensors_sha256

    facts = {"source": f"hub:{text}", "revision": commit} | tensors_sha256(hf)
    return text, hf, _tokenizer(text, revision), facts


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"The folder '{path}' has no config.json, so it is not a checkpoint in hub layout "
            "(config.json, *.safetensors, tokenizer.json). Give the folder that `save_pretrained` wrote."
        )
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in _PICKLED for p in path.glob(pattern))
        what = (
            f"holds its weights as a pickle ({pickled[0]}), which can run code when read. Load it once in a "
            "place you trust and write it again with `model.save_pretrained(folder)`"
            if pickled
            else "holds no weights. Files named *.safetensors were expected beside config.json"
        )
        raise ModelError(f"The folder '{path}' {what}.")


def _read(
    source: str | Path, name: str, dtype: Any, device: str | None, revision: str | None
) -> PreTrainedModel:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    kind = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype), None)
    if dtype != "auto" and not (isinstance(kind, torch.dtype) and kind.is_floating_point):
        raise ModelError(
            f"dtype = '{dtype}' is unknown; use 'auto', 'float32', 'bfloat16' or 'float16'."
        )
    options: dict[str, Any] = {
        "dtype": dtype if dtype == "auto" else kind,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    if revision is not None:
        options["revision"] = revision
    try:
        with _quiet():
            at = {} if revision is None else {"revision": revision}
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **at)
            auto = (
                AutoModelForCausalLM
                if type(config) in AutoModelForCausalLM._model_mapping  # noqa: SLF001
                else AutoModelForImageTextToText
            )
            loaded: Any = auto.from_pretrained(source, **options)
            hf, info = loaded
    except ModelError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"'{name}' could not be loaded: {lines[0]} A checkpoint of a transformers causal language "
            "model with safetensors weights was expected, or a hub id that this machine can reach."
        ) from error
    _require_complete(name, info)
    if device is None:
        return hf
    try:
        return hf.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"'{name}' could not be moved to device '{device}': {str(error).splitlines()[0]} Use 'cpu', or a "
            "device that torch sees on this machine."
        ) from error


def _require_complete(name: str, info: dict[str, Any]) -> None:
    missing = sorted(info.get("missing_keys", []))
    wrong = sorted(str(key) for key in info.get("mismatched_keys", []))
    if missing or wrong:
        which = (
            f"{len(missing)} missing (first: '{missing[0]}')"
            if missing
            else f"wrong shape: {wrong[0]}"
        )
        raise ModelError(
            f"'{name}': the checkpoint does not fill the model: {which}. transformers would start those "
            "weights at random, and an audit of random weights means nothing. Get a complete checkpoint."
        )


def _provenance(folder: Path, source: str, revision: str | None) -> dict[str, Any]:
    from .weights import files_sha256

    files = sorted(folder.glob("*.safetensors"))
    facts = {"source": source, "revision": revision, "weights_sha256": files_sha256(files)}
    return facts | {"weights_sha256_of": "files"}


def _tokenizer(source: str | Path, revision: str | None = None) -> PreTrainedTokenizerBase | None:
    from transformers import AutoTokenizer

    if isinstance(source, Path) and not any(source.glob("tokenizer*")):
        return None  # token tensors can still be audited; text is refused where it is given
    try:
        with _quiet():
            options = {} if revision is None else {"revision": revision}
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:
        raise ModelError(
            f"The tokenizer of '{source}' could not be read: {error} A tokenizer.json was expected; "
            "pass `tokenizer=` to load() to use another one."
        ) from error


def _only_for_places(source: Any, **options: Any) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise ModelError(
            f"{given[0]} = {options[given[0]]!r} cannot be applied to a {type(source).__name__} that is already "
            f"loaded. Leave it out, or change the model itself before it is given to load()."
        )


def _set_experts(hf: PreTrainedModel, name: str, implementation: str) -> None:
    try:
        hf.set_experts_implementation(implementation)
    except (ValueError, KeyError) as error:
        raise ModelError(
            f"{name}: experts_implementation = '{implementation}' is not one of transformers': "
            f"{str(error).splitlines()[0]} Use 'eager', 'batched_mm' or 'grouped_mm'."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading report and progress bar out of the user's console."""
    from transformers.utils import logging as hf_logging

    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.ERROR)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()
