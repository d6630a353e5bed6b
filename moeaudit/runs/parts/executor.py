"""Where groups of documents are computed: here, or spread over the workers of a Ray cluster."""

from __future__ import annotations

import importlib
import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moeaudit.errors import InputError, RunError, one_of
from moeaudit.frames import Frame

from ..progress import Progress
from ..spec import AuditSpec
from .groups import Group, Spread, measured

if TYPE_CHECKING:
    from moeaudit.causal.operators import Operator

log = logging.getLogger("moeaudit")

EXECUTORS = ("ray",)
TRIES = 3  # of one group, each lost with its worker
STARTING = -1  # in place of a group's number: a worker that was lost before it had one
PATIENCE = 900.0  # seconds that are waited for a worker while none computes


def spread_of(
    executor: str | None,
    workers: int | None,
    model: Any,
    loading: dict[str, Any],
    progress: Progress,
) -> Spread | None:
    """What computes the groups of a run; None is this process.

    Raises InputError for an executor that is not known or not installed, workers without one, and a model that
    workers cannot load by name; RunError where no Ray cluster runs.
    """
    if executor is None:
        if workers is not None:
            raise InputError("workers= is about a cluster; give it together with executor='ray'.")
        return None
    one_of(executor, EXECUTORS, "executor")
    if workers is not None and workers < 1:
        raise InputError(f"workers = {workers}: at least one worker was expected.")
    if not isinstance(model, (str, Path)):
        raise InputError(
            f"executor='ray' needs the model by name, since each worker loads it for itself; this is a "
            f"{type(model).__name__}. Give a bundled name, a hub id, or a folder that all machines see."
        )
    return RayWorkers(_named(model), loading, workers, progress)


def _named(model: str | Path) -> str:
    """A folder by its whole path: workers have working directories of their own."""
    return str(Path(model).resolve()) if Path(model).is_dir() else str(model)


def _ray() -> Any:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise InputError(
            "The executor 'ray' needs the package ray, which is not installed here. Install it with pip install "
            "'moeaudit[ray]', or leave the executor out: moeaudit audit --shard i/n needs no cluster."
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise RunError(
                "No Ray cluster runs here. Start one with ray start --head, and ray start --address=HEAD:6379 on every "
                "other machine; or name one in RAY_ADDRESS."
            ) from error
    return ray


class Worker:
    """An actor that loads the model when it gets its first group, and keeps it."""

    def __init__(self, model: str, loading: dict[str, Any], threads: int) -> None:
        self.name, self.loading, self.threads = model, loading, threads
        self.model: Any = None

    def ready(self) -> int:
        """The worker's process, once it runs."""
        return os.getpid()

    def measure(self, group: Group, asked: tuple[Operator, AuditSpec]) -> dict[str, Frame]:
        """The tables of a group. Raises RunError if the weights here are not those that were asked of."""
        operator, spec = asked
        if self.model is None:
            import torch

            from moeaudit.models import load

            torch.set_num_threads(self.threads)  # as many as where the run was asked for
            self.model = load(self.name, **self.loading)
        if self.model.provenance["weights_sha256"] != spec.weights:
            raise RunError(
                f"On a worker {self.name!r} has other weights than here (SHA-256). Give a folder that all machines "
                "see, or one revision of the model."
            )
        return measured(self.model, operator, spec, group)


class RayWorkers:
    """Groups of documents on the actors of a Ray cluster; a group whose worker is lost is measured again.

    Each worker takes as many CPUs as this process has torch threads, or one GPU if the model goes to one. Tables
    come back and are written here, so only this process writes to the run folder.
    """

    def __init__(
        self, model: str, loading: dict[str, Any], workers: int | None, progress: Progress
    ) -> None:
        import torch

        self.ray = _ray()
        self.model, self.loading, self.progress = model, loading, progress
        self.threads = torch.get_num_threads()
        on_gpu = str(loading.get("device") or "cpu").startswith("cuda")
        needs = {"num_cpus": 1 if on_gpu else self.threads, "num_gpus": 1 if on_gpu else 0}
        self.actor = self.ray.remote(Worker).options(**needs)
        self.n = self._room(on_gpu) if workers is None else workers
        self.notes: list[str] = []

    def _room(self, on_gpu: bool) -> int:
        has = self.ray.cluster_resources()
        each, what = (1, "GPU") if on_gpu else (self.threads, "CPU")
        if (room := int(has.get(what, 0) // each)) < 1:
            raise RunError(
                f"The Ray cluster has {has.get(what, 0):g} {what}s, and a worker takes {each}. Add machines with ray "
                "start, or compute with fewer threads (OMP_NUM_THREADS)."
            )
        return room

    def __call__(
        self,
        groups: list[Group],
        operator: Operator,
        spec: AuditSpec,
        advance: Callable[[int], None],
    ) -> Iterator[tuple[int, dict[str, Frame]]]:
        """Measure the groups, in the order in which workers are done with them."""
        waiting, tries = deque(groups), Counter[int]()
        actors = [self._hired() for _ in range(min(self.n, len(groups)))]
        asked = self.ray.put((operator, spec))
        free: list[Any] = []
        # Only a worker that runs is given a group: one that finds no machine holds up no other.
        busy: dict[Any, tuple[Any, Group | None]] = {a.ready.remote(): (a, None) for a in actors}
        try:
            while waiting or any(group for _, group in busy.values()):
                while waiting and free:
                    actor, group = free.pop(), waiting.popleft()
                    busy[actor.measure.remote(group, asked)] = (actor, group)
                works = any(group for _, group in busy.values())
                done, _ = self.ray.wait(list(busy), timeout=None if works else PATIENCE)
                if not done:
                    raise RunError(
                        f"The Ray cluster gave no worker for {PATIENCE / 60:.0f} minutes. What was finished is kept; "
                        "the same command goes on from there. See ray status for what is free."
                    )
                for each in done:
                    actor, group = busy.pop(each)
                    try:
                        found = self.ray.get(each)
                    except self.ray.exceptions.RayTaskError as error:
                        raise error.cause from None
                    except self.ray.exceptions.RayError as error:
                        self._lost(group, tries, error)
                        waiting.extendleft([group] if group else [])
                        actors.append(self._hired())
                        busy[actors[-1].ready.remote()] = (actors[-1], None)
                        continue
                    free.append(actor)
                    if group is None:
                        tries[STARTING] = 0
                        log.info("a worker runs, process %s", found)
                    else:
                        advance(len(found.get("effects", ())))
                        yield group.number, found
        finally:
            for actor in actors:
                self.ray.kill(actor)

    def _hired(self) -> Any:
        return self.actor.remote(self.model, self.loading, self.threads)

    def _lost(self, group: Group | None, tries: Counter[int], error: Exception) -> None:
        """Count a lost worker. Raises RunError at the third of one group: it is the group, not the worker."""
        number = STARTING if group is None else group.number
        tries[number] += 1
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if tries[number] >= TRIES:
            what = "Workers" if group is None else f"Workers of group {number} of the documents"
            raise RunError(
                f"{what} were lost {TRIES} times ({why}). What was finished is kept; the same command goes on from "
                "there. Give workers more memory (fewer of them, or offload='stream')."
            ) from error
        lost = "A worker was lost; another took its place, and its documents were measured again."
        self.progress.note(f"{lost} ({why})")
        if lost not in self.notes:
            self.notes.append(lost)
