"""The Files API over HTTP, and chats and embeddings that name a file."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.live_server import (
    MODEL,
    LiveServer,
    assert_refused,
    image_part,
    live_server,
    picture,
    reply_text,
)

RED, BLUE = (220, 20, 20), (20, 20, 220)
PATH = "/v1/files"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served") / "files"


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[LiveServer]:
    keys = ("one", "two")
    with live_server(files_dir=folder, api_keys=keys, max_upload_bytes=50_000, max_media_bytes=20_000) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="one", max_retries=0) as opened:
        yield opened


def send(server: LiveServer, method: str, path: str, key: str = "one", **options: Any) -> httpx.Response:
    with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
        return client.request(method, path, **options)


def upload(server: LiveServer, content: bytes, *, name: str = "a.png", **fields: str) -> httpx.Response:
    texts = [(field, (None, value)) for field, value in {"purpose": "vision", **fields}.items()]
    return send(server, "POST", PATH, files=[*texts, ("file", (name, content))])


def ask(server: LiveServer, part: dict[str, Any], key: str = "one") -> httpx.Response:
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, part]}],
        "max_tokens": 12,
        "temperature": 0,
        "ignore_eos": True,
    }
    return send(server, "POST", "/v1/chat/completions", key, json=body)


def test_the_official_client_keeps_reads_lists_and_deletes(client: openai.OpenAI) -> None:
    content = picture(RED)
    made = client.files.create(
        file=("red.png", content), purpose="vision", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert (made.bytes, made.filename, made.purpose, made.status) == (len(content), "red.png", "vision", "processed")
    assert made.expires_at == made.created_at + 3600
    assert client.files.retrieve(made.id) == made
    assert client.files.content(made.id).read() == content
    assert made.id in [file.id for file in client.files.list()]
    assert client.files.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=made.id):
        client.files.retrieve(made.id)


def test_the_official_client_walks_through_the_pages(client: openai.OpenAI) -> None:
    made = [client.files.create(file=(f"{i}.jsonl", b"{}"), purpose="batch").id for i in range(5)]
    listed = [file.id for file in client.files.list(limit=2, order="asc", purpose="batch")]
    assert listed == made
    assert [file.id for file in client.files.list(limit=2, purpose="batch")] == made[::-1]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"file_id": "ID"}},
        {"type": "file", "file": {"file_id": "ID"}},
    ],
)
def test_a_chat_sees_the_picture_behind_an_id(server: LiveServer, part: dict[str, Any]) -> None:
    file_id = upload(server, picture(RED)).json()["id"]
    field = part["type"]
    named = {**part, field: {"file_id": file_id}}
    assert reply_text(ask(server, named)) == reply_text(ask(server, image_part(picture(RED))))
    assert reply_text(ask(server, named)) != reply_text(ask(server, image_part(picture(BLUE))))


def test_an_embedding_sees_the_picture_behind_an_id(server: LiveServer) -> None:
    file_id = upload(server, picture(RED)).json()["id"]
    parts = [{"type": "image_url", "image_url": {"file_id": file_id}}, image_part(picture(RED))]
    first, second = send(server, "POST", "/v1/embeddings", json={"input": parts}).json()["data"]
    assert first["embedding"] == second["embedding"]


def test_a_file_belongs_to_the_key_that_sent_it(server: LiveServer) -> None:
    file_id = upload(server, picture(RED)).json()["id"]
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert_refused(send(server, method, f"{PATH}/{file_id}{path}", "two"), 404, file_id)
    assert send(server, "GET", PATH, "two").json()["data"] == []
    part = {"type": "image_url", "image_url": {"file_id": file_id}}
    assert_refused(ask(server, part, "two"), 404, file_id, param="messages[0].content[1]")
    assert_refused(send(server, "GET", PATH, "three"), 401)


def test_content_is_never_shown_by_a_browser_and_names_are_never_paths(server: LiveServer, folder: Path) -> None:
    made = upload(server, b"<script>", name="../../../evil.html").json()
    assert made["filename"] == "../../../evil.html"
    answer = send(server, "GET", f"{PATH}/{made['id']}/content")
    assert answer.content == b"<script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "evil" not in answer.headers["content-disposition"]
    assert not list(folder.parent.parent.rglob("*evil*"))
    for path in ("..%2F..%2Fevil.html", "%2Fetc%2Fpasswd", "file-0"):
        assert_refused(send(server, "GET", f"{PATH}/{path}"), 404)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "fun"}, "purpose"),
        ({"purpose": "fine-tune"}, "purpose"),
        ({"surprise": "1"}, "surprise"),
        ({"expires_after[anchor]": "created_at"}, "expires_after"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "5"}, "expires_after"),
        ({"expires_after[anchor]": "last_used_at", "expires_after[seconds]": "3600"}, "expires_after"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_kept(
    server: LiveServer, folder: Path, fields: dict[str, str], param: str
) -> None:
    before = sorted(folder.glob("*.content"))
    assert_refused(upload(server, b"x", **fields), 400, param, param=param)
    assert sorted(folder.glob("*.content")) == before
    assert not list(folder.glob("*.partial"))


def test_a_form_without_its_file_is_refused(server: LiveServer) -> None:
    assert_refused(send(server, "POST", PATH, files={"purpose": (None, "vision")}), 400, "file", param="file")
    assert_refused(send(server, "POST", PATH, files={"image": ("a", b"x")}), 400, "image", param="image")
    assert_refused(send(server, "POST", PATH, json={}), 415, "multipart")
    twice = [("file", ("a", b"x")), ("file", ("b", b"x")), ("purpose", (None, "vision"))]
    assert_refused(send(server, "POST", PATH, files=twice), 413, "at most 1")


def test_a_file_over_the_limit_is_refused_and_leaves_nothing(server: LiveServer, folder: Path) -> None:
    assert_refused(upload(server, b"x" * 50_001), 413, "50000", param="file")
    assert_refused(upload(server, b"x" * 500_000), 413, "larger than")
    assert not list(folder.glob("*.partial"))


def test_a_file_too_large_for_a_medium_is_kept_but_not_read(server: LiveServer) -> None:
    file_id = upload(server, picture(RED) + b"\0" * 20_000).json()["id"]
    answer = ask(server, {"type": "image_url", "image_url": {"file_id": file_id}})
    assert_refused(answer, 413, "at most 20000", param="messages[0].content[1]")


def test_a_part_takes_a_file_or_its_content_and_not_both(server: LiveServer) -> None:
    source = {"file_id": "file-0", "data": base64.b64encode(b"x").decode(), "format": "wav"}
    assert_refused(ask(server, {"type": "input_audio", "input_audio": source}), 400, "either data or file_id")


def test_the_quota_of_a_key_is_named(tmp_path: Path) -> None:
    with live_server(files_dir=tmp_path, max_files=1) as server:
        assert upload(server, b"x").status_code == 200
        assert_refused(upload(server, b"x"), 413, "1 files are kept")


def test_files_are_still_there_after_a_restart(tmp_path: Path) -> None:
    with live_server(files_dir=tmp_path) as server:
        file_id = upload(server, picture(RED)).json()["id"]
    with live_server(files_dir=tmp_path) as server:
        assert send(server, "GET", f"{PATH}/{file_id}/content").content == picture(RED)


def test_a_server_without_a_folder_keeps_no_files() -> None:
    with live_server() as server:
        assert_refused(upload(server, b"x"), 404, "files_dir")
        assert_refused(ask(server, {"type": "file", "file": {"file_id": "file-1"}}), 400, "keeps no files")
