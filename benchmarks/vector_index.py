"""Measure the visual cache's indexes on clustered vectors against exact search, in one run.

    python -m benchmarks.vector_index --sizes 30000 300000 3000000 [--kind auto] [--probes 8 16 32] [--work DIR]
        [--result out.json] [--plot curve.png]

The vectors are made block by block from a seed and are never all in memory: a unit centre, a spread in 64 directions
that all clusters share, and a little noise in every direction; some clusters are much larger than others. Queries come
from the same clusters and are not stored. The exact search is a flat float32 index, the one the paper's reference uses;
it is timed over blocks of 0.5 GB that are in memory, so it is not slowed by the disk. Latency and resident memory of
the index are measured in a fresh operating-system process that only opens the file. `limit` is the bytes a query must
read over the measured memory bandwidth: no implementation of that index type on this machine can be faster.

`--work DIR` keeps the built indexes and the true neighbours there, so that a run that was stopped goes on; what is
timed is then timed again, over the first blocks of the exact search (`--exact-blocks`), in the same run as the index.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress

from cache_index.build import BLOCK_ROWS, build_index
from cache_index.index import (
    FaissIndex,
    IdArray,
    IndexKind,
    choose_kind,
    num_lists,
    read_index,
    set_num_threads,
    train_index,
)
from cache_index.manifest import read_manifest
from cache_index.reader import ItemMetadata
from cache_index.visual_cache import normalize
from core.types import FloatArray

TOP_K = 10
ROWS_PER_CLUSTER = 300
SHARED_DIRECTIONS = 64
EXACT_BLOCK_ROWS = 8 * BLOCK_ROWS
NUM_EXACT_SINGLES = 5
WARM_UP_QUERIES = 20
MIB = 1 << 20
BUILD_NOTE = "build.json"
GOAL_P50_MS, GOAL_RECALL, GOAL_TIMES = 8.0, 0.95, 50


class ClusteredVectors:
    """N seeded unit vectors `(N, E)` in clusters; `generation_s` counts the time spent making them."""

    def __init__(self, count: int, width: int, seed: int) -> None:
        self.count, self.dimension, self.generation_s = count, width, 0.0
        self._seed = seed
        rng = np.random.default_rng(seed)
        self._centres = normalize(rng.standard_normal((max(16, count // ROWS_PER_CLUSTER), width), np.float32))
        self._directions = normalize(rng.standard_normal((SHARED_DIRECTIONS, width), np.float32))

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return rows of one block; `start` is a multiple of the builder's block."""
        return self._draw(stop - start, [self._seed, 1, start])

    def queries(self, count: int) -> FloatArray:
        """Return vectors that are not stored."""
        return self._draw(count, [self._seed, 2])

    def metadata(self, start: int, stop: int) -> Iterable[ItemMetadata]:
        return (ItemMetadata(file=f"{row}.jpg") for row in range(start, stop))

    def _draw(self, count: int, seeds: list[int]) -> FloatArray:
        started = time.perf_counter()
        rng = np.random.default_rng(seeds)
        clusters = (len(self._centres) * rng.random(count) ** 1.5).astype(np.int64)  # the first ones are the largest
        spread = rng.standard_normal((count, SHARED_DIRECTIONS), np.float32) * np.float32(0.6 / SHARED_DIRECTIONS**0.5)
        noise = rng.standard_normal((count, self.dimension), np.float32) * np.float32(0.3 / self.dimension**0.5)
        drawn = normalize(self._centres[clusters] + spread @ self._directions + noise)
        self.generation_s += time.perf_counter() - started
        return drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What a fresh process saw; times in milliseconds. `queries_per_s` is one batch on every thread."""

    probes: int
    p50_ms: float
    p99_ms: float
    queries_per_s: float
    resident_mib: float
    found: list[list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `times_exact` compares queries one at a time, `times_exact_batched` in batches."""

    vectors: int
    kind: str
    probes: int
    build_s: float
    file_mib: float
    resident_mib: float
    p50_ms: float
    p99_ms: float
    limit_ms: float
    queries_per_s: float
    recall_at_10: float
    exact_ms: float
    exact_limit_ms: float
    times_exact: float
    times_exact_batched: float


def search_exactly(source: ClusteredVectors, queries: FloatArray, progress: Progress) -> IdArray:
    """Return the true neighbours `(B, 10)`, searching block by block and keeping the best."""
    best_scores = np.full((len(queries), 0), -np.inf, np.float32)
    best_ids = np.empty((len(queries), 0), np.int64)
    bar = progress.add_task("exact search", total=source.count)
    for start in range(0, source.count, EXACT_BLOCK_ROWS):
        block = exact_block(source, start)
        scores, ids = block.search(queries, TOP_K)
        best_scores = np.concatenate([best_scores, scores], axis=1)
        best_ids = np.concatenate([best_ids, ids + start], axis=1)
        order = np.argsort(-best_scores, axis=1, kind="stable")[:, :TOP_K]  # (B, k)
        best_scores, best_ids = np.take_along_axis(best_scores, order, 1), np.take_along_axis(best_ids, order, 1)
        progress.update(bar, completed=start + len(block))
    return best_ids


