"""A share of all removals: do limits hold, what does the screen add, and which is better, all of few or few of many?

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.validity.share RUN [RUN ...] [--screen FILE ...]

The census of a finished run (`moeaudit audit MODEL --out RUN`) is taken for the population: an audit draws its
documents with replacement and a sample of their removals, by the package's own `Sample`, and its limits
are held against the numbers of the whole census. `--screen` names, for each run, a Parquet file of
`screen(model, docs).table` of the same documents. `synthetic` in place of a run is a drawn population.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from moeaudit.causal.walk.several.sample import Sample
from moeaudit.stats.contrast.cells import Cell, metric_score, pair
from moeaudit.stats.contrast.slots import Census, Slots
from moeaudit.stats.least import REMOVALS_FOR_LIMITS
from moeaudit.stats.ranking.by_expert import Screened, regression_of_columns
from moeaudit.stats.sizes.limits import adjusted_limits, means_of_columns
from moeaudit.stats.sizes.moments import Moments, d_z, jackknife, mean_difference, weighted

METRICS = ("utilisation", "mean_weight", "reap", "ean")
SIZES = {"d_z": d_z, "mean_difference": mean_difference}
LEVEL = 0.95


@dataclass(frozen=True)
class Population:
    """A census: its layers as slots, paired effects of some metrics, and the screen's estimates of its slots."""

    name: str
    layers: list[Slots]
    cells: list[list[Cell]]  # of each layer
    screened: list[np.ndarray] | None = None  # (tokens, top_k) of each layer

    @classmethod
    def of_run(cls, run: Path, screen: Path | None) -> Population:
        effects = pd.concat(pd.read_parquet(f) for f in sorted((run / "effects").glob("*.parquet")))
        return cls.of(run.name, effects, pd.read_parquet(run / "experts.parquet"), screen)

    @classmethod
    def of(
        cls, name: str, effects: pd.DataFrame, experts: pd.DataFrame, screen: Path | None = None
    ) -> Population:
        census = Census(effects, "delta_nll")
        layers = [census.slots(layer) for layer in census.layers]
        cells = []
        for slots in layers:
            known = experts[(experts["layer"] == slots.layer) & experts["value"].notna()]
            parts = {m: known[known["metric"] == m] for m in METRICS}
            scores = {
                m: metric_score(slots, p["expert"].to_numpy(np.int64), p["value"].to_numpy(float))
                for m, p in parts.items()
                if len(p)
            }
            cells.append([pair(slots, score, m, "metric") for m, score in scores.items()])
        if screen is None:
            return cls(name, layers, cells)
        told = pd.read_parquet(screen).rename(columns={"estimate": "delta_nll"})
        other = Census(told, "delta_nll")
        return cls(name, layers, cells, [aligned(s, other.slots(s.layer)) for s in layers])

    def draw(self, share: float, draws: int) -> list[np.ndarray]:
        """Which tokens each of `draws` samples has, (draws, tokens) for each layer."""
        out = []
        for slots in self.layers:
            ends = np.searchsorted(slots.document, np.arange(slots.n_documents + 1))
            taken = np.zeros((draws, len(slots.document)), dtype=bool)
            for d, (a, b) in enumerate(zip(ends, ends[1:])):
                for r in range(draws):
                    taken[r, a:b] = Sample(share, r).drawn(slots.expert[a:b], slots.layer, d)
            out.append(taken)
        return out


def aligned(mine: Slots, theirs: Slots) -> np.ndarray:
    """Values of `theirs` at the experts of `mine`: of equal gate weights either may come first."""
    here, there = mine.expert.argsort(1), theirs.expert.argsort(1)
    both = (np.take_along_axis(s.expert, o, 1) for s, o in ((mine, here), (theirs, there)))
    if not np.array_equal(*both):
        raise SystemExit(
            "The screen is of other removals than the run: screen the run's own documents."
        )
    out = np.empty_like(theirs.value)
    np.put_along_axis(out, here, np.take_along_axis(theirs.value, there, 1), 1)
    return out


