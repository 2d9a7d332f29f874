"""A server's life: loading, overload, disconnects, faults, draining; and what it leaves in log and metrics."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from core.errors import CheckpointError
from core.types import DecodedMedia, Embedding, Modality
from models.tiny import load_tiny
from server.context import Service
from server.settings import Settings
from server.wiring import build_service, connect_service
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


def samples(server: LiveServer) -> dict[str, float]:
    """Return every metric by name and labels, as `name{route}`."""
    families = text_string_to_metric_families(server.get("/metrics").text)
    rows = [sample for family in families for sample in family.samples]
    return {f"{row.name}{{{','.join(value for _, value in sorted(row.labels.items()))}}}": row.value for row in rows}


def raw_request(server: LiveServer, body: bytes, *, declared: int | None = None) -> socket.socket:
    """Send a chat request over a bare socket, whose end is in the test's hand."""
    head = (
        f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {declared or len(body)}\r\n\r\n"
    )
    return raw_connection(server, head.encode() + body)


def test_while_the_model_loads_the_server_is_healthy_but_not_ready() -> None:
    may_load = threading.Event()

    def slow_build(settings: Settings) -> Service:
        assert may_load.wait(20)
        return build_service(settings)

    with live_server(slow_build, wait=False) as server:
        assert server.get("/health").json() == {"status": "loading"}
        assert_refused(server.get("/ready"), 503, "loading")
        assert_refused(server.get("/v1/models"), 503, "loading")
        refused = server.chat()
        assert_refused(refused, 503, "loading")
        assert refused.headers["retry-after"]
        may_load.set()
        server.events.wait_for("model_ready")
        assert reply_text(server.chat())
        assert server.get("/ready").json()["status"] == "ready"
        assert server.get("/health").json() == {"status": "ok"}


def test_a_model_that_cannot_load_is_reported_without_details() -> None:
    def broken_build(settings: Settings) -> Service:
        raise CheckpointError("weights.bin misses layer 3")

    with live_server(broken_build) as server:
        assert_refused(server.get("/ready"), 503, "the log says why")
        assert server.get("/health").status_code == 503
        assert "layer 3" not in server.chat().text
        assert "layer 3" in server.events.wait_for("load_failed")["error"]


class FaultyEncoder:
    """An encoder with a bug."""

    encoder_id = "faulty"
    modality = Modality.IMAGE

    def preprocess(self, media: DecodedMedia) -> torch.Tensor:
        return torch.zeros(1)

    def encode(self, batch: Sequence[torch.Tensor]) -> list[Embedding]:
        raise RuntimeError("secret detail of the fault")


def build_with_faulty_encoder(settings: Settings) -> Service:
    return connect_service(settings, replace(load_tiny(torch.float32), encoders={Modality.IMAGE: FaultyEncoder()}))


def test_a_fault_of_ours_is_a_500_whose_details_are_in_the_log_only() -> None:
    with live_server(build_with_faulty_encoder) as server:
        answer = server.chat([{"type": "text", "text": "?"}, image_part(picture())])
        assert_refused(answer, 500, "log")
        assert "secret" not in answer.text
        server.events.wait_for("request_failed", request_id=answer.headers["x-request-id"])
        assert reply_text(server.chat("the server lives"))


def test_a_full_server_refuses_with_a_time_to_come_back() -> None:
    with live_server(max_slots=1, max_queue=0) as server, server.stream(max_tokens=LONG) as lines:
        next(lines)
        refused = server.chat()
        assert_refused(refused, 429, "in flight")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["type"] == "overloaded_error"


def test_leaving_a_stream_frees_its_slot() -> None:
    with live_server(max_slots=1, max_queue=0) as server:
        with server.stream(max_tokens=LONG) as lines:
            next(lines)
        finished = server.events.wait_for("request_finished", route=CHAT)
        assert finished["finish_reasons"] == [None]
        assert server.get("/ready").json()["slots_in_use"] == 0
        assert reply_text(server.chat())


def test_leaving_a_whole_reply_frees_its_slot() -> None:
    with live_server(max_slots=1, max_queue=0) as server:
        connection = raw_request(server, json.dumps(chat_body(max_tokens=LONG)).encode())
        while server.get("/ready").json()["slots_in_use"] == 0:
            continue
        connection.close()
        finished = server.events.wait_for("request_finished", route=CHAT)
        assert (finished["status"], finished["error_code"]) == (499, "client_disconnected")
        assert finished["finish_reasons"] == [None]
        assert server.get("/ready").json()["slots_in_use"] == 0


def test_leaving_in_the_middle_of_the_body_ends_the_request() -> None:
    with live_server() as server:
        raw_request(server, b'{"messages": ', declared=1000).close()
        assert server.events.wait_for("request_finished", route=CHAT)["status"] == 499


def test_a_body_that_never_ends_runs_into_its_deadline() -> None:
    with live_server(body_timeout_s=0.05) as server:
        with raw_request(server, b'{"messages": ', declared=1000) as connection:
            assert connection.recv(4096).startswith(b"HTTP/1.1 504")
        assert reply_text(server.chat())


def test_a_reply_that_takes_too_long_runs_into_its_deadline() -> None:
    with live_server(request_timeout_s=0.001) as server:
        assert_refused(server.chat(max_tokens=LONG), 504, "0.001 s")
        server.wait_until_idle()


def test_a_stream_that_waits_long_starts_and_reports_its_error_in_a_frame() -> None:
    with live_server(first_event_wait_s=1e-9) as server, server.stream("x" * 1500) as lines:
        *_, last = stream_frames(lines)
        assert last["error"]["code"] == "context_length_exceeded"


