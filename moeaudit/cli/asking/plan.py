"""`moeaudit plan` and `moeaudit check`: what an audit costs, settled before it is run, held against after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from moeaudit.errors import InputError

from ..asked import Context, asked_of, asking, loading_of, options_of
from ..options import placement, writable
from ..terminal.document import Json, document
from ..terminal.examples import examples


@examples(
    "moeaudit plan allenai/OLMoE-1B-7B-0924 --machine laptop",
    "moeaudit plan tiny-olmoe --sesoi 0.01nats --freeze plan.json",
    'moeaudit plan --amend plan.json --freeze new.json --alpha 0.01 --why "stricter"',
    "moeaudit plan --pilot runs/tiny-olmoe --sesoi 0.02nats --power 0.9",
    "moeaudit plan tiny-olmoe --machine h100 --json",
)
@asking
def plan(
    context: Context,
    model: Annotated[
        str | None,
        typer.Argument(help="The model that will be audited; an amendment keeps its own."),
    ] = None,
    freeze: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the plan to this new file, instead of printing its cost."
        ),
    ] = None,
    amend: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The plan that changes: the options given replace those in it."
        ),
    ] = None,
    why: Annotated[str | None, typer.Option(help="Why the plan is amended.")] = None,
    pilot: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="How many documents a run like this one needs for --sesoi and --power.",
        ),
    ] = None,
    power: Annotated[
        float, typer.Option(help="Power with which documents needed are counted.")
    ] = 0.8,
    machine: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Cost for a stated machine: laptop, card-24gb, h100, ray-8.  [default: this one, measured]",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Say what an audit of MODEL costs: rows, work, memory, time, documents needed. Its configuration is
    enough, weights are not loaded. Or settle the audit before it is run (--freeze), change a frozen plan in
    the open (--amend), or find how many documents it needs from a pilot (--pilot)."""
    if pilot is not None:
        if given := [
            n for n, v in (("MODEL", model), ("--freeze", freeze), ("--amend", amend)) if v
        ]:
            raise InputError(f"--pilot plans from a run and takes no {' and no '.join(given)}.")
        _needed(context, pilot, power, json)
        return
    if freeze is not None:
        writable(freeze, "--freeze", folder=False)
        if given := _given(context, "machine", "power"):
            raise InputError(
                f"A frozen plan takes no {' and no '.join(given)}: those belong to the estimate. Leave --freeze "
                "out to see the cost, then freeze."
            )
        _freeze(context, model, freeze, amend, why, json)
        return
    if amend is not None or why is not None:
        raise InputError("An amendment needs --freeze FILE, the new file to write.")
    if model is None:
        raise InputError(
            "A plan needs the MODEL whose cost is wanted; a settled one needs --freeze FILE, the new file to "
            "write. (--pilot RUN finds how many documents to plan for.)"
        )
    _cost(context, model, power, machine, json)


def _given(context: Context, *names: str) -> list[str]:
    """Which of these options were typed."""
    sources = {name: context.get_parameter_source(name) for name in names}
    return [
        f"--{name}"
        for name, source in sources.items()
        if source is not None and source.name != "DEFAULT"
    ]


def _cost(
    context: Context,
    model: str,
    power: float,
    machine: str | None,
    json: bool,
) -> None:
    from moeaudit.runs.costs import cost
    from moeaudit.runs.session import declared_of, outcomes_of, require_counts
    from moeaudit.runs.working.asked import OPTIONS

    from ..terminal.console import console, say

    asked = asked_of(context, {})
    given = options_of(asked)
    declared_of(given["sesoi"], given["alpha"], given["metrics"], outcomes_of(given["outcome"])[0])
    counts = ("documents", "tokens", "max_length", "seed", "verify_rows")
    engines = OPTIONS["verify_engines"]
    require_counts(**{name: given[name] for name in counts}, verify_engines=engines)
    names = ("operator", "layers", "documents", "tokens", "max_length", "metrics")
    found = cost(
        model,
        asked["text"],
        **{name: given[name] for name in (*names, "sesoi", "alpha", "seed", "share")},
        power=power,
        dtype=asked["dtype"],
        device=context.params["device"],
        machine=machine,
        **placement(*(context.params[n] for n in ("device_map", "max_memory", "offload"))),
    )
    if json:
        document(
            "plan",
            model=found.name,
            configuration=found.origin,
            layers=found.layers,
            unit=found.unit,
            share=found.share,
            fits=found.memory.fits,
            streams=found.memory.streams,
            stored=found.bytes,
            quantities=found.table,
            machine={
                "name": found.machine.name,
                "device": found.machine.device,
                "how": found.machine.how,
            },
            asked=found.asked,
            notes=found.notes,
        )
        return
    say(console(), repr(found))


