"""Parts that die while requests run: the step loop, the encoder's thread, a decoder process, the disk, the server."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from core.types import DecodedMedia, Embedding, Modality
from engine.backends.native.runner import NativeRunner
from engine.backends.native.scheduler import Sample, StepPlan
from engine.file_store import FileWriter
from models.tiny import EMBEDDING_WIDTH, load_tiny
from server.context import Service
from server.settings import Settings
from server.wiring import connect_service
from tests.support.live_server import (
    CHAT,
    LONG,
    LiveServer,
    assert_refused,
    chat_body,
    image_part,
    live_server,
    picture,
    raw_connection,
    reply_text,
    stream_frames,
)

PICTURE = [{"type": "text", "text": "?"}, image_part(picture())]


class Breaker:
    """Break the step loop as a whole, once, after a number of steps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.armed = threading.Event()
        run = NativeRunner.run

        def run_or_break(runner: NativeRunner, plan: StepPlan) -> list[Sample]:
            if self.armed.is_set() and plan.decode:
                self.armed.clear()
                raise error
            return run(runner, plan)

        monkeypatch.setattr(NativeRunner, "run", run_or_break)


@pytest.mark.parametrize("error", [SystemExit("killed"), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_the_step_loop_restarts_and_keeps_what_waits(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    breaker = Breaker(monkeypatch, error)
    with live_server(max_slots=1, max_queue=4) as server, ThreadPoolExecutor(2) as clients:
        with server.stream(max_tokens=LONG) as lines:
            next(lines)
            waiting = [clients.submit(server.chat, f"hello {i}") for i in range(2)]
            while server.get("/ready").json()["queue_length"] < 2:
                continue
            breaker.armed.set()
            *_, last = stream_frames(lines)
        assert last["error"]["code"] == "engine_fault"
        assert [len(reply_text(answer.result(20))) > 0 for answer in waiting] == [True, True]
        assert server.get("/health").status_code == 200
        assert server.get("/health/generate").json()["status"] == "ok"
        server.wait_until_idle()
        assert "bindchat_engine_restarts_total 1.0" in server.get("/metrics").text


def test_a_whole_reply_that_was_running_ends_as_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    breaker = Breaker(monkeypatch, SystemExit("killed"))
    with live_server() as server:
        breaker.armed.set()
        assert_refused(server.chat(max_tokens=LONG), 500, "log")
        assert reply_text(server.chat())


class DyingEncoder:
    """An encoder whose first batch ends its thread."""

    encoder_id = "dying"
    modality = Modality.IMAGE

    def __init__(self) -> None:
        self.num_batches = 0

    def preprocess(self, media: DecodedMedia) -> torch.Tensor:
        return torch.zeros(1)

    def encode(self, batch: Sequence[torch.Tensor]) -> list[Embedding]:
        self.num_batches += 1
        if self.num_batches == 1:
            raise SystemExit("killed")
        return [_unit_row() for _ in batch]


def _unit_row() -> Embedding:
    row = torch.zeros(EMBEDDING_WIDTH)
    row[0] = 1
    return Embedding(vector=row.numpy(), encoder_id="dying")


def test_the_encoders_thread_outlives_a_batch_that_ends_it() -> None:
    def build(settings: Settings) -> Service:
        bundle = load_tiny(torch.float32)
        return connect_service(settings, replace(bundle, encoders={Modality.IMAGE: DyingEncoder()}))

    with live_server(build) as server:
        assert_refused(server.chat(PICTURE), 500, "log")
        assert reply_text(server.chat(PICTURE))


def test_decoder_processes_that_are_killed_are_replaced() -> None:
    with live_server() as server:
        assert reply_text(server.chat(PICTURE))
        workers = children_running("media.worker")
        assert workers
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        while workers & children_running("media.worker"):  # a signal takes effect a moment after it is sent
            continue
        another = [image_part(picture((1, 2, 3)))]  # the first one is remembered
        assert reply_text(server.chat(another))
        assert children_running("media.worker")
    assert not children_running("media.worker")


def stopped_decoders() -> set[int]:
    """Let no decoder process of this server go on, and return their ids."""
    workers = children_running("media.worker")
    assert workers
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    return workers


def ask_about_another_picture(server: LiveServer) -> httpx.Response:
    return server.chat([{"type": "text", "text": "?"}, image_part(picture((7, 8, 9)))])


def test_a_decoder_that_is_killed_in_the_middle_costs_its_own_request() -> None:
    with live_server() as server, ThreadPoolExecutor(1) as clients:
        assert reply_text(server.chat(PICTURE))
        workers = stopped_decoders()
        asked = clients.submit(ask_about_another_picture, server)
        while server.get("/ready").json()["requests_in_flight"] == 0:
            continue
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        assert_refused(asked.result(30), 422, "decoder")
        assert reply_text(ask_about_another_picture(server))
        server.wait_until_idle()


def test_a_client_that_leaves_while_its_picture_is_decoded_frees_the_decoder() -> None:
    body = json.dumps(chat_body([{"type": "text", "text": "?"}, image_part(picture((4, 5, 6)))])).encode()
    with live_server() as server:
        assert reply_text(server.chat(PICTURE))
        workers = stopped_decoders()
        leave_and_wait(server, post(body))
        while workers <= children_running("media.worker"):  # the one that was stuck is ended, not waited for
            continue
        for pid in workers & children_running("media.worker"):
            os.kill(pid, signal.SIGCONT)
        assert reply_text(ask_about_another_picture(server))


def children_running(module: str) -> set[int]:
    """Return the ids of this process's children that run a module."""
    found = set()
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                arguments = (folder / "cmdline").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                continue
            if module.encode() in arguments and parent == os.getpid():
                found.add(int(folder.name))
    return found


def test_a_full_disk_refuses_the_upload_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(writer: FileWriter, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(FileWriter, "write", no_space)
    with live_server(files_dir=tmp_path) as server, server.client() as client:
        form: dict[str, Any] = {"files": {"file": ("a.png", picture())}, "data": {"purpose": "vision"}}
        assert_refused(client.post("/v1/files", **form), 429, "disk is full")
        assert client.get("/v1/files").json()["data"] == []
        assert list(tmp_path.glob("*.partial")) == []
        assert reply_text(server.chat())


def post(body: bytes) -> bytes:
    lines = (f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n" + body


def leave_and_wait(server: LiveServer, content: bytes) -> None:
    """Send bytes, leave, and wait until the request has been given up."""
    connection = raw_connection(server, content)
    while server.get("/ready").json()["requests_in_flight"] == 0:
        continue
    connection.close()
    while server.get("/ready").json()["requests_in_flight"] > 0:
        continue


class WaitingEncoder(DyingEncoder):
    """An encoder that waits until the test lets it go."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go = threading.Event()

    def encode(self, batch: Sequence[torch.Tensor]) -> list[Embedding]:
        assert self.may_go.wait(20)
        return [_unit_row() for _ in batch]


def test_a_client_that_leaves_while_its_picture_is_encoded_frees_everything() -> None:
    encoder = WaitingEncoder()

    def build(settings: Settings) -> Service:
        return connect_service(settings, replace(load_tiny(torch.float32), encoders={Modality.IMAGE: encoder}))

    body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": PICTURE}], "max_tokens": 4}).encode()
    with live_server(build, max_slots=1, max_queue=0) as server:
        try:
            leave_and_wait(server, post(body))
        finally:
            encoder.may_go.set()
        assert reply_text(server.chat())


def test_a_client_that_leaves_the_queue_frees_its_place() -> None:
    with live_server(max_slots=1, max_queue=1) as server, server.stream(max_tokens=LONG) as running:
        next(running)
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}).encode()
        connection = raw_connection(server, post(body))
        while server.get("/ready").json()["queue_length"] == 0:
            continue
        assert_refused(server.chat(), 429)
        connection.close()
        while server.get("/ready").json()["queue_length"] > 0:
            continue
        assert server.get("/ready").json()["requests_in_flight"] == 1


def test_a_stop_under_load_loses_no_request_that_was_accepted() -> None:
    with live_server(drain_timeout_s=60, max_slots=2, max_queue=64) as server, ThreadPoolExecutor(12) as clients:
        answers = [clients.submit(server.chat, PICTURE, max_tokens=60) for _ in range(12)]
        while server.get("/ready").json()["requests_in_flight"] < 12:
            continue
        server.stop()
        assert [answer.result(60).status_code for answer in answers] == [200] * 12


def test_a_stopping_server_says_so_before_it_closes() -> None:
    with live_server(drain_timeout_s=60) as server, server.client() as kept, server.stream(max_tokens=LONG) as lines:
        next(lines)
        assert kept.get("/ready").status_code == 200
        server.stop()
        try:
            assert_refused(kept.get("/ready"), 503, "stopping")
        except httpx.TransportError:  # its idle connection was closed first, which says the same
            assert server.context.draining
        *_, last = stream_frames(lines)
        assert last == "[DONE]"


def test_what_runs_past_the_drain_ends_with_an_answer() -> None:
    encoder = WaitingEncoder()

    def build(settings: Settings) -> Service:
        return connect_service(settings, replace(load_tiny(torch.float32), encoders={Modality.IMAGE: encoder}))

    with live_server(build, drain_timeout_s=0.1) as server, ThreadPoolExecutor(2) as clients:
        body = {"model": "tiny", "input": [PICTURE[1:]]}
        with server.client() as client:
            chat = clients.submit(server.chat, PICTURE)
            embedding = clients.submit(client.post, "/v1/embeddings", json=body)
            while server.get("/ready").json()["requests_in_flight"] < 1:
                continue
            server.stop()
            try:
                assert_refused(chat.result(20), 503, "stopping")
                assert_refused(embedding.result(20), 503, "stopping")
            finally:
                encoder.may_go.set()
