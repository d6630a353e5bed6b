"""A recipe is trained into a folder that loads as any model does; an interrupted training resumes exactly."""

from __future__ import annotations

import json
import math
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import moeaudit as ma
import moeaudit.lab as lab
from moeaudit.errors import InputError, RunError
from moeaudit.lab import trainer
from moeaudit.lab.finished import folder
from moeaudit.report.lab import write_curves

TINY = {
    "hidden": 16,
    "layers": 2,
    "experts": 4,
    "width": 8,
    "steps": 6,
    "length": 16,
    "context": 16,
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def listening():
    """Ctrl-C means what it means in a terminal; a shell in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def tiny(arm: str = "olmoe", **changes):
    return lab.recipe(arm, quick=True, **{**TINY, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return lab.train(tiny(), tmp_path_factory.mktemp("lab") / "olmoe", progress=False)


def test_the_folder_is_a_model_and_tells_what_it_is(trained):
    model = ma.load(str(trained))
    assert [layer.num_experts for layer in model.anatomy.select(None)] == [4, 4]
    record = json.loads((trained / "lab.json").read_text())
    assert record["hash"] == tiny().hash and len(record["log"]) == 6
    assert {"torch", "transformers", "moeaudit"} <= set(record["versions"])
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in log] == [1, 2, 3, 4, 5, 6] and log == record["log"]
    assert log[0]["nll"] == pytest.approx(math.log(2048), abs=0.3)
    assert 0 < log[0]["entropy"] <= math.log(4) + 1e-5
    assert not (trained / "state.pt").exists()
    assert lab.train(tiny(), trained, progress=False) == trained  # finished: nothing to do


def test_the_card_counts_what_it_says(trained):
    card = json.loads((trained / "card.json").read_text())
    model = ma.load(str(trained)).hf
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert card["parameters"] == {"total": total, "unique": total, "active": total - experts // 2}
    assert card["nll"] == pytest.approx(sum(r["nll"] for r in card["domains"]) / 8)
    assert [r["layer"] for r in card["layers"]] == [0, 1]
    assert f"{card['nll']:.4f}" in (trained / "card.md").read_text()


def test_the_page_of_curves_holds_every_figure(trained, tmp_path):
    page = write_curves(trained, tmp_path / "curves.html").read_text()
    card = json.loads((trained / "card.json").read_text())
    assert f"{card['nll']:.3f} nats a token on held-out text" in page
    for key in ("loss", "balance", "entropy"):
        assert f'id="plot-{key}"' in page
    with pytest.raises(RunError, match="no training"):
        write_curves(tmp_path, tmp_path / "none.html")


def test_a_folder_of_other_text_is_refused(trained, tmp_path, monkeypatch, listening):
    """The recipe says where text stands; what stands there may change under a finished or a begun training."""
    with pytest.raises(KeyboardInterrupt):
        lab.train(tiny(), tmp_path / "cut", progress=StopAt(2))
    pool = lab.pool(["olmoe"], seeds=[0], folder=tmp_path / "pool", quick=True)
    shutil.copytree(trained, pool.place("olmoe", 0))
    assert pool.get("olmoe", 0) and not pool.missing and len(pool.models) == 1
    then = json.loads((trained / "lab.json").read_text())["text"]["sha256"]
    monkeypatch.setattr(folder, "digest_of", lambda _: "f" * 64)
    said = f"SHA-256 {then}.*corpus 'bundled'.*SHA-256 {'f' * 64}"
    for place in (trained, tmp_path / "cut"):
        with pytest.raises(RunError, match=said):
            lab.train(tiny(), place, progress=False)
    for asked in (lambda: pool.get("olmoe", 0), lambda: pool.missing, lambda: pool.models):
        with pytest.raises(RunError, match=said):
            asked()


class StopAt:
    """Progress that asks for an interrupt at a step, as a key does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stage(self, name, total, unit, done=0):
        self.begun = done

    def advance(self, amount):
        pass

    def note(self, message):
        pass

    def measured(self, record):
        if record["step"] == self.step:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("arm", ["olmoe-shuffled", "deepseek-v2"])
def test_an_interrupted_training_resumes_bit_for_bit(arm, tmp_path, listening):
    more = {"shared_width": 8} if arm == "deepseek-v2" else {}
    recipe = tiny(arm, **more)
    whole = lab.train(recipe, tmp_path / "whole", progress=False)
    with pytest.raises(KeyboardInterrupt):
        lab.train(recipe, tmp_path / "cut", progress=StopAt(3))
    assert (tmp_path / "cut" / "state.pt").exists()
    assert len((tmp_path / "cut" / "log.jsonl").read_text().splitlines()) == 3
    with pytest.raises(RunError, match="already"):
        lab.train(recipe, tmp_path / "cut", resume=False)
    cut = lab.train(recipe, tmp_path / "cut", progress=False)
    one, other = (load_file(each / "model.safetensors") for each in (whole, cut))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]
        for text in ((each / "log.jsonl").read_text().splitlines() for each in (whole, cut))
    ]
    assert logs[0] == logs[1]


