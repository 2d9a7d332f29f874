"""Bytes on a bare socket: slow, endless, lying or half-closed. Each costs one connection and nothing more."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.support.live_server import CHAT, LiveServer, chat_body, live_server, raw_connection, reply_text

START = b"HTTP/1.1 "


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(
        head_timeout_s=0.2, max_head_bytes=8192, body_timeout_s=0.3, max_body_bytes=100_000, max_connections=8
    ) as running:
        yield running


@pytest.fixture(autouse=True)
def _server_survives(server: LiveServer) -> Iterator[None]:
    yield
    assert reply_text(server.chat())
    server.wait_until_idle()


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the server closes; a reset is a close."""
    content = b""
    with closing(connection):
        try:
            while chunk := connection.recv(65536):
                content += chunk
        except ConnectionResetError:
            return content
    return content


def post(body: bytes, *headers: str, length: str | None = None) -> bytes:
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    lines += [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer_of(content: bytes) -> tuple[int, str]:
    """Return the status and the error code of the one answer."""
    assert content.startswith(START), content
    assert content.count(START) == 1
    return int(content.split()[1]), json.loads(content.partition(b"\r\n\r\n")[2])["error"]["code"]


def test_a_head_that_never_ends_runs_into_its_deadline(server: LiveServer) -> None:
    connection = raw_connection(server, b"GET /health HTTP/1.1\r\nHost: loc")
    assert answer_of(read_all(connection)) == (504, "deadline_exceeded")


def test_a_connection_that_says_nothing_is_closed(server: LiveServer) -> None:
    assert read_all(raw_connection(server, b"")) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n",
        b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 9000,
        b"GET / HTTP/1.1\r\n" + b"X-Many: 1\r\n" * 900,
    ],
    ids=["line", "header", "headers"],
)
def test_a_head_without_bounds_is_refused_by_its_size(server: LiveServer, head: bytes) -> None:
    assert answer_of(read_all(raw_connection(server, head))) == (400, "head_too_large")


@pytest.mark.parametrize(
    "content",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        post(b"{}", length="-1"),
        post(b"{}", length="two"),
        post(b"{}", length="99999999999999999999999"),
        post(b"{}", "Content-Length: 7"),
        post(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["tls", "noise", "version", "space", "negative", "word", "huge", "two lengths", "both framings", "chunk size"],
)
def test_what_is_not_http_is_refused_or_closed(server: LiveServer, content: bytes) -> None:
    answer = read_all(raw_connection(server, content))
    assert len(answer) < 4096
    if answer:
        status, _ = answer_of(answer)
        assert 400 <= status < 500


def test_a_length_that_promises_too_much_runs_into_the_deadline(server: LiveServer) -> None:
    answer = read_all(raw_connection(server, post(b'{"messages": ', length="90000")))
    assert answer_of(answer) == (504, "deadline_exceeded")


def test_a_length_that_is_over_the_limit_is_refused_before_the_body(server: LiveServer) -> None:
    with closing(raw_connection(server, post(b"", length="200000"))) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_without_end_is_refused_at_the_limit(server: LiveServer) -> None:
    head = b"\r\n".join(post(b"").split(b"\r\n")[:3]) + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    with closing(raw_connection(server, head + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * 8)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_trickles_runs_into_the_deadline(server: LiveServer) -> None:
    with closing(raw_connection(server, post(b"{", length="5000"))) as connection:
        connection.settimeout(0.01)
        answer = b""
        while not answer:
            try:
                connection.sendall(b" ")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 504")


def test_a_half_closed_socket_frees_its_slot(server: LiveServer) -> None:
    body = json.dumps(chat_body(max_tokens=900, stream=True)).encode()
    connection = raw_connection(server, post(body))
    connection.shutdown(socket.SHUT_WR)
    read_all(connection)
    server.wait_until_idle()
    assert server.get("/ready").json()["requests_in_flight"] == 0


def test_connections_beyond_the_limit_are_closed_and_the_others_served(server: LiveServer) -> None:
    held = [raw_connection(server, b"") for _ in range(12)]
    closed = [connection for connection in held if connection.recv(1) == b""]
    assert len(closed) == 12  # the last four at once, the others when they have said nothing for too long
    refused = [line for line in server.events.lines if "connection_refused" in line]
    assert len(refused) >= 4
    for connection in held:
        connection.close()


def test_a_request_hidden_behind_another_is_answered_on_its_own(server: LiveServer) -> None:
    first = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = read_all(raw_connection(server, first + second))
    assert [piece[:3] for piece in answer.split(START)[1:]] == [b"200", b"404"]
