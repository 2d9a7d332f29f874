"""Embed files of the disk from ordinary threads, for commands that run without a server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from core.errors import AppError, MediaDecodeError, MediaTooLarge
from core.types import FloatArray, MediaBlob
from engine.encoding.service import EncodingService
from engine.intake import MediaIntake

_MAX_IN_FLIGHT = 16  # files read and decoded at once, below the queue of the encoders


class FileEmbedder:
    """Own a running `EncodingService` and its event loop for the length of a `with` block; call it from any thread."""

    def __init__(self, service: EncodingService, intake: MediaIntake, *, encoder_id: str) -> None:
        self.encoder_id = encoder_id
        self._service = service
        self._intake = intake
        self._loop = asyncio.new_event_loop()
        self._limiter = asyncio.Semaphore(_MAX_IN_FLIGHT)
        self._thread = threading.Thread(target=self._loop.run_forever, name="file-embedder", daemon=True)

    def __enter__(self) -> FileEmbedder:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._service.start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._service.stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __call__(self, paths: Sequence[Path]) -> list[FloatArray | AppError]:
        """Return the vector `(E,)` of each file, or the error of a file that cannot be embedded."""
        return asyncio.run_coroutine_threadsafe(self._embed_files(paths), self._loop).result()

    def embed_text(self, text: str) -> FloatArray:
        """Return the vector `(E,)` of a text. Raises `UnsupportedMedia` for a model that does not embed text."""
        blob = self._intake.from_text(text, param="text")
        return asyncio.run_coroutine_threadsafe(self._embed(blob), self._loop).result()

    async def _embed_files(self, paths: Sequence[Path]) -> list[FloatArray | AppError]:
        return list(await asyncio.gather(*(self._embed_file(path) for path in paths)))

    async def _embed_file(self, path: Path) -> FloatArray | AppError:
        async with self._limiter:
            try:
                return await self._embed(await asyncio.to_thread(self._read, path))
            except AppError as error:
                return error

    async def _embed(self, blob: MediaBlob) -> FloatArray:
        self._service.check([blob])
        return (await self._service.embed([blob])).vector

    def _read(self, path: Path) -> MediaBlob:
        try:
            if path.stat().st_size > self._intake.limits.max_bytes:
                raise MediaTooLarge(f"the file is over {self._intake.limits.max_bytes} bytes, the limit of one medium")
            content = path.read_bytes()
        except OSError as error:
            raise MediaDecodeError(f"the file could not be read: {error.strerror}") from error
        return self._intake.from_bytes(content, declared_type=None, expected=None, weight=1.0, param="file")
