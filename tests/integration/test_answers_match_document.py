"""Real answers of every endpoint against our own OpenAPI document, streams included."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.support.listening import Listening, build_listening
from tests.support.live_server import CHAT, image_file, image_part, live_server, picture, stream_frames
from tests.support.tiny_gallery import write_gallery

COMPLETIONS, RESPONSES, FILES, ITEMS = "/v1/completions", "/v1/responses", "/v1/files", "/v1/cache/items"
HELLO = [{"role": "user", "content": "hello"}]
SEEN = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, image_part(picture())]}]
PAINT = {"type": "function", "function": {"name": "paint", "parameters": {"type": "object", "properties": {}}}}
SHORT = {"max_tokens": 3, "ignore_eos": True}


class CheckedClient:
    """Call endpoints and hold every answer against the document of the server itself."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._document = client.get("/openapi.json").json()
        self.expected = {
            (method, path)
            for path, operations in self._document["paths"].items()
            for method, operation in operations.items()
            if "application/json" in operation["responses"]["200"]["content"]
        }
        self.checked: set[tuple[str, str]] = set()

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Return the decoded body of a success, after checking it."""
        answer = self._client.request(method, path, **options)
        assert answer.status_code == 200, answer.text
        key, success = self._operation(method, answer.request.url.path)
        self.checked.add(key)
        if answer.headers["content-type"].startswith("text/event-stream"):
            frames = [frame for frame in stream_frames(iter(answer.text.splitlines())) if frame != "[DONE]"]
            assert frames
            for frame in frames:
                self._check(frame, success["text/event-stream"]["schema"])
            return frames
        self._check(answer.json(), success["application/json"]["schema"])
        return answer.json()

    def _operation(self, method: str, path: str) -> tuple[tuple[str, str], dict[str, Any]]:
        paths = sorted(self._document["paths"], key=lambda known: known.count("{"))
        known = next(p for p in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", p), path))
        return (method, known), self._document["paths"][known][method]["responses"]["200"]["content"]

    def _check(self, body: Any, schema: dict[str, Any]) -> None:
        whole = {**self._document, **schema} if "$ref" in schema else {**schema, "paths": self._document["paths"]}
        jsonschema.Draft202012Validator(whole).validate(body)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[CheckedClient]:
    indexes = {"things": write_gallery(tmp_path / "things")}
    build = build_listening(Listening())
    with live_server(build, files_dir=tmp_path / "files", cache_indexes=indexes) as server, server.client() as opened:
        yield CheckedClient(opened)


def chats(client: CheckedClient) -> None:
    stored = client.call("post", CHAT, json={"messages": SEEN, "store": True, "metadata": {"a": "b"}, **SHORT})["id"]
    cache = {"index": "things"}
    traced = {
        "messages": SEEN,
        "bind": {"trace": True, "cache": cache, "experts": ["caption"]},
        "logprobs": True,
        "top_logprobs": 2,
        **SHORT,
    }
    called = {"messages": HELLO, "tools": [PAINT], "tool_choice": "required", "max_tokens": 60}
    for body in (traced, called):
        client.call("post", CHAT, json=body)
        client.call("post", CHAT, json={**body, "stream": True, "stream_options": {"include_usage": True}})
    client.call("get", CHAT)
    client.call("get", f"{CHAT}/{stored}")
    client.call("get", f"{CHAT}/{stored}/messages")
    client.call("post", f"{CHAT}/{stored}", json={"metadata": None})
    client.call("delete", f"{CHAT}/{stored}")


def completions_and_tokens(client: CheckedClient) -> None:
    body = {"prompt": ["hello", "red"], "logprobs": 2, **SHORT}
    client.call("post", COMPLETIONS, json=body)
    client.call("post", COMPLETIONS, json={**body, "stream": True})
    tokens = client.call("post", "/tokenize", json={"prompt": "hello"})["tokens"]
    client.call("post", "/detokenize", json={"tokens": tokens})


def responses(client: CheckedClient) -> None:
    asked = {"input": "hello", "max_output_tokens": 3, "include": ["message.output_text.logprobs"], "top_logprobs": 1}
    made = client.call("post", RESPONSES, json=asked)["id"]
    tool = {"type": "function", **PAINT["function"]}  # type: ignore[dict-item]
    client.call("post", RESPONSES, json={"input": "hello", "tools": [tool], "tool_choice": "required", "stream": True})
    told = client.call("post", RESPONSES, json={**asked, "background": True, "stream": True})
    background = told[0]["response"]["id"]
    client.call("get", f"{RESPONSES}/{background}?stream=true")
    client.call("post", f"{RESPONSES}/{background}/cancel")
    client.call("get", f"{RESPONSES}/{made}")
    client.call("get", f"{RESPONSES}/{made}/input_items")
    client.call("delete", f"{RESPONSES}/{made}")


def joint_space(client: CheckedClient) -> None:
    part = image_part(picture())
    for encoding_format in ("float", "base64"):
        client.call("post", "/v1/embeddings", json={"input": [[part]], "encoding_format": encoding_format})
    other = image_part(picture((1, 2, 3)))
    client.call("post", "/v1/rerank", json={"query": [part], "documents": [[part], [other]]})
    client.call("post", "/v1/classify", json={"input": [part], "labels": ["red", "blue"]})
    client.call("post", "/v1/cache/search", json={"input": [part], "index": "things"})
    added = client.call("post", ITEMS, json={"index": "things", "items": [{"input": [part], "label": "x"}]})
    client.call("get", f"{ITEMS}?index=things")
    client.call("delete", f"{ITEMS}/{added['data'][0]['id']}?index=things")
    client.call("delete", f"{ITEMS}?index=things&ids=0&ids=1")
    client.call("post", "/v1/cache/reload")
    client.call("get", "/v1/cache/stats")


def files_and_batches(client: CheckedClient) -> None:
    line = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"messages": HELLO, **SHORT}}
    form: Any = {"files": {"file": ("lines.jsonl", json.dumps(line).encode())}, "data": {"purpose": "batch"}}
    file = client.call("post", FILES, **form)["id"]
    asked = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    batch = client.call("post", "/v1/batches", json=asked)["id"]
    client.call("get", "/v1/batches")
    client.call("get", f"/v1/batches/{batch}")
    client.call("post", f"/v1/batches/{batch}/cancel")
    client.call("get", FILES)
    client.call("get", f"{FILES}/{file}")
    client.call("delete", f"{FILES}/{file}")


def server_itself(client: CheckedClient) -> None:
    model = client.call("get", "/v1/models")["data"][0]["id"]
    client.call("get", f"/v1/models/{model}")
    for path in ("/health", "/ready", "/health/generate", "/version"):
        client.call("get", path)


def test_every_endpoint_answers_as_the_document_says(client: CheckedClient) -> None:
    for calls in (chats, completions_and_tokens, responses, joint_space, files_and_batches, server_itself):
        calls(client)
    assert client.checked == client.expected


def test_a_form_is_answered_as_the_document_says(client: CheckedClient) -> None:
    parts = [("prompt", (None, "what?")), ("max_tokens", (None, "3")), image_file(picture())]
    assert client.call("post", CHAT, files=parts)["object"] == "chat.completion"
