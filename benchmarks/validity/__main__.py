"""Do the statistics hold what they promise? Simulated audits whose truth is known.

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity --run FOLDER --out docs/methods/validity.md

Effects are drawn clustered by document, with tails as heavy as real ones and cells that share tokens
(`draws.Law`); `--run FOLDER` adds audits redrawn, document by document, from the census of a finished run
(`moeaudit audit tiny-olmoe --out FOLDER`), its cells centred so that no metric predicts
anything. `--quick` runs a tenth of everything. Of a page that is there already only what lies between the
marks BEGIN and END is replaced: the rest is written by hand.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    from .page import placed, report

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the Markdown page to write")
    parser.add_argument("--runs", type=int, default=6000, help="audits per family-wise figure")
    parser.add_argument("--run", type=Path, help="folder of a finished audit to redraw from")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    runs = options.runs // 10 if options.quick else options.runs
    start = time.perf_counter()
    page = report(runs, options.seed, options.run, options.out.with_suffix(".svg"))
    page += f"\nWall time {time.perf_counter() - start:.0f} s.\n"
    old = options.out.read_text(encoding="utf-8") if options.out.exists() else None
    options.out.write_text(placed(page, old), encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
