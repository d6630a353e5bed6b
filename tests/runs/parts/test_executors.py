"""Workers that are lost, fail, or never come: what the loop does, on a cluster made up here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from moeaudit.errors import InputError, RunError
from moeaudit.front import audit
from moeaudit.runs import LogProgress
from moeaudit.runs.parts import executor
from moeaudit.runs.parts.groups import Group
from moeaudit.runs.spec import AuditSpec
from moeaudit.text.tokens import Chunk, TokenizedCorpus


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class MadeUpRay:
    """Calls are answered when they are waited for. `script` says what becomes of each measuring, in turn."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, script: list[Any], cpus: int = 2, comes: bool = True) -> None:
        self.script, self.cpus, self.comes = script, cpus, comes
        self.hired, self.dead, self.measured = [], [], []

    def remote(self, kind: type) -> Any:
        def hire(*_: Any) -> Any:
            actor = SimpleNamespace()
            actor.ready = SimpleNamespace(remote=lambda: ("ready", len(self.hired)))
            actor.measure = SimpleNamespace(
                remote=lambda group, _: ("measure", group.number, group)
            )
            self.hired.append(actor)
            return actor

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=hire))

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": float(self.cpus)}

    def put(self, value: Any) -> Any:
        return value

    def kill(self, actor: Any) -> None:
        self.dead.append(actor)

    def wait(self, refs: list[Any], timeout: float | None) -> tuple[list[Any], list[Any]]:
        return (refs[:1], refs[1:]) if self.comes else ([], refs)

    def get(self, ref: Any) -> Any:
        if ref[0] == "ready":
            return 4321
        self.measured.append(ref[1])
        happens = self.script.pop(0) if self.script else None
        if isinstance(happens, Exception):
            raise happens
        return {"effects": pd.DataFrame({"n": [ref[1]] * 3})}


def group(number: int) -> Group:
    chunk = Chunk(number, "a", 0, np.arange(4, dtype=np.int64))
    return Group(number, TokenizedCorpus([chunk], 1, 0, 8), ("a",))


def spec() -> AuditSpec:
    return AuditSpec("m", "w", "documents", "a", "b", 4, 4, (0,), 8, 0)


@pytest.fixture
def spread(monkeypatch):
    """Groups through `RayWorkers` on a made-up cluster: (what came back, effects counted, ray, workers)."""

    def run(n: int, workers: int | None = None, **cluster: Any):
        from moeaudit.causal.operators import Zero

        ray = MadeUpRay(cluster.pop("script", []), **cluster)
        monkeypatch.setattr(executor, "_ray", lambda: ray)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
        pool = executor.spread_of("ray", workers, "tiny-olmoe", {}, LogProgress())
        counted: list[int] = []
        done = dict(pool([group(i) for i in range(n)], Zero(), spec(), counted.append))
        return done, sum(counted), ray, pool

    return run


def test_all_groups_are_measured_and_the_workers_dismissed(spread):
    done, counted, ray, pool = spread(5)
    assert sorted(done) == list(range(5)) and counted == 15
    assert len(ray.hired) == 2 and ray.dead == ray.hired and pool.notes == []
    _, _, ray, _ = spread(1, workers=7)
    assert len(ray.hired) == 1  # no more workers than groups


def test_a_group_whose_worker_is_lost_is_measured_again_by_another(spread):
    done, counted, ray, pool = spread(3, script=[None, RayError("the node went away")])
    assert sorted(done) == [0, 1, 2] and counted == 9
    assert len(ray.measured) == 4 and len(ray.hired) == 3 and ray.dead == ray.hired
    assert pool.notes == [
        "A worker was lost; another took its place, and its documents were measured again."
    ]


def test_a_group_that_loses_every_worker_is_named_in_the_end(spread):
    with pytest.raises(RunError, match=r"group 0 of the documents were lost 3 times \(boom\)"):
        spread(1, workers=1, script=[RayError("boom")] * 3)


def test_an_error_of_the_measuring_itself_is_not_tried_again(spread):
    with pytest.raises(InputError, match="that cannot be"):
        spread(2, script=[RayTaskError(InputError("that cannot be"))])


def test_a_cluster_without_room_is_refused_and_one_that_gives_nothing_is_left(spread):
    with pytest.raises(RunError, match="has 0 CPUs, and a worker takes 1"):
        spread(1, cpus=0)
    with pytest.raises(RunError, match="gave no worker for 15 minutes"):
        spread(1, comes=False)


def test_a_worker_with_other_weights_says_so(tiny_folder):
    worker = executor.Worker(str(tiny_folder), {}, 1)
    from moeaudit.causal.operators import Zero

    with pytest.raises(RunError, match="has other weights than here"):
        worker.measure(group(0), (Zero(), spec()))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"executor": "dask"}, "Unknown executor 'dask'. Choose one of ray"),
        ({"workers": 2}, "give it together with executor='ray'"),
        ({"executor": "ray", "workers": 0}, "at least one worker"),
    ],
)
def test_wrong_executors_are_refused_and_nothing_written(wrong, words, tmp_path):
    with pytest.raises(InputError, match=words):
        audit("tiny-olmoe", out=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError, match=r"pip install 'moeaudit\[ray\]', or leave the executor out"
    ):
        audit("tiny-olmoe", out=tmp_path / "run", executor="ray")
    assert not (tmp_path / "run").exists()


def test_a_model_object_cannot_go_to_workers(tiny_model, tmp_path):
    with pytest.raises(InputError, match="needs the model by name"):
        audit(tiny_model, out=tmp_path / "run", executor="ray")
