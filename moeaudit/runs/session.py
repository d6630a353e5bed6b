"""One process working on a run folder, resumable at every step."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError
from moeaudit.store.files import read_table, write_json, write_table
from moeaudit.store.shards import Shards
from moeaudit.text.choice import Material, gather

from . import stages
from .analysis import declare, freeze_in
from .folder import FORMAT, RECORD
from .progress import Progress
from .provenance import now, session
from .spec import AuditSpec

if TYPE_CHECKING:
    from moeaudit.models import Model

TOKENS = 128


def complete(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a run says that it is finished and its files are all there."""
    files = ("documents", "tokens", "experts", "tests")
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
) -> tuple[Material, AuditSpec]:
    """Settle what is asked: the documents, and the frozen spec. Nothing is written."""
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
        verify_rows=verify_rows,
        verify_engines=tuple(verify_engines),
        dtype=model.provenance["dtype"],
    )
    return material, spec


class Session:
    """One process working on a run folder. The record says which stages are done."""

    def __init__(self, folder: Path, spec: AuditSpec, record: dict[str, Any] | None) -> None:
        self.folder = folder
        self.spec = spec
        self.record = record or {
            "format": FORMAT,
            "spec": spec.to_dict(),
            "spec_hash": spec.hash,
            "status": "running",
            "sessions": [],
            "stages": {},
            "notes": [],
        }

    def run(self, model: Model, material: Material, progress: Progress) -> dict[str, Any]:
        from moeaudit.causal import replay_for
        from moeaudit.stats import get_protocol, mark

        self.record["sessions"].append(session())
        self.record["model"] = _model_facts(model)
        self.record["protocol"] = dataclasses.asdict(get_protocol(self.spec.protocol))
        self._note(material.notes)
        self._save()
        layers = list(self.spec.layers)
        write_table(self.folder / "documents.parquet", material.documents)
        with self._stage("metrics", "experts.parquet") as todo:
            if todo:
                table = stages.expert_table(model, material, layers, progress)
                write_table(self.folder / "experts.parquet", table)
        experts, twins = stages.distinct_metrics(read_table(self.folder / "experts.parquet"))
        self._note(twins)
        declared = declare(experts, self.spec, self.record["model"])
        freeze_in(self.record, declared)
        self._save()
        with self._stage("census", None):
            self._note(stages.census(model, material, self.spec, self.folder, progress))
        effects = Shards(self.folder / "effects").read()
        with self._stage("verification", None):
            self.record["verification"] = stages.verify_all(
                model, material, self.spec, effects, progress
            )
        with self._stage("statistics", "tests.parquet") as todo:
            if todo:
                tests = stages.test_table(effects, experts, self.spec, progress)
                write_table(self.folder / "tests.parquet", mark(tests, declared))
        stages.join_tokens(self.folder)
        tokens = read_table(self.folder / "tokens.parquet")
        self.record |= {
            "engine": str(replay_for(model)),
            "summary": stages.summary(effects, tokens),
            "status": "finished",
            "finished": now(),
        }
        self._save()
        shutil.rmtree(self.folder / stages.PARTIAL, ignore_errors=True)
        return self.record

    @contextmanager
    def _stage(self, name: str, leaves: str | None) -> Iterator[bool]:
        """Time a stage; yields False if it was done before and its file is there."""
        before = self.record["stages"].get(name, {"seconds": 0.0})
        todo = leaves is None or "done" not in before or not (self.folder / leaves).is_file()
        since = time.perf_counter()
        yield todo
        if todo:
            seconds = round(before["seconds"] + time.perf_counter() - since, 3)
            self.record["stages"][name] = {"seconds": seconds, "done": now()}
            self._save()

    def _note(self, notes: list[str]) -> None:
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
        "decoder_layers": model.anatomy.n_layers,
        "num_experts": {str(layer.index): layer.num_experts for layer in layers},
        "top_k": {str(layer.index): layer.top_k for layer in layers},
    }
