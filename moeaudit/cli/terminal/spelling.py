"""A message of the library in the words of the command line.

The library's messages name arguments as Python has them (`offload='stream'`, `Swap(3)`); who types commands has
options and words (`--offload stream`, `swap:3`). They are put in at the one place where messages are printed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# Arguments that are options; the one whose option is called otherwise comes first.
_EXPERTS = "experts_implementation"
_OPTIONS = (
    *(_EXPERTS, "device_map", "device", "dtype", "max_memory", "offload", "layers", "documents", "tokens"),
    *("max_length", "seed", "sesoi", "alpha", "metrics", "shift", "share", "verify_rows", "outcome", "operator"),
    *("frozen_routing", "out", "report", "plan", "why", "amend", "executor", "workers", "draws", "keep", "scope"),
    *("criteria", "exact", "bins", "level"),
)  # fmt: skip
_VALUE = r"""(?P<quote>['"])(?P<text>[^'" ]*)(?P=quote)|(?P<bare>-?\w[\w.]*)(?<!\.)(?![\w('"{\[])|(?=[\s.,;:)]|$)"""
_ARGUMENT = re.compile(
    rf"(?<![\w./'\"\-])(?P<name>{'|'.join(_OPTIONS)})(?P<given> ?= ?)(?:{_VALUE})"
)
_NAMED = re.compile(
    rf"(?<![\w./'\"\-])({_EXPERTS}|device_map|max_memory|verify_rows|frozen_routing)\b(?! ?=)"
)
_OPERATORS = {
    "Zero": "zero", "Renormalize": "renormalize", "Reroute": "reroute", "Swap": "swap", "Scale": "scale",
    "Skip": "skip", "Coalitions": "coalitions", "Permutations": "permutations", "SharedExpert": "shared-expert",
    "SharedGate": "shared-gate", "Everywhere": "everywhere", "Resample": "resample", "MeanOutput": "mean-output",
}  # fmt: skip
_OPERATOR = re.compile(
    rf"\b({'|'.join(_OPERATORS)})\(([\w-]*(?::[\w.,-]+)?|'\w*'|-?[\d.]+|\([\d, ]+\))\)"
)


def typed(message: str, given: Sequence[str] = ()) -> str:
    """`message` with arguments as options and operators as words; what is neither stays as it is.

    `given` are the words that were typed: where they are quoted, they stay as they were typed.
    """
    texts = {" ".join(part.split()) for word in given for part in (word, word.partition("=")[2])}
    kept = sorted((text for text in texts if text and _put(text) != text), key=len, reverse=True)
    if not kept:
        return _put(message)
    parts = re.split(f"({'|'.join(map(re.escape, kept))})", message)
    return "".join(part if i % 2 else _put(part) for i, part in enumerate(parts))


def _put(message: str) -> str:
    message = _NAMED.sub(lambda found: _called(found[1]), _ARGUMENT.sub(_option, message))
    while (words := _OPERATOR.sub(_word, message)) != message:  # one in another, the inner first
        message = words
    return message


def _called(name: str) -> str:
    return "--experts" if name == _EXPERTS else f"--{name.replace('_', '-')}"


def _option(found: re.Match[str]) -> str:
    name, value = found["name"], found["text"] or found["bare"] or ""
    if (name, value) == ("shift", "False"):
        return "--no-shift"
    option = _called(name)
    if value == "None":
        return f"{option} none" if name == "offload" else f"no {option}"
    if found["quote"] and " " in found["given"]:  # `device = 'nowhere'` tells what was given
        value = repr(value)
    return option if value in ("", "True") else f"{option} {value}"


def _word(found: re.Match[str]) -> str:
    word, argument = _OPERATORS[found[1]], found[2].strip("'()").replace(" ", "")
    return f"{word}:{argument}" if argument else word
