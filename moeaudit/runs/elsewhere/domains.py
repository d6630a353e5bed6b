"""The stage that asks where the effects hold: metrics and tests by domain, and what they say together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from moeaudit.frames import Frame
from moeaudit.store.files import read_table, write_table

from ..progress import Progress
from ..spec import AuditSpec
from ..working.work import Work

if TYPE_CHECKING:
    from moeaudit.observe import Trace

BY_DOMAIN, ACROSS, MEASURED = "domains", "across_domains", "experts_by_domain"


def experts_by_domain(trace: Trace, layers: list[int]) -> Frame:
    """The routing metrics once more for each domain: measured "elsewhere" (without its documents) and
    "here" (on them alone). No rows if all documents are of one domain."""
    from dataclasses import replace

    from moeaudit.observe import expert_metrics

    columns = ["measured", "domain", "layer", "expert", "metric", "value"]
    parts: list[Frame] = [pd.DataFrame(columns=columns)]
    of_token = trace.tokens["domain"].astype(str)
    present = [name for name in trace.domains if name in set(of_token)]
    for domain in present if len(present) > 1 else []:
        for kind, mine in (("elsewhere", of_token != domain), ("here", of_token == domain)):
            tokens: Frame = trace.tokens[mine]
            tokens = tokens.assign(domain=tokens["domain"].cat.remove_unused_categories())
            inside = trace.routing["document"].isin(tokens["document"].unique())
            found: Frame = expert_metrics(
                replace(trace, tokens=tokens, routing=trace.routing[inside])
            )
            found = found[found["layer"].isin(layers)]
            parts.append(found.assign(measured=kind, domain=domain)[columns])
    whole = pd.concat(parts[1:] or parts, ignore_index=True)
    return whole.astype({name: "category" for name in ("measured", "domain", "metric")})


def write_measured(folder: Path, trace: Trace, layers: list[int]) -> None:
    """Write `experts_by_domain.parquet`."""
    write_table(folder / f"{MEASURED}.parquet", experts_by_domain(trace, layers))


def domain_tables(
    folder: Path,
    effects: Any,
    experts: Frame,
    spec: AuditSpec,
    progress: Progress,
    measured: Frame | None = None,
) -> Frame:
    """Write `domains.parquet` and `across_domains.parquet` beside the effects; the second is returned."""
    from moeaudit.stats import across_domains, by_domain

    tokens = read_table(folder / "tokens.parquet")
    progress.stage("domains", len(spec.tested), "outcomes")
    parts = []
    for outcome in spec.tested:
        parts.append(
            by_domain(
                effects,
                experts,
                tokens,
                outcome=outcome,
                measured=None if measured is None or measured.empty else measured,
                protocol=spec.recipe,
                seed=spec.seed,
            )
        )
        progress.advance(1)
    found: Frame = pd.concat(parts, ignore_index=True)
    across = across_domains(found, spec.recipe.level)
    write_table(folder / f"{BY_DOMAIN}.parquet", found)
    write_table(folder / f"{ACROSS}.parquet", across)
    return across


def untested_domains(folder: Path, spec: AuditSpec, reason: str) -> None:
    """In place of the two tables: a row for each question and outcome, with the reason."""
    from moeaudit.stats.domains import across_domains, by_domain

    from ..analysis import untested_table

    said = untested_table(spec, reason)
    for name, columns in ((BY_DOMAIN, by_domain.COLUMNS), (ACROSS, across_domains.COLUMNS)):
        write_table(folder / f"{name}.parquet", said.reindex(columns=columns))


def run_domains(
    session: Work, effects: Any, experts: Frame, untested: str | None, progress: Progress
) -> None:
    """The stage: both tables, and which claims they carry beyond the domains of the run."""
    folder, spec = session.folder, session.spec
    leaves = [f"{BY_DOMAIN}.parquet", f"{ACROSS}.parquet"]
    if spec.shift:
        leaves.append("tests.parquet")  # which says whom its claims support
    with session.stage("domains", *leaves) as todo:
        if todo and untested is not None:
            untested_domains(folder, spec, untested)
        elif todo:
            measured = read_table(folder / f"{MEASURED}.parquet")
            domain_tables(folder, effects, experts, spec, progress, measured)
        if todo and untested is None and spec.shift:
            support(folder, spec)


def support(folder: Path, spec: AuditSpec) -> None:
    """Write again `tests.parquet`, where claims that hold in other domains say so (`supports`)."""
    from moeaudit.stats.domains.support import supported

    tests = read_table(folder / "tests.parquet")
    other = read_table(folder / "shift_tests.parquet")
    across = read_table(folder / f"{ACROSS}.parquet")
    write_table(folder / "tests.parquet", supported(tests, across, other, spec.alpha))