def exact_block(source: ClusteredVectors, start: int) -> FaissIndex:
    """Return a flat index of the rows from `start` on, as many as one block of the exact search has."""
    stop = min(start + EXACT_BLOCK_ROWS, source.count)
    block = train_index("flat", 0, source.dimension, np.empty((0, source.dimension), np.float32))
    for first in range(start, stop, BLOCK_ROWS):
        block.add(source.rows(first, min(first + BLOCK_ROWS, stop)))
    return block


def time_exact(source: ClusteredVectors, queries: FloatArray, num_blocks: int) -> tuple[float, float]:
    """Return seconds per query, alone and in one batch, of an exact search of every row.

    Measured over the first blocks, in memory, and scaled to all rows: a flat search takes time in proportion to them.
    """
    single_s = batched_s = 0.0
    starts = range(0, source.count, EXACT_BLOCK_ROWS)[:num_blocks]
    num_rows = 0
    for start in starts:
        block = exact_block(source, start)
        num_rows += len(block)
        block.search(queries[:1], TOP_K)
        for query in queries[:NUM_EXACT_SINGLES]:
            single_s += _seconds(partial(block.search, query[None], TOP_K)) / NUM_EXACT_SINGLES
        batched_s += _seconds(partial(block.search, queries, TOP_K)) / len(queries)
    return single_s * source.count / num_rows, batched_s * source.count / num_rows


def measure_index(path: Path, queries: FloatArray, probes: Sequence[int], num_threads: int) -> list[Speed]:
    """Open an index file and time searches; run in a process of its own, whose memory is the index's."""
    set_num_threads(num_threads)
    index = read_index(path, memory_map=True)
    speeds = []
    for count in probes:
        index.set_num_probes(count)
        for query in queries[:WARM_UP_QUERIES]:
            index.search(query[None], TOP_K)
        times_ms = [1000 * _seconds(partial(index.search, query[None], TOP_K)) for query in queries]
        started = time.perf_counter()
        _, ids = index.search(queries, TOP_K)
        batch_s = time.perf_counter() - started
        speeds.append(
            Speed(
                probes=count,
                p50_ms=float(np.percentile(times_ms, 50)),
                p99_ms=float(np.percentile(times_ms, 99)),
                queries_per_s=len(queries) / batch_s,
                resident_mib=resident_mib(),
                found=ids.tolist(),
            )
        )
    return speeds


