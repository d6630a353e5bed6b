"""Whether a checkpoint and the class that reads it fit: nothing missing, nothing left over in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from moeaudit.errors import ModelError

from ..find import split_path

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Buffers that are computed anew, and scales of a cache of keys and values: no part of what is read.
_HARMLESS = re.compile(r"(inv_freq|masked_bias|attn\.bias|[kvq]_scale)$")
_SCALE = re.compile(r"(scale|scale_inv|zeros|qzeros|absmax|weight_shape|g_idx)$")
# How many layers that predict further tokens stand behind the decoder's own, in several configurations.
_FURTHER = (
    "num_nextn_predict_layers",
    "num_mtp_layers",
    "mtp_num_hidden_layers",
    "num_mtp_modules",
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def require_complete(name: str, info: Mapping[str, Any]) -> None:
    """Raise ModelError, naming them, where tensors are missing or have another shape than the class."""
    missing = sorted(info.get("missing_keys", []))
    wrong = sorted(info.get("mismatched_keys", []), key=str)
    if missing or wrong:
        which = f"{len(missing)} missing (first: '{missing[0]}')" if missing else _shapes(wrong)
        raise ModelError(
            f"'{name}': the checkpoint does not fill the model: {which}. transformers would start those "
            "weights at random, and an audit of random weights means nothing. "
            + (
                _prefixed(missing, info.get("unexpected_keys", []))
                or "Get a complete checkpoint"
                + (", or put the number right in config.json." if wrong else ".")
            )
        )


def _prefixed(missing: list[str], left: Iterable[str]) -> str:
    """What to do where the files have the tensors under names that begin otherwise; empty where they do not."""
    for name in missing[:1]:
        longer = next((each for each in left if each.endswith(f".{name}")), None)
        if longer is not None:
            before = longer.removesuffix(name)
            return (
                f"In the files the names begin with '{before}' ('{longer}'), which a wrapper put there (torch.compile, "
                "data parallel training): save the model inside of it, or rename the tensors."
            )
    return ""


def _shapes(wrong: list[Any]) -> str:
    first, rest = wrong[0], f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    if isinstance(first, tuple) and len(first) == 3:
        key, stored, built = first
        return f"wrong shape: '{key}' is {tuple(stored)} in the files and {tuple(built)} by config.json{rest}"
    return f"wrong shape: {first}{rest}"


def unused(name: str, hf: PreTrainedModel, left: Iterable[str]) -> list[str]:
    """A note on tensors that the class has no place for.

    Raises ModelError if they are weights of the decoder: further layers (a configuration that says
    fewer), or parts of layers that the class does not have (another class, or a setting).
    """
    names = sorted(left)
    names = [each for each in names if not _HARMLESS.search(each)]
    if not names:
        return []
    path, count = _decoder(hf)
    further = max(getattr(hf.config.get_text_config(), each, 0) or 0 for each in _FURTHER)
    inside, beyond = [], []
    for each in names:
        place = split_path(each)
        if place is None or not (place[0].endswith(path) or f".{path}".endswith(f".{place[0]}")):
            continue
        if place[1] < count:
            inside.append(each)
        elif place[1] >= count + further:
            beyond.append(each)
    cls = type(hf).__name__
    if beyond:
        last = max(place[1] for each in beyond if (place := split_path(each)))
        raise ModelError(
            f"'{name}': {len(beyond)} tensors of the checkpoint belong to decoder layers {count} to {last} (the "
            f"first is '{beyond[0]}'), and config.json says that there are {count}. A model cut short was not "
            "trained and its audit means nothing. Put num_hidden_layers right; a model "
            "that was cut knowingly is audited from Python, as a model object."
        )
    if inside:
        scales = any(_SCALE.search(each) for each in inside)
        raise ModelError(
            f"'{name}': {cls} has no place for {len(inside)} tensors of the checkpoint's decoder layers (the "
            f"first is '{inside[0]}'), so it would compute something else than the checkpoint does. "
            + (
                "They look like scales of quantised weights: config.json lacks its quantization_config."
                if scales
                else "Another class (model_type in config.json) or a setting of it is meant; get the "
                "checkpoint's own config.json."
            )
        )
    some = ", ".join(f"'{each}'" for each in names[:3]) + (", ..." if len(names) > 3 else "")
    return [
        f"{len(names)} tensor{'s' * (len(names) > 1)} of the checkpoint ({some}) ha{'ve' if len(names) > 1 else 's'} "
        f"no place in {cls} and {'are' if len(names) > 1 else 'is'} not audited"
    ]


def left_over(hf: PreTrainedModel, stored: Iterable[str], used: Iterable[str]) -> list[str]:
    """Names in the files that no parameter was made of, less those that transformers ignores for the class."""
    patterns = [
        re.compile(each) for each in getattr(hf, "_keys_to_ignore_on_load_unexpected", None) or ()
    ]
    rest = set(stored) - set(used)
    return [each for each in rest if not any(pattern.search(each) for pattern in patterns)]


def _decoder(hf: PreTrainedModel) -> tuple[str, int]:
    """Path and length of the list of decoder layers: of the outermost lists the one that weighs most."""
    lists = [(p, m) for p, m in hf.named_modules() if isinstance(m, nn.ModuleList) and len(m)]
    outer = [(p, m) for p, m in lists if not any(p.startswith(f"{other}.") for other, _ in lists)]
    if not outer:
        return "layers", 0
    path, stack = max(outer, key=lambda one: sum(x.numel() for x in one[1].parameters()))
    return path, len(stack)


def said_in(report: str) -> str:
    """What transformers' loading report says, in one line: names and what is the matter with them."""
    rows = []
    for line in _COLOUR.sub("", report).splitlines():
        cells = [cell.strip() for cell in line.split("|") if cell.strip(" -+")]
        if len(cells) >= 2 and cells[0] != "Key":
            rows.append(f"'{cells[0]}' {' '.join(cells[1:]).lower()}")
    if not rows:
        return ""
    return "; ".join(rows[:3]) + (f"; and {len(rows) - 3} more" if len(rows) > 3 else "")
