"""`/v1/batches` with the official client: files in and out, errors, cancelling, restarts; and `bindchat batch run`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from typer.testing import CliRunner

from engine.document_store import DocumentQuota, DocumentStore
from server.api_keys import NOBODY, ApiKey, add_key, remove_key
from server.cli import app
from server.context import Service
from server.settings import Settings
from server.wiring import build_service
from tests.support.live_server import LONG, LiveServer, assert_refused, image_part, live_server, picture

CHAT: Any = "/v1/chat/completions"
KEY = "first-key-0123456789"
GREEDY = {"temperature": 0, "max_tokens": 4, "ignore_eos": True}
ENDED = ("completed", "failed", "expired", "cancelled")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(files_dir=tmp_path_factory.mktemp("files")) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with opened(server) as client:
        yield client


def opened(server: LiveServer, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def chat_line(name: str, content: Any = "hello", **fields: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": content}], **GREEDY, **fields}
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": body}


def jsonl(*lines: Any) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def start(client: openai.OpenAI, content: bytes, **fields: Any) -> Any:
    file = client.files.create(file=("lines.jsonl", content), purpose="batch")
    return client.batches.create(**{"endpoint": CHAT, "completion_window": "24h", "input_file_id": file.id, **fields})


def finished(client: openai.OpenAI, batch: Any) -> Any:
    while batch.status not in ENDED:
        batch = client.batches.retrieve(batch.id)
    return batch


def lines_of(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]


def test_every_line_is_answered_as_it_would_be_alone(server: LiveServer, client: openai.OpenAI) -> None:
    question = [{"type": "text", "text": "what is this?"}, image_part(picture())]
    created = start(client, jsonl(chat_line("a"), chat_line("b", question)), metadata={"job": "7"})
    assert (created.status, created.metadata) == ("validating", {"job": "7"})
    batch = finished(client, created)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 2, 0)
    found = {line["custom_id"]: line["response"] for line in lines_of(client, batch.output_file_id)}
    for name, content in (("a", "hello"), ("b", question)):
        alone = server.post(json=chat_line("", content)["body"]).json()
        assert found[name]["status_code"] == 200
        assert found[name]["body"]["choices"] == alone["choices"]
        counts = [usage | {"prompt_tokens_details": None} for usage in (found[name]["body"]["usage"], alone["usage"])]
        assert counts[0] == counts[1]  # the second of two equal prompts may find its keys and values kept
    assert batch.error_file_id is None
    assert batch.id in [listed.id for listed in client.batches.list(limit=1)]


def test_lines_that_fail_go_to_the_error_file(client: openai.OpenAI) -> None:
    wrong = [chat_line("hot", temperature=9), chat_line("flow", stream=True)]
    batch = finished(client, start(client, jsonl(chat_line("fine"), *wrong)))
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 2)
    hot, flow = lines_of(client, batch.error_file_id)
    assert (hot["custom_id"], hot["response"]["status_code"]) == ("hot", 400)
    assert "temperature" in hot["response"]["body"]["error"]["message"]
    assert "stream" in flow["error"]["message"]


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/embeddings", {"input": [image_part(picture())]}),
        ("/v1/responses", {"input": "hello", "max_output_tokens": 4}),
        ("/v1/completions", {"prompt": "hello", "max_tokens": 4}),
    ],
)
def test_other_endpoints_take_batches_too(client: openai.OpenAI, endpoint: Any, body: Any) -> None:
    line = {"custom_id": "x", "method": "POST", "url": endpoint, "body": body}
    batch = finished(client, start(client, jsonl(line), endpoint=endpoint))
    (answer,) = lines_of(client, batch.output_file_id)
    assert answer["response"]["body"]["object"] in {"list", "response", "text_completion"}


@pytest.mark.parametrize(
    ("content", "number", "words"),
    [
        (b"{nonsense\n", 1, "not valid JSON"),
        (jsonl(chat_line("a"), chat_line("a")), 2, "used twice"),
        (jsonl({**chat_line("a"), "url": "/v1/embeddings"}), 1, "endpoint of the batch"),
        (jsonl({**chat_line("a"), "method": "GET"}), 1, "method"),
        (b"\n\n", 1, "0 lines"),
    ],
)
def test_a_file_with_a_wrong_line_fails_as_a_whole_and_says_where(
    client: openai.OpenAI, content: bytes, number: int, words: str
) -> None:
    batch = finished(client, start(client, content))
    assert batch.status == "failed"
    (found,) = batch.errors.data
    assert found.line == number
    assert words in found.message


def test_a_cancelled_batch_ends_with_what_was_answered(client: openai.OpenAI, server: LiveServer) -> None:
    batch = start(client, jsonl(*(chat_line(str(i), max_tokens=LONG) for i in range(30))))
    assert client.batches.cancel(batch.id).status in {"cancelling", "cancelled"}
    batch = finished(client, batch)
    assert batch.status == "cancelled"
    cut = [line for line in lines_of(client, batch.error_file_id) if line["error"]["code"] == "batch_cancelled"]
    assert len(cut) == batch.request_counts.failed > 0
    assert client.batches.cancel(batch.id).status == "cancelled"


def test_a_batch_goes_on_after_a_restart_and_belongs_to_its_key(tmp_path: Path) -> None:
    keys = ("first-key-0123456789", "second-key-0123456789")
    options: dict[str, Any] = {"files_dir": tmp_path, "api_keys": keys, "batch_concurrency": 1}
    content = jsonl(*(chat_line(str(i), max_tokens=100) for i in range(12)))
    with live_server(**options) as server, opened(server, keys[0]) as client:
        batch = start(client, content)
        while batch.request_counts.completed < 2:
            batch = client.batches.retrieve(batch.id)
        assert batch.status == "in_progress"
    with live_server(**options) as server, opened(server, keys[0]) as client, opened(server, keys[1]) as other:
        with pytest.raises(openai.NotFoundError):
            other.batches.retrieve(batch.id)
        batch = finished(client, batch)
        names = [line["custom_id"] for line in lines_of(client, batch.output_file_id)]
    assert (batch.status, names) == ("completed", [str(i) for i in range(12)])


def test_a_batch_whose_window_is_over_expires(tmp_path: Path) -> None:
    with live_server(files_dir=tmp_path, batch_concurrency=1) as server, opened(server) as client:
        batch = start(client, jsonl(*(chat_line(str(i), max_tokens=LONG) for i in range(9))), completion_window="1h")
    store = DocumentStore(tmp_path / "documents.sqlite3", DocumentQuota(max_documents=9, max_bytes=10**6, keep_s=10**6))
    ((owner, stored),) = store.everyone("batch")
    store.put("batch", owner, {**stored, "expires_at": stored["created_at"]})
    store.close()
    with live_server(files_dir=tmp_path) as server, opened(server) as client:
        batch = finished(client, batch)
        codes = {line["error"]["code"] for line in lines_of(client, batch.error_file_id)}
    assert (batch.status, codes) == ("expired", {"batch_expired"})


def test_lines_keep_to_the_limits_of_their_key(tmp_path: Path) -> None:
    options: dict[str, Any] = {"files_dir": tmp_path, "api_keys": (KEY,)}
    with live_server(**options) as server, opened(server, KEY) as client:
        batch = start(client, jsonl(chat_line("a", max_tokens=LONG), chat_line("b")))
    may_load = threading.Event()

    def build(settings: Settings) -> Service:
        assert may_load.wait(60)
        return build_service(settings)

    with live_server(build, wait=False, max_concurrent=1, **options) as server, opened(server, KEY) as client:
        with server.context.throttle.admitted(server.context.keys.find(KEY) or NOBODY):
            may_load.set()
            waits = server.events.wait_for("batch_waits", batch_id=batch.id)
        assert "max_concurrent" in waits["reason"]
        documents = server.context.service().documents
        (name,) = server.context.keys.names
        while documents.get("batch", name, batch.id)["status"] not in ENDED:  # asking over HTTP would count too
            continue
        assert documents.get("batch", name, batch.id)["request_counts"]["completed"] == 2


def test_a_removed_key_ends_what_it_had_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    first = add_key(file, ApiKey(name="team"))
    lines = jsonl(*(chat_line(str(i), max_tokens=LONG) for i in range(3)))
    with live_server(files_dir=tmp_path, api_key_file=file, batch_concurrency=1) as server:
        with opened(server, first) as client:
            batch = start(client, lines)
        remove_key(file, "team")
        server.context.reload_keys()
        documents = server.context.service().documents
        while documents.get("batch", "team", batch.id)["status"] not in ENDED:
            continue
        second = add_key(file, ApiKey(name="team"))
        server.context.reload_keys()
        with opened(server, second) as client:
            errors = lines_of(client, client.batches.retrieve(batch.id).error_file_id)
    assert errors[-1]["error"]["code"] == "invalid_api_key"


def test_what_is_no_batch_is_refused(server: LiveServer, client: openai.OpenAI) -> None:
    picture_id = client.files.create(file=("a.png", picture()), purpose="vision").id
    asked: dict[str, Any] = {"endpoint": CHAT, "completion_window": "24h", "input_file_id": picture_id}

    def post(**changed: Any) -> Any:
        with server.client() as http:
            return http.post("/v1/batches", json={**asked, **changed})

    assert_refused(post(), 400, "purpose", param="input_file_id")
    assert_refused(post(input_file_id="file-x"), 404, "file-x", param="input_file_id")
    assert_refused(post(completion_window="soon"), 400, "completion_window", param="completion_window")
    assert_refused(post(completion_window="200h"), 400, "168h", param="completion_window")
    assert_refused(post(endpoint="/v1/files"), 400, "endpoint", param="endpoint")


def test_the_command_answers_a_file_and_reports_failures(tmp_path: Path) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(jsonl(chat_line("a"), chat_line("b", temperature=9)))
    result = CliRunner().invoke(app, ["batch", "run", str(file), "--out", str(out), "--model", "tiny"])
    assert result.exit_code == 1
    assert "1 of 2 lines" in result.stdout
    (answer,) = map(json.loads, out.read_text().splitlines())
    (error,) = map(json.loads, (tmp_path / "out.errors.jsonl").read_text().splitlines())
    assert (answer["custom_id"], error["custom_id"]) == ("a", "b")
    file.write_bytes(jsonl(chat_line("a")))
    assert CliRunner().invoke(app, ["batch", "run", str(file), "--out", str(out), "--model", "tiny"]).exit_code == 0
    assert not (tmp_path / "out.errors.jsonl").exists()
