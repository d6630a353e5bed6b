"""The census at true size on one GPU: OLMoE-1B-7B, Qwen1.5-MoE-A2.7B and DeepSeek-V2-Lite.

    python benchmarks/gpu.py --out gpu.json            # one card of 24 GB or more, under 8 minutes
    python benchmarks/gpu.py --quick                   # the same road on a CPU, scaled down, seconds

Weights are random, made on the device in bfloat16 from the models' real configurations, so nothing is
downloaded. Each model: are the rows exact (in float32 beside hooks; in bfloat16 beside hooks and beside
float32), how many removals a second, what share of the card's own matrix-product rate that is, and how
raw hooks and nnsight do on the same cells. Each part prints its line at once and is written to `--out`
at once, so a run that is cut off leaves its numbers. What cannot run says why and the rest goes on.
"""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # also as a script of its own

import moeaudit as ma  # noqa: E402
from benchmarks.flops import Flops  # noqa: E402
from moeaudit.causal.check.engines import make_engine  # noqa: E402
from moeaudit.causal.check.row import NotActive  # noqa: E402
from moeaudit.causal.walk import engine  # noqa: E402
from moeaudit.causal.walk.engine import replay_for  # noqa: E402
from moeaudit.causal.walk.layout import layer_layout  # noqa: E402
from moeaudit.models.anatomy import remember  # noqa: E402
from moeaudit.models.find import find_anatomy  # noqa: E402
from moeaudit.models.forward import evaluating  # noqa: E402
from moeaudit.models.precision.widened import in_float32  # noqa: E402

# The published configurations (config.json of allenai/OLMoE-1B-7B-0924, Qwen/Qwen1.5-MoE-A2.7B and
# deepseek-ai/DeepSeek-V2-Lite), as far as they decide shapes, routing and rotations.
_COMMON = dict(pad_token_id=None, bos_token_id=None, eos_token_id=None, tie_word_embeddings=False)
REAL: dict[str, tuple[str, dict[str, Any]]] = {
    "OLMoE-1B-7B": (
        "OlmoeConfig",
        dict(
            vocab_size=50304, hidden_size=2048, intermediate_size=1024, num_hidden_layers=16,
            num_attention_heads=16, num_key_value_heads=16, num_experts=64, num_experts_per_tok=8,
            norm_topk_prob=False, max_position_embeddings=4096, rms_norm_eps=1e-5,
        ),
    ),
    "Qwen1.5-MoE-A2.7B": (
        "Qwen2MoeConfig",
        dict(
            vocab_size=151936, hidden_size=2048, intermediate_size=5632, moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16,
            num_key_value_heads=16, num_experts=60, num_experts_per_tok=4, decoder_sparse_step=1,
            norm_topk_prob=False, max_position_embeddings=8192, rms_norm_eps=1e-6,
        ),
    ),
    "DeepSeek-V2-Lite": (
        "DeepseekV2Config",
        dict(
            vocab_size=102400, hidden_size=2048, intermediate_size=10944, moe_intermediate_size=1408,
            num_hidden_layers=27, first_k_dense_replace=1, num_attention_heads=16,
            num_key_value_heads=16, q_lora_rank=None, kv_lora_rank=512, qk_nope_head_dim=128,
            qk_rope_head_dim=64, v_head_dim=128, n_routed_experts=64, n_shared_experts=2,
            num_experts_per_tok=6, topk_method="greedy", norm_topk_prob=False,
            routed_scaling_factor=1.0, max_position_embeddings=4096, rms_norm_eps=1e-6,
        ),
    ),
}  # fmt: skip
_SMALL = dict(
    vocab_size=509, hidden_size=64, num_hidden_layers=3, intermediate_size=48,
    moe_intermediate_size=32, shared_expert_intermediate_size=64, kv_lora_rank=16,
    qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16, num_attention_heads=4,
    num_key_value_heads=4, num_experts=16, n_routed_experts=16, max_position_embeddings=128,
)  # fmt: skip
LOUD = 8.0  # experts' second matrices, times this: removals then stand above bfloat16's rounding


