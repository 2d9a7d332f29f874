"""Decode media in killable processes: a file that crashes, hangs or swells a decoder fails only its own row."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from core.errors import (
    AppError,
    EngineFault,
    InvalidRequest,
    MediaDecodeError,
    MediaTooLarge,
    NotReady,
    Overloaded,
    UnsupportedMedia,
)
from core.telemetry import EventLog, Measurements
from core.types import AnyArray, DecodedMedia, MediaBlob
from media.containers import CONTAINERS, DecodeJob, decoder_key
from media.limits import DecodeOptions, MediaLimits
from media.worker import encode_job, read_frame, write_frame

_ROOT = Path(__file__).resolve().parents[1]
_DTYPES = frozenset({"uint8", "uint16", "int16", "int32", "int64", "float32", "float64"})
_REFUSALS: dict[str, type[InvalidRequest]] = {
    kind.__name__: kind for kind in (InvalidRequest, MediaDecodeError, MediaTooLarge, UnsupportedMedia)
}
_START_TIMEOUT_S = 30.0
_ABANDONED_S = 0.5  # a decode nobody waits for may still end by itself; a new process costs more
T = TypeVar("T")


class _Worker:
    """One decoder process and its two pipes. The methods block; they run in the pool's threads."""

    def __init__(self, containers: Mapping[str, str], limits: MediaLimits) -> None:
        self._max_payload_bytes = limits.max_decoded_bytes
        settings = json.dumps({"containers": dict(containers), "limits": asdict(limits)})
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LD_LIBRARY_PATH") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "media.worker", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**kept, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C belongs to the server
        )
        self._jobs = cast(BinaryIO, self._process.stdin)
        self._results = cast(BinaryIO, self._process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exited(self) -> bool:
        return self._process.poll() is not None

    def wait_until_ready(self) -> None:
        header, _ = read_frame(self._results, max_payload_bytes=0)
        if not header["ready"]:
            raise EngineFault(f"a decoder process could not start: {header['reason']}")

    def exchange(self, header: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], AnyArray]:
        write_frame(self._jobs, header, payload)
        return read_frame(self._results, max_payload_bytes=self._max_payload_bytes)

    def kill(self) -> int:
        """End the process now and return its exit status (negative: the signal that ended it)."""
        self._process.kill()
        return self._process.wait()

    def close(self) -> None:
        """Close the pipes; no thread may be inside `exchange` any more."""
        self._jobs.close()
        self._results.close()


@dataclass(frozen=True, slots=True)
class _Row:
    job: DecodeJob
    data: bytes
    outcome: asyncio.Future[DecodedMedia]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeStats:
    """A snapshot of the pool. `num_replaced` counts processes that crashed, hung or were killed."""

    worker_pids: tuple[int, ...]
    queue_length: int
    num_decoded: int
    num_replaced: int


