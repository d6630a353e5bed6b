"""One process working on a run folder, resumable at every step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.causal.folder import EffectsFolder
from moeaudit.causal.operators.routing import require_fits, rows_by_layer, why_not_per_expert
from moeaudit.causal.walk.several.sample import sample_for
from moeaudit.errors import InputError, one_of
from moeaudit.seeds import check_seed
from moeaudit.store.files import write_table
from moeaudit.store.question import OUTCOMES, Question
from moeaudit.store.shards import Shards
from moeaudit.text.choice import Material, check_amount, gather
from moeaudit.text.shift import with_shift

from . import stages
from .analysis import declare, freeze_in
from .elsewhere import domains, shift
from .operators import operator_of
from .parts.conclude import MEASURES, conclude, tested_metrics
from .progress import Progress
from .spec import ALPHA, TESTED, AuditSpec
from .working.provenance import session
from .working.vocabulary import write_vocabulary
from .working.work import Measuring, sound

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator
    from moeaudit.frames import Frame
    from moeaudit.models import Model


def complete(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a run says that it is finished and its files are all there."""
    files = ["documents", "tokens", "experts", "tests"]
    if "domains" in record["stages"]:
        files += [domains.MEASURED, domains.BY_DOMAIN, domains.ACROSS]
    if "equal mass" in record["stages"]:
        files.append(Path(stages.MASS).stem)
    if record["spec"].get("shift") and not shift.whole(folder, record):
        return False
    return (
        record["status"] == "finished"
        and all(sound(folder, record, f"{name}.parquet") for name in files)
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
    share: Any = 1.0,
) -> tuple[Material, AuditSpec, Operator]:
    """Settle what is asked: the documents, the frozen spec, the operator. Nothing is written."""
    tested, further = outcomes_of(outcome)
    bound, named = declared_of(sesoi, alpha, metrics, tested)
    require_counts(documents, tokens, max_length, seed, verify_rows, verify_engines)
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
    sample = sample_for(made, share, seed)
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
        share=1.0 if sample is None else sample.share,
        seed=0 if sample is None else sample.seed,
    )
    require_fits(made, model.anatomy, chosen)  # refused before anything is written
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


def require_counts(
    documents: int | None,
    tokens: int,
    max_length: int | None,
    seed: int,
    verify_rows: int,
    verify_engines: Sequence[str],
) -> None:
    """Raise InputError for numbers that no model could be audited with, before one is loaded."""
    check_seed(seed)
    check_amount(documents, tokens)
    if max_length is not None and max_length < 3:
        raise InputError(
            f"max_length = {max_length}: a model reads at least 3 tokens at once here."
        )
    if verify_rows < 1 or not verify_engines:
        raise InputError(
            f"An audit checks itself: verify_rows = {verify_rows} and {len(verify_engines)} "
            "engine(s) leave nothing to check with. Give at least one row and one engine."
        )


def outcomes_of(asked: str | Iterable[str] | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(outcomes that are tested, outcomes that are measured besides the three of every table).

    Raises InputError for an outcome that is not known, or named twice.
    """
    from moeaudit.causal.outcomes.named import NAMED

    names = TESTED if asked is None else (asked,) if isinstance(asked, str) else tuple(asked)
    known = ("delta_nll", "abs_delta_nll", "kl", "flip", *NAMED)
    for name in names:
        one_of(name, known, "outcome")
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
    for name in names:
        one_of(name, METRICS, "metric")
    return str(recipe.bound), tuple(name for name in METRICS if name in names)


class Session(Measuring):
    """One process auditing into a run folder, from the model to the last table."""

    def run(self, model: Model, material: Material, progress: Progress) -> dict[str, Any]:
        """Every stage that is not done, in order; the record of the finished run."""
        self.begin(model, material)
        experts = self.measure_metrics(model, material, progress)
        self.measure(model, material, progress)
        shift.measure_shift(self, model, material, progress)
        return conclude(self, experts, progress)

    def begin(self, model: Model, material: Material) -> None:
        """Who asks, what of, and which documents: what the record says before anything is computed."""
        self.record["sessions"].append(session())
        self.drop_unsound()
        before, facts = self.record.get("model") or {}, _model_facts(model)
        if "precision" in before and before["dtype"] == facts["dtype"]:
            facts = {"precision": before["precision"]} | facts  # measured once a run
        self.record["model"] = facts
        self.record["protocol"] = dataclasses.asdict(self.spec.recipe)
        layers = [model.anatomy[layer] for layer in self.spec.layers]
        self.record["untested"] = why_not_per_expert(self.operator, layers)
        if self.spec.question.share != 1:
            self.record["rows_per_token"] = sum(rows_by_layer(self.operator, layers).values())
        self.note([*material.notes, *model.anatomy.notes])
        self.save()
        write_table(self.folder / "documents.parquet", material.documents)
        self.seal(["documents.parquet", *write_vocabulary(self.folder, model)])

    def measure_metrics(self, model: Model, material: Material, progress: Progress) -> Frame:
        """The routing metrics, and the declaration of what will be tested with them."""
        with self.stage("metrics", *MEASURES) as todo:
            if todo:
                layers = list(self.spec.layers)
                trace = stages.metric_trace(model, material, progress)
                table, why = stages.expert_table(trace, layers)
                self.record["reasons"] = why
                domains.write_measured(self.folder, trace, layers)
                write_table(self.folder / "experts.parquet", table)
        experts = tested_metrics(self)
        untested = self.record["untested"]
        if untested is None:
            which = dict.fromkeys(chunk.document for chunk in material.effect.chunks)
            freeze_in(self.record, declare(experts, self.spec, self.record["model"], which))
            shift.freeze_shift(self, material, experts)
        else:
            self.note([f"Routing metrics were not tested, because {untested}."])
        self.save()
        return experts

    def measure(self, model: Model, material: Material, progress: Progress) -> None:
        """The census, and its verification by independent engines."""
        with self.stage("census"):
            self.census(model, material, self.folder, progress, self.groups)
        effects = EffectsFolder(Shards(self.folder / "effects"))
        if not effects.rows:
            return  # a part of a run that has none of these documents
        self.note(effects.notes)
        with self.stage("verification"):
            self.record["verification"] = stages.verify_all(
                model, self.operator, material, self.spec, effects, progress
            )


def _model_facts(model: Model) -> dict[str, Any]:
    layers = model.anatomy.layers
    return {
        **{
            k: v
            for k, v in model.provenance.items()
            if isinstance(v, (str, int, float, type(None))) or k == "precision"
        },
        "device": str(model.device),
        "decoder_layers": model.anatomy.n_layers,
        "num_experts": {str(layer.index): layer.num_experts for layer in layers},
        "top_k": {str(layer.index): layer.top_k for layer in layers},
    }