def test_another_recipe_and_foreign_files_are_refused(trained, tmp_path):
    with pytest.raises(RunError, match=r"\[train\] seed = 0 there and 1 here"):
        lab.train(tiny(seed=1), trained)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="no training of the lab's"):
        lab.train(tiny(), tmp_path)
    with pytest.raises(InputError, match="shared equally among 8 domains"):
        lab.train(tiny(rows=12), tmp_path / "new", progress=False)
    with pytest.raises(InputError, match="each group must read one domain"):
        lab.train(tiny("olmoe-micro", groups=4), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_own_documents_and_the_dense_baseline(tmp_path):
    texts = tmp_path / "texts"
    for domain in ("a", "b"):
        (texts / domain).mkdir(parents=True)
        for n in range(30):
            (texts / domain / f"{n}.txt").write_text(f"{domain} tells number {n} " * 12)
    out = lab.train(tiny("dense", documents=str(texts)), tmp_path / "dense", progress=False)
    card = json.loads((out / "card.json").read_text())
    assert card["class"] == "LlamaForCausalLM" and card["layers"] == []
    assert [r["domain"] for r in card["domains"]] == ["a", "b"]
    record = json.loads((out / "lab.json").read_text())["log"][-1]
    assert record["balance"] is None and record["entropy"] is None


def test_a_pool_trains_only_what_it_lacks(tmp_path, monkeypatch):
    made = []

    def train(recipe, out, **more):
        made.append((recipe.name, recipe.train.seed))
        return trainer_train(recipe, out, **more)

    trainer_train = trainer.train
    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setitem(lab.ARMS["olmoe"].changes, "layers", 1)
    pool = lab.pool(["olmoe", "dense"], seeds=[0, 1], folder=tmp_path, quick=True)
    assert len(pool.missing) == 4 and pool.models.empty
    first = pool.get("olmoe", 0, progress=False)
    assert made == [("olmoe", 0)] and pool.get("olmoe", 0) == first and len(made) == 1
    pool.train(progress=False)
    assert sorted(made) == [("dense", 0), ("dense", 1), ("olmoe", 0), ("olmoe", 1)]
    table = pool.models
    assert list(zip(table["arm"], table["seed"]))[:2] == [("olmoe", 0), ("olmoe", 1)]
    assert table["nll"].between(5, 9).all() and not pool.missing
    with pytest.raises(InputError, match="seed of this pool"):
        pool.get("olmoe", 2)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"arms": "olmoe"}, "a list of names"),
        ({"arms": ["olmo"]}, "Did you mean olmoe"),
        ({"arms": ["olmoe", "olmoe"]}, "none of them twice"),
        ({"arms": ["olmoe"], "seeds": []}, "at least one"),
        ({"arms": ["olmoe"], "seeds": [-1]}, "whole number"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(asked, said, tmp_path):
    with pytest.raises(InputError, match=said):
        lab.pool(**asked, folder=tmp_path)


def test_the_pools_folder_is_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MOEAUDIT_LAB", str(tmp_path / "kept"))
    assert lab.pool(["olmoe"]).folder == tmp_path / "kept"