@dataclass
class Bench:
    """Options, a clock, and everything that was found so far, on disk after each part."""

    device: torch.device
    out: Path | None
    budget: float
    documents: int
    tokens: int
    cells: int
    quick: bool
    start: float = field(default_factory=time.perf_counter)
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> float:
        return self.budget - (time.perf_counter() - self.start)

    def say(self, line: str) -> None:
        print(f"[{time.perf_counter() - self.start:6.1f} s] {line}", flush=True)

    def write(self) -> None:
        if self.out is not None:
            self.out.write_text(json.dumps(self.found, indent=1, default=float), "utf-8")

    @contextmanager
    def part(self, model: str, name: str) -> Iterator[dict[str, Any]]:
        """One part: its numbers in a dict, and in words why it was skipped or failed."""
        into = self.found.setdefault(model, {}).setdefault(name, {})
        begun = time.perf_counter()
        try:
            yield into
            said = {k: _short(v) for k, v in into.items() if not isinstance(v, (list, dict))}
            self.say(f"{model}, {name}: " + ", ".join(f"{k} {v}" for k, v in said.items()))
        except Skipped as reason:
            into["skipped"] = str(reason)
            self.say(f"{model}, {name}: skipped, {reason}")
        except Exception as error:  # noqa: BLE001  a part that fails must not cost the others
            into["failed"] = f"{type(error).__name__}: {error}"
            into["trace"] = traceback.format_exc()
            self.say(f"{model}, {name}: FAILED\n{into['trace']}")
        into["part_seconds"] = time.perf_counter() - begun
        self.write()

    def need(self, seconds: float) -> None:
        """Skip this part if less time is left."""
        if self.left < seconds:
            raise Skipped(f"{self.left:.0f} s are left and {seconds:.0f} s would be needed")

    def sync(self) -> None:
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def seconds(self, work: Callable[[], object]) -> float:
        self.sync()
        begun = time.perf_counter()
        work()
        self.sync()
        return time.perf_counter() - begun

    def forget_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float | None:
        """The most memory that tensors took on the card, GiB; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.max_memory_allocated(self.device) / 2**30

    def free(self) -> None:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


class Skipped(Exception):
    """A part that cannot run here; the message is the reason."""


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def card(bench: Bench) -> float:
    """What the card is and how fast it multiplies; returns the rate, FLOP/s."""
    rate = float("nan")
    with bench.part("card", "device") as into:
        cuda = bench.device.type == "cuda"
        into["name"] = (
            torch.cuda.get_device_name(bench.device) if cuda else platform.processor() or "CPU"
        )
        if cuda:
            into["memory_GiB"] = torch.cuda.get_device_properties(bench.device).total_memory / 2**30
        for name in ("torch", "transformers", "numpy", "pandas", "nnsight"):
            try:
                into[name] = version(name)
            except PackageNotFoundError:
                into[name] = "not installed"
        into["python"] = platform.python_version()
    with bench.part("card", "matrix product") as into:
        n = 256 if bench.quick else 8192
        a, b = (torch.randn(n, n, device=bench.device, dtype=torch.bfloat16) for _ in "ab")
        times = [bench.seconds(lambda: [a @ b for _ in range(10)]) / 10 for _ in range(5)]
        rate = 2.0 * n**3 / float(np.median(times[1:]))
        into["TFLOP_per_s"] = rate / 1e12
        del a, b
    bench.free()
    return rate


def build(name: str, bench: Bench, dtype: torch.dtype = torch.bfloat16) -> ma.Model:
    """The model with random weights, made on the device; experts loud enough to be heard in bfloat16."""
    import transformers as tf

    kind, sizes = REAL[name]
    if bench.quick:
        sizes = {key: _SMALL.get(key, value) for key, value in sizes.items()}
        sizes["initializer_range"] = 0.15  # narrow matrices of 0.02 would do nothing
    config = getattr(tf, kind)(**_COMMON | sizes)
    torch.manual_seed(0)
    with torch.device(bench.device):
        hf = tf.AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    with evaluating(hf), torch.no_grad():
        anatomy = find_anatomy(hf)
        for layer in anatomy.layers:
            layer.experts.down_proj.mul_(LOUD)  # pyright: ignore
    remember(hf, anatomy)
    about = {"source": "random weights", "revision": None, "weights_sha256": None}
    return ma.Model(
        name, hf, None, anatomy, about | {"weights_sha256_of": "random weights, not hashed"}
    )


def texts(model: ma.Model, documents: int, tokens: int) -> list[torch.Tensor]:
    rng = np.random.default_rng(0)
    return [torch.from_numpy(rng.integers(0, model.vocab_size, tokens)) for _ in range(documents)]


def audited(name: str, bench: Bench, rate: float, *, first: bool, profile: bool) -> None:
    """Everything that is measured of one model; of the first one also the whole corpus."""
    model: ma.Model | None = None
    with bench.part(name, "model") as into:
        bench.need(20)
        bench.forget_peak()
        into["seconds_to_make"] = bench.seconds(lambda: into.update(model=build(name, bench)))
        model = into.pop("model")
        into["parameters"] = sum(p.numel() for p in model.hf.parameters())
        into["experts"] = model.experts_implementation
        into["weights_GiB"] = (
            sum(p.numel() * p.element_size() for p in model.hf.parameters()) / 2**30
        )
    if model is None:
        return
    docs = texts(model, bench.documents, bench.tokens)
    with bench.part(name, "engine") as into:
        bench.need(20)
        into["seconds_to_choose"] = bench.seconds(lambda: replay_for(model))
        into["chosen"] = str(replay_for(model))
        if replay_for(model).engine != "wavefront":
            into["measured"] = (
                "rows all the same, so that this run says what they cost and how far off they are"
            )
            _rows_all_the_same(model)
    effects = census(name, bench, model, docs, rate)
    rows = None if effects is None else against_hooks(name, bench, model, effects)
    if rows is not None:
        against_float32(name, bench, model, docs, rows)
    if profile:
        profiled(name, bench, model, docs[:1])
    if first:
        corpus(name, bench, model)
    if rows is not None:
        by_nnsight(name, bench, model, docs, rows)
    exact(name, bench, model, docs)


def _rows_all_the_same(model: ma.Model) -> None:
    """Have the wavefront run though the engine's own check refused it; the lines beside hooks then tell."""
    with evaluating(model.hf), engine.ATTENTION_TURN:
        rows = replace(
            replay_for(model),
            engine="wavefront",
            layout=layer_layout(model),
            residual_scale=dict.fromkeys(model.anatomy.indices, 1.0),
        )
    engine._ENGINES.keep(model.hf, engine._Found(engine._fingerprint(model), rows))  # noqa: SLF001