def _freeze(
    context: Context,
    model: str | None,
    freeze: Path,
    amend: Path | None,
    why: str | None,
    json: bool,
) -> None:
    from moeaudit.front import plan as settle
    from moeaudit.runs.plans import Plan

    from ..terminal.console import console, say

    before = None if amend is None else Plan.read(amend)
    if before is None and why is not None:
        raise InputError("--why gives the reason of an amendment; name the plan with --amend FILE.")
    told: dict[str, Any] = {} if before is None else before.record["asked"]
    if before is not None and not told:
        raise InputError(
            f"{amend} was frozen from Python and does not hold the options of a command line; amend it "
            "there, with moeaudit.plan(..., amend=...)."
        )
    name = model or told.get("model")
    if name is None:
        raise InputError("A plan needs the MODEL that will be audited.")
    asked = asked_of(context, told)
    settled = settle(
        name,
        asked["text"],
        path=freeze,
        amend=before,
        why=why,
        asked={"model": name, **asked},
        **loading_of(context, asked),
        **options_of(asked),
    )
    if json:
        document(
            "plan", file=freeze, plan=settled.record, run=f"moeaudit audit {name} --plan {freeze}"
        )
        return
    spec, screen = settled.spec, console()
    code = settled.record["code"]
    commit = code["commit"] or code["reason"]
    say(screen, f"Frozen: {freeze}")
    say(screen, f"SHA-256 {settled.sha256}, {settled.record['frozen']}, code {commit}")
    if code["dirty"]:
        say(screen, "Note: the checkout has changes that are not committed.")
    say(
        screen,
        f"{spec.model}: effects on {spec.effect_documents} documents, metrics from {spec.metric_documents} others; "
        f"layers "
        f"{', '.join(map(str, spec.layers))}; {', '.join(spec.tested)} by {len(settled.record['metrics'])} "
        f"metrics; smallest effect of interest {spec.sesoi}, alpha {spec.alpha}, seed {spec.seed}.",
    )
    for change in (settled.record["amends"] or {}).get("changes", []):
        say(screen, f"Amended: {change['field']} was {change['was']!r}, is {change['is']!r}")
    say(screen, f"Run it: moeaudit audit {name} --plan {freeze}")


def _needed(context: Context, pilot: Path, power: float, json: bool) -> None:
    from moeaudit.runs.plans import documents_needed
    from moeaudit.runs.plans.pilot import SCOPE
    from moeaudit.stats.least import FEW_DOCUMENTS
    from moeaudit.stats.sizes.bounds import IN_NATS

    from ..terminal.console import console, say

    def given(name: str) -> Any:
        source = context.get_parameter_source(name)
        return context.params[name] if source is not None and source.name != "DEFAULT" else None

    table = documents_needed(pilot, sesoi=given("sesoi"), alpha=given("alpha"), power=power)
    if json:
        document("plan", pilot=pilot, power=power, documents_needed=table, scope=SCOPE)
        return
    screen = console()
    for row in table.to_dict("records"):
        unit = "nats" if row["outcome"] in IN_NATS else "in the outcome's unit"
        say(
            screen,
            f"{row['outcome']}, layer {row['layer']}: {row['documents']:,} documents (median metric "
            f"{row['documents_median']:,}) for {row['sesoi']:.3g} in d_z, {row['sesoi_nats']:.3g} {unit}",
        )
    for outcome, rows in table.groupby("outcome", sort=False):
        say(
            screen,
            f"All layers of {outcome}, power {power:g}: {max(rows['documents']):,} documents.",
        )
    if min(table["documents"].to_numpy()) < FEW_DOCUMENTS:
        say(
            screen,
            f"With fewer than {FEW_DOCUMENTS} documents a table carries a caution: plan for more.",
        )
    say(screen, SCOPE)
