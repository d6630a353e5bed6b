"""What an audit costs before it is run: memory, time, documents needed, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys

import pandas as pd
import pytest
from made import tiny_run

import moeaudit as ma
from moeaudit import cli
from moeaudit.errors import InputError, ModelError
from moeaudit.models.accounting.config import config_of, stored_bytes
from moeaudit.models.accounting.shapes import shapes_of
from moeaudit.runs.costs import STATED, Machine, cost
from moeaudit.runs.costs.calibrate import disk_rate
from moeaudit.runs.costs.machine import free_memory, in_parallel
from moeaudit.runs.costs.memory import BLOCKS, memory_of
from moeaudit.runs.costs.needed import documents_planned
from moeaudit.stats.sizes.power import power_t, power_tost

OLMOE = "allenai/OLMoE-1B-7B-0924"


@pytest.fixture(scope="module")
def olmoe():
    return shapes_of(config_of(OLMOE))


def machine(**changes) -> Machine:
    return Machine(
        **({"name": "m", "device": "cpu", "rate": 1e12, "memory": 24e9, "read": 3e9} | changes)
    )


def test_a_model_that_fits_is_read_once(olmoe):
    plan = memory_of(olmoe, 16_256, 128, 160, 2.0, machine())
    assert not plan.streams and plan.fits and plan.resident == plan.weights
    assert plan.weights == olmoe.parameters * 2 and plan.read == plan.weights
    assert plan.rows == (16_256 + 128) * 2048 * 4
    assert plan.peak <= plan.free
    assert (plan.at_once + 1) * plan.rows + plan.weights + BLOCKS > plan.free


def test_a_model_that_does_not_fit_is_streamed_once_a_walk(olmoe):
    plan = memory_of(olmoe, 16_256, 128, 160, 2.0, machine(memory=12e9))
    assert plan.streams and plan.fits and plan.peak <= 12e9
    assert plan.resident == 2 * (2 * olmoe.largest + olmoe.outside)
    assert plan.walks * plan.at_once >= 160 > (plan.walks - 1) * plan.at_once
    assert plan.read == plan.walks * plan.weights


def test_little_memory_takes_several_walks_a_document_and_less_is_refused(olmoe):
    least = memory_of(olmoe, 100_000, 128, 10, 2.0, machine(memory=24e9)).least
    tight = memory_of(olmoe, 1_000_000, 128, 10, 2.0, machine(memory=1.01 * least + BLOCKS))
    assert tight.fits and tight.at_once < 1 and tight.walks > 10
    assert not memory_of(olmoe, 16_256, 128, 160, 2.0, machine(memory=2e9)).fits


def test_a_layer_in_another_dtype_is_counted(olmoe):
    plain, copied = (
        memory_of(olmoe, 16_256, 128, 160, 2.0, machine(), compute=c) for c in (None, 4.0)
    )
    assert copied.least - plain.least == 4 * olmoe.largest


def test_half_precision_on_a_cpu_needs_room_in_float32_or_is_widened_by_layers(olmoe):
    def plan(memory, **options):
        given = machine(memory=memory)
        return memory_of(olmoe, 16_256, 128, 4, 2.0, given, compute=4.0, widest=4.0, **options)

    stored, outside = 2 * olmoe.parameters, olmoe.outside
    roomy, kept, tight = plan(60e9), plan(24e9), plan(12e9)
    assert not roomy.streams and roomy.resident == 2 * stored
    assert kept.streams and kept.keeps and kept.resident == stored + 2 * outside
    assert kept.read == stored and kept.fits and kept.peak <= kept.free
    assert tight.streams and not tight.keeps and tight.read == tight.walks * stored
    assert not plan(24e9, offload="stream").keeps
    assert plan(60e9, budget=20e9).keeps and not plan(60e9, budget=12e9).keeps


def test_the_plan_of_a_half_checkpoint_follows_what_load_will_do():
    assert cost(OLMOE, machine=machine(memory=24e9)).memory.keeps
    assert "widened a layer at a time" in repr(cost(OLMOE, machine=machine(memory=24e9)))
    assert "fit in float32, too" in repr(cost(OLMOE, machine=machine(memory=60e9)))
    assert not cost(OLMOE, machine=machine(memory=24e9), dtype="bfloat16").memory.streams
    assert not cost(OLMOE, machine=machine(memory=24e9), offload="none").memory.streams
    assert not cost(OLMOE, machine=machine(memory=24e9, device="cuda")).memory.keeps


def test_weights_come_from_host_memory_where_they_stay_there():
    card = machine(device="cuda", host=64e9, link=20e9)
    assert card.streamed_at(30e9) == 20e9 and card.streamed_at(300e9) == 3e9
    assert machine().streamed_at(1e9) == 3e9


def test_time_is_work_over_rate_and_reading_goes_on_beside():
    whole = cost(OLMOE, machine=machine(memory=200e9))
    assert not whole.memory.streams
    assert whole.seconds == pytest.approx(
        (whole.work.flops + whole.passes) / 1e12 + whole.memory.weights / 3e9
    )
    streamed = cost(OLMOE, machine=machine(memory=12e9, read=1e6))
    assert streamed.memory.streams and streamed.seconds == streamed.read_seconds
    eight = cost(OLMOE, machine=in_parallel(machine(memory=200e9), 8))
    assert eight.compute_seconds == pytest.approx(whole.compute_seconds / 8)
    part = cost(OLMOE, machine=machine(), share=0.05)
    assert part.work.rows == pytest.approx(whole.work.rows / 20, abs=1)
    assert whole.work.apart == 0 < part.work.apart < part.work.clean
    assert part.compute_seconds == pytest.approx(
        (part.work.flops + part.work.apart + part.passes) / 1e12
    )
    assert any("2,600,960 removals that are possible" in note for note in part.notes)


def test_options_of_placement_decide_what_is_streamed_and_what_fits():
    def memory(**options):
        return cost(OLMOE, machine=machine(memory=40e9), **options).memory

    assert memory().fits and not memory().streams
    assert memory(offload="stream").streams and memory(max_memory="12GB").streams
    assert memory(max_memory="12GB").fits and not memory(max_memory="1GB").fits
    assert not memory(max_memory="12GB", offload=None).fits
    assert "max_memory" in repr(cost(OLMOE, machine=machine(memory=40e9), max_memory="1GB"))
    small = cost(OLMOE, machine=machine(memory=8e9), offload=None)
    assert not small.memory.fits and "does not fit without streaming" in repr(small)
    assert cost(OLMOE, machine=machine(memory=8e9)).memory.fits
    spread = cost(OLMOE, machine=machine(), device_map="auto")
    assert any("spreads weights over devices" in note for note in spread.notes)


def test_documents_needed_decide_whichever_way_the_truth_lies():
    n = documents_planned(128, 88, sesoi="0.1")
    assert n is not None

    def decides(documents: int) -> bool:
        se, dof, level = (3.0 / (documents * 127)) ** 0.5, documents - 1.0, 0.05 / 88
        return min(power_t(0.1, se, dof, level), power_tost(0.1, se, dof, level)) >= 0.8

    assert decides(n) and not decides(n - 1)
    assert documents_planned(128, 88, sesoi="0.05") > 2 * n
    assert documents_planned(128, 88, sesoi="0.01nats") is None


def test_a_folder_of_a_configuration_alone_is_enough(tmp_path):
    folder = tiny_run.save(tmp_path / "whole")
    bare = tmp_path / "bare"
    bare.mkdir()
    shutil.copy(folder / "config.json", bare)
    one, two = (cost(place, machine="laptop", documents=8, tokens=16) for place in (folder, bare))
    assert one.work == two.work and one.shapes.parameters == two.shapes.parameters
    assert sum(one.bytes.values()) == one.shapes.parameters * 4 == sum(two.bytes.values())
    assert one.work.rows == 8 * 15 * 3 * 2


def test_a_text_is_counted_as_the_audit_reads_it(tmp_path):
    folder = tiny_run.save(tmp_path / "tiny")
    found = cost(folder, tiny_run.TEXTS, tokens=12, machine="laptop")
    effects = ma.audit(folder, tiny_run.TEXTS, out=tmp_path / "run", tokens=12, verify_rows=1)
    assert found.work.rows == effects.record["summary"]["rows"]
    assert found.documents == effects.spec.effect_documents
    reread = cost(folder, tiny_run.TEXTS, tokens=12, machine="laptop", documents=16)
    assert "16 documents were asked for; the text leaves 10" in repr(reread)


def test_this_machine_is_measured_and_said(tmp_path):
    found = cost("tiny-olmoe", documents=4, tokens=8)
    assert "measured: a plain forward of one layer and the head" in found.machine.how
    assert found.machine.rate > 1e8 and 0 < found.machine.memory <= free_memory() * 2
    assert disk_rate(tmp_path) > 0 and not list(tmp_path.iterdir())


def test_free_memory_heeds_the_control_group(tmp_path):
    for name, text in (
        ("proc/meminfo", "MemTotal: 100 kB\nMemAvailable:  8000 kB\n"),
        ("sys/fs/cgroup/memory.max", "max\n"),
        ("sys/fs/cgroup/memory.current", "100\n"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert free_memory(root=tmp_path) == 8000 * 1024
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("5000\n")
    assert free_memory(root=tmp_path) == 4900


def test_it_shows_itself():
    found = cost("mistralai/Mixtral-8x22B-v0.1", machine="card-24gb")
    lines = repr(found).splitlines()
    assert [line.split(":")[0] for line in lines[1:8]] == [
        *("Model", "Census", "Work", "Memory", "Time", "Machine", "Documents needed")
    ]
    assert "are streamed" in lines[4] and "281 GB" in lines[4]
    assert found._repr_html_().count("<li>") == len(lines)
    table = found.table.set_index("quantity")
    assert list(table) == ["value", "unit", "how"]
    assert table.loc["rows", "value"] == 160 * 127 * 56 * 2
    quantised = repr(cost("deepseek-ai/DeepSeek-V3", machine="h100"))
    assert "quantised (fp8)" in quantised
    assert "does not fit; " in repr(cost("deepseek-ai/DeepSeek-V3", machine="laptop"))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"share": 0}, "above 0 and up to 1"),
        ({"share": 1.2}, "above 0 and up to 1"),
        ({"documents": -3}, "documents = -3 is too few"),
        ({"tokens": 0}, "known only from a text"),
        ({"tokens": 1000}, "reads at most 512 tokens"),
        ({"layers": [99]}, "Layer 99 does not exist"),
        ({"operator": "blue"}, "Unknown operator"),
        ({"operator": "everywhere:zero"}, "needs whole edited copies"),
        ({"efficiency": 0}, "efficiency = 0"),
        ({"machine": "abacus"}, "Unknown machine 'abacus'"),
        ({"sesoi": "50%"}, "a % must say of what"),
        ({"alpha": 2}, "alpha"),
    ],
)
def test_what_cannot_be_is_refused_in_words(asked, why):
    with pytest.raises(InputError, match=why):
        cost("tiny-olmoe", **({"machine": "laptop"} | asked))


def test_a_model_without_configuration_is_refused_in_words(tmp_path):
    with pytest.raises(ModelError, match="not a bundled model"):
        cost("nosuch", machine="laptop")
    with pytest.raises(ModelError, match="has no config.json"):
        cost(tmp_path, machine="laptop")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "nosuch"}))
    with pytest.raises(ModelError, match="No configuration of"):
        cost(tmp_path, machine="laptop")
    (tmp_path / "model.safetensors").write_bytes(b"\x00\x01")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        stored_bytes(tmp_path)
    with pytest.raises(InputError, match="A machine's rate is 0"):
        machine(rate=0)


def test_plan_prints_the_cost(monkeypatch, capfd):
    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["moeaudit", "plan", *arguments])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    assert call(OLMOE, "--machine", "h100") == 0
    out = capfd.readouterr().out
    assert "2,600,960 removals" in out and "3.22 PFLOP" in out and "Documents needed: 59" in out
    assert call("tiny-olmoe", "--machine", "laptop", "--share", "0.05", "--layers", "0-1") == 0
    assert "of 2 layers (a share of 0.05)" in capfd.readouterr().out
    for wrong, why in (
        (("tiny-olmoe", "--share", "0"), "above 0 and up to 1"),
        (("tiny-olmoe", "--freeze", "p.json", "--power", "0.9"), "takes no --power"),
        (("tiny-olmoe", "--share", "a tenth"), "Invalid value for '--share'"),
        (("--amend", "p.json"), "needs --freeze FILE"),
    ):
        assert call(*wrong) == 2
        assert why in capfd.readouterr().err


def test_stated_machines_say_that_they_are_assumed():
    assert all(each.how.startswith("assumed: ") for each in STATED.values())
    assert isinstance(cost("tiny-olmoe", machine="ray-8").table, pd.DataFrame)
