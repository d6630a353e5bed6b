"""One part of a run, measured into a folder of its own; `merge` puts the parts together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.frames.waiting import stages
from moeaudit.store.files import locked

from ..progress import LogProgress, Progress
from ..session import Session
from ..spec import AuditSpec
from ..stages import shards
from ..working.folder import claim
from ..working.provenance import now
from ..working.work import sound
from .conclude import MEASURES
from .division import Part, part_of, read_part

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.models import Model
    from moeaudit.text.choice import Material

    from ..plans import Plan

DONE = "part"  # the status of a part that has measured what is its own
ELSEWHERE, DOCUMENTS = "shift", "documents.parquet"


class MeasuredPart:
    """A finished part of a run: `folder`, `part` and the `record` of its audit.json.

    Its effects can be read (`moeaudit.effects(folder)`); tests are made of all parts, by `moeaudit.merge`.
    """

    def __init__(self, folder: Path, record: dict[str, Any]) -> None:
        self.folder = folder
        self.record = record
        self.spec = AuditSpec.from_dict(record["spec"])
        self.part = part_in(record)

    def __repr__(self) -> str:
        n = len(self.part.effects) + len(self.part.shift)
        also = " and the routing metrics" if self.part.first else ""
        return (
            f"{str(self.part).capitalize()} of the audit of {self.spec.model}: {n} of "
            f"{self.part.n_effects + self.part.n_shift} groups of documents{also}, in {self.folder}. When all "
            "parts are there: moeaudit merge PART... --out RUN, or moeaudit.merge([...], out=...)."
        )


def part_in(record: dict[str, Any]) -> Part:
    """The part that a record is of."""
    said: dict[str, Any] = record["part"]
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in said.items()}
    return Part(**plain)


def measure_part(
    folder: Path,
    number: tuple[int, int],
    asked: tuple[Model, Material, AuditSpec, Operator],
    progress: Progress,
    plan: dict[str, Any] | None = None,
) -> MeasuredPart:
    """Measure part (i, n) of what is `asked` into `folder`; finished shards are kept.

    Raises InputError for more parts than groups of documents, RunError for a folder that holds anything
    else, before anything is written.
    """
    model, material, spec, operator = asked
    part = part_of(*number, model, operator, material, spec)
    record = claim(folder, spec, part.to_dict())
    if record is None or not part_complete(folder, record):
        with locked(folder):
            session = Session(folder, spec, operator, claim(folder, spec, part.to_dict()), plan)
            session.groups, session.shift_groups = part.effects, part.shift
            session.record["part"] = part.to_dict()
            record = _run(session, part, model, material, progress)
    return MeasuredPart(folder, record)


def _run(
    session: Session, part: Part, model: Model, material: Material, progress: Progress
) -> dict[str, Any]:
    from ..elsewhere import shift

    session.record["status"] = "running"
    session.begin(model, material)
    if part.first:
        session.measure_metrics(model, material, progress)
    session.measure(model, material, progress)
    shift.measure_shift(session, model, material, progress)
    session.record |= {"status": DONE, "finished": now()}
    session.save()
    return session.record


def part_complete(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a part says that it is done and what it measured is all there, as it was written."""
    part, spec = part_in(record), AuditSpec.from_dict(record["spec"])
    wanted = [DOCUMENTS, *(MEASURES if part.first else ()), *record.get("files", {})]
    if spec.shift:
        wanted.append(f"{ELSEWHERE}/{DOCUMENTS}")
    return (
        record["status"] == DONE
        and all(sound(folder, record, name) for name in wanted)
        and all(
            store.has(number)
            for place, numbers in ((folder, part.effects), (folder / ELSEWHERE, part.shift))
            for store in shards(place, spec, None).values()
            for number in numbers
        )
    )


def audit_part(
    model: Any,
    docs: Any = None,
    *,
    shard: str | tuple[int, int],
    out: str | Path,
    plan: Plan | str | Path | None = None,
    progress: Progress | None = None,
    device: str | None = None,
    dtype: Any = None,
    experts_implementation: str | None = None,
    device_map: Any = None,
    max_memory: Any = None,
    offload: str | None = "auto",
    **options: Any,
) -> MeasuredPart:
    """Measure one part of an audit into a folder of its own; `moeaudit.merge` puts the parts together.

    Parameters
    ----------
    model, docs, plan, device, dtype, experts_implementation, device_map, max_memory, offload
        As for `audit`, and the same for all parts.
    shard
        Which part: "2/8" or (2, 8). Documents are divided in the groups that are measured together (8 documents
        each), so that every part has about as much to do; the first part also measures the routing metrics.
    out
        The folder of this part. The same call resumes what is there.
    options
        Of `audit`: operator, outcome, frozen_routing, layers, documents, tokens, max_length, seed, sesoi,
        alpha, metrics, shift, share, verify_rows (recomputed in each part), verify_engines.

    Raises InputError for a part out of range, or more parts than groups of documents, ModelError, RunError: before
    anything is written.
    """
    from ..plans import Plan
    from ..working.asked import settled
    from ..working.folder import measured_dtype, require_folder

    number = read_part(shard)
    require_folder(Path(out))
    planned = None if plan is None else Plan.read(plan)
    loading = {
        "device": device,
        "dtype": measured_dtype(model, dtype, Path(out), planned),
        "experts_implementation": experts_implementation,
        "device_map": device_map,
        "max_memory": max_memory,
        "offload": offload,
    }
    asked = settled(model, docs, options, loading, "A part")
    if planned is not None:
        planned.require(asked[2])
    entry = None if planned is None else planned.entry
    with stages(progress, LogProgress) as told:
        return measure_part(Path(out), number, asked, told, entry)
