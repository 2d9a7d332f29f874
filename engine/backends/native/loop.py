"""The step loop: schedule, forward, sample, commit, in one thread that no row can kill."""

from __future__ import annotations

import threading
import time

import torch

from core.errors import AppError, DeadlineExceeded, EngineFault, InvalidRequest, NotReady, Overloaded
from core.telemetry import EventLog
from core.types import BackendStats
from engine.backends import DecodingConfig
from engine.backends.native.channel import Item, Outbox
from engine.backends.native.scheduler import Row, Runner, Sample, Scheduler, StepPlan, TokenSequence
from models.devices import use_threads

Outcome = Sample | AppError | None


class StepLoop:
    """Own the scheduler. Other threads reach it through an inbox guarded by one condition variable."""

    def __init__(self, scheduler: Scheduler, runner: Runner, *, log: EventLog, config: DecodingConfig) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._log = log
        self._num_threads = config.num_threads
        self._media_first = config.media_first
        self._outbox = Outbox()
        self._wake = threading.Condition()
        self.prepared = threading.Event()
        self._live: dict[str, TokenSequence] = {}
        self._submitted: list[TokenSequence] = []
        self._aborted: list[str] = []
        self._accepting = False
        self._stopping = False
        self._num_steps = 0
        self._num_tokens = 0
        self._num_restarts = 0

    def submit(self, sequence: TokenSequence, *, max_live: int) -> None:
        """Queue a sequence. Raises `NotReady`, `Overloaded`, or `InvalidRequest` for an id that is in use."""
        request_id = sequence.request.request_id
        with self._wake:
            if not self._accepting:
                raise NotReady("the decoder is not running; try again when the server is ready")
            if request_id in self._live:
                raise InvalidRequest(f"request id {request_id!r} is already in use; choose another")
            if len(self._live) >= max_live:
                raise Overloaded(f"{max_live} replies are running or waiting, which is the limit; try again soon")
            self._live[request_id] = sequence
            self._submitted.append(sequence)
            self._wake.notify()

    def abort(self, request_id: str) -> None:
        with self._wake:
            if request_id in self._live:
                self._aborted.append(request_id)
                self._wake.notify()

    def start_accepting(self) -> None:
        with self._wake:
            self._accepting = not self._stopping

    def stop(self) -> None:
        with self._wake:
            self._accepting, self._stopping = False, True
            self._wake.notify()

    def stats(self, slots_total: int, max_context: int) -> BackendStats:
        with self._wake:
            slots_in_use = len(self._scheduler.running)
            return BackendStats(
                slots_total=slots_total,
                slots_in_use=slots_in_use,
                queue_length=max(0, len(self._live) - slots_in_use),
                num_steps=self._num_steps,
                num_tokens=self._num_tokens,
                num_restarts=self._num_restarts,
                kv_tokens=(sum(row.num_computed for row in tuple(self._scheduler.running)), slots_total * max_context),
            )

    def run(self) -> None:
        """Serve until stopped. The body of the dedicated thread; sleeps while there is nothing to do."""
        if self._num_threads is not None:
            use_threads(self._num_threads)
        is_running = True
        with torch.inference_mode():
            self._prepare()
            while is_running:
                try:
                    is_running = self._turn()
                except BaseException as error:  # whatever it is, the thread goes on: nobody would start another
                    self._log.fault("step_loop_failed", error)
                    self._restart(EngineFault("the engine failed; the log has the details"))
                self._outbox.flush()
        self._abandon(NotReady("the server is stopping; send the request again later"))
        self._outbox.flush()

    def _prepare(self) -> None:
        """Prepare the runner; what fails here would fail in a request too, where it is told."""
        try:
            self._runner.prepare()
        except Exception as error:
            self._log.fault("prepare_failed", error)
        finally:  # whoever starts the backend waits for this
            self.prepared.set()

    def _turn(self) -> bool:
        """Apply what arrived, admit, and make one step. Returns False when the loop must end."""
        self._wait_for_work()
        if self._media_first is not None:
            self._media_first.wait()
        if not self._take_inbox():
            return False
        for sequence in self._scheduler.overdue():
            self._end(sequence, DeadlineExceeded("the reply was not over in time; ask for fewer tokens or try later"))
        self._admit()
        if self._scheduler.running:
            self._step()
        return True

    def _wait_for_work(self) -> None:
        with self._wake:
            while not (self._stopping or self._submitted or self._aborted or self._scheduler.has_work):
                self._wake.wait()

    def _take_inbox(self) -> bool:
        """Apply what arrived. Returns False when the loop must end."""
        with self._wake:
            submitted, self._submitted = self._submitted, []
            aborted, self._aborted = self._aborted, []
        for sequence in submitted:
            self._scheduler.waiting.add(sequence)
        for request_id in aborted:
            if (ended := self._live.get(request_id)) is not None:
                self._end(ended, ended.abort_event())
        return not self._stopping

    def _admit(self) -> None:
        while (sequence := self._scheduler.next_admissible()) is not None:
            try:
                self._scheduler.place(sequence)
            except Exception as error:
                self._forget(sequence, self._fault(sequence, error))

    def _step(self) -> None:
        plan, started_s = self._scheduler.schedule(), time.perf_counter()
        outcomes = self._run_isolated(plan)
        self._scheduler.observe(plan, time.perf_counter() - started_s)
        for row, outcome in outcomes:
            if not isinstance(outcome, AppError):
                self._scheduler.advance(row)
        for row, outcome in outcomes:
            self._commit(row.sequence, outcome)
        self._num_steps += 1

    def _run_isolated(self, plan: StepPlan) -> list[tuple[Row, Outcome]]:
        """Run the plan; if it fails, run each row alone so that only the bad one is lost."""
        try:
            samples = iter(self._runner.run(plan))
            return [(row, next(samples) if row.samples else None) for row in plan.finished_rows]
        except Exception as error:
            if len(plan.rows) == 1:
                return [(plan.rows[0], self._fault(plan.rows[0].sequence, error))]
        return [outcome for part in plan.alone() for outcome in self._run_isolated(part)]

    def _commit(self, sequence: TokenSequence, outcome: Outcome) -> None:
        if isinstance(outcome, AppError):
            self._end(sequence, outcome)
            return
        if outcome is None:
            return
        self._num_tokens += 1
        try:
            event = sequence.accept(outcome)
        except Exception as error:
            self._end(sequence, self._fault(sequence, error))
            return
        if event.finish is not None:
            self._end(sequence, event)
        else:
            self._outbox.post(sequence.channel, event)

    def _end(self, sequence: TokenSequence, item: Item) -> None:
        self._scheduler.remove(sequence, keep=not isinstance(item, AppError))
        self._forget(sequence, item)

    def _forget(self, sequence: TokenSequence, item: Item) -> None:
        with self._wake:
            del self._live[sequence.request.request_id]
        self._outbox.post(sequence.channel, item)

    def _fault(self, sequence: TokenSequence, error: Exception) -> AppError:
        if sequence.guide is not None and isinstance(error, InvalidRequest):
            return error  # the client's own grammar, not the engine
        self._log.fault("row_failed", error, request_id=sequence.request.request_id)
        return EngineFault("the engine failed on this request; the log has the details")

    def _restart(self, error: AppError) -> None:
        """End every request that had started with `error`, and keep those that wait for a slot."""
        self._num_restarts += 1
        with self._wake:
            kept = {*map(id, self._scheduler.waiting), *map(id, self._submitted)}
            lost = [sequence for sequence in self._live.values() if id(sequence) not in kept]
            for sequence in lost:
                del self._live[sequence.request.request_id]
        self._scheduler.drop_running()
        for sequence in lost:
            self._outbox.post(sequence.channel, error)

    def _abandon(self, error: AppError) -> None:
        """End every live request with `error` and leave the slots empty."""
        self._scheduler.reset()
        with self._wake:
            remaining, self._live = list(self._live.values()), {}
            self._submitted.clear()
        for sequence in remaining:
            self._outbox.post(sequence.channel, error)