def census(name: str, bench: Bench, model: ma.Model, docs: list[torch.Tensor], rate: float) -> Any:
    """The census of all documents, after one to warm up, beside plain forwards of a batch."""
    effects = None
    with bench.part(name, "census") as into:
        bench.need(20)
        into["warm_up_seconds"] = bench.seconds(lambda: ma.ablate(model, docs[:1]))
        one = bench.seconds(lambda: ma.ablate(model, docs[:1]))
        into["seconds_of_one_document"] = one
        fitting = int(min(len(docs), max(1.0, 0.4 * bench.left / one)))
        some = docs[:fitting]
        bench.forget_peak()
        done: list[Any] = []
        seconds = bench.seconds(lambda: done.append(ma.ablate(model, some)))
        effects = done[0]
        need = Flops.of(model, bench.tokens)
        batch = torch.stack(docs).to(bench.device)

        @torch.no_grad()
        def forward() -> None:
            with evaluating(model.hf):
                model.hf(input_ids=batch, use_cache=False, logits_to_keep=1)

        forward()
        clean = bench.seconds(forward)
        into |= {
            "documents": fitting,
            "tokens": bench.tokens,
            "removals": len(effects),
            "seconds": seconds,
            "removals_per_s": len(effects) / seconds,
            "TFLOP": fitting * need.census / 1e12,
            "TFLOP_per_s": fitting * need.census / seconds / 1e12,
            "share_of_matrix_product": fitting * need.census / seconds / rate,
            "seconds_for_160_documents": 160 * seconds / fitting,
            "batched_forward_seconds": clean,
            "peak_GiB": bench.peak(),
            "drift_nats": effects.drift,
            "median_abs_delta_nll": float(effects["delta_nll"].abs().median()),
        }
    return effects