class DecodeWorkers:
    """A small pool of long-lived decoder processes behind one bounded queue.

    `containers` maps a container to its decoder, "module:attribute"; each lane owns one process and replaces it when
    it dies. A row whose caller was cancelled is skipped when its turn comes.
    """

    def __init__(
        self,
        limits: MediaLimits,
        *,
        num_workers: int = 2,
        max_queue: int = 256,
        containers: Mapping[str, str] | None = None,
        options: DecodeOptions | None = None,
        measurements: Measurements | None = None,
    ) -> None:
        self._limits = limits
        self._containers = dict(CONTAINERS if containers is None else containers)
        self._options = options or DecodeOptions()
        self._num_workers = num_workers
        self._max_queue = max_queue
        self._log = EventLog("bindchat.decode")
        self._measurements = measurements or Measurements()
        self._queue: asyncio.Queue[_Row] | None = None
        self._threads: ThreadPoolExecutor | None = None
        self._lanes: list[asyncio.Task[None]] = []
        self._workers: dict[int, _Worker] = {}
        self._num_decoded = 0
        self._num_replaced = 0

    async def start(self) -> None:
        """Start the processes in the background; `decode` may be called at once and waits for one to be ready."""
        self._queue = asyncio.Queue(self._max_queue)
        self._threads = ThreadPoolExecutor(self._num_workers, thread_name_prefix="decode")
        self._lanes = [asyncio.create_task(self._run_lane(lane)) for lane in range(self._num_workers)]

    async def stop(self) -> None:
        """Kill every process and end every waiting row with `NotReady`."""
        queue, self._queue = self._queue, None
        for lane in self._lanes:
            lane.cancel()
        for worker in list(self._workers.values()):
            worker.kill()  # unblocks the threads that wait for it
        await asyncio.gather(*self._lanes, return_exceptions=True)
        self._lanes = []
        if self._threads is not None:
            self._threads.shutdown(wait=True)
        while self._workers:
            self._workers.popitem()[1].close()
        while queue is not None and not queue.empty():
            _end(queue.get_nowait(), NotReady("the server is stopping; send the request again later"))

    async def decode(self, blob: MediaBlob, options: DecodeOptions | None = None) -> DecodedMedia:
        """Return the decoded array of one medium.

        Raises `UnsupportedMedia` for a container without a decoder, `MediaTooLarge` over a budget,
        `MediaDecodeError` for damaged bytes or a decode that crashed or ran out of time, `Overloaded` when the queue
        is full and `NotReady` outside `start` and `stop`.
        """
        if self._queue is None:
            raise NotReady("the decoder processes are not running")
        if decoder_key(self._containers, blob.container, blob.modality) is None:
            raise UnsupportedMedia(
                f"this server does not decode {blob.container} as {blob.modality.value}; "
                f"it decodes {', '.join(self._containers)}"
            )
        self._limits.check_bytes(len(blob.data))
        job = DecodeJob(
            container=blob.container,
            modality=blob.modality,
            limits=self._limits,
            options=(options or self._options).sampled(blob.sampling),
        )
        row = _Row(job, blob.data, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(row)
        except asyncio.QueueFull:
            raise Overloaded(f"{self._max_queue} media are waiting to be decoded; try again shortly") from None
        with self._measurements.timed("media_decode", modality=str(blob.modality)):
            return await row.outcome

    def stats(self) -> DecodeStats:
        """Return a snapshot of the pool."""
        return DecodeStats(
            worker_pids=tuple(worker.pid for worker in self._workers.values()),
            queue_length=self._queue.qsize() if self._queue is not None else 0,
            num_decoded=self._num_decoded,
            num_replaced=self._num_replaced,
        )

    async def _run_lane(self, lane: int) -> None:
        queue = self._queue
        if queue is None:
            return
        with contextlib.suppress(EngineFault):  # each row meets the fault again, and is told
            await self._ready_worker(lane)
        while True:
            await self._serve(lane, await queue.get())

    async def _serve(self, lane: int, row: _Row) -> None:
        """End one row. A method of its own, so that a lane which waits keeps neither the file nor its pixels."""
        if row.outcome.done():
            return
        try:
            media = await self._decode_row(lane, row)
        except AppError as error:
            _end(row, error)
        except asyncio.CancelledError:
            _end(row, NotReady("the server is stopping; send the request again later"))
            raise
        except Exception as error:  # a lane never dies of a row
            self._log.fault("decode_lane_fault", error, container=row.job.container)
            _end(row, EngineFault("decoding failed for a reason of the server's own"))
        else:
            self._num_decoded += 1
            if not row.outcome.done():
                row.outcome.set_result(media)

    async def _ready_worker(self, lane: int) -> _Worker:
        if lane in self._workers and self._workers[lane].exited:
            self._discard(lane)  # it died idle; the next row is innocent
        if lane not in self._workers:
            worker = self._workers[lane] = _Worker(self._containers, self._limits)
            try:
                await self._in_thread(worker, worker.wait_until_ready, timeout_s=_START_TIMEOUT_S)
            except (EOFError, OSError, ValueError, EngineFault) as error:
                self._discard(lane)
                self._log.fault("decoder_start_failed", error)
                raise EngineFault("a decoder process could not start") from error
        return self._workers[lane]

    async def _in_thread(
        self, worker: _Worker, call: Callable[[], T], *, timeout_s: float, outcome: asyncio.Future[Any] | None = None
    ) -> T:
        """Run a blocking call on a worker; past `timeout_s` kill the process, which ends the call.

        So does a caller who has given its `outcome` up: the process may be stuck, and others wait for the lane.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, call)
        future.add_done_callback(_mark_retrieved)
        awaited = {future} if outcome is None else {future, outcome}
        await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if not future.done() and outcome is not None and outcome.done():
            await asyncio.wait({future}, timeout=_ABANDONED_S)
        if not future.done():
            worker.kill()
            await asyncio.wait({future})
            raise TimeoutError
        return future.result()

    async def _decode_row(self, lane: int, row: _Row) -> DecodedMedia:
        worker = await self._ready_worker(lane)
        exchange = partial(worker.exchange, encode_job(row.job), row.data)
        try:
            header, payload = await self._in_thread(
                worker, exchange, timeout_s=self._limits.decode_timeout_s, outcome=row.outcome
            )
        except TimeoutError as error:
            self._discard(lane)
            raise MediaDecodeError(
                f"decoding took longer than {self._limits.decode_timeout_s:g} s and was stopped; send a smaller file"
            ) from error
        except (EOFError, OSError, ValueError) as error:
            status = self._discard(lane)
            self._log.event("decoder_died", container=row.job.container, status=status, reason=repr(error))
            raise MediaDecodeError(
                f"the {row.job.container} file ended its decoder; it is damaged or needs more than the "
                f"{self._limits.max_worker_bytes} bytes of memory that are allowed"
            ) from error
        if header.get("retires"):
            self._discard(lane)
        return self._read_reply(row, header, payload)

    def _read_reply(self, row: _Row, header: dict[str, Any], payload: AnyArray) -> DecodedMedia:
        if "error" in header:
            if "unexpected" in header:
                self._log.event("decoder_bug", container=row.job.container, error=header["unexpected"])
            raise _REFUSALS.get(header["error"], MediaDecodeError)(header["message"])
        if header["dtype"] not in _DTYPES:
            raise EngineFault(f"a decoder returned {header['dtype']}")
        return DecodedMedia(
            container=row.job.container,
            array=payload.view(np.dtype(header["dtype"])).reshape(header["shape"]),
            sample_rate_hz=header["sample_rate_hz"],
            frames_per_s=header["frames_per_s"],
            frame_times_s=tuple(header["frame_times_s"]),
        )

    def _discard(self, lane: int) -> int:
        self._num_replaced += 1
        worker = self._workers.pop(lane)
        status = worker.kill()
        worker.close()
        return status


def _mark_retrieved(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # a lane that was cancelled meanwhile reads it no more


def _end(row: _Row, error: AppError) -> None:
    if not row.outcome.done():
        row.outcome.set_exception(error)
