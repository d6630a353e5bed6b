"""One process working on a run folder, resumable at every step."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.causal.operators.routing import why_not_per_expert
from moeaudit.errors import InputError
from moeaudit.store.files import read_table, write_json, write_table
from moeaudit.store.question import OUTCOMES, Question
from moeaudit.store.shards import Shards
from moeaudit.text.choice import Material, gather
from moeaudit.text.shift import with_shift

from . import stages
from .analysis import declare, freeze_in, marked, untested_table
from .elsewhere import domains, shift
from .folder import FORMAT, RECORD
from .operators import operator_of
from .progress import Progress
from .provenance import now, session
from .spec import ALPHA, TESTED, AuditSpec

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.frames import Frame
    from moeaudit.models import Model

TOKENS = 128


def complete(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a run says that it is finished and its files are all there."""
    files = ["documents", "tokens", "experts", "tests"]
    if "domains" in record["stages"]:
        files += [domains.MEASURED, domains.BY_DOMAIN, domains.ACROSS]
    if "equal mass" in record["stages"]:
        files.append(Path(stages.MASS).stem)
    if record["spec"].get("shift") and not shift.whole(folder):
        return False
    return (
        record["status"] == "finished"
        and all((folder / f"{name}.parquet").is_file() for name in files)
        and all(Shards(folder / name).whole for name in ("routing", "effects"))
    )


def question(
    model: Model,
    docs: Any,
    layers: list[int] | None,
    documents: int | None,
    tokens: int,
    max_length: int | None,
    seed: int,
    verify_rows: int,
    verify_engines: tuple[str, ...],
    operator: Operator | str | None = None,
    outcome: str | Iterable[str] | None = None,
    frozen_routing: bool = False,
    sesoi: str | float | int | None = None,
    alpha: float = ALPHA,
    metrics: Iterable[str] | None = None,
    other: Any = None,
) -> tuple[Material, AuditSpec, Operator]:
    """Settle what is asked: the documents, the frozen spec, the operator. Nothing is written."""
    tested, further = outcomes_of(outcome)
    bound, named = declared_of(sesoi, alpha, metrics, tested)
    if verify_rows < 1 or not verify_engines:
        raise InputError(
            f"An audit checks itself: verify_rows = {verify_rows} and {len(verify_engines)} "
            "engine(s) leave nothing to check with. Give at least one row and one engine."
        )
    chosen = model.anatomy.select(layers)
    length = model.max_length if max_length is None else max_length
    material = gather(model, docs, documents=documents, tokens=tokens, max_length=length, seed=seed)
    if documents is not None and material.effect.n_documents < documents:
        material.notes.append(
            f"{documents} documents were asked for; effects are measured on the "
            f"{material.effect.n_documents} that there are (metrics need documents of their own)."
        )
    material = with_shift(model, docs, other, material, tokens=tokens, max_length=length, seed=seed)
    made = _operator(model, operator, material)
    if frozen_routing and made.scope != "position":
        raise InputError(
            f"{made.name} edits every position at once, and frozen routing is not available for it. Ask for an "
            "edit of one position, such as zero, or leave frozen routing out."
        )
    asked = Question(
        made.name,
        made.to_dict(),
        made.scope,
        frozen_routing=frozen_routing,
        outcomes=(*OUTCOMES, *further),
        per_expert=why_not_per_expert(made, chosen) is None,
    )
    for layer in chosen:
        made.rows(layer)  # what cannot be asked of a layer is refused before anything is written
    spec = AuditSpec(
        model=model.name,
        weights=model.provenance["weights_sha256"],
        text=material.source,
        metric_text=material.metric_hash,
        effect_text=material.effect_hash,
        metric_documents=material.metric.n_documents,
        effect_documents=material.effect.n_documents,
        layers=tuple(layer.index for layer in chosen),
        max_length=length,
        tokens=tokens,
        seed=seed,
        question=Question.from_dict(asked.to_dict()),  # as the record gives it back
        tested=tested,
        verify_rows=verify_rows,
        verify_engines=tuple(verify_engines),
        dtype=model.provenance["dtype"],
        sesoi=bound,
        alpha=alpha,
        metrics=named,
        **shift.fields(material),
    )
    return material, spec, made


