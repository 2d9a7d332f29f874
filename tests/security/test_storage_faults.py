"""A disk that is full while requests run, and databases that are damaged when the server starts."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from tests.support.live_server import (
    CHAT,
    LiveServer,
    assert_refused,
    chat_body,
    live_server,
    reply_text,
    stream_frames,
)

DATABASES = ("files.sqlite3", "documents.sqlite3", "batches.sqlite3")


@contextmanager
def full_disk(database: sqlite3.Connection) -> Iterator[None]:
    """Let SQLite find no page for anything new, as on a full disk; its error is the real one."""
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    try:
        yield
    finally:
        database.execute("PRAGMA max_page_count = 1000000")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with live_server(files_dir=tmp_path) as running:
        yield running


LONG_TEXT = "hello " * 120  # more than the free room of a page
METADATA = {str(i): "x" * 512 for i in range(16)}


def test_a_full_disk_refuses_what_was_to_be_kept_and_serves_the_rest(server: LiveServer) -> None:
    documents = server.context.service().documents
    with server.client() as client, full_disk(documents._database):
        response = {"input": LONG_TEXT, "max_output_tokens": 2, "metadata": METADATA}
        assert_refused(client.post("/v1/responses", json=response), 507, "disk is full")
        streamed = client.post("/v1/responses", json={**response, "stream": True}).text.splitlines()
        *_, told, last = stream_frames(iter(streamed))
        assert (told["type"], told["code"]) == ("error", "insufficient_storage")
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        stored = chat_body(LONG_TEXT, store=True, metadata=METADATA)
        assert_refused(client.post(CHAT, json=stored), 507, "disk is full")
        *_, last = stream_frames(iter(client.post(CHAT, json={**stored, "stream": True}).text.splitlines()))
        assert last["error"]["code"] == "insufficient_storage"
        assert reply_text(server.chat())
        assert client.post("/v1/responses", json={**response, "store": False}).status_code == 200
    with server.client() as client:
        assert client.get(CHAT).json()["data"] == []
        assert client.post(CHAT, json=stored).status_code == 200
        assert len(client.get(CHAT).json()["data"]) == 1


def test_a_full_disk_refuses_a_file_whose_row_has_no_room(server: LiveServer, tmp_path: Path) -> None:
    files = server.context.service().files
    assert files is not None
    form: dict[str, Any] = {"files": {"file": ("x" * 200 + ".png", b"x")}, "data": {"purpose": "vision"}}
    with server.client() as client:
        with full_disk(files._database):
            kept = 0
            while (answer := client.post("/v1/files", **form)).status_code == 200:
                kept += 1  # until the last page is full
            assert_refused(answer, 507, "disk is full")
            assert len(client.get("/v1/files").json()["data"]) == len(list(tmp_path.glob("*.content"))) == kept
        assert client.post("/v1/files", **form).status_code == 200


def test_a_batch_waits_for_room_and_loses_no_line(server: LiveServer) -> None:
    journal = server.context.service().journal
    assert journal is not None
    body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 40, "ignore_eos": True}
    lines = [{"custom_id": str(i), "method": "POST", "url": CHAT, "body": body} for i in range(12)]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    with server.client() as client:
        with full_disk(journal._database):
            form: dict[str, Any] = {"files": {"file": ("lines.jsonl", content)}, "data": {"purpose": "batch"}}
            file_id = client.post("/v1/files", **form).json()["id"]
            asked = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
            batch = client.post("/v1/batches", json=asked).json()
            assert "disk is full" in server.events.wait_for("batch_waits", batch_id=batch["id"])["reason"]
            assert client.get(f"/v1/batches/{batch['id']}").json()["status"] == "in_progress"
        while batch["status"] not in ("completed", "failed"):
            batch = client.get(f"/v1/batches/{batch['id']}").json()
        assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
        output = client.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
        assert len({json.loads(line)["custom_id"] for line in output}) == 12


def _overwrite_all(path: Path) -> None:
    path.write_bytes(b"this was a database once " * 400)


def _overwrite_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xa5" * 4096  # the first page, with the schema, stays
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [_overwrite_all, _overwrite_a_page])
@pytest.mark.parametrize("name", DATABASES)
def test_a_damaged_database_is_named_at_start_and_left_for_its_operator(tmp_path: Path, name: str, damage: Any) -> None:
    with live_server(files_dir=tmp_path) as server, server.client() as client:
        client.post("/v1/responses", json={"input": LONG_TEXT, "max_output_tokens": 2, "metadata": METADATA})
    damage(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with live_server(files_dir=tmp_path) as server:
        assert isinstance(server.context.load_error, ConfigError)
        assert name in server.context.load_error.message
        assert "files_dir" in server.context.load_error.message
        assert_refused(server.get("/health"), 503)
        assert_refused(server.chat(), 503, "log")
    assert (tmp_path / name).read_bytes() == before