def sums(slots: Slots, value: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Outcome and removals by draw, document and expert, each (draws, documents, experts)."""
    experts = int(slots.expert.max()) + 1
    shape = (slots.n_documents, experts)
    total, count = (np.zeros((len(taken), *shape), np.float32) for _ in range(2))
    flat = slots.document[:, None] * experts + slots.expert
    for r, mine in enumerate(taken):
        total[r] = np.bincount(flat[mine].ravel(), value[mine].ravel(), flat_size(shape)).reshape(
            shape
        )
        count[r] = np.bincount(flat[mine].ravel(), minlength=flat_size(shape)).reshape(shape)
    return total, count


def flat_size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape))


def moments_of(
    slots: Slots, cell: Cell, taken: np.ndarray
) -> tuple[np.ndarray, tuple[float, float]]:
    """`Moments.sums` of a cell by draw, (draws, documents, 7), and their common centre."""
    span = int(slots.position.max()) + 1
    position = np.zeros(0) if cell.position is None else cell.position
    keys = slots.document * span + slots.position
    place = np.searchsorted(keys, cell.document * span + position)
    centre = (float(cell.high.mean()), float(cell.low.mean()))
    h, l = cell.high - centre[0], cell.low - centre[1]
    columns = (np.ones(len(h)), h, l, h * h, l * l, h * l, np.sign(cell.difference))
    mine = taken[:, place]
    out = np.zeros((len(taken), slots.n_documents, 7))
    for r in range(len(taken)):
        at = cell.document[mine[r]]
        for c, column in enumerate(columns):
            out[r, :, c] = np.bincount(at, column[mine[r]], slots.n_documents)
    return out, centre


@dataclass(frozen=True)
class Book:
    """Everything by draw and document, the census as draw 0 of a book of its own."""

    total: list[np.ndarray]
    count: list[np.ndarray]
    made: list[np.ndarray] | None  # the screen's estimates of the removals made
    pairs: list[tuple[np.ndarray, tuple[float, float]]]

    @classmethod
    def of(cls, population: Population, taken: list[np.ndarray]) -> Book:
        both = [sums(s, s.value, t) for s, t in zip(population.layers, taken)]
        told = population.screened
        made = None
        if told is not None:
            made = [sums(s, x, t)[0] for s, x, t in zip(population.layers, told, taken)]
        pairs = [
            moments_of(slots, cell, t)
            for slots, cells, t in zip(population.layers, population.cells, taken)
            for cell in cells
        ]
        return cls([t for t, _ in both], [c for _, c in both], made, pairs)


def experts(
    book: Book, census: Book, documents: int, audits: int, rng: np.random.Generator
) -> pd.DataFrame:
    """One row per audit, layer and expert: rows, the error, half the limits' width, whether they hold."""
    draws, n = book.total[0].shape[:2]
    parts = []
    for audit in range(audits):
        d, r = rng.integers(n, size=documents), rng.integers(draws, size=documents)
        for layer, (total, count) in enumerate(zip(book.total, book.count)):
            s, c = total[r, d].astype(float), count[r, d].astype(float)
            every = census.total[layer][0].astype(float), census.count[layer][0].astype(float)
            with np.errstate(invalid="ignore"):
                true = every[0].sum(0) / every[1].sum(0)
            found = {"plain": means_of_columns(s, c, LEVEL)}
            if book.made is not None and census.made is not None:
                x = Screened(
                    census.made[layer][0][d].astype(float),
                    every[1][d],
                    book.made[layer][r, d].astype(float),
                )
                found["assisted"] = regression_of_columns(s, c, x, LEVEL)[1:]
            row = {"audit": audit, "layer": layer, "expert": np.arange(len(true)), "rows": c.sum(0)}
            for name, (mean, low, high) in found.items():
                row |= {
                    f"{name}_error": mean - true, f"{name}_half": (high - low) / 2,
                    f"{name}_holds": np.where(np.isfinite(low), (low <= true) & (true <= high), np.nan),
                }  # fmt: skip
            parts.append(pd.DataFrame(row))
    out = pd.concat(parts, ignore_index=True)
    return out[out["plain_holds"].notna()]


def contrasts(
    book: Book, census: Book, documents: int, audits: int, rng: np.random.Generator
) -> dict[str, float]:
    """Share of (audit, cell) whose limits hold the number of the census, by size."""
    draws, n = book.total[0].shape[:2]
    held: dict[str, list[bool]] = {name: [] for name in SIZES}
    for _ in range(audits):
        d, r = rng.integers(n, size=documents), rng.integers(draws, size=documents)
        for (every, centre), (whole, _) in zip(book.pairs, census.pairs):
            m = Moments(every[r, d], centre)
            for name, size in SIZES.items():
                true = float(size(weighted(Moments(whole[0], centre)))[0])
                low, high = adjusted_limits(float(size(weighted(m))[0]), jackknife(m, name), LEVEL)
                held[name].append(low <= true <= high)
    return {name: float(np.mean(values)) for name, values in held.items()}


def synthetic(seed: int = 0) -> Population:
    """160 documents of 128 tokens, 32 experts of which 4 work: log-normal harm that leans on the gate weight,
    on the expert and on the document; a metric that goes with the experts' harm, and one that is noise."""
    rng = np.random.default_rng(seed)
    documents, tokens, n, k = 160, 127, 32, 4
    popular = np.exp(0.7 * rng.standard_normal(n))
    harm = 0.1 * np.exp(0.5 * rng.standard_normal(n))
    frames = []
    for d in range(documents):
        liked = popular * np.exp(0.5 * rng.standard_normal(n))
        expert = np.argsort(rng.gumbel(size=(tokens, n)) + np.log(liked))[:, -k:][:, ::-1]
        size = harm[expert] * np.exp(0.4 * rng.standard_normal()) / (1 + np.arange(k))
        noise = np.exp(0.9 * rng.standard_normal((tokens, k)) - 0.405) - 0.5
        frames.append(
            pd.DataFrame(
                {
                    "document": d, "position": np.repeat(np.arange(tokens), k), "layer": 0,
                    "rank": np.tile(np.arange(k), tokens), "expert": expert.ravel(),
                    "delta_nll": (2 * size * noise).ravel(),
                }
            )
        )  # fmt: skip
    scores = {METRICS[0]: harm + 0.05 * rng.standard_normal(n), METRICS[1]: rng.random(n)}
    told = [
        pd.DataFrame({"layer": 0, "expert": np.arange(n), "metric": m, "value": v})
        for m, v in scores.items()
    ]
    return Population.of("synthetic", pd.concat(frames), pd.concat(told))


def told(found: pd.DataFrame, kind: str) -> str:
    """Coverage of all experts, of those with enough rows, the middle half-width and the root mean square error."""
    use = found[found["rows"] >= REMOVALS_FOR_LIMITS]
    by_cell = use.groupby(["layer", "expert"])[f"{kind}_holds"].mean()
    tail = " / ".join(f"{q:.3f}" for q in by_cell.quantile([0.05, 0.5, 0.95]))
    rms = float(
        np.sqrt(
            (
                use.groupby(["layer", "expert"])[f"{kind}_error"].apply(lambda e: (e**2).mean())
            ).median()
        )
    )
    return (
        f"{found[f'{kind}_holds'].mean():.3f} | {use[f'{kind}_holds'].mean():.3f} | {tail} | "
        f"{use[f'{kind}_half'].median():.4f} | {rms:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="+", help="run folders, or 'synthetic'")
    parser.add_argument("--screen", type=Path, action="append", default=[])
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--audits", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=40, help="samples of each document")
    parser.add_argument("--documents", type=int, nargs="*", default=[40, 160], help="sampled")
    parser.add_argument("--whole", type=int, nargs="*", default=[2, 8], help="all removals made")
    parser.add_argument("--experts-only", action="store_true", help="leave the contrasts out")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    screens = dict(zip((r for r in given.runs if r != "synthetic"), given.screen))
    print(
        "| population | made | documents | audits | kind | holds | with 30 rows | experts 5 / 50 / 95 % | half | rms |"
    )
    print("| --- | --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for run in given.runs:
        start, rng = time.perf_counter(), np.random.default_rng(given.seed)
        of = synthetic() if run == "synthetic" else Population.of_run(Path(run), screens.get(run))
        every = [np.ones((1, len(s.document)), dtype=bool) for s in of.layers]
        census = Book.of(of, every)
        book = Book.of(of, of.draw(given.share, given.draws)) if given.documents else census
        sampled = f"{given.share:g}"
        asked = [("all", census, n) for n in given.whole]
        asked += [(sampled, book, n) for n in given.documents]
        for what, source, n in asked:
            found = experts(source, census, n, given.audits, rng)
            both = what == sampled and of.screened is not None
            for kind in ("plain", "assisted") if both else ("plain",):
                line = f"| {of.name} | {what} | {n} | {given.audits} | {kind} |"
                print(f"{line} {told(found, kind)} |", flush=True)
            if what == "all" or given.experts_only:
                continue
            held = contrasts(book, census, n, given.audits, rng)
            said = ", ".join(f"{name} {value:.3f}" for name, value in held.items())
            line = f"| {of.name} | {what} | {n} | {given.audits} | contrasts |"
            print(f"{line} {said} | | | | |", flush=True)
        print(f"<!-- {of.name}: {time.perf_counter() - start:.0f} s -->", flush=True)


if __name__ == "__main__":
    main()
