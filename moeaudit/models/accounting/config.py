"""A model's configuration from wherever it is named, without its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError

from .known import KNOWN

if TYPE_CHECKING:
    from transformers import PretrainedConfig


@dataclass(frozen=True)
class Found:
    """A configuration, where it comes from in words, and the folder it lies in, if it is in one."""

    name: str
    config: PretrainedConfig
    origin: str
    folder: Path | None = None
    bundled: bool = False
    quantised: str | None = None


def config_of(source: Any, revision: str | None = None) -> Found:
    """The configuration of a bundled name, a folder in hub layout, a hub id, or a configuration itself.

    A hub id is looked for in the hub's cache on this machine, then among the published configurations
    that come with the package (`known.KNOWN`), then asked of the hub. No weights are read.

    Raises ModelError where there is none, or transformers does not know its architecture.
    """
    from transformers import PretrainedConfig

    from ..bundled import bundled_folder, bundled_models
    from ..sources.files import meant, require_no_pointer

    if isinstance(source, PretrainedConfig):
        name = getattr(source, "_name_or_path", "") or source.model_type
        return Found(name, source, "given as an object", quantised=_quantised(source))
    text = str(source)
    if text in bundled_models():
        folder = bundled_folder(text)
        return Found(text, _read(folder, text), "bundled", folder, bundled=True)
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"The folder '{path}' has no config.json, and a census is costed from it. Give a folder in hub "
                "layout (weights are not needed), a bundled name, or a hub id."
            )
        require_no_pointer(path / "config.json")
        config = _read(path, text)
        return Found(
            path.resolve().name, config, f"{path}/config.json", path, quantised=_quantised(config)
        )
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise ModelError(
            f"'{text}' is not a bundled model ({', '.join(bundled_models())}), not a folder, and not a hub id "
            f"of the form 'owner/name', so there is no configuration to read. {meant(text, bundled_models())}"
        )
    return _from_hub(text, revision)


def _from_hub(repo: str, revision: str | None) -> Found:
    from transformers.utils.hub import cached_file

    from ..sources.files import HUB, reachable

    at = {} if revision is None else {"revision": revision}
    cached = cached_file(
        repo,
        "config.json",
        local_files_only=True,
        _raise_exceptions_for_missing_entries=False,
        **at,
    )
    if cached is not None:
        config = _read(Path(cached).parent, repo)
        return Found(repo, config, "the hub's cache here", quantised=_quantised(config))
    known = KNOWN.get(repo)
    if known is not None:
        from transformers import AutoConfig

        config = AutoConfig.for_model(known.model_type, dtype="bfloat16", **known.values)
        return Found(repo, config, f"published values: {known.source}", quantised=known.quantised)
    if not reachable():  # the hub's own client would try again and again, for half a minute
        raise ModelError(
            f"No configuration of '{repo}' could be read: {HUB} cannot be reached from here, and the cache does not "
            f"hold it. Check the connection, give a folder with its config.json, or one of {', '.join(KNOWN)}, "
            "which come with the package."
        )
    config = _read(repo, repo, **at)
    return Found(repo, config, "the hub", quantised=_quantised(config))


def _read(place: Any, name: str, **at: Any) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(place, trust_remote_code=False, **at)
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"No configuration of '{name}' could be read: {lines[0]} A config.json of an architecture that "
            "transformers knows was expected, in a folder or in the hub's cache (`hf download "
            f"OWNER/NAME config.json`), or one of {', '.join(KNOWN)}, which come with the package."
        ) from error


def _quantised(config: PretrainedConfig) -> str | None:
    """The method of a quantised checkpoint, as its configuration names it."""
    said = getattr(config, "quantization_config", None)
    if said is None:
        return None
    said = said if isinstance(said, dict) else said.to_dict()
    return str(said.get("quant_method", "quantised"))


def stored_bytes(folder: Path) -> dict[str, int]:
    """Bytes of the safetensors files in a folder, by dtype; only their headers are read."""
    out: dict[str, int] = {}
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with file.open("rb") as handle:
                size = int.from_bytes(handle.read(8), "little")
                header = json.loads(handle.read(size))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"'{file}' cannot be read as safetensors ({error}). Get the file again, or cost the model from "
                "a folder that holds its config.json alone."
            ) from error
        for key, entry in header.items():
            if key != "__metadata__":
                first, last = entry["data_offsets"]
                out[entry["dtype"]] = out.get(entry["dtype"], 0) + last - first
    return out
