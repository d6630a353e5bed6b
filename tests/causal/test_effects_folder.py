"""`ablate(out=)`: stopped, gone on with, refused, opened again, and never more in memory than a shard."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from made import budgets, tiny_moe

import moeaudit as ma
from moeaudit.causal import streaming
from moeaudit.causal.check.verify import verify
from moeaudit.errors import InputError, RunError
from moeaudit.store.question import Question
from moeaudit.store.shards import Shards

DOCS = [tiny_moe.ids(8, seed) for seed in range(5)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model():
    return tiny_moe.load("olmoe")


@pytest.fixture(scope="module")
def whole(model):
    return ma.ablate(model, DOCS)


@pytest.fixture
def two_documents_a_shard(monkeypatch):
    monkeypatch.setattr(streaming, "_DOCUMENTS", 2)


def stop_after(rows):
    """A progress that interrupts, as Ctrl-C does, once so many rows are done."""
    done = []

    def progress(more):
        done.append(more)
        if sum(done) > rows:
            raise KeyboardInterrupt

    return progress


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


@pytest.mark.usefixtures("two_documents_a_shard")
def test_ctrl_c_keeps_finished_shards_and_the_same_call_goes_on(model, whole, tmp_path):
    out = tmp_path / "effects"
    per_document = len(whole) // len(DOCS)
    with pytest.raises(KeyboardInterrupt):
        ma.ablate(model, DOCS, out=out, progress=stop_after(2 * per_document))
    kept = stamps(out)
    assert list(kept) == ["00000.parquet"]
    with pytest.raises(RunError, match="not finished: 1 of 3 shards"):
        ma.effects(out)
    seen = []
    stored = ma.ablate(model, DOCS, out=out, progress=seen.append)
    assert sum(seen) == 3 * per_document  # nothing was computed twice
    assert stamps(out)["00000.parquet"] == kept["00000.parquet"]
    pd.testing.assert_frame_equal(pd.DataFrame(stored.read()), pd.DataFrame(whole))
    assert stored.facts == whole.facts
    before = stamps(out)
    again = ma.ablate(model, DOCS, out=out, progress=seen.append)
    assert again.rows == len(whole) and stamps(out) == before  # a finished one is only opened


KILLED = """
import os, signal, sys
from pathlib import Path
from made import tiny_moe
import moeaudit as ma
from moeaudit.causal import streaming
streaming._DOCUMENTS = 2
done = []
def progress(rows):
    done.append(rows)
    if len(done) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