def test_a_stopping_server_ends_streams_with_an_error_and_no_done() -> None:
    with live_server(drain_timeout_s=0) as server:
        with server.stream(max_tokens=LONG) as lines:
            next(lines)
            server.stop()
            *_, last = stream_frames(lines)
        assert last["error"]["code"] == "not_ready"
        server.events.wait_for("server_stopped")


def test_a_draining_server_lets_replies_finish() -> None:
    with live_server(drain_timeout_s=60) as server:
        with server.stream(max_tokens=200) as lines:
            next(lines)
            server.stop()
            *_, last = stream_frames(lines)
        assert last == "[DONE]"


def test_a_request_id_comes_back_and_a_bad_one_is_refused() -> None:
    with live_server() as server, server.client() as client:
        answer = client.get("/health", headers={"X-Request-ID": "mine-1"})
        assert answer.headers["x-request-id"] == "mine-1"
        assert server.events.wait_for("request_finished", request_id="mine-1")["route"] == "/health"
        assert_refused(client.get("/nowhere", headers={"X-Request-ID": "mine-2"}), 404)
        assert_refused(client.get("/health", headers={"X-Request-ID": "a b"}), 400, "128", param="X-Request-ID")


def test_only_named_web_origins_may_read_answers() -> None:
    with live_server(cors_origins="https://page.example") as server, server.client() as client:
        allowed = client.get("/v1/models", headers={"Origin": "https://page.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://page.example"
        other = client.get("/v1/models", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers


def test_one_finished_line_per_request_tells_counts_and_stages_but_no_words() -> None:
    secret = "the password is swordfish"
    with live_server() as server:
        server.chat([{"type": "text", "text": secret}, image_part(picture())], n=2)
        finished = server.events.wait_for("request_finished", route=CHAT)
        assert finished["num_media"] == 1
        assert finished["completion_tokens"] == 8
        assert finished["finish_reasons"] == ["length", "length"]
        stages = {"read_body", "take_media", "prompt", "embed", "cache", "condition", "first_event", "rest_of_reply"}
        assert set(finished["stages_ms"]) == stages
        assert finished["first_token_ms"] > 0
        assert [line for line in server.events.lines if "swordfish" in line or "base64" in line] == []
        assert sum('"event": "request_finished"' in line for line in server.events.lines) == 1


def test_metrics_count_requests_tokens_and_slots() -> None:
    with live_server() as server:
        server.chat()
        server.chat(n=99)
        server.get("/nowhere")
        rows = samples(server)
    assert rows[f"bindchat_requests_total{{POST,{CHAT},200}}"] == 1
    assert rows[f"bindchat_requests_total{{POST,{CHAT},400}}"] == 1
    assert rows["bindchat_requests_total{GET,(unmatched),404}"] == 1
    assert rows["bindchat_completion_tokens_total{}"] == 4
    assert rows["bindchat_time_to_first_token_seconds_count{}"] == 1
    assert rows["bindchat_slots_total{}"] == 4
    assert rows["bindchat_ready{}"] == 1
    assert rows["bindchat_requests_in_flight{}"] == 1  # this very scrape


def test_metrics_tell_every_stage_of_a_chat_with_a_picture() -> None:
    with live_server() as server:
        server.chat([{"type": "text", "text": "?"}, image_part(picture())])
        server.chat(n=99)
        rows = samples(server)
    for stage in ("media_decode", "preprocess", "encode"):
        assert rows[f"bindchat_{stage}_seconds_count{{image}}"] == 1
    assert rows["bindchat_media_bytes_total{image}"] == len(picture())
    assert rows["bindchat_inter_token_seconds_count{}"] == 3
    assert rows["bindchat_rejects_total{invalid_request}"] == 1
    assert rows["bindchat_kv_cache_tokens_total{}"] > 0
    assert rows["bindchat_kv_cache_tokens_in_use{}"] == 0
    assert [value for name, value in rows.items() if name.startswith("bindchat_build_info")] == [1]


def children_of(pid: int) -> list[int]:
    """Return the processes that one started, from the table of all processes."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):  # ended between the two lines
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    return [child for child, parent in parents.items() if parent == pid]


def test_metrics_tell_the_memory_of_the_processes_that_decode_media() -> None:
    with live_server() as server:
        server.chat([{"type": "text", "text": "?"}, image_part(picture())])
        told = samples(server)["bindchat_subprocess_resident_memory_bytes{media_decoder}"]
        decoders = [
            pid for pid in children_of(os.getpid()) if b"media.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in decoders)
    assert decoders
    assert told == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.1)


def test_every_reference_of_the_api_description_leads_somewhere() -> None:
    with live_server() as server:
        text = server.get("/openapi.json").text
    references = re.findall(r'"\$ref":"#/([^"]+)"', text)
    assert references
    for reference in references:
        node = json.loads(text)
        for step in reference.split("/"):
            node = node[step.replace("~1", "/")]


def test_the_echo_backend_repeats_the_prompt_through_the_same_door() -> None:
    with live_server(backend="echo") as server:
        text = reply_text(server.chat("polly wants a cracker", max_tokens=60))
    assert "polly wants a cracker" in text


def test_the_service_tells_where_its_model_runs_and_how_large_it_is() -> None:
    facts = build_service(Settings(model="tiny", dtype="float32")).facts
    assert facts.device == "cpu"
    expected = sum(parameter.numel() for parameter in load_tiny(torch.float32).decoder.parameters())
    packed = build_service(Settings(model="tiny", dtype="bfloat16")).facts
    assert facts.num_parameters == packed.num_parameters == expected
