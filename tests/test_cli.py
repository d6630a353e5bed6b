"""The command line: what it prints, what it exits with, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from made import synthetic, tiny_run
from made.command_line import call

from moeaudit.cli.options import default_out, parse_layers
from moeaudit.cli.terminal.progress import ConsoleProgress, clock
from moeaudit.errors import InputError

CONTROL = re.compile(r"\x1b|\r")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return tiny_run.save(tmp_path_factory.mktemp("cli") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    for number, text in enumerate(tiny_run.TEXTS):
        path = folder / ("even" if number % 2 == 0 else "odd") / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def small(model, texts) -> list[object]:
    return ["audit", model, "--text", texts, "--tokens", 12, "--verify-rows", 2]


def test_help_knows_all_commands_and_loads_nothing_heavy():
    code = (
        "import sys, moeaudit.cli\n"
        "heavy = {'torch', 'transformers', 'pandas', 'plotly', 'numpy', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.argv = ['moeaudit', '--help']\n"
        "moeaudit.cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for verb in (
        "audit",
        "merge",
        "models",
        "inspect",
        "report",
        "plan",
        "check",
        "calibrate",
        "prune",
        "screen",
        "compare",
    ):
        assert f"  {verb} " in done.stdout


def test_an_audit_from_start_to_report(small, tmp_path, monkeypatch, capfd):
    page = tmp_path / "pages" / "tiny.html"
    assert call(monkeypatch, *small, "--out", tmp_path / "run", "--report", page) == 0
    out, err = capfd.readouterr()
    assert not CONTROL.search(out + err)
    assert "census: 100% of" in err or "removals in 0:0" in err
    assert f"Report: {page}" in out
    assert "gate weight (control)" in out
    assert out.count("passed: 2 removals recomputed") == 2
    assert page.read_text().startswith("<!doctype html>")
    record = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert record["spec"]["text"] == "documents"
    assert {d["status"] for d in [record]} == {"finished"}
    # again: nothing is computed, the answer is the same
    assert call(monkeypatch, *small, "--out", tmp_path / "run", "--report", page) == 0
    again = capfd.readouterr()
    assert "removals in" not in again.err
    assert again.out == out
    # and another question is refused
    assert call(monkeypatch, *small, "--out", tmp_path / "run", "--layers", "0-1") == 2
    assert "layers is [0, 1, 2] there and [0, 1] here" in capfd.readouterr().err
    # the page alone, from the tables
    other = tmp_path / "again.html"
    assert call(monkeypatch, "report", tmp_path / "run", "--out", other) == 0
    assert other.read_text() == page.read_text()


def test_an_operator_by_word_has_a_folder_and_a_page_of_its_own(
    small, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    asked = [
        *small,
        "--layers",
        "1",
        "--operator",
        "everywhere:renormalize:one",
        "--outcome",
        "kl, flip",
    ]
    assert call(monkeypatch, *asked) == 0
    out = capfd.readouterr().out
    folder = tmp_path / "runs" / "tiny--everywhere-renormalize-one"
    record = json.loads((folder / "audit.json").read_text())
    assert record["spec"]["question"]["scope"] == "document"
    assert record["spec"]["tested"] == ["kl", "flip"]
    assert "at every token of a document, read off" in out
    assert "top prediction changed" in out and "disturb." in out and "Harm" not in out
    page = (folder / "report.html").read_text()
    assert "the weights sum to one" in page and "gate weight becomes zero" not in page
    # the same folder, another operator
    other = [
        *small,
        "--layers",
        "1",
        "--operator",
        "swap:3",
        "--outcome",
        "kl,flip",
        "--out",
        folder,
    ]
    assert call(monkeypatch, *other) == 2
    assert (
        "question.operator.operator is 'Everywhere' there and 'Swap' here" in capfd.readouterr().err
    )


def test_what_is_not_tested_is_said_on_the_console(small, tmp_path, monkeypatch, capfd):
    asked = [*small, "--layers", "1", "--operator", "skip:1", "--out", tmp_path / "x"]
    assert call(monkeypatch, *asked) == 0
    out = capfd.readouterr().out
    assert "- Routing metrics were not tested, because the rows of 'skip the tail'" in out
    assert out.count("passed: 2 cuts recomputed") == 2


def test_help_of_audit_names_every_operator(monkeypatch, capfd):
    from moeaudit.runs.operators import WORDS

    assert call(monkeypatch, "audit", "--help") == 0
    out = "".join(capfd.readouterr().out.split())
    assert all(word.usage in out for word in WORDS.values())


@pytest.mark.parametrize("verb", ["audit", "inspect", "prune", "screen"])
def test_every_command_that_loads_a_model_takes_device_and_precision(
    verb, model, monkeypatch, capfd, tmp_path
):
    out = ["--out", tmp_path / "x"] if verb != "inspect" else []
    for option, value, words in (
        ("--device", "nowhere", "'nowhere'"),
        ("--dtype", "int8", "int8"),
        ("--experts", "magic", "magic"),
    ):
        assert call(monkeypatch, verb, model, option, value, *out) == 2
        assert words in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_inspect_says_where_and_in_which_precision(model, monkeypatch, capfd):
    asked = ["inspect", model, "--device", "cpu", "--dtype", "bfloat16", "--experts", "eager"]
    assert call(monkeypatch, *asked) == 0
    out = capfd.readouterr().out
    assert "Device, precision: cpu, bfloat16" in out and "Experts implementation: eager" in out


BAD: dict[str, tuple[list[str], str]] = {
    "no such model": (["audit", "no-such-model"], "is not a bundled model"),
    "no such folder of text": (["audit", "MODEL", "--text", "TMP/none"], "none"),
    "empty folder of text": (["audit", "MODEL", "--text", "TMP/empty"], "empty"),
    "text that is not UTF-8": (["audit", "MODEL", "--text", "TMP/latin"], "UTF-8"),
    "too little text": (["audit", "MODEL", "--text", "TMP/three.jsonl"], "at least 8"),
    "shift and none": (["audit", "MODEL", "--shift", "x", "--no-shift"], "Give one"),
    "no such shift text": (["audit", "MODEL", "--shift", "TMP/none"], "none"),
    "unknown layer": (["audit", "MODEL", "--layers", "7"], "7"),
    "layers that cannot be read": (["audit", "MODEL", "--layers", "1;2"], "--layers '1;2'"),
    "too few documents": (["audit", "MODEL", "--documents", "2"], "at least 4"),
    "unknown operator": (["audit", "MODEL", "--operator", "remove"], "Unknown operator 'remove'"),
    "operator that cannot be": (
        ["audit", "MODEL", "--operator", "swap:99"],
        "expert 99 does not exist",
    ),
    "unknown outcome": (["audit", "MODEL", "--outcome", "harm"], "Unknown outcome 'harm'"),
    "one token": (["audit", "MODEL", "--tokens", "1"], "cannot be audited"),
    "a chunk that does not fit": (["audit", "MODEL", "--max-length", "100000"], "100000"),
    "an output folder in use": (["audit", "MODEL", "--out", "TMP/latin"], "holds no moeaudit run"),
    "an output that is a file": (["audit", "MODEL", "--out", "TMP/three.jsonl"], "is a file"),
    "a report that would replace a file": (
        ["audit", "MODEL", "--report", "TMP/three.jsonl"],
        "is not a report of moeaudit",
    ),
    "a folder that holds no run": (["report", "TMP/latin"], "is not a run folder"),
    "a part out of range": (["audit", "MODEL", "--shard", "9/8"], "There is no part 9 of 8"),
    "a part that is none": (["audit", "MODEL", "--shard", "half"], "write i/n, such as 2/8"),
    "a part on a cluster": (
        ["audit", "MODEL", "--shard", "1/2", "--executor", "ray"],
        "takes no --executor",
    ),
    "an executor that is not known": (["audit", "MODEL", "--executor", "dask"], "one of ray"),
    "workers of nobody": (["audit", "MODEL", "--workers", "2"], "is about a cluster"),
    "a merge of what is no run": (
        ["merge", "TMP/latin", "--out", "TMP/nowhere"],
        "is not a run folder",
    ),
    "not a MoE": (["inspect", "TMP/dense"], "not a Mixture-of-Experts model"),
    "a pickled checkpoint": (["inspect", "TMP/pickled"], "pickle"),
}


@pytest.fixture(scope="module")
def bad_things(tmp_path_factory) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    place = tmp_path_factory.mktemp("bad")
    (place / "empty").mkdir()
    (place / "latin").mkdir()
    (place / "latin" / "a.txt").write_bytes("café".encode("latin-1"))
    rows = [json.dumps({"text": text}) for text in tiny_run.TEXTS[:3]]
    (place / "three.jsonl").write_text("\n".join(rows))
    dense = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    LlamaForCausalLM(dense).save_pretrained(place / "dense")
    (place / "pickled").mkdir()
    (place / "pickled" / "config.json").write_text("{}")
    (place / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return place


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_paragraph_status_2_and_nothing_written(
    case, model, bad_things, tmp_path, monkeypatch, capfd
):
    arguments, words = BAD[case]
    arguments = [a.replace("MODEL", str(model)).replace("TMP", str(bad_things)) for a in arguments]
    if arguments[0] == "audit" and "--out" not in arguments:
        arguments += ["--out", str(tmp_path / "out")]
    before = sorted(bad_things.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    out, err = capfd.readouterr()
    assert words in err
    assert err.startswith("moeaudit: ")
    assert err.count("\n") == 1, "one paragraph"
    assert "Traceback" not in err
    assert out == ""
    assert not list(tmp_path.iterdir()), "nothing half-written"
    assert sorted(bad_things.rglob("*")) == before


def test_no_arguments_show_the_help(monkeypatch, capfd):
    assert call(monkeypatch) == 2
    assert "Usage: moeaudit" in "".join(capfd.readouterr())


def test_version(monkeypatch, capfd):
    from moeaudit import __version__

    assert call(monkeypatch, "--version") == 0
    assert capfd.readouterr().out == f"moeaudit {__version__}\n"


def test_inspect_names_layers_contract_and_engine(model, monkeypatch, capfd):
    assert call(monkeypatch, "inspect", model) == 0
    out = capfd.readouterr().out
    assert out.count("model.layers.") == 2 * 3  # router and experts of each layer
    assert "Router contract: holds" in out
    assert "Engine of the census: " in out
    assert "Verification by hooks: available" in out
    assert not CONTROL.search(out)


def test_models_lists_what_is_bundled(monkeypatch, capfd):
    from moeaudit.models.bundled import bundled_models

    assert call(monkeypatch, "models") == 0
    out = capfd.readouterr().out
    for name in bundled_models():
        assert name in out
    assert "no evidence about large ones" in out or "No model is bundled" in out


def test_an_interrupt_says_how_to_go_on(monkeypatch, capfd, tmp_path):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("moeaudit.front.audit", interrupted)
    assert call(monkeypatch, "audit", "anything", "--out", tmp_path / "x") == 130
    assert "the same command continues" in capfd.readouterr().err


def test_a_terminal_that_cannot_print_triangles_gets_letters(tmp_path):
    folder = synthetic.write_run(tmp_path / "run", documents=8, tokens=12, layers=3)
    code = (
        "import sys; from pathlib import Path; from rich.console import Console\n"
        "from moeaudit.front import Run; from moeaudit.cli.terminal.answer import show\n"
        "show(Run.load(sys.argv[1]), Console(width=100), Path('x.html'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        env={
            **os.environ,
            "PYTHONIOENCODING": "ascii:replace",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode("ascii")
    assert "P predictive" in text
    assert "REAP" in text


@pytest.mark.parametrize(
    ("text", "layers"), [(None, None), ("3", [3]), ("0,3-5", [0, 3, 4, 5]), ("5, 1-2,2", [1, 2, 5])]
)
def test_layers_are_read(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "1.5"])
def test_layers_that_make_no_sense_are_refused(text):
    with pytest.raises(InputError, match="--layers"):
        parse_layers(text)


def test_the_default_folder_follows_the_model(tmp_path):
    assert default_out("tiny-olmoe") == Path("runs/tiny-olmoe")
    assert default_out("owner/name") == Path("runs/owner--name")
    assert default_out("tiny-olmoe", "swap:3") == Path("runs/tiny-olmoe--swap-3")
    assert default_out(str(tmp_path)) == Path("runs") / tmp_path.name


def test_progress_tells_rate_and_time_left():
    from io import StringIO

    from rich.console import Console

    sink = StringIO()
    with ConsoleProgress(Console(file=sink, width=100)) as progress:
        progress.stage("census", 1000, "removals", 200)
        progress.since -= 10.0
        progress.advance(400)
        line, _, memory = progress.line().rpartition(", ")
        assert line == "census: 60% of 1,000 removals, 40 removals/s, 0:00:10 left"
        assert re.fullmatch(r"\d[\d.]* GB( and \d[\d.]* GB on the GPU)? held", memory)
        progress.advance(400)
    text = sink.getvalue()
    assert "200 of 1,000 removals kept from before" in text
    assert "census: 1,000 removals in 0:00:10 (80 removals/s)" in text
    assert "\x1b" not in text
    assert clock(3725.4) == "1:02:05"


def test_numbers_that_fail_verification_are_not_a_success(small, tmp_path, monkeypatch, capfd):
    from moeaudit.runs.working.folder import read_record
    from moeaudit.store.files import write_json

    out = tmp_path / "run"
    arguments = [*small, "--out", out, "--layers", "0", "--documents", "4"]
    assert call(monkeypatch, *arguments) == 0
    record = read_record(out)
    record["verification"][0] |= {"agrees": False, "max_abs_kl": 0.25}
    write_json(out / "audit.json", record)
    capfd.readouterr()
    assert call(monkeypatch, *arguments) == 1
    said = capfd.readouterr().out
    assert "failed: 2 removals recomputed by raw PyTorch hooks" in said
    assert "Verification failed" in said


def test_a_plan_from_freezing_to_checking(small, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    options = [*small[1:], "--sesoi", "0.01nats", "--metrics", "reap, ean", "--layers", "1"]
    assert call(monkeypatch, "plan", *options, "--freeze", "plan.json") == 0
    out = capfd.readouterr().out
    sha = json.loads(Path("plan.json").read_text())["sha256"]
    assert f"SHA-256 {sha}" in out and "smallest effect of interest 0.01nats" in out
    # Another bound than the plan's is refused by name; what is not given is taken from the plan.
    run = ["audit", small[1], "--plan", "plan.json", "--out", "run"]
    assert call(monkeypatch, *run, "--sesoi", "0.3") == 2
    assert "sesoi is '0.01nats' in the plan and '0.3' here" in capfd.readouterr().err
    assert not Path("run").exists()
    assert call(monkeypatch, *run) == 0
    capfd.readouterr()
    assert call(monkeypatch, "check", "run", "plan.json") == 0
    out = capfd.readouterr().out
    assert "is the audit that was planned" in out and "DIFFERS" not in out
    # An amendment is a file of its own, which the earlier run does not keep.
    amend = ["plan", "--amend", "plan.json", "--freeze", "new.json", "--alpha", "0.01"]
    assert call(monkeypatch, *amend) == 2
    assert "needs a reason" in capfd.readouterr().err
    assert call(monkeypatch, *amend, "--why", "stricter") == 0
    assert "Amended: alpha was 0.05, is 0.01" in capfd.readouterr().out
    assert call(monkeypatch, "check", "run", "new.json") == 1
    out = capfd.readouterr().out
    assert "DIFFERS  alpha: planned 0.01, found 0.05" in out and "is not the audit" in out
    # Documents for a bound and a power, from the run as a pilot.
    assert call(monkeypatch, "plan", "--pilot", "run", "--sesoi", "0.02nats", "--power", "0.9") == 0
    out = capfd.readouterr().out
    assert re.search(r"delta_nll, layer 1: [\d,]+ documents \(median metric [\d,]+\)", out)
    assert "0.02 nats" in out and "For these experts" in out


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["plan"], "needs --freeze FILE"),
        (["plan", "--freeze", "p.json"], "needs the MODEL"),
        (["plan", "--pilot", "nowhere"], "is not a run folder"),
        (["plan", "x", "--pilot", "nowhere"], "takes no MODEL"),
        (["plan", "x", "--why", "so", "--freeze", "p.json"], "the reason of an amendment"),
        (["plan", "x", "--sesoi", "50%", "--freeze", "p.json"], "a % must say of what"),
        (["plan", "x", "--metrics", "blue", "--freeze", "p.json"], "Unknown metric 'blue'"),
        (["audit", "x", "--plan", "nowhere.json"], "cannot be read as a plan"),
        (["audit", "x", "--sesoi", "0.01nats", "--outcome", "flip"], "flip is not in nats"),
        (["check", "nowhere", "nowhere.json"], "is not a run folder"),
    ],
)
def test_a_wrong_plan_is_refused_in_words(arguments, why, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *arguments) == 2
    assert why in capfd.readouterr().err
    assert not list(tmp_path.iterdir())