ma.ablate(tiny_moe.load("olmoe"), [tiny_moe.ids(8, s) for s in range(5)], out=sys.argv[1], progress=progress)
"""


@pytest.mark.usefixtures("two_documents_a_shard")
def test_a_killed_process_is_gone_on_with(model, whole, tmp_path):
    out = tmp_path / "effects"
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(out)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = stamps(out)
    assert list(kept) == ["00000.parquet"]
    stored = ma.ablate(model, DOCS, out=out)
    assert stamps(out)["00000.parquet"] == kept["00000.parquet"]
    pd.testing.assert_frame_equal(pd.DataFrame(stored.read()), pd.DataFrame(whole))


def test_a_shard_that_no_manifest_names_yet_is_written_again(model, whole, tmp_path):
    out = tmp_path / "effects"
    ma.ablate(model, DOCS, out=out)
    (out / "manifest.json").unlink()  # killed between the shard and the manifest
    assert ma.ablate(model, DOCS, out=out).rows == len(whole)


def test_another_question_is_refused_naming_what_differs(model, tmp_path):
    out = tmp_path / "effects"
    ma.ablate(model, DOCS, ma.Swap(2), out=out, max_length=32)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    other = ma.load(tiny_moe.build("olmoe", seed=1))
    same = {"max_length": 32}
    for args, options, said in [
        ((model, DOCS, ma.Swap(3)), same, "question.operator.expert is 2 there and 3 here"),
        ((model, DOCS, ma.Zero()), same, "question.operator.operator is 'Swap' there and 'Zero'"),
        ((model, DOCS, ma.Swap(2)), {"max_length": 16}, "max_length is 32 there and 16 here"),
        ((model, DOCS[:4], ma.Swap(2)), same, "texts is"),
        ((other, DOCS, ma.Swap(2)), same, "weights is"),
        (
            (model, DOCS, ma.Swap(2)),
            {**same, "layers": [1]},
            r"layers is \[0, 1, 2\] there and \[1\]",
        ),
        ((model, DOCS, ma.Swap(2)), {**same, "horizon": 1}, "question.horizon is 0 there and 1"),
        (
            (model, DOCS, ma.Swap(2)),
            {**same, "frozen_routing": True},
            "question.frozen_routing is False there and True here",
        ),
    ]:
        with pytest.raises(RunError, match=f"another question.*{said}"):
            ma.ablate(*args, out=out, **options)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_holds_something_else_is_refused_untouched(model, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(RunError, match=r"not empty and holds no effects \(it has thesis.tex\)"):
        ma.ablate(model, DOCS, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_two_processes_cannot_write_one_table(model, tmp_path):
    from moeaudit.store.files import locked

    with locked(tmp_path), pytest.raises(RunError, match="Another process is writing"):
        ma.ablate(model, DOCS, out=tmp_path)


OPEN = """
import json, sys
import moeaudit as ma
found = ma.effects(sys.argv[1])
print(json.dumps([found.rows, found.columns, found.question.to_dict(), found.facts.to_dict(), repr(found)]))
"""


@pytest.mark.usefixtures("two_documents_a_shard")
def test_a_new_process_opens_the_folder_and_knows_the_question(model, tmp_path):
    out = tmp_path / "effects"
    stored = ma.ablate(model, DOCS, ma.Reroute(), frozen_routing=True, out=out)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(out)], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    rows, columns, question, facts, words = json.loads(done.stdout)
    assert rows == stored.rows and columns == list(stored.read().columns)
    assert Question.from_dict(question) == stored.question and question["frozen_routing"]
    assert facts["texts"] == ma.ablate(model, DOCS).texts.hash and facts["max_length"] == 64
    assert facts["drift"] == stored.drift > 0 and "wavefront" in facts["engine"]
    assert "routing frozen" in words and str(out) in words
    assert verify(ma.effects(out), model, n=4, docs=DOCS).agrees


@pytest.mark.usefixtures("two_documents_a_shard")
def test_each_shard_carries_the_question_and_its_own_drift(model, tmp_path):
    stored = ma.ablate(model, DOCS, ma.Renormalize("one"), out=tmp_path / "e")
    said = [
        json.loads(pq.read_metadata(path).metadata[b"moeaudit"])
        for path in sorted((tmp_path / "e").glob("*.parquet"))
    ]
    assert len(said) == 3
    assert all(Question.from_dict(each["question"]) == stored.question for each in said)
    drifts = [each["drift"] for each in said]
    assert len(set(drifts)) > 1 and stored.drift == max(drifts)


def test_the_effects_of_a_run_are_opened_from_its_folder(model, whole, tmp_path):
    shards = Shards(tmp_path / "run" / "effects")
    for number in range(len(DOCS)):
        shards.write(number, ma.ablate(model, [DOCS[number]]).assign(document=number))
    found = ma.effects(tmp_path / "run")
    assert found.rows == len(whole) and found.question == whole.question
    assert found.facts.texts is None  # each shard knew its own texts only


@pytest.mark.parametrize("what", ["nothing", "shards of another table"])
def test_folders_without_effects_are_refused(tmp_path, what):
    if what != "nothing":
        Shards(tmp_path).write(0, pd.DataFrame({"a": [1]}))
    with pytest.raises(RunError, match="holds no effects|do not say which question"):
        ma.effects(tmp_path)


def test_a_damaged_shard_is_named_and_computed_again(model, whole, tmp_path):
    out = tmp_path / "effects"
    stored = ma.ablate(model, DOCS, out=out)
    content = bytearray((out / "00000.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (out / "00000.parquet").write_bytes(content)
    with pytest.raises(RunError, match=r"00000.parquet is damaged.*run the same command again"):
        ma.effects(out)
    with pytest.raises(RunError, match=r"00000.parquet is damaged"):
        stored.read()
    pd.testing.assert_frame_equal(
        pd.DataFrame(ma.ablate(model, DOCS, out=out).read()), pd.DataFrame(whole)
    )


def test_a_shard_of_one_long_document_is_never_whole_in_memory(model, whole, tmp_path, monkeypatch):
    from moeaudit.store import shard

    largest = []
    flush = shard.ShardWriter._flush

    def watched(self):
        largest.append(self._held_rows)
        flush(self)

    for module in (shard, streaming):
        monkeypatch.setattr(module, "ROWS", 20)
    budgets.use(monkeypatch, residuals=1)  # one position at a time: 9 rows
    monkeypatch.setattr(shard.ShardWriter, "_flush", watched)
    one_document = len(whole) // len(DOCS)
    stored = ma.ablate(model, DOCS[:2], out=tmp_path / "e")
    assert max(largest) < 20 + 9 < one_document
    whole_documents = [frame["document"].unique().tolist() for frame in stored.frames()]
    assert whole_documents == [[0], [1]]
    pd.testing.assert_frame_equal(
        pd.DataFrame(stored.read()), pd.DataFrame(whole.head(2 * one_document)), atol=1e-5
    )


def test_groups_are_smaller_where_a_document_has_many_rows(model, monkeypatch):
    texts = ma.ablate(model, DOCS).texts
    monkeypatch.setattr(streaming, "ROWS", 100)
    sizes = [len(group) for group in streaming._groups(texts, rows=7)]  # 49 rows a document
    assert sizes == [2, 2, 1]
    assert [len(group) for group in streaming._groups(texts, rows=99)] == [1] * 5


def test_an_operator_that_cannot_be_restored_is_asked_for(model, tmp_path):
    def halve(routing):
        weight = routing.weight.clone()
        weight[:, 0] /= 2
        return routing.index, weight

    half = ma.Custom(halve, name="half")
    stored = ma.ablate(model, DOCS, half, out=tmp_path / "e")
    with pytest.raises(InputError, match=r"'half'.*operator=\.\.\."):
        verify(stored, model, n=3, docs=DOCS)
    assert verify(stored, model, n=3, docs=DOCS, operator=half).agrees
    with pytest.raises(InputError, match=r"operator 'half'.*'zero'.*was given"):
        verify(stored, model, n=3, docs=DOCS, operator=ma.Zero())


def test_outputs_of_held_out_documents_are_asked_for(model, tmp_path):
    held_out = ma.expert_outputs(model, [tiny_moe.ids(40, seed) for seed in range(10, 14)])
    mean = ma.MeanOutput(held_out)
    stored = ma.ablate(model, DOCS, mean, out=tmp_path / "e")
    with pytest.raises(InputError, match=r"operator=\.\.\."):
        verify(stored, model, n=3, docs=DOCS)
    assert verify(stored, model, n=3, docs=DOCS, operator=mean).agrees


def test_two_threads_on_one_model_give_the_right_tables(model, whole, tmp_path):
    found, failed = {}, []

    def work(name, operator):
        try:
            found[name] = ma.ablate(model, DOCS, operator, out=tmp_path / name).read()
        except BaseException as error:  # a thread would lose it
            failed.append(error)

    alone = ma.ablate(model, DOCS, ma.Swap(2))
    threads = [
        threading.Thread(target=work, args=pair)
        for pair in [("zero", ma.Zero()), ("swap", ma.Swap(2))]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    pd.testing.assert_frame_equal(pd.DataFrame(found["zero"]), pd.DataFrame(whole))
    pd.testing.assert_frame_equal(pd.DataFrame(found["swap"]), pd.DataFrame(alone))
    assert found["swap"].question == alone.question != whole.question


def test_a_model_whose_weights_changed_is_another_model(tmp_path):
    built = tiny_moe.build("olmoe")
    ma.ablate(ma.load(built), DOCS, out=tmp_path / "e")
    with torch.no_grad():
        built.model.embed_tokens.weight[3] += 1
    with pytest.raises(RunError, match="weights is"):
        ma.ablate(ma.load(built), DOCS, out=tmp_path / "e")


def test_engine_and_notes_come_from_the_shards(model, tmp_path):
    table = ma.ablate(model, DOCS[:1])
    shards = Shards(tmp_path)
    for number, engine in enumerate(["wavefront", "full forwards", "wavefront"]):
        facts = {**table.facts.to_dict(), "engine": engine, "drift": float(number)}
        one = pd.DataFrame(table)
        one.attrs["moeaudit"] = {**facts, "notes": [f"note {number % 2}"]}
        shards.write(number, one)
    found = ma.effects(tmp_path)
    assert found.engine == "wavefront; then full forwards" and found.drift == 2.0
    assert found.notes == ["note 0", "note 1"]
    assert np.isfinite(found.read(["kl"])["kl"]).all() and found.read(["kl"]).drift == 2.0
