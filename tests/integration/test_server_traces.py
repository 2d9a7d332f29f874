"""Traces over OTLP to a collector inside the test: a span per request, one per stage, on the client's own trace."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from core.errors import ConfigError
from server.settings import Settings
from server.tracing import RequestTracer
from tests.support.live_server import CHAT, chat_body, image_part, live_server, picture, reply_text

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SEEN = [{"type": "text", "text": "what is this?"}, image_part(picture())]


@contextmanager
def collector() -> Iterator[tuple[str, queue.Queue[Any]]]:
    """Yield the address of an OTLP collector and the spans that it receives."""
    spans: queue.Queue[Any] = queue.Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        spans.put((self.path, span))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", spans
        finally:
            server.shutdown()
            thread.join()


def received(spans: queue.Queue[Any]) -> list[Any]:
    """Return every span of a server that has stopped, which sends what is left."""
    found = []
    while not spans.empty():
        path, span = spans.get()
        assert path == "/v1/traces"
        found.append(span)
    return found


def attributes(span: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


def test_a_chat_is_one_trace_with_a_span_for_each_stage() -> None:
    with collector() as (address, spans):
        with live_server(otlp_endpoint=address) as server, server.client() as client:
            traceparent = f"00-{TRACE_ID}-{PARENT_ID}-01"
            answer = client.post(CHAT, json=chat_body(SEEN), headers={"traceparent": traceparent})
            assert reply_text(answer)
            finished = server.events.wait_for("request_finished", route=CHAT)
            server.get("/ready")
        found = received(spans)
    assert finished["trace_id"] == TRACE_ID
    assert {span.trace_id.hex() for span in found} == {TRACE_ID}  # the probe has no trace
    (root,) = [span for span in found if span.name == f"POST {CHAT}"]
    assert root.parent_span_id.hex() == PARENT_ID
    told = attributes(root)
    assert (told["http.response.status_code"], told["gen_ai.request.model"]) == (200, "tiny")
    assert told["gen_ai.usage.output_tokens"] == 4
    assert told["bindchat.request_id"] == answer.headers["x-request-id"]
    inside = {span.name: span for span in found if span is not root}
    stages = {"read_body", "take_media", "prompt", "embed", "condition", "first_event", "rest_of_reply"}
    assert stages | {"media_decode", "encode"} <= inside.keys()
    assert {span.parent_span_id for span in inside.values()} == {root.span_id}
    for span in inside.values():
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert attributes(inside["encode"])["bindchat.modality"] == "image"


def test_a_refusal_carries_its_code_and_a_share_of_nothing_traces_nothing() -> None:
    with collector() as (address, spans):
        with live_server(otlp_endpoint=address) as server:
            server.chat(temperature=9)
        (root,) = [span for span in received(spans) if span.name == f"POST {CHAT}"]
        with live_server(otlp_endpoint=address, trace_share=0) as server:
            server.chat()
        assert received(spans) == []
    assert attributes(root)["error.type"] == "invalid_request"
    assert attributes(root)["http.response.status_code"] == 400


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigError, match=r"bindchat\[otel\]"):
        RequestTracer(Settings(otlp_endpoint="http://127.0.0.1:1"))


def test_a_server_without_a_collector_never_imports_the_packages() -> None:
    source = (Path(__file__).resolve().parents[2] / "server" / "tracing.py").read_text().splitlines()
    imports = [line for line in source if "import" in line and "opentelemetry" in line]
    assert imports
    assert all(line.startswith("    ") for line in imports)