def _operator(model: Model, given: Operator | str | None, material: Material) -> Operator:
    """The operator itself; a word may ask for what experts say on the metric documents."""
    from moeaudit.causal import expert_outputs
    from moeaudit.causal.operators import Zero
    from moeaudit.causal.operators.routing import require_operator

    if isinstance(given, str):

        def held_out() -> Any:
            n = material.metric.n_documents
            material.notes.append(
                f"What stands in an expert's place was collected on the {n} metric documents."
            )
            return expert_outputs(model, material.metric)

        return operator_of(given, held_out)
    made = Zero() if given is None else given
    require_operator(made)
    if made.to_dict().get("operator") == "Custom":
        material.notes.append(
            f"The operator {made.name!r} is a function of the user's own. Only its name is recorded: it "
            "cannot be restored from this record, and a resumed run cannot tell whether it changed."
        )
    return made


def outcomes_of(asked: str | Iterable[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(outcomes that are tested, outcomes that are measured besides the three of every table).

    Raises InputError for an outcome that is not known, or named twice.
    """
    from moeaudit.causal.outcomes.named import NAMED

    names = TESTED if asked is None else (asked,) if isinstance(asked, str) else tuple(asked)
    known = ("delta_nll", "abs_delta_nll", "kl", "flip", *NAMED)
    for name in names:
        if name not in known:
            raise InputError(f"Unknown outcome {name!r}. Choose among {', '.join(known)}.")
    if not names or len(set(names)) < len(names):
        raise InputError(f"outcome = {list(names)}: one or several, each once, were expected.")
    return names, tuple(name for name in names if name in NAMED)


def declared_of(
    sesoi: str | float | int | None,
    alpha: float,
    metrics: Iterable[str] | None,
    tested: tuple[str, ...],
) -> tuple[str, tuple[str, ...]]:
    """(the smallest effect of interest as it is written down, the metrics that are tested).

    None asks for the default: 0.01 nats, or 0.1 in d_z if an outcome is not in nats.
    Raises InputError for what cannot be read, or does not fit the tested outcomes.
    """
    from moeaudit.observe.metrics import METRICS
    from moeaudit.stats import get_protocol

    recipe = get_protocol("moeaudit").with_(sesoi=sesoi, alpha=alpha).settled(tested)
    recipe.bound.check(tested)
    names = () if metrics is None else tuple(metrics)
    if metrics is not None and (not names or len(set(names)) < len(names)):
        raise InputError(f"metrics = {list(names)}: one or several, each once, were expected.")
    if wrong := [name for name in names if name not in METRICS]:
        raise InputError(f"Unknown metric {', '.join(wrong)}. Choose among {', '.join(METRICS)}.")
    return str(recipe.bound), tuple(name for name in METRICS if name in names)


class Session:
    """One process working on a run folder. The record says which stages are done."""

    def __init__(
        self,
        folder: Path,
        spec: AuditSpec,
        operator: Operator,
        record: dict[str, Any] | None,
        plan: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.operator = operator
        self.record = record or {
            "format": FORMAT,
            "spec": spec.to_dict(),
            "spec_hash": spec.hash,
            "status": "running",
            "sessions": [],
            "stages": {},
            "notes": [],
            "plan": plan,
        }

    def run(self, model: Model, material: Material, progress: Progress) -> dict[str, Any]:
        from moeaudit.causal.folder import EffectsFolder

        self.record["sessions"].append(session())
        self.record["model"] = _model_facts(model)
        self.record["protocol"] = dataclasses.asdict(self.spec.recipe)
        self._note([*material.notes, *model.anatomy.notes])
        self._save()
        layers = list(self.spec.layers)
        write_table(self.folder / "documents.parquet", material.documents)
        with self.stage("metrics", "experts.parquet", f"{domains.MEASURED}.parquet") as todo:
            if todo:
                trace = stages.metric_trace(model, material, progress)
                table, why = stages.expert_table(trace, layers)
                self.record["reasons"] = why
                domains.write_measured(self.folder, trace, layers)
                write_table(self.folder / "experts.parquet", table)
        experts = read_table(self.folder / "experts.parquet")
        if self.spec.metrics:
            experts = experts[experts["metric"].isin(self.spec.metrics)].reset_index(drop=True)
        experts, twins = stages.distinct_metrics(experts)
        self._note(twins)
        untested = why_not_per_expert(self.operator, [model.anatomy[layer] for layer in layers])
        declared = None
        if untested is None:
            which = dict.fromkeys(chunk.document for chunk in material.effect.chunks)
            declared = declare(experts, self.spec, self.record["model"], which)
            freeze_in(self.record, declared)
            shift.freeze_shift(self, material, experts)
        else:
            self._note([f"Routing metrics were not tested, because {untested}."])
        self._save()
        with self.stage("census"):
            stages.census(model, self.operator, material, self.spec, self.folder, progress)
        effects = EffectsFolder(Shards(self.folder / "effects"))
        self._note(effects.notes)
        with self.stage("verification"):
            self.record["verification"] = stages.verify_all(
                model, self.operator, material, self.spec, effects, progress
            )
        with self.stage("statistics", "tests.parquet") as todo:
            if todo and declared is None:
                write_table(self.folder / "tests.parquet", untested_table(self.spec, str(untested)))
            elif todo and declared is not None:
                tests = stages.test_table(
                    effects, experts, self.spec, progress, self.reasons(experts)
                )
                write_table(self.folder / "tests.parquet", marked(tests, declared))
        with self.stage("equal mass", stages.MASS) as todo:
            if todo:
                mass = (
                    untested_table(self.spec, str(untested))
                    if untested is not None
                    else stages.mass_table(effects, experts, self.spec, progress)
                )
                write_table(self.folder / stages.MASS, mass)
        stages.join_tokens(self.folder)
        shift.run_shift(self, model, material, experts, untested, progress)
        domains.run_domains(self, effects, experts, untested, progress)
        tokens = read_table(self.folder / "tokens.parquet")
        self.record |= {
            "engine": effects.engine,
            "drift": effects.drift,
            "summary": stages.summary(effects.shards, tokens),
            "status": "finished",
            "finished": now(),
        }
        self._save()
        for place in (self.folder, self.folder / shift.FOLDER):
            shutil.rmtree(place / stages.PARTIAL, ignore_errors=True)
        return self.record

    def reasons(self, experts: Frame) -> dict[str, str]:
        """Why metrics are null, for those that are tested."""
        named = set(experts["metric"])
        return {name: why for name, why in self.record["reasons"].items() if name in named}

    @contextmanager
    def stage(self, name: str, *leaves: str) -> Iterator[bool]:
        """Time a stage; yields False if it was done before and the files that it leaves are there."""
        before = self.record["stages"].get(name, {"seconds": 0.0})
        there = leaves and all((self.folder / name).is_file() for name in leaves)
        todo = "done" not in before or not there
        since = time.perf_counter()
        yield todo
        if todo:
            seconds = round(before["seconds"] + time.perf_counter() - since, 3)
            self.record["stages"][name] = {"seconds": seconds, "done": now()}
            self._save()

    def _note(self, notes: Iterable[str]) -> None:
        self.record["notes"] += [note for note in notes if note not in self.record["notes"]]

    def _save(self) -> None:
        write_json(self.folder / RECORD, self.record)


def _model_facts(model: Model) -> dict[str, Any]:
    layers = model.anatomy.layers
    return {
        **{
            k: v
            for k, v in model.provenance.items()
            if isinstance(v, (str, int, float, type(None)))
        },
        "device": str(model.device),
        "decoder_layers": model.anatomy.n_layers,
        "num_experts": {str(layer.index): layer.num_experts for layer in layers},
        "top_k": {str(layer.index): layer.top_k for layer in layers},
    }
