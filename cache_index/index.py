"""FAISS behind the `VectorIndex` seam; the only module that imports it. N stored rows, E embedding width."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, get_args

import faiss as faiss_with_partial_stubs
import numpy as np
import numpy.typing as npt

from core.errors import ConfigError, IndexMismatch, InvalidRequest
from core.types import FloatArray

faiss: Any = faiss_with_partial_stubs
IdArray = npt.NDArray[np.int64]
IndexKind = Literal["flat", "flat_fp16", "hnsw", "ivf_flat", "ivf_sq8", "ivf_pq"]
KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

FLAT_ROWS = 20_000  # exact search of so few rows takes a few milliseconds; nothing beats it
_HNSW_ROWS = 200_000  # above it the graph takes longer to build than a coarse quantizer, for little speed
_TRAINING_ROWS_PER_LIST = 40  # k-means in FAISS asks for at least 39
_LISTS_PER_PROBE = 128


def footprint_bytes(kind: IndexKind, count: int, dimension: int) -> int:
    """Return about how many bytes of memory an index of N rows takes, overhead of ids and links included."""
    # PQ's 8-bit copy is best memory-mapped
    codes = {"flat_fp16": 2 * dimension, "ivf_sq8": dimension, "ivf_pq": _num_subquantizers(dimension)}
    row_bytes = codes.get(kind, 4 * dimension) + (256 if kind == "hnsw" else 16)
    centroids = 4 * dimension * num_lists(count) if kind.startswith("ivf") else 0
    return count * row_bytes + centroids


def choose_kind(count: int, dimension: int, memory_budget_bytes: int) -> IndexKind:
    """Choose the index type from the number of rows and the memory it may take.

    Up to 20,000 rows: flat (exact). Up to 200,000: HNSW. Above: IVF-Flat. What does not fit the budget falls through
    to IVF-Flat, then IVF-SQ8 (a quarter of the memory), then IVF-PQ (about 1/30), re-scored from an 8-bit copy.
    Flat in float16 is for small galleries that travel with a model, and only made when asked for.
    """
    preferred: list[IndexKind] = ["ivf_flat", "ivf_sq8"]
    if count <= _HNSW_ROWS:
        preferred.insert(0, "flat" if count <= FLAT_ROWS else "hnsw")
    fitting = (kind for kind in preferred if footprint_bytes(kind, count, dimension) <= memory_budget_bytes)
    return next(fitting, "ivf_pq")


def num_lists(count: int) -> int:
    """Return the number of inverted lists: the power of two nearest 2 sqrt(N), fewer when k-means would starve."""
    wanted = 2 ** round(math.log2(2 * math.sqrt(max(count, 1))))
    return int(max(1, min(wanted, count // _TRAINING_ROWS_PER_LIST)))


def num_training_rows(kind: IndexKind, count: int) -> int:
    """Return how many rows, drawn at random, training looks at; 0 when the type needs none."""
    return min(count, max(_TRAINING_ROWS_PER_LIST * num_lists(count), 16_384)) if kind.startswith("ivf") else 0


def train_index(kind: IndexKind, count: int, dimension: int, sample: FloatArray) -> FaissIndex:
    """Return an empty index of a type for N rows, trained on a sample `(S, E)` where the type needs it."""
    lists, parts = num_lists(count), _num_subquantizers(dimension)
    factory = {
        "flat": "Flat",
        "flat_fp16": "SQfp16",
        "hnsw": "HNSW32,Flat",
        "ivf_flat": f"IVF{lists},Flat",
        "ivf_sq8": f"IVF{lists},SQ8",
        "ivf_pq": f"IVF{lists},PQ{parts}x{8 if len(sample) >= 9984 else 4}np,Refine(SQ8)",
    }[kind]
    index = faiss.index_factory(dimension, factory, faiss.METRIC_INNER_PRODUCT)
    if kind == "flat_fp16":
        index.is_trained = True  # half precision has nothing to learn
    if kind == "hnsw":
        index.hnsw.efConstruction, index.hnsw.efSearch = 80, 128
    if kind == "ivf_pq":
        index.k_factor = 8  # candidates re-scored per neighbour asked for
    if (inverted_file := faiss.try_extract_index_ivf(index)) is not None:
        inverted_file.nprobe = min(lists, max(8, lists // _LISTS_PER_PROBE))
        index.train(np.ascontiguousarray(sample, dtype=np.float32))
    return FaissIndex(index)


def _num_subquantizers(dimension: int) -> int:
    """Return the largest divisor of E that leaves at least 8 values to each product-quantizer code."""
    return next(parts for parts in range(max(1, dimension // 8), 0, -1) if dimension % parts == 0)


def set_num_threads(count: int) -> None:
    """Set the threads of every FAISS search and build of this operating-system process."""
    faiss.omp_set_num_threads(count)


def check_gpu() -> None:
    """Raise `ConfigError` when this build of FAISS or this machine has no GPU to search on."""
    if not hasattr(faiss, "StandardGpuResources"):
        raise ConfigError("cache_device is cuda, and this FAISS is the CPU build; install the extra faiss-gpu instead")
    if faiss.get_num_gpus() == 0:
        raise ConfigError("cache_device is cuda, and FAISS sees no GPU here; set cache_device to cpu")


class FaissIndex:
    """Any FAISS inner-product index that can give its vectors back."""

    def __init__(self, index: Any) -> None:
        self._owner = index  # keeps what is unwrapped alive
        if isinstance(index, faiss.IndexIDMap):  # cannot give vectors back by its own ids; rows are counted from 0
            index = faiss.downcast_index(index.index)
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise IndexMismatch("the index ranks by distance; the cache needs one built for inner product")
        if (inverted_file := faiss.try_extract_index_ivf(index)) is not None:
            is_refined = isinstance(index, faiss.IndexRefine)  # gives vectors back from its own copy
            if isinstance(faiss.downcast_index(inverted_file), faiss.IndexIVFFastScan) and not is_refined:
                raise IndexMismatch(
                    "the index packs its codes for fast scan (PQ...fs), and FAISS crashes when asked for its vectors; "
                    "build it without fs, or with a refinement such as IVF1024,PQ64x4fs,RFlat"
                )
            inverted_file.make_direct_map()  # gives vectors back by their ids
        self._index = self._searcher = index
        self._gpu_lock: threading.Lock | None = None  # a GPU index serves one thread at a time
        self._gpu_resources: Any = None

    @property
    def dimension(self) -> int:
        return int(self._index.d)

    @property
    def type_name(self) -> str:
        """The FAISS class, for people."""
        return type(self._index).__name__

    def move_to_gpu(self) -> bool:
        """Search on the first GPU from now on and say so; vectors still come from the file.

        False, and nothing changes, for types that FAISS runs on the CPU only (HNSW, refined PQ). Raises `ConfigError`
        without a GPU, with the CPU build of FAISS, and when the index does not fit the GPU's memory.
        """
        if self._gpu_lock is not None:
            return True
        check_gpu()
        if isinstance(self._index, faiss.IndexHNSW | faiss.IndexRefine):
            return False
        try:
            self._gpu_resources = faiss.StandardGpuResources()
            self._searcher = faiss.index_cpu_to_gpu(self._gpu_resources, 0, self._index)
        except RuntimeError as error:
            raise ConfigError(f"the index cannot be moved to the GPU: {error}; set cache_device to cpu") from error
        self._gpu_lock = threading.Lock()
        return True

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def set_num_probes(self, count: int) -> None:
        """Set how many inverted lists a search visits; no effect on types without lists."""
        if (inverted_file := faiss.try_extract_index_ivf(self._index)) is not None:
            inverted_file.nprobe = min(count, inverted_file.nlist)

    def add(self, rows: FloatArray) -> None:
        """Append rows `(n, E)`; their ids go on from the last one."""
        self._index.add(np.ascontiguousarray(rows, dtype=np.float32))

    def search(self, queries: FloatArray, k: int) -> tuple[FloatArray, IdArray]:
        """Return `(B, k)` inner products in falling order and ids; k is clamped to the size of the index.

        An approximate type may find fewer than k: the rest have id -1. Raises `IndexMismatch` when the queries
        `(B, E)` are not of the index's dimension, and `InvalidRequest` when they are not finite.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dimension:
            raise IndexMismatch(f"queries have shape {queries.shape}; the index takes (rows, {self.dimension})")
        if not np.isfinite(queries).all():
            raise InvalidRequest("the query holds values that are not finite; embed the input again")
        k = min(k, len(self))
        if k == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        with self._gpu_lock or nullcontext():
            scores, ids = self._searcher.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        return scores, ids

    def vectors(self, ids: IdArray) -> FloatArray:
        """Return the stored vectors `(n, E)` of ids `(n,)`; compressed indexes give their approximations.

        Raises `InvalidRequest` for an id that the index does not hold.
        """
        if len(outside := ids[(ids < 0) | (ids >= len(self))]):
            raise InvalidRequest(f"the index holds no row {outside[0]}; it has {len(self)} rows", param="ids")
        found: FloatArray = self._index.reconstruct_batch(np.ascontiguousarray(ids, dtype=np.int64))
        return found

    def write(self, write: Callable[[bytes], object]) -> None:
        """Serialise into a callable that takes bytes. An error it raises is raised by `write` too, as FAISS's."""
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(write, 1 << 20))


def read_index(path: Path, *, memory_map: bool = False) -> FaissIndex:
    """Read a `knn.index` file of any FAISS type; memory-mapped, its pages are read when a search touches them.

    Raises `ConfigError` naming the file when it is not one.
    """
    if not path.is_file():
        raise ConfigError(f"no index at {path}; build one or switch the cache off")
    try:
        return FaissIndex(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC if memory_map else 0))
    except (RuntimeError, MemoryError) as error:
        raise ConfigError(f"{path} is not a readable FAISS index: {error}") from error