def resident_mib() -> float:
    """Return the most memory this process has had resident, mapped files included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def bandwidth_bytes_per_s() -> float:
    """Return how fast memory can be read here: the best of some matrix-vector products over 256 MiB."""
    matrix, vector = np.ones((65_536, 1024), np.float32), np.ones(1024, np.float32)
    return matrix.nbytes / min(_seconds(lambda: matrix @ vector) for _ in range(5))


def bytes_per_query(kind: str, count: int, width: int, probes: int) -> float:
    """Return the bytes that a search has to read: the centroids and the codes of the lists it visits."""
    row_bytes = {"ivf_sq8": width, "ivf_pq": max(1, width // 8)}.get(kind, 4 * width)
    if kind == "hnsw":
        return 128 * 32 * row_bytes / 4  # efSearch nodes, about a quarter of their links not yet seen
    lists = num_lists(count)
    return 4 * width * lists + count * row_bytes * min(probes, lists) / lists if kind != "flat" else count * row_bytes


def recall(found: Sequence[Sequence[int]], exact: IdArray) -> float:
    """Return the share of the true nearest neighbours that was found."""
    pairs = zip(found, exact.tolist(), strict=True)
    return float(np.mean([len(set(mine) & set(true)) / len(true) for mine, true in pairs]))


def build_once(source: ClusteredVectors, kind: IndexKind, folder: Path) -> float:
    """Build the index unless `folder` holds it, and return the seconds its building took, generation left out."""
    note = folder / BUILD_NOTE
    if note.exists():
        return float(json.loads(note.read_text(encoding="utf-8"))["build_s"])
    with Progress() as progress:
        bars = {stage: progress.add_task(f"{source.count:,} {stage}", total=None) for stage in ("sampling", "adding")}

        def report(stage: str, done: int, total: int) -> None:
            if stage in bars:
                progress.update(bars[stage], completed=done, total=total)

        started, made_before = time.perf_counter(), source.generation_s
        build_index(source, folder, encoder_id="benchmark", progress=report, kind=kind)
    build_s = time.perf_counter() - started - (source.generation_s - made_before)
    note.write_text(json.dumps({"build_s": build_s}), encoding="utf-8")
    return build_s


def truth_once(source: ClusteredVectors, queries: FloatArray, folder: Path) -> IdArray:
    """Return the true neighbours of the queries, from the disk when an earlier run found them."""
    kept = folder / f"truth-{len(queries)}.npy"
    if not kept.exists():
        with Progress() as progress:
            np.save(kept, search_exactly(source, queries, progress))
    truth: IdArray = np.load(kept, allow_pickle=False)
    return truth


def run_size(count: int, arguments: argparse.Namespace, work: Path, bandwidth: float) -> list[Row]:
    """Build, search exactly, and measure one size."""
    source = ClusteredVectors(count, arguments.width, arguments.seed)
    queries = source.queries(arguments.queries)
    kind = choose_kind(count, arguments.width, int(arguments.memory_gb * 2**30))
    kind = kind if arguments.kind == "auto" else arguments.kind
    folder = work / f"{count}-{arguments.width}-{arguments.seed}-{kind}"
    build_s, truth = build_once(source, kind, folder), truth_once(source, queries, folder)
    record = read_manifest(folder).segments[0].index
    lists = num_lists(count)
    probes = (arguments.probes or [min(lists, max(8, lists // 128))]) if kind.startswith("ivf") else [0]
    if arguments.only_build:
        return []
    exact_single_s, exact_batched_s = time_exact(source, queries, arguments.exact_blocks)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        speeds = pool.apply(measure_index, (folder / record.name, queries, probes, arguments.threads))
    exact_limit_ms = 1000 * 4 * arguments.width * count / bandwidth
    return [
        Row(
            vectors=count,
            kind=kind,
            probes=speed.probes,
            build_s=build_s,
            file_mib=record.size_bytes / MIB,
            resident_mib=speed.resident_mib,
            p50_ms=speed.p50_ms,
            p99_ms=speed.p99_ms,
            limit_ms=1000 * bytes_per_query(kind, count, arguments.width, speed.probes) / bandwidth,
            queries_per_s=speed.queries_per_s,
            recall_at_10=recall(speed.found, truth),
            exact_ms=1000 * exact_single_s,
            exact_limit_ms=exact_limit_ms,
            times_exact=1000 * exact_single_s / speed.p50_ms,
            times_exact_batched=exact_batched_s * speed.queries_per_s,
        )
        for speed in speeds
    ]


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw latency and speed-up over the number of vectors: at each size, the fastest row with a recall of 0.95."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    good = {row.vectors: row for row in sorted(rows, key=lambda row: -row.p50_ms) if row.recall_at_10 >= GOAL_RECALL}
    sizes = sorted(good)
    figure, (times, gain) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    times.loglog(sizes, [good[size].exact_ms for size in sizes], "o-", label="exact flat, one query")
    times.loglog(sizes, [good[size].p50_ms for size in sizes], "o-", label="index, p50")
    times.loglog(sizes, [good[size].p99_ms for size in sizes], "o--", label="index, p99")
    times.axhline(GOAL_P50_MS, color="grey", linewidth=0.8, label=f"goal {GOAL_P50_MS:g} ms")
    times.set(xlabel="vectors", ylabel="milliseconds", title="latency of one query")
    gain.loglog(sizes, [good[size].times_exact for size in sizes], "o-", label="one query at a time")
    gain.loglog(sizes, [good[size].times_exact_batched for size in sizes], "o-", label="in one batch")
    gain.axhline(GOAL_TIMES, color="grey", linewidth=0.8, label=f"goal {GOAL_TIMES} x")
    gain.set(xlabel="vectors", ylabel="times the exact search", title="throughput")
    for size in sizes:
        row = good[size]
        times.annotate(f"{row.kind}\nrecall {row.recall_at_10:.3f}", (size, row.p50_ms), fontsize=7)
    times.legend(fontsize=7)
    gain.legend(fontsize=7)
    figure.savefig(path, dpi=130)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[30_000, 300_000, 3_000_000])
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--kind", default="auto", choices=["auto", "flat", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"])
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--probes", type=int, nargs="+", help="inverted lists to visit, one line of the table each")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, help="write the rows as JSON too")
    parser.add_argument("--plot", type=Path, help="write the curve over the sizes as a PNG")
    parser.add_argument("--work", type=Path, help="keep indexes and truth here; by default a temporary folder")
    parser.add_argument(
        "--exact-blocks", type=int, default=4, help="blocks of 131,072 rows the exact search is timed on"
    )
    parser.add_argument("--only-build", action="store_true", help="prepare --work and time nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every size and print the table."""
    arguments = parse_arguments(argv)
    set_num_threads(arguments.threads)
    bandwidth = bandwidth_bytes_per_s()
    print(f"memory bandwidth {bandwidth / 1e9:.1f} GB/s, {arguments.threads} threads, width {arguments.width}")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() if arguments.work is None else nullcontext(arguments.work) as work:
        for count in arguments.sizes:
            rows += run_size(count, arguments, Path(work), bandwidth)
    if not rows:
        return
    names = list(asdict(rows[0]))
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(_cell(value) for value in asdict(row).values()) + " |")
    if arguments.plot:
        plot(rows, arguments.plot)
    if arguments.result:
        arguments.result.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
