"""A checkpoint read from a bundled folder, a folder in hub layout, or the hub."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

from ..bundled import TOKENIZER, bundled_folder, bundled_models
from ..placement import moved, require_dtype
from ..placement.files import stored_tensors
from ..placement.fits import bytes_by_dtype
from ..placement.summary import READ_FROM, Files
from .files import commit_of, weight_files
from .formats import dequantised, not_run, require_known, stored_as
from .streamed import brought, placed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..placement.asked import Asked

_FROM_GGUF = (
    "Use the model in safetensors: transformers reads some GGUF files (from_pretrained(folder, gguf_file=...)), and "
    "a model object is taken by load()"
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def from_place(
    source: str | Path, dtype: Any, revision: str | None, asked: Asked
) -> tuple[str, PreTrainedModel, PreTrainedTokenizerBase | None, dict[str, Any]]:
    text = str(source)
    if text in bundled_models():
        folder = bundled_folder(text)
        hf = _read(folder, text, dtype or require_dtype("float32"), asked, None)
        return text, hf, _tokenizer(TOKENIZER), _provenance(folder, f"bundled:{text}", None)
    path = Path(source).expanduser()
    if path.is_dir():
        _check_folder(path)
        hf = _read(path, text, dtype, asked, None)
        return path.resolve().name, hf, _tokenizer(path), _provenance(path, "folder", None)
    if path.exists():
        if path.suffix == ".gguf":
            raise ModelError(f"'{text}' is a GGUF file, which is not read here. {_FROM_GGUF}.")
        raise ModelError(
            f"'{text}' is a file; a folder in hub layout (config.json beside *.safetensors) was expected. "
            "Give the folder that holds it."
        )
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelError(
            f"'{text}' is not a bundled model ({', '.join(bundled_models()) or 'none installed'}), not a "
            "folder, and not a hub id of the form 'owner/name'. Check the spelling or the path."
        )
    hf = _read(text, text, dtype, asked, revision)
    commit = commit_of(text, revision) or revision
    facts = {"source": f"hub:{text}", "revision": commit, **_hub_sha256(text, commit)}
    return text, hf, _tokenizer(text, revision), facts


def _check_folder(path: Path) -> None:
    if not (path / "config.json").is_file():
        raise ModelError(
            f"The folder '{path}' has no config.json, so it is not a checkpoint in hub layout "
            "(config.json, *.safetensors, tokenizer.json). Give the folder that `save_pretrained` wrote."
        )
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in _PICKLED for p in path.glob(pattern))
        packed = sorted(p.name for p in path.glob("*.gguf"))
        what = (
            f"holds its weights as a pickle ({pickled[0]}), which can run code when read. Load it once in a "
            "place you trust and write it again with `model.save_pretrained(folder)`"
            if pickled
            else f"holds its weights as GGUF ({packed[0]}), which is not read here. {_FROM_GGUF}"
            if packed
            else "holds no weights. Files named *.safetensors were expected beside config.json"
        )
        raise ModelError(f"The folder '{path}' {what}.")


def _read(
    source: str | Path, name: str, dtype: Any, asked: Asked, revision: str | None
) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    from ..precision import not_memory

    at = {} if revision is None else {"revision": revision}
    config: Any = None
    method: str | None = None
    try:
        with _quiet():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **at)
            auto = (
                AutoModelForCausalLM
                if type(config) in AutoModelForCausalLM._model_mapping  # noqa: SLF001
                else AutoModelForImageTextToText
            )
            require_known(config, asked, name)
            method = stored_as(config, asked)
            files = weight_files(source, revision)
            bones = placed(auto, config, files, dtype, name, asked)
            facts = Files(method, bytes_by_dtype(stored_tensors(files)))
            if bones is not None:
                hf = brought(bones, asked.on)
                READ_FROM.keep(hf, facts)
                return hf
            loaded: Any = auto.from_pretrained(
                source,
                dtype="auto" if dtype is None else dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **at,
                **asked.handed_on,
                **dequantised(config, asked),
            )
            hf, info = loaded
    except ModelError:
        raise
    except Exception as error:
        not_memory(error, f"loading '{name}'")
        lines = str(error).strip().splitlines() or [type(error).__name__]
        if "offload_folder" in str(error):
            raise ModelError(
                f"'{name}' does not fit into what device_map and max_memory allow, and transformers would write the "
                "rest to disk a second time. Leave device_map out and give offload='stream' (with device=): layers are "
                "then read from the files as they are."
            ) from error
        if method is not None:
            raise not_run(name, method, lines[0]) from error
        raise ModelError(
            f"'{name}' could not be loaded: {lines[0]} A checkpoint of a transformers causal language "
            "model with safetensors weights was expected, or a hub id that this machine can reach."
        ) from error
    _require_complete(name, info)
    hf = hf if asked.device is None else moved(hf, name, asked.device)
    READ_FROM.keep(hf, facts)
    return hf


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
    from .weights import stored_sha256

    return {"source": source, "revision": revision, **stored_sha256(weight_files(folder, None))}


def _hub_sha256(repo: str, commit: str | None) -> dict[str, str | None]:
    """The hash of the files that were just read, which the hub's cache holds."""
    from .weights import stored_sha256

    return stored_sha256(weight_files(repo, commit, cached=True))


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