def corpus(name: str, bench: Bench, model: ma.Model) -> None:
    """What is wanted of one card: a census of 160 documents, to a folder as an audit writes it."""
    documents = 4 if bench.quick else 160
    with bench.part(name, f"{documents} documents") as into:
        expected = bench.found[name]["census"]["seconds_for_160_documents"]
        bench.need(10 + 2.5 * expected)
        docs = texts(model, documents, bench.tokens)
        with tempfile.TemporaryDirectory() as folder:
            done: list[Any] = []
            seconds = bench.seconds(
                lambda: done.append(ma.ablate(model, docs, out=Path(folder) / "effects"))
            )
            into |= {
                "tokens": bench.tokens,
                "removals": done[0].rows,
                "seconds": seconds,
                "removals_per_s": done[0].rows / seconds,
                "PFLOP": documents * Flops.of(model, bench.tokens).census / 1e15,
            }


def against_hooks(name: str, bench: Bench, model: ma.Model, effects: Any) -> Any:
    """A sample of the rows, each by one forward with hooks, in the device's own precision."""
    with bench.part(name, "bfloat16 beside hooks") as into:
        bench.need(15)
        done: list[Any] = []
        seconds = bench.seconds(lambda: done.append(ma.verify(effects, model, bench.cells)))
        found = done[0]
        off = (found.rows["delta_nll"] - found.rows["engine_delta_nll"]).abs()
        census_rate = bench.found[name]["census"].get("removals_per_s", float("nan"))
        into |= {
            "cells": found.n,
            "cells_routed_otherwise": found.elsewhere,
            "largest_difference": found.max_abs_delta_nll,
            "median_difference": float(off.median()),
            "nine_in_ten_within": float(off.quantile(0.9)),
            "median_effect": float(found.rows["engine_delta_nll"].abs().median()),
            "allowed": found.tolerance,
            "agrees": found.agrees,
            "blind": found.blind,
            "flips_differ": found.flips_differ,
            "hooks_removals_per_s": found.n / seconds,
            "census_times_hooks": census_rate * seconds / found.n,
        }
        return found.rows
    return None


def _effects(by: Any, docs: list[torch.Tensor], rows: Any) -> list[float]:
    """The effects by another engine; NaN where its own forward did not choose the expert (a tie)."""
    found = []
    for d, t, i, e in zip(*(rows[c].tolist() for c in ("document", "position", "layer", "expert"))):
        try:
            found.append(by.effect(docs[d].numpy(), t, i, e).delta_nll)
        except NotActive:
            found.append(float("nan"))
    return found


def against_float32(
    name: str, bench: Bench, model: ma.Model, docs: list[torch.Tensor], rows: Any
) -> None:
    """How far bfloat16 is from float32, by rows and by hooks: rows should be no worse."""
    with bench.part(name, "bfloat16 beside float32") as into:
        bench.need(15)
        with evaluating(model.hf), in_float32(model):
            true = np.array(_effects(make_engine("hooks", model), docs, rows))
        here = ~np.isnan(true)
        true, some = true[here], rows[here]
        mine, theirs = some["delta_nll"].to_numpy(), some["engine_delta_nll"].to_numpy()
        into |= {
            "cells": len(some),
            "cells_routed_otherwise": int((~here).sum()),
            "rows_median_off": float(np.median(np.abs(mine - true))),
            "rows_largest_off": float(np.abs(mine - true).max()),
            "hooks_median_off": float(np.median(np.abs(theirs - true))),
            "hooks_largest_off": float(np.abs(theirs - true).max()),
            "effects_median": float(np.median(np.abs(true))),
        }


def by_nnsight(
    name: str, bench: Bench, model: ma.Model, docs: list[torch.Tensor], rows: Any
) -> None:
    """A few of the same cells by nnsight, one trace each."""
    with bench.part(name, "nnsight") as into:
        bench.need(15)
        try:
            version("nnsight")
        except PackageNotFoundError as error:
            raise Skipped("nnsight is not installed here") from error
        by, some = make_engine("nnsight", model), rows.iloc[:6]
        _effects(by, docs, some.iloc[:1])
        seconds = bench.seconds(lambda: _effects(by, docs, some)) / len(some)
        into["removals_per_s"] = 1 / seconds
        into["census_times_nnsight"] = bench.found[name]["census"]["removals_per_s"] * seconds


