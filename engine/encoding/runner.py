"""Run the modality encoders in one thread, in micro-batches; a bad row fails alone."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from core.errors import AppError, EngineFault, NotReady, Overloaded, UnsupportedMedia
from core.telemetry import EventLog, Measurements
from core.types import DecodedMedia, Embedding, Modality, ModalityEncoder
from models.devices import map_rows, use_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingConfig:
    """How many rows share one encoder call, how many may wait, and the threads of the encoders."""

    max_batch: int = 8
    max_queue: int = 128
    num_threads: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """One row: its result or its error ends up in `future`, which the caller may cancel."""

    modality: Modality
    media: DecodedMedia
    future: Future[Embedding] = field(default_factory=Future)


class EncoderRunner:
    """Queue rows, batch those of one modality that wait together, and resolve each exactly once."""

    def __init__(
        self,
        encoders: Mapping[Modality, ModalityEncoder],
        config: EncodingConfig,
        *,
        log: EventLog | None = None,
        measurements: Measurements | None = None,
    ) -> None:
        self._encoders = dict(encoders)
        self._config = config
        self._log = log or EventLog("engine")
        self._measurements = measurements or Measurements()
        self._wake = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._accepting = False
        self.num_restarts = 0
        self._thread = threading.Thread(target=self._run, name="encoder", daemon=True)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return tuple(self._encoders)

    def encoder_id(self, modality: Modality) -> str:
        """Return whose embeddings a modality gets."""
        return self._encoders[modality].encoder_id

    async def start(self) -> None:
        with self._wake:
            self._accepting = True
        self._thread.start()

    async def stop(self) -> None:
        """Refuse new rows, end the waiting ones with `NotReady`, and finish the batch that runs."""
        with self._wake:
            self._accepting = False
            remaining = list(self._jobs)
            self._jobs.clear()
            self._wake.notify()
        for job in remaining:
            if job.future.set_running_or_notify_cancel():
                job.future.set_exception(NotReady("the server is stopping; send the request again later"))
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    async def encode(self, modality: Modality, media: DecodedMedia) -> Embedding:
        """Return the embedding of one medium. Cancelling the call abandons the row.

        Raises `UnsupportedMedia` without an encoder for the modality, `Overloaded` when the queue is full, the
        encoder's own `AppError` for a bad row, and `EngineFault` for anything else.
        """
        self.check(modality)
        job = _Job(modality, media)
        with self._wake:
            if not self._accepting:
                raise NotReady("the encoders are not running; try again when the server is ready")
            if len(self._jobs) >= self._config.max_queue:
                raise Overloaded(f"{self._config.max_queue} media wait to be encoded, the limit; try again soon")
            self._jobs.append(job)
            self._wake.notify()
        with self._measurements.timed("encode", modality=str(modality)):
            return await asyncio.wrap_future(job.future)

    def check(self, modality: Modality) -> None:
        """Raise `UnsupportedMedia` that lists what this model reads."""
        find_encoder(self._encoders, modality)

    def _run(self) -> None:
        if self._config.num_threads is not None:
            use_threads(self._config.num_threads)
        with torch.inference_mode():
            while self._encode_next():
                continue

    def _encode_next(self) -> bool:
        """Wait for a batch and encode it; False when the thread must end. What waits keeps no media of the last one."""
        jobs = self._next_batch()
        if not jobs:
            return False
        try:
            self._encode_batch(jobs)
        except BaseException as error:  # whatever it is, the thread goes on: nobody would start another
            self._log.fault("encoder_loop_failed", error)
            self._fail(jobs)
        return True

    def _next_batch(self) -> list[_Job]:
        """Wait for rows and take the oldest with others of its modality; empty when the thread must end."""
        batch: list[_Job] = []
        with self._wake:
            while not batch:
                while self._accepting and not self._jobs:
                    self._wake.wait()
                if not self._jobs:
                    return []
                modality = self._jobs[0].modality
                same = [job for job in self._jobs if job.modality is modality][: self._config.max_batch]
                for job in same:
                    self._jobs.remove(job)
                batch = [job for job in same if job.future.set_running_or_notify_cancel()]
        return batch

    def _encode_batch(self, jobs: list[_Job]) -> None:
        for job, outcome in zip(jobs, self._encode_isolated(jobs), strict=True):
            if isinstance(outcome, AppError):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _fail(self, jobs: list[_Job]) -> None:
        """End the rows of a batch that broke the loop; rows that wait are kept."""
        self.num_restarts += 1
        for job in jobs:
            if not job.future.done():
                job.future.set_exception(EngineFault("the encoder failed; the log has the details"))

    def _encode_isolated(self, jobs: list[_Job]) -> list[Embedding | AppError]:
        """Encode the rows together; if that fails, one by one."""
        encoder = self._encoders[jobs[0].modality]
        try:
            outcomes: list[Embedding | AppError] = []
            with self._measurements.timed("preprocess", modality=str(jobs[0].modality)):
                rows = map_rows(encoder.preprocess, [job.media for job in jobs])
            outcomes.extend(encoder.encode(rows))
            if len(outcomes) != len(jobs):
                raise EngineFault(f"encoder {encoder.encoder_id} returned {len(outcomes)} rows for {len(jobs)}")
            return outcomes
        except Exception as error:
            if len(jobs) == 1:
                return [self._as_app_error(jobs[0], error)]
        return [outcome for job in jobs for outcome in self._encode_isolated([job])]

    def _as_app_error(self, job: _Job, error: Exception) -> AppError:
        if isinstance(error, AppError):
            return error
        self._log.fault("encode_failed", error, modality=job.modality)
        return EngineFault("the encoder failed on this medium; the log has the details")


def find_encoder(encoders: Mapping[Modality, ModalityEncoder], modality: Modality) -> ModalityEncoder:
    """Return the encoder of a modality. Raises `UnsupportedMedia` that lists what this model reads."""
    if modality not in encoders:
        known = ", ".join(encoders) or "text only"
        raise UnsupportedMedia(f"this model does not read {modality}; it reads: {known}", param="messages")
    return encoders[modality]
