"""What the README and docs do with curl, done with curl: forms for chat, embeddings and files."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.live_server import CHAT, LiveServer, image_part, live_server, picture, reply_text


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(files_dir=tmp_path_factory.mktemp("files")) as running:
        yield running


def curl(server: LiveServer, path: str, *options: str) -> Any:
    command = ["curl", "--silent", "--show-error", "--fail-with-body", f"{server.url}{path}", *options]
    return json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)


def test_a_form_is_the_json_that_means_the_same(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture())
    fields = ("-F", "prompt=what is this?", "-F", "max_tokens=6", "-F", "temperature=0", "-F", "ignore_eos=true")
    answer = curl(server, CHAT, *fields, "-F", f"image=@{tmp_path / 'a.png'}")
    parts = [{"type": "text", "text": "what is this?"}, image_part(picture())]
    assert answer["choices"][0]["message"]["content"] == reply_text(server.chat(parts, max_tokens=6))
    assert answer["usage"]["prompt_tokens_details"]["media"] == {"items": 1, "seconds": 0.0, "frames": 1, "points": 0}


def test_a_file_is_uploaded_and_embedded(server: LiveServer, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(picture())
    stored = curl(server, "/v1/files", "-F", "purpose=vision", "-F", f"file=@{path}")
    assert stored["bytes"] == len(picture())
    embedded = curl(server, "/v1/embeddings", "-F", f"image=@{path}", "-F", "dimensions=4")
    assert len(embedded["data"][0]["embedding"]) == 4


@pytest.mark.anyio
async def test_the_asynchronous_client_chats_whole_and_streamed(server: LiveServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        fields: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
        whole = await client.chat.completions.create(**fields, max_tokens=6)
        stream: Any = await client.chat.completions.create(
            **fields, max_tokens=6, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    streamed = chunks[-1].usage
    assert streamed is not None and whole.usage is not None
    assert streamed.prompt_tokens == whole.usage.prompt_tokens  # of which the second call finds some kept
    assert streamed.completion_tokens == whole.usage.completion_tokens
