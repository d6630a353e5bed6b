"""Train one of the small models.

    python -m moeaudit.lab.bundled.train tiny-olmoe --corpus corpus --out training/tiny-olmoe --steps 1200

Every run is seeded, logged (`log.jsonl`) and resumable (`--resume`): on one thread of one machine
a resumed run equals the uninterrupted one bit for bit. While the learning rate is constant the run
does not depend on its number of steps, so `constant.pt`, kept when the decay begins, can be
resumed with more `--steps` or another decay. A run that is over can be trained further from its
last state in a new folder (`--from OLD --out NEW`): the rate returns to its constant value at the
step where the old run ended, and `run.json` keeps what came before.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from moeaudit.errors import MoeAuditError, RunError

from ..training.data import Mixture, Tokens
from ..training.model import quiet
from .configs import ARCHITECTURES, OF_THE_DECAY, Settings
from .training import Training


def save(training: Training, path: Path, facts: dict[str, Any]) -> None:
    """Write a checkpoint; an interrupted write leaves the one before."""
    partial = path.with_suffix(".partial")
    torch.save({"facts": facts, "state": training.state()}, partial)
    partial.replace(path)


def saved(out: Path, facts: dict[str, Any]) -> dict[str, Any] | None:
    """The newest state in `out` that a run described by `facts` passes through; None if no run.

    Raises `RunError` naming the field when `out` holds a different run.
    """
    checkpoints = [
        torch.load(out / name, weights_only=True)
        for name in ("checkpoint.pt", "constant.pt")
        if (out / name).exists()
    ]
    for checkpoint in checkpoints:
        theirs = checkpoint["facts"]
        differing = [k for k in facts if theirs.get(k) != facts[k] and k not in OF_THE_DECAY]
        if differing:
            k = differing[0]
            raise RunError(
                f"{out} holds a run with {k} = {theirs.get(k)!r}; this one has {facts[k]!r}. "
                "Give the same settings to resume it, or another --out for a new run."
            )
        step = checkpoint["state"]["step"]
        same = all(theirs.get(k) == facts.get(k) for k in OF_THE_DECAY)
        if same or step <= min(run["steps"] - run["decay_steps"] for run in (theirs, facts)):
            return checkpoint["state"]
    if checkpoints:
        raise RunError(
            f"{out} holds a run that was already past the point where the decay of this one would "
            f"begin (step {facts['steps'] - facts['decay_steps']}). Ask for more --steps, or give "
            "another --out for a new run."
        )
    return None


def earlier(folder: Path, facts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last state of another run of the same model, and what that run was.

    Raises `RunError` when there is none, or when it goes beyond the steps asked for now.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise RunError(f"{folder} holds no checkpoint.pt to train further from.")
    checkpoint = torch.load(path, weights_only=True)
    theirs, step = checkpoint["facts"], checkpoint["state"]["step"]
    if theirs["name"] != facts["name"] or step >= facts["steps"]:
        raise RunError(
            f"{folder} holds {theirs['name']} after {step} steps; this run is of {facts['name']} to step "
            f"{facts['steps']}. The same model and more --steps were expected."
        )
    return checkpoint["state"], {**theirs, "steps_made": step}


def run(
    training: Training, mixture: Mixture, out: Path, facts: dict[str, Any], every: int = 100
) -> Iterator[dict[str, Any]]:
    """Train to the last step, yielding the record of each; checkpoint every `every` steps."""
    s = training.settings
    while training.step < s.steps:
        yield training.advance(mixture)
        if training.step == s.steps - s.decay_steps:
            save(training, out / "constant.pt", facts)
        if training.step % every == 0 or training.step == s.steps:
            save(training, out / "checkpoint.pt", facts)


def trim(log: Path, step: int) -> None:
    """Drop the records of steps after the checkpoint: they will be made again."""
    if log.exists():
        lines = log.read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        log.write_text("".join(kept), "utf-8")


def keep_memory() -> None:
    """Ask glibc to reuse freed memory: a step frees and takes the same gigabyte again and again."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library
        return
    mallopt(-4, 0)  # M_MMAP_MAX: no large block of its own
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give nothing back


def read(corpus: Path, tokenizer: Path) -> tuple[dict[str, list[Tokens]], int, str]:
    """The training documents as tokens by domain, the vocabulary size and the corpus hash."""
    from tokenizers import Tokenizer

    from moeaudit.text.making.full import document_tokens

    fast = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    texts = document_tokens(corpus, fast, "train")
    documents: dict[str, list[Tokens]] = {d: [t.ids for t in docs] for d, docs in texts.items()}
    digest = json.loads((corpus / "corpus.json").read_text("utf-8"))["sha256"]
    return documents, fast.get_vocab_size(), digest


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.lab.bundled.train", description=__doc__
    )
    parser.add_argument("name", choices=sorted(ARCHITECTURES))
    parser.add_argument("--corpus", type=Path, required=True, help="folder made by text.build")
    parser.add_argument("--out", type=Path, required=True, help="folder for log and checkpoints")
    parser.add_argument("--tokenizer", type=Path, help="folder of the tokenizer (the bundled one)")
    parser.add_argument("--decay-steps", type=int, help="steps of falling rate (a fifth)")
    parser.add_argument("--resume", action="store_true", help="continue the run found in --out")
    parser.add_argument(
        "--from", dest="earlier", type=Path, help="folder of a run to train further"
    )
    parser.add_argument("--stop-at", type=int, help="pause after this step")
    for field in fields(Settings):
        if field.name != "decay_steps":
            flag = f"--{field.name.replace('_', '-')}"
            kind = float if isinstance(field.default, float) else int
            required = field.name == "steps"
            parser.add_argument(flag, type=kind, required=required, default=field.default)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    keep_memory()
    try:
        decay = options.steps // 5 if options.decay_steps is None else options.decay_steps
        chosen = {f.name: getattr(options, f.name) for f in fields(Settings)}
        settings = Settings(**{**chosen, "decay_steps": decay})
        here = Path(__file__).parents[2] / "models" / "bundled" / "tokenizer"
        documents, vocabulary, corpus = read(options.corpus, options.tokenizer or here)
        facts = {"name": options.name, "corpus": corpus, **asdict(settings)}
        training = Training(options.name, vocabulary, settings)
        begun: dict[str, Any] | None = None
        if options.earlier is not None:
            begun, before = earlier(options.earlier, facts)
            facts["earlier"] = before
        state = saved(options.out, facts)
        if state is not None and not options.resume:
            raise RunError(f"{options.out} holds a run. Add --resume, or give another --out.")
        start = begun if state is None else state
        if start is not None:
            training.restore(start)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "run.json").write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
        trim(options.out / "log.jsonl", training.step)
        mixture = Mixture(documents, settings.seed)
        with (options.out / "log.jsonl").open("a", encoding="utf-8") as log:
            for record in run(training, mixture, options.out, facts):
                log.write(json.dumps(record) + "\n")
                if record["step"] % 20 == 0:
                    log.flush()
                    sys.stderr.write(f"{json.dumps(record)}\n")
                if record["step"] == options.stop_at:
                    save(training, options.out / "checkpoint.pt", facts)
                    break
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    quiet()
    sys.exit(main())
