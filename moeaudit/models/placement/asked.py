"""What `load` was asked about where a model stands, and what can be done of it here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moeaudit.errors import ModelError, one_of

from .fits import budget_of, free, said, size_of, usable

if TYPE_CHECKING:
    import torch

    from .fits import Need

OFFLOAD = ("auto", "stream", "none")


@dataclass(frozen=True)
class Asked:
    """The options of `load` about placement, checked."""

    device: torch.device | None = None
    device_map: Any = None
    max_memory: Any = None
    offload: str | None = "auto"
    quantization_config: Any = None

    @property
    def on(self) -> torch.device:
        """The device that computes."""
        import torch

        return self.device or torch.device("cpu")

    @property
    def budget(self) -> int:
        """Bytes that weights may take: what was asked, or what is free less a reserve."""
        asked = budget_of(self.max_memory, self.on)
        return usable(self.on) if asked is None else asked

    @property
    def handed_on(self) -> dict[str, Any]:
        """What transformers is asked for itself."""
        options = {}
        if self.device_map is not None:
            options["device_map"] = self.device_map
            if self.max_memory is not None:
                options["max_memory"] = self.max_memory
        if self.quantization_config is not None:
            options["quantization_config"] = self.quantization_config
        return options


def asked(
    device: torch.device | None,
    device_map: Any,
    max_memory: Any,
    offload: str | None,
    quantization_config: Any,
) -> Asked:
    """Raises ModelError for options that contradict each other, a size that is none, an unknown offload, a device
    that `max_memory` does not name, and a quantization_config that transformers could not read."""
    if offload is not None:
        one_of(offload, OFFLOAD, "offload=", error=ModelError)
    offload = None if offload == "none" else offload
    if device_map is not None and device is not None:
        raise ModelError(
            f"device = '{device}' and device_map = {device_map!r} both say where the model stands. Give one: "
            "device for a "
            "single device, device_map for several."
        )
    if device_map is not None and offload == "stream":
        raise ModelError(
            f"offload = 'stream' brings layers to one device, and device_map = {device_map!r} spreads them. Give "
            "device= with "
            "offload='stream', or device_map= alone."
        )
    if device_map is not None and isinstance(max_memory, (str, int, float)):
        raise ModelError(
            f"max_memory = {max_memory!r} is one size, and device_map = {device_map!r} names several devices. "
            "Give sizes by "
            "device, such as max_memory={0: '20GiB', 'cpu': '40GiB'}."
        )
    for each in max_memory.values() if isinstance(max_memory, dict) else ():
        size_of(each)
    named = isinstance(quantization_config, dict) and "quant_method" in quantization_config
    if quantization_config is not None and not (
        named or hasattr(quantization_config, "quant_method")
    ):
        raise ModelError(
            f"quantization_config = {quantization_config!r} is none of transformers' configurations. Give one, such as "
            "transformers.BitsAndBytesConfig(load_in_4bit=True)."
        )
    found = Asked(device, device_map, max_memory, offload, quantization_config)
    if device_map is None and max_memory is not None and budget_of(max_memory, found.on) is None:
        raise ModelError(
            f"max_memory = {max_memory!r} names no size for '{found.on}', which the model goes to. Name it, such as "
            f"{{'{found.on}': '12GiB'}}, or give one size."
        )
    return found


def require_modules(hf: Any, device_map: Any, name: str) -> None:
    """Raise ModelError for a device_map with names of nothing in the model, whose words would be ignored."""
    if not isinstance(device_map, dict):
        return
    there = {path for path, _ in (*hf.named_modules(), *hf.named_parameters(), *hf.named_buffers())}
    wrong = [key for key in device_map if key not in there]
    if wrong:
        raise ModelError(
            f"device_map places '{wrong[0]}', and {name} ({type(hf).__name__}) has no module of that name. Name its "
            f"modules, such as {', '.join(repr(path) for path, _ in list(hf.named_children())[:2])}, or give 'auto'."
        )


def streams(need: Need, name: str, options: Asked) -> bool:
    """Whether the model is streamed: if asked for, or if it does not fit whole and that is not forbidden.

    Raises ModelError, saying the least, where it cannot stand here either way.
    """
    if options.offload == "stream" or (options.offload == "auto" and need.whole > options.budget):
        if need.least > options.budget:
            raise ModelError(
                f"'{name}' cannot be streamed within {said(options.budget)} on {options.on}: it needs at least "
                f"{said(need.least)} for weights ({said(need.around)} for the embedding, the last norm and the head, "
                f"{said(need.layer)} for one decoder layer and {said(need.ahead)} for the next one as it is stored). "
                "Raise max_memory, free memory, or load in a smaller dtype."
            )
        return True
    if options.offload is None and need.whole > max(options.budget, _there(options)):
        raise ModelError(
            f"'{name}' needs {said(need.whole)} for its weights, and {said(max(options.budget, _there(options)))} "
            "are free on "
            f"{options.on}. Leave offload at 'auto' to stream it (at least {said(need.least)}), or use a smaller "
            "dtype."
        )
    return False


def _there(options: Asked) -> int:
    return 0 if options.max_memory is not None else free(options.on)
