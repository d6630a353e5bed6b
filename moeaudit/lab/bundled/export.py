"""Write trained weights as a model folder in hub layout.

    python -m moeaudit.lab.bundled.export training/tiny-olmoe --out moeaudit/models/bundled/tiny-olmoe

Weights are stored in float16. `config.json` asks for float32, so `from_pretrained` gives a model
that computes in float32 from the stored, rounded values: what `moeaudit.lab.bundled.card.evaluate` measures.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from moeaudit.errors import ModelError, MoeAuditError, RunError

from ..training.model import quiet
from .configs import architecture

TOKENIZER = Path(__file__).parents[2] / "models" / "bundled" / "tokenizer"


def export(run: Path, out: Path, tokenizer: Path = TOKENIZER) -> dict[str, Any]:
    """Write the newest checkpoint of `run` to `out`; returns the facts of the run.

    `run.json` in `out` keeps the settings, the steps made, the tokens read and the seconds it took.
    Raises `RunError` if there is no checkpoint, `ModelError` if a weight does not fit float16.
    """
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    path = run / "checkpoint.pt"
    if not path.exists():
        raise RunError(
            f"{run} has no checkpoint.pt. Train first: python -m moeaudit.lab.bundled.train."
        )
    checkpoint = torch.load(path, weights_only=True)
    facts, state = checkpoint["facts"], checkpoint["state"]
    fast = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    model = AutoModelForCausalLM.from_config(architecture(facts["name"], len(fast)))
    model.load_state_dict(state["model"])
    model.half()
    broken = [name for name, p in model.named_parameters() if not p.isfinite().all()]
    if broken:
        raise ModelError(f"{broken[0]} holds values that float16 cannot; nothing was written.")
    for field in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, field, getattr(fast, field))
        setattr(model.generation_config, field, getattr(fast, field))
    model.save_pretrained(out)
    config = json.loads((out / "config.json").read_text("utf-8"))
    config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / file, out / file)
    made = {
        **facts,
        "top_k": model.config.num_experts_per_tok,
        "steps_made": state["step"],
        "tokens": state["step"] * facts["rows_per_step"] * facts["short"],
        "training_seconds": round(state["seconds"], 1),
        "versions": {"torch": torch.__version__, "transformers": _transformers_version()},
    }
    (out / "run.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
    return made


def _transformers_version() -> str:
    import transformers

    return transformers.__version__


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moeaudit.lab.bundled.export", description=__doc__
    )
    parser.add_argument("run", type=Path, help="folder of the training run")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    options = parser.parse_args(arguments)
    try:
        export(options.run, options.out)
    except MoeAuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    quiet()
    sys.exit(main())
