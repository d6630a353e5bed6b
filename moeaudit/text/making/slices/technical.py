"""Technical text: Python source and the reference of web interfaces."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections.abc import Iterator
from zipfile import ZipFile

from ..cut import CODE, cut
from .unit import Unit, text_of

# Tests and timings read differently from library code; the rest is written by machines or
# is tables of numbers.
NOT_LIBRARY = ("/tests/", "/benchmarks/", "/_antlr/", "resolvent_lookup", "test-examples")

SERVICES = (
    "athena",
    "cloudformation",
    "codebuild",
    "dynamodb",
    "ecs",
    "efs",
    "iam",
    "kms",
    "lambda",
    "route53",
    "s3",
    "sns",
    "sqs",
)


def code(wheel: ZipFile) -> Iterator[Unit]:
    """SymPy's library modules, cut between top-level definitions where possible."""
    for name in sorted(wheel.namelist()):
        if not name.startswith("sympy/") or not name.endswith(".py"):
            continue
        if any(part in name for part in NOT_LIBRARY):
            continue
        documents = tuple(cut(text_of(wheel, name), CODE))
        if documents:
            yield Unit(name, documents)


def apidocs(wheel: ZipFile) -> Iterator[Unit]:
    """Reference prose of thirteen web services, one operation with its parameters a unit."""
    names = wheel.namelist()
    for service in SERVICES:
        pattern = rf"botocore/data/{service}/[\d-]+/service-2\.json\.gz$"
        name = max(n for n in names if re.match(pattern, n))  # the newest version of the service
        model = json.loads(gzip.decompress(wheel.read(name)))
        told: set[str] = set()  # every shape is described once, where it first occurs
        for operation in sorted(model["operations"]):
            spec = model["operations"][operation]
            lines = [operation, _plain(spec.get("documentation", ""))]
            for side in ("input", "output"):
                if side in spec:
                    lines += _members(model["shapes"], spec[side]["shape"], told)
            text = "\n\n".join(filter(None, lines))
            yield Unit(f"botocore {service} {operation}", tuple(cut(text)))


def _members(shapes: dict, name: str, told: set[str]) -> Iterator[str]:
    if name in told:
        return
    told.add(name)
    shape = shapes[name]
    inner = [m for m in (shape.get("member"), shape.get("key"), shape.get("value")) if m]
    for member, spec in shape.get("members", {}).items():
        text = _plain(spec.get("documentation", ""))
        if text:
            yield f"{member}: {text}"
        inner.append(spec)
    for spec in inner:
        yield from _members(shapes, spec["shape"], told)


def _plain(markup: str) -> str:
    text = re.sub(r"</(p|li|note|important|dd|dt|h\d)>|<br ?/?>", "\n", markup)
    text = html.unescape(re.sub(r"<!--.*?-->|<[^>]+>", "", text, flags=re.S))
    return "\n".join(" ".join(line.split()) for line in text.splitlines() if line.strip())
