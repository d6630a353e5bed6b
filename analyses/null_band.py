"""The picture of luck: real metrics beside what the same numbers, dealt to other experts, would give.

    moeaudit audit tiny-olmoe --out runs/tiny-olmoe
    python analyses/null_band.py runs/tiny-olmoe --out docs/methods/null_band.svg

Reads `tests.parquet` of a run and draws some rows of the page's own figure of contrasts as an SVG file that
needs no page around it. The dashed boxes hold 95 % of 999 deals of the metric's numbers to the experts of
the layer. The row "random score" is one such deal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moeaudit.errors import InputError, MoeAuditError
from moeaudit.report.figures.contrasts import contrasts
from moeaudit.report.figures.figure import standalone
from moeaudit.report.words.evidence import Evidence, read
from moeaudit.report.words.operator import ZERO
from moeaudit.store.files import read_table, write_text

METRICS = ("easy_ep", "reap", "utilisation", "domain_mi")
CONTROLS = ("random_score", "heldout_causal")  # the gate weight would squeeze the axis


def drawn(evidence: Evidence, metrics: Sequence[str] = METRICS) -> str:
    """The figure of some metrics and of two controls, as the text of an SVG file.

    Raises InputError for a metric that the run did not test, and for a table without null bands.
    """
    table = evidence.contrasts
    known = set(table["metric"])
    if missing := [name for name in metrics if name not in known]:
        raise InputError(
            f"The run has no contrast of {', '.join(missing)}. It has {', '.join(sorted(known)) or 'none'}."
        )
    if "null_high" not in table or table["null_high"].isna().all():
        raise InputError(
            "The run's contrasts have no null bands (null_low, null_high): metrics were not dealt to other "
            "experts. Run the audit again with this version."
        )
    some = table[table["metric"].isin([*metrics, *CONTROLS])].reset_index(drop=True)
    return standalone(contrasts(replace(evidence, contrasts=some), ZERO).drawing)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="folder of a finished audit")
    parser.add_argument("--out", type=Path, default=Path("null_band.svg"))
    parser.add_argument("--metrics", nargs="+", default=METRICS)
    options = parser.parse_args(argv)
    try:
        write_text(
            options.out, drawn(read(read_table(options.run / "tests.parquet")), options.metrics)
        )
    except MoeAuditError as error:
        print(f"null_band: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
