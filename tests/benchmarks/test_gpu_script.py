"""The script for a GPU, scaled down: every part runs here or says why not, and is on disk at once."""

from __future__ import annotations

import json

from benchmarks import gpu


def test_the_quick_run_leaves_every_number(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    found = gpu.main(["--quick", "--models", "DeepSeek-V2-Lite", "--profile", "--out", str(out)])
    written = json.loads(out.read_text("utf-8"))
    assert set(written) == set(found) == {"card", "DeepSeek-V2-Lite"}
    parts = written["DeepSeek-V2-Lite"]
    assert not [name for name, part in parts.items() if "failed" in part]
    assert parts["engine"]["chosen"].startswith("wavefront replay")
    # 2 documents of 12 tokens, 2 sparse layers of top-6 above one dense layer.
    assert parts["census"]["removals"] == 2 * 11 * 2 * 6
    assert parts["census"]["TFLOP"] > 0
    assert parts["float32 beside hooks"]["agrees"]
    # In bfloat16 two experts may tie, and one cell in some may then go another way: the typical one may not.
    assert parts["bfloat16 beside hooks"]["median_difference"] <= 0.02
    assert parts["bfloat16 beside float32"]["rows_median_off"] < 0.02
    assert parts["profile"]["table"]
    lines = capsys.readouterr().out.splitlines()
    assert sum("DeepSeek-V2-Lite" in line for line in lines) >= len(parts)


def test_a_part_without_time_or_with_a_failure_costs_no_other(tmp_path):
    bench = gpu.Bench(gpu.torch.device("cpu"), tmp_path / "x.json", 5.0, 2, 12, 4, quick=True)
    with bench.part("model", "late") as into:
        bench.need(60)
        into["never"] = 1
    with bench.part("model", "broken"):
        raise ValueError("as it may")
    with bench.part("model", "good") as into:
        into["number"] = 2.0
    parts = json.loads((tmp_path / "x.json").read_text("utf-8"))["model"]
    assert "60 s would be needed" in parts["late"]["skipped"]
    assert "never" not in parts["late"]
    assert parts["broken"]["failed"] == "ValueError: as it may"
    assert parts["good"]["number"] == 2.0


def test_the_configurations_have_the_published_sizes():
    import transformers as tf

    billions = {"OLMoE-1B-7B": 6.92, "Qwen1.5-MoE-A2.7B": 14.32, "DeepSeek-V2-Lite": 15.71}
    for name, (kind, sizes) in gpu.REAL.items():
        with gpu.torch.device("meta"):
            config = getattr(tf, kind)(**gpu._COMMON | sizes)
            hf = tf.AutoModelForCausalLM.from_config(config)
        assert round(sum(p.numel() for p in hf.parameters()) / 1e9, 2) == billions[name]
