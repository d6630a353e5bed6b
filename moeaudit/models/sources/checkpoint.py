"""A checkpoint read from a bundled folder, a folder in hub layout, or the hub."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

from ..bundled import TOKENIZER, bundled_folder, bundled_models
from ..experts.zero import zero_class
from ..placement import moved, require_dtype
from ..placement.asked import require_modules
from ..placement.files import stored_tensors
from ..placement.fits import bytes_by_dtype
from ..placement.summary import READ_FROM, Files
from .files import HUB, commit_of, meant, reachable, require_files, weight_files
from .fitting import require_complete, said_in, unused
from .formats import dequantised, not_run, require_known, stored_as
from .streamed import brought, kept, placed
from .tied import plain_class, tied_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..placement.asked import Asked

_FROM_GGUF = (
    "Use the model in safetensors. In Python, transformers reads some GGUF files (from_pretrained(folder, "
    "gguf_file=...)), and load() takes the model object"
)
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def from_place(
    source: str | Path, dtype: Any, revision: str | None, asked: Asked
) -> tuple[str, PreTrainedModel, PreTrainedTokenizerBase | None, dict[str, Any], list[str]]:
    """Name, model, tokenizer, provenance, and notes on what of the checkpoint is not used."""
    text = str(source)
    if text in bundled_models():
        folder = bundled_folder(text)
        hf, notes = _read(folder, text, dtype or require_dtype("float32"), asked, None)
        return text, hf, _tokenizer(TOKENIZER), _provenance(folder, f"bundled:{text}", None), notes
    path = Path(source).expanduser()
    if path.is_dir():
        _check_folder(path)
        hf, notes = _read(path, text, dtype, asked, None)
        facts = _provenance(path, "folder", None)
        if said := _said_by_maker(path):
            facts, notes = {**facts, "note": said}, [*notes, said]
        return path.resolve().name, hf, _tokenizer(path), facts, notes
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
            f"folder, and not a hub id of the form 'owner/name'. {meant(text, bundled_models())}"
        )
    hf, notes = _read(text, text, dtype, asked, revision)
    commit = commit_of(text, revision) or revision
    facts = {"source": f"hub:{text}", "revision": commit, **_hub_sha256(text, commit)}
    return text, hf, _tokenizer(text, revision), facts, notes


def _said_by_maker(path: Path) -> str | None:
    """What whoever made the model says of it to its readers: `note` in the folder's `lab.json`."""
    try:
        found = json.loads((path / "lab.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None  # no such file, or another's
    said = found.get("note") if isinstance(found, dict) else None
    return said if isinstance(said, str) and said else None


def _check_folder(path: Path) -> None:
    adapter = path / "adapter_config.json"
    if adapter.is_file():
        base = _base_of(adapter)
        raise ModelError(
            f"The folder '{path}' holds LoRA adapters (adapter_config.json) for {base}, not a whole model. Merge them: "
            "peft's PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(new_folder), "
            "and give the new folder."
        )
    if not (path / "config.json").is_file():
        raise ModelError(
            f"The folder '{path}' has no config.json, so it is not a checkpoint in hub layout "
            "(config.json, *.safetensors, tokenizer.json). "
            f"{_checkpoint_in(path) or 'Give the folder that `save_pretrained` wrote.'}"
        )
    packed = sorted(p.name for p in path.glob("*.gguf"))
    if packed and not any(path.glob("*.safetensors")):
        raise ModelError(
            f"The folder '{path}' holds its weights as GGUF ({packed[0]}), which is not read here. {_FROM_GGUF}."
        )
    require_files(path)
    if not any(path.glob("*.safetensors")):
        pickled = sorted(p.name for pattern in _PICKLED for p in path.glob(pattern))
        what = (
            f"holds its weights as a pickle ({pickled[0]}), which can run code when read. Load it once in a "
            "place you trust and write it again with `model.save_pretrained(folder)`"
            if pickled
            else "holds no weights. Files named *.safetensors were expected beside config.json"
        )
        raise ModelError(f"The folder '{path}' {what}.")


def _checkpoint_in(path: Path) -> str:
    """Where below `path` a checkpoint stands, if there is one: a cache of the hub, or checkpoints of a training."""
    for pattern in (
        "snapshots/*/config.json",
        "*/config.json",
        "models--*/snapshots/*/config.json",
    ):
        if found := sorted(path.glob(pattern), key=lambda file: file.stat().st_mtime):
            return f"There is one in '{found[-1].parent}': give that folder."
    return ""


def _base_of(adapter: Path) -> str:
    try:
        base = json.loads(adapter.read_text("utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    return f"'{base}'" if base else "another model"


def _read(
    source: str | Path, name: str, dtype: Any, asked: Asked, revision: str | None
) -> tuple[PreTrainedModel, list[str]]:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    from ..precision import not_memory

    at: dict[str, Any] = {} if revision is None else {"revision": revision}
    offline = not isinstance(source, Path) and not reachable()
    if offline:  # the hub's own client would try again and again, for half a minute
        at["local_files_only"] = True
    config: Any = None
    said: list[str] = []
    method: str | None = None
    try:
        with _quiet(said):
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **at)
            _require_decoder(name, config)
            auto = (
                AutoModelForCausalLM
                if type(config) in AutoModelForCausalLM._model_mapping  # noqa: SLF001
                else AutoModelForImageTextToText
            )
            auto = zero_class(auto, config)
            require_known(config, asked, name)
            method = stored_as(config, asked)
            files = weight_files(source, revision, cached=offline)
            bones = placed(auto, config, files, dtype, name, asked)
            facts = Files(method, bytes_by_dtype(stored_tensors(files)))
            if bones is not None:
                hf = brought(bones, asked.on, keep=kept(bones, dtype, asked))
                READ_FROM.keep(hf, facts)
                return hf, unused(name, hf, bones.left)
            loaded: Any = tied_class(auto, config).from_pretrained(
                source,
                dtype="auto" if dtype is None else dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are named and refused below
                **at,
                **asked.handed_on,
                **dequantised(config, asked),
            )
            hf, info = loaded
    except ModelError:
        raise
    except Exception as error:
        not_memory(error, f"loading '{name}'")
        lines = [_first(error)]
        report = said_in("\n".join(said))
        if report and "report" in lines[0]:
            if method is not None:
                why = f"transformers does not unpack its tensors: {report}."
                raise not_run(name, method, why) from error
            raise ModelError(
                f"'{name}' could not be loaded: its tensors do not fit {config.model_type} as config.json "
                f"describes it: {report}. Get a complete checkpoint, or put config.json right."
            ) from error
        if offline:
            raise ModelError(
                f"'{name}' could not be loaded: {HUB} cannot be reached from here, and the cache does not hold it "
                "whole. Check the connection, or give the folder of a checkpoint that was downloaded."
            ) from error
        if isinstance(error, ValueError) and "custom code" in str(error):
            raise ModelError(
                f"'{name}' could not be loaded: it brings Python code of its own, and code from a checkpoint is never "
                "run. Use a checkpoint whose architecture is part of transformers; in Python you may load it "
                "yourself, knowingly, and give the model object."
            ) from error
        if isinstance(error, ValueError) and "does not recognize this architecture" in str(error):
            import transformers

            kind = str(error).partition("model type `")[2].partition("`")[0]
            raise ModelError(
                f"'{name}' could not be loaded: transformers {transformers.__version__}, which is installed, has no "
                f"model type '{kind}'. Check model_type in config.json."
            ) from error
        if "offload_folder" in str(error):
            raise ModelError(
                f"'{name}' does not fit into what device_map and max_memory allow, and transformers would write the "
                "rest to disk a second time. Leave device_map out and give offload='stream' (with device=): layers are "
                "then read from the files as they are."
            ) from error
        if asked.device_map is not None and method is None:
            raise ModelError(
                f"'{name}' could not be placed by device_map = {asked.device_map!r}: {lines[0]} Give 'auto', or a dict "
                "of modules to devices that torch sees on this machine, or device= for a single one."
            ) from error
        if method is not None:
            raise not_run(name, method, lines[0]) from error
        raise ModelError(
            f"'{name}' could not be loaded: {lines[0]} A checkpoint of a transformers causal language "
            "model with safetensors weights was expected, or a hub id that this machine can reach."
        ) from error
    require_complete(name, info)
    notes = unused(name, hf, info.get("unexpected_keys", []))
    require_modules(hf, asked.device_map, name)
    hf = plain_class(hf)
    hf = hf if asked.device is None else moved(hf, name, asked.device)
    READ_FROM.keep(hf, facts)
    return hf, notes


def _first(error: Exception) -> str:
    """The first line of an error that says something: a bare key or a heading alone does not."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return f"{type(error).__name__} {' '.join(lines)}".strip() + "."
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _require_decoder(name: str, config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"'{name}' is an encoder-decoder ({config.model_type}): its experts read two texts, and what a "
            "removal at a token of one does to the other is not defined here. A decoder-only language "
            "model is expected."
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
            options: dict[str, Any] = {} if revision is None else {"revision": revision}
            if not isinstance(source, Path) and not reachable():
                options["local_files_only"] = True
            return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:
        raise ModelError(
            f"The tokenizer of '{source}' could not be read ({type(error).__name__}: {error}). A tokenizer.json was "
            "expected; in Python, load(..., tokenizer=...) takes another one."
        ) from error


class _Kept(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextlib.contextmanager
def _quiet(said: list[str] | None = None) -> Iterator[None]:
    """Keep transformers' loading report and progress bar out of the user's console, and in `said`."""
    from transformers.utils import logging as hf_logging

    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    root = hf_logging.get_logger("transformers")
    handlers, propagate = root.handlers[:], root.propagate
    root.handlers, root.propagate = [_Kept([] if said is None else said)], False
    hf_logging.set_verbosity(logging.WARNING)
    hf_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # That packed weights are to be widened is asked for here, and said in a note.
            warnings.filterwarnings("ignore", "You passed `quantization_config`", UserWarning)
            yield
    finally:
        hf_logging.set_verbosity(level)
        root.handlers, root.propagate = handlers, propagate
        if bar:
            hf_logging.enable_progress_bar()
