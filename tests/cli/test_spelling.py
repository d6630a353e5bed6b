"""Messages of the library, on the command line, name options and words and no Python."""

from __future__ import annotations

import inspect
import re

import pytest

from moeaudit.cli.terminal import spelling
from moeaudit.cli.terminal.spelling import typed

SAID = {
    "load it with dtype='float32' or leave it out.": "load it with --dtype float32 or leave it out.",
    'such as sesoi="0.01nats".': "such as --sesoi 0.01nats.",
    "sesoi=0.1 (in d_z)": "--sesoi 0.1 (in d_z)",
    "whole (offload=None), or device_map='auto'.": "whole (--offload none), or --device-map auto.",
    "offload = 'stream', and device_map = 'auto'": "--offload 'stream', and --device-map 'auto'",
    "Leave device_map out, or give device= with it": "Leave --device-map out, or give --device with it",
    "leave other domains out (shift=False).": "leave other domains out (--no-shift).",
    "experts_implementation='eager'": "--experts eager",
    "verify_rows = 0 and 2 engines": "--verify-rows 0 and 2 engines",
    "Use Zero(), Swap(expert) or Coalitions((1, 2)).": "Use zero, swap:expert or coalitions:1,2.",
    "plan=None was given": "no --plan was given",
    # what is no argument of ours stays
    "num_experts_per_tok = 9 is more": "num_experts_per_tok = 9 is more",
    "max_memory={0: '20GiB'}": "max_memory={0: '20GiB'}",
    "'runs/out=3' and my.out=4": "'runs/out=3' and my.out=4",
    "tokens that ends, the device": "tokens that ends, the device",
}


@pytest.mark.parametrize("message", SAID)
def test_arguments_become_options(message):
    assert typed(message) == SAID[message]
    assert typed(typed(message)) == SAID[message]


def test_every_option_and_operator_named_exists():
    from typer.main import get_command

    from moeaudit import causal
    from moeaudit.cli import app
    from moeaudit.runs.operators import WORDS

    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {name for each in commands for p in each.params for name in p.opts}
    assert {spelling._called(name) for name in spelling._OPTIONS} | {"--no-shift"} <= known
    for cls, word in spelling._OPERATORS.items():
        assert inspect.isclass(getattr(causal, cls)) and word in WORDS


def test_a_message_of_the_library_is_translated(tmp_path, monkeypatch, capsys):
    import sys

    from moeaudit import cli

    monkeypatch.chdir(tmp_path)
    line = "audit tiny-olmoe --workers 2"
    monkeypatch.setattr(sys, "argv", ["moeaudit", *line.split()])
    with pytest.raises(SystemExit):
        cli.main()
    said = capsys.readouterr().err
    assert "--workers is about a cluster" in said and "--executor ray" in said
    assert not re.search(r"\w=", said)
