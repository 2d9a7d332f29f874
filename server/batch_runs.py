"""Run batches: check the file, answer its lines beside the live clients, write the output files, survive a restart."""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import FastAPI

from core.errors import AppError, Overloaded, RateLimited, StorageFull, Unauthorized, UnknownName
from server.context import AppContext, Service
from server.inner_calls import InnerAnswer, InnerClient
from server.schemas.batch import MAX_LINES, BatchLine, NumberedLine, errors_object, outcome_line, read_lines

if TYPE_CHECKING:
    from engine.batch_journal import BatchJournal
    from engine.file_store import FileStore

T = TypeVar("T")
KIND = "batch"
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
BUSY_STATUSES = (429, 503)
LEFT_FOR_LIVE = 1  # of a key's requests, so that its client can still ask how the batch does
BUSY_WAIT_S = 0.5  # before a line that met a full server is tried again


class BatchRunner:
    """Own the running batches of one app; live objects are in memory, every change of status is on the disk first."""

    def __init__(self, app: FastAPI, context: AppContext) -> None:
        self._context = context
        self._client = InnerClient(app, context)
        self._places = asyncio.Semaphore(context.settings.batch_concurrency)
        self.live: dict[str, dict[str, Any]] = {}

    def start(self, owner: str, batch: dict[str, Any]) -> None:
        """Go on with a stored batch in a task of the app."""
        run = _BatchRun(self, self._context, owner, batch)
        self.live[batch["id"]] = batch
        task = asyncio.create_task(run.run())
        self._context.background[batch["id"]] = task
        task.add_done_callback(lambda _: self._end(batch["id"]))

    async def resume(self) -> None:
        """Take up what a stopped server left unfinished."""
        documents = self._context.service().stored_documents
        if documents is None:
            return
        for owner, batch in await asyncio.to_thread(documents.everyone, KIND):
            if batch["status"] in ACTIVE:
                self.start(owner, batch)

    async def call(self, path: str, body: dict[str, Any], owner: str) -> InnerAnswer:
        """Answer one line, at most `batch_concurrency` of all batches at once, and within the limits of its key.

        Raises `RateLimited` when the key has to wait and `Unauthorized` when it is gone.
        """
        async with self._places:
            key = self._context.keys.named(owner)
            with self._context.throttle.admitted(key, leaving=LEFT_FOR_LIVE):
                return await self._client.post(path, body, key)

    def _end(self, batch_id: str) -> None:
        self.live.pop(batch_id, None)
        self._context.background.pop(batch_id, None)


def batch_files(service: Service) -> tuple[FileStore, BatchJournal]:
    """Return where batches read and write. Raises `UnknownName` when the server keeps no files."""
    if service.files is None or service.journal is None:
        raise UnknownName("this server keeps no files; its operator turns them on with files_dir", code="files_off")
    return service.files, service.journal