def exact(name: str, bench: Bench, model: ma.Model, docs: list[torch.Tensor]) -> None:
    """Rows and hooks both in float32 from the same weights, on a short text: equal but for rounding."""
    with bench.part(name, "float32 beside hooks") as into:
        bench.need(20)
        short = docs[0][: 8 if bench.quick else 16]
        with evaluating(model.hf), in_float32(model):
            effects = ma.ablate(model, [short])
            found = ma.verify(effects, model, 4 if bench.quick else 12)
        into |= {
            "removals": len(effects),
            "cells": found.n,
            "largest_difference": found.max_abs_delta_nll,
            "allowed": found.tolerance,
            "agrees": found.agrees,
            "engine": effects.engine,
        }


def profiled(name: str, bench: Bench, model: ma.Model, docs: list[torch.Tensor]) -> None:
    """Where the time of one document's census goes, by operator."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as record

    with bench.part(name, "profile") as into:
        bench.need(30)
        cuda = bench.device.type == "cuda"
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
        with record(activities=kinds) as seen:
            into["seconds"] = bench.seconds(lambda: ma.ablate(model, docs))
        averages = seen.key_averages()
        by = "self_device_time_total" if cuda else "self_cpu_time_total"
        into["device_seconds"] = sum(getattr(e, by) for e in averages) / 1e6
        table = averages.table(sort_by=by, row_limit=32, max_name_column_width=70)
        into["table"] = [table]
        print(table, flush=True)


def streamed(name: str, bench: Bench, cap_gib: float) -> None:
    """The census with the weights outside of the card, whose memory is capped."""
    with bench.part(name, f"streamed under {cap_gib:g} GiB") as into:
        bench.need(60)
        if "offload" not in inspect.signature(ma.load).parameters:
            raise Skipped("ma.load(offload='stream') is not there yet")
        docs: list[torch.Tensor] = []
        with tempfile.TemporaryDirectory(dir=bench.out.parent if bench.out else None) as folder:
            model = build(name, bench)
            docs = texts(model, bench.documents, bench.tokens)
            into["seconds_to_write"] = bench.seconds(lambda: model.hf.save_pretrained(folder))
            del model
            bench.free()
            if bench.device.type == "cuda":
                whole = torch.cuda.get_device_properties(bench.device).total_memory
                torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gib * 2**30 / whole))
            begun = time.perf_counter()
            model = ma.load(folder, device=str(bench.device), dtype="bfloat16", offload="stream")
            into["seconds_to_load"] = time.perf_counter() - begun
            replay_for(model)
            bench.forget_peak()
            done: list[Any] = []
            # The context, the layers on the card and the allocator's waste have the other half.
            memory = int(cap_gib * 2**30 / 2)
            seconds = bench.seconds(lambda: done.append(ma.ablate(model, docs, memory=memory)))
            into |= {
                "documents": len(docs),
                "seconds": seconds,
                "removals_per_s": len(done[0]) / seconds,
                "peak_GiB": bench.peak(),
            }
            del model
    bench.free()


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(REAL), default=list(REAL))
    parser.add_argument("--documents", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--cells", type=int, default=32, help="rows recomputed by hooks")
    parser.add_argument("--device", default=None, help="cuda where there is one, else cpu")
    parser.add_argument("--out", type=Path, help="JSON, written after every part")
    parser.add_argument("--budget-seconds", type=float, default=450)
    parser.add_argument(
        "--cap", type=float, default=12, help="GiB of the card for the streamed run"
    )
    parser.add_argument("--no-stream", action="store_true", help="leave the streamed run out")
    parser.add_argument("--profile", action="store_true", help="a table of operators, first model")
    parser.add_argument("--quick", action="store_true", help="scaled down, for a CPU")
    options = parser.parse_args(arguments)
    if options.quick:
        options.documents, options.tokens, options.cells = 2, 12, 6
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    bench = Bench(
        device, options.out, options.budget_seconds, options.documents, options.tokens,
        options.cells, options.quick,
    )  # fmt: skip
    rate = card(bench)
    for name in options.models:
        first = name == options.models[0]
        audited(name, bench, rate, first=first, profile=options.profile and first)
        bench.free()
    if not options.no_stream:
        streamed(options.models[0], bench, options.cap)
    bench.write()
    return bench.found


if __name__ == "__main__":
    main()