class _BatchRun:
    """One batch of one owner."""

    def __init__(self, runner: BatchRunner, context: AppContext, owner: str, batch: dict[str, Any]) -> None:
        self._runner = runner
        self._context = context
        self._service = context.service()
        self._files, self._journal = batch_files(self._service)
        self._owner = owner
        self._batch = batch
        self._reading = asyncio.Lock()
        self._has_waited = False

    async def run(self) -> None:
        """Bring the batch to its end; cancelling the task leaves it where a restart finds it."""
        try:
            if self._batch["status"] == "validating" and not await self._check():
                return
            await self._answer_lines()
            await self._finalize()
        except (AppError, OSError, sqlite3.Error) as error:
            self._context.log.fault("batch_failed", error, batch_id=self._batch["id"])
            message = error.message if isinstance(error, AppError) else "the server failed; its log has the details"
            wrong = {"code": "batch_failed", "line": None, "message": message, "param": None}
            self._batch["errors"] = {"object": "list", "data": [wrong]}
            await self._enter("failed")

    async def _check(self) -> bool:
        """Read every line once. Ends the batch and returns False when one of them is wrong."""
        total, wrong = await asyncio.to_thread(self._count_lines)
        if total == 0 or total > MAX_LINES:
            wrong = [NumberedLine(0, None, f"the file has {total} lines; batches take 1 to {MAX_LINES}")]
        self._batch["request_counts"]["total"] = total
        if wrong:
            self._batch["errors"] = errors_object(wrong)
            await self._enter("failed")
            return False
        if self._batch["status"] != "cancelling":
            await self._enter("in_progress")
        return True

    def _count_lines(self) -> tuple[int, list[NumberedLine]]:
        total, wrong = 0, []
        for line in self._lines():
            total += 1
            if line.line is None:
                wrong.append(line)
        return total, wrong

    def _lines(self) -> Generator[NumberedLine, None, None]:
        with closing(self._files.open(self._owner, self._batch["input_file_id"])) as file:
            yield from read_lines(file, self._batch["endpoint"], self._context.settings.max_body_bytes)

    async def _answer_lines(self) -> None:
        done = await asyncio.to_thread(self._journal.done, self._batch["id"])
        counts = self._batch["request_counts"]
        counts.update(completed=list(done.values()).count(False), failed=list(done.values()).count(True))
        lines = self._lines()
        width = self._context.settings.batch_concurrency
        workers = [asyncio.create_task(self._work(lines, done)) for _ in range(width)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            lines.close()

    async def _work(self, lines: Iterator[NumberedLine], done: dict[int, bool]) -> None:
        """Take line after line from the shared file until it is over, which the others notice too."""
        while (numbered := await self._next(lines)) is not None:
            if numbered.number in done or numbered.line is None:
                continue
            text, is_error = await self._outcome(numbered.line)
            keep = partial(self._journal.add, self._batch["id"], numbered.number, text, is_error=is_error)
            await self._written(keep)
            self._batch["request_counts"]["failed" if is_error else "completed"] += 1

    async def _next(self, lines: Iterator[NumberedLine]) -> NumberedLine | None:
        async with self._reading:
            return await asyncio.to_thread(next, lines, None)

    async def _outcome(self, line: BatchLine) -> tuple[str, bool]:
        """Return the line of the output file and whether it belongs to the errors; a full server is tried again."""
        outcome_id = f"batch_req_{secrets.token_hex(12)}"
        for field in ("stream", "background"):
            if line.body.get(field):
                error = {"code": "invalid_request", "message": f"{field} has no place in a batch; leave it out"}
                return outcome_line(line.custom_id, outcome_id, error=error), True
        while (ended := self._why_ended()) is None:
            try:
                answer = await self._runner.call(line.url, line.body, self._owner)
            except Unauthorized as refusal:
                error = {"code": refusal.code, "message": refusal.message}
                return outcome_line(line.custom_id, outcome_id, error=error), True
            except RateLimited as refusal:
                self._note_wait(refusal)
            else:
                if answer.status not in BUSY_STATUSES:
                    response = {"status_code": answer.status, "request_id": answer.request_id, "body": answer.body}
                    return outcome_line(line.custom_id, outcome_id, response=response), answer.status != 200
            await asyncio.sleep(BUSY_WAIT_S)
        error = {"code": f"batch_{ended}", "message": f"the batch was {ended} before this line was answered"}
        return outcome_line(line.custom_id, outcome_id, error=error), True

    def _note_wait(self, refusal: AppError) -> None:
        """Say once that the limits of its key, or a full disk, hold the batch back."""
        if not self._has_waited:
            self._has_waited = True
            self._context.log.event("batch_waits", batch_id=self._batch["id"], reason=refusal.message)

    def _why_ended(self) -> str | None:
        if self._batch["status"] == "cancelling":
            return "cancelled"
        return "expired" if time.time() >= self._batch["expires_at"] else None

    async def _finalize(self) -> None:
        ended = self._why_ended() or "completed"
        if ended != "cancelled":
            await self._enter("finalizing")
        for field, is_error in (("output_file_id", False), ("error_file_id", True)):
            if self._batch[field] is None:
                self._batch[field] = await self._written(partial(self._write_file, is_error=is_error))
        await self._enter(ended)
        await asyncio.to_thread(self._journal.forget, self._batch["id"])

    def _write_file(self, *, is_error: bool) -> str | None:
        texts = self._journal.texts(self._batch["id"], is_error=is_error)
        first = next(texts, None)
        if first is None:
            return None
        name = f"{self._batch['id']}_{'error' if is_error else 'output'}.jsonl"
        with self._files.writing(self._files.check_room(self._owner)) as writer:
            writer.write(first.encode() + b"\n")
            for text in texts:
                writer.write(text.encode() + b"\n")
            keep_s = self._batch.get("output_keep_s")
            stored = self._files.finish(writer, owner=self._owner, filename=name, purpose="batch_output", keep_s=keep_s)
        return stored.id

    async def _enter(self, status: str) -> None:
        self._batch.update({"status": status, f"{status}_at": int(time.time())})
        stored = json.loads(json.dumps(self._batch))
        await self._written(partial(self._service.documents.put, KIND, self._owner, stored))

    async def _written(self, write: Callable[[], T]) -> T:
        """Return what `write` returns, once the disk has room: answers that were paid for are not thrown away."""
        while True:
            try:
                return await asyncio.to_thread(write)
            except (StorageFull, Overloaded) as refusal:
                self._note_wait(refusal)
            await asyncio.sleep(BUSY_WAIT_S)
