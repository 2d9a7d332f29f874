"""`store: true`: chats that are kept, listed, read, labelled and deleted with the official client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.live_server import (
    MODEL,
    LiveServer,
    assert_refused,
    image_file,
    image_part,
    live_server,
    picture,
    reply_text,
)

KEYS = ("first-key-0123456789", "second-key-0123456789")
GREEDY: Any = {"model": MODEL, "temperature": 0, "max_tokens": 4, "extra_body": {"ignore_eos": True}}
HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with opened(server) as client:
        yield client


def opened(server: LiveServer, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_a_stored_chat_is_read_labelled_and_deleted(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    made = chat.create(messages=HELLO, store=True, metadata={"job": "7"}, user="ada", seed=3, **GREEDY)
    kept: Any = chat.retrieve(made.id)
    assert (kept.choices, kept.usage, kept.created) == (made.choices, made.usage, made.created)
    assert (kept.metadata, kept.input_user, kept.seed, kept.temperature) == ({"job": "7"}, "ada", 3, 0)
    updated: Any = chat.update(made.id, metadata={"job": "8"})
    assert updated.metadata == {"job": "8"}
    assert chat.retrieve(made.id) == updated
    assert chat.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=made.id):
        chat.retrieve(made.id)


def test_a_streamed_chat_is_stored_as_the_whole_one_is(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    whole = chat.create(messages=HELLO, store=True, **GREEDY)
    chunks = list(chat.create(messages=HELLO, store=True, stream=True, **GREEDY))
    assert chat.retrieve(chunks[0].id).choices == chat.retrieve(whole.id).choices


def test_lists_go_by_pages_and_keep_what_carries_the_metadata(client: openai.OpenAI) -> None:
    chat = client.chat.completions
    made = [chat.create(messages=HELLO, store=True, metadata={"of": name}, **GREEDY).id for name in "abab"]
    assert [kept.id for kept in chat.list(limit=1, metadata={"of": "a"})] == made[::2]
    assert [kept.id for kept in chat.list(metadata={"of": "b"}, order="desc")] == made[3::-2]
    assert [kept.id for kept in chat.list(after=made[1], limit=2).data] == made[2:]
    assert list(chat.list(model="another")) == []
    assert list(chat.list(metadata={"of": "c"})) == []


def test_a_chat_that_did_not_ask_is_not_kept(client: openai.OpenAI) -> None:
    for store in (False, None):
        made = client.chat.completions.create(messages=HELLO, store=store, **GREEDY)
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.retrieve(made.id)


def test_the_messages_are_listed_with_their_parts(client: openai.OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "what is this?"}, image_part(picture())]
    messages: Any = [HELLO[0], {"role": "user", "content": parts}]
    made = client.chat.completions.create(messages=messages, store=True, **GREEDY)
    rows: list[Any] = list(client.chat.completions.messages.list(made.id, limit=1))
    assert [(row.id, row.role, row.content) for row in rows] == [
        (f"{made.id}-0", "system", "Be brief."),
        (f"{made.id}-1", "user", "what is this?"),
    ]
    assert rows[0].content_parts is None
    assert [part.to_dict() for part in rows[1].content_parts] == parts


def test_the_files_of_a_form_are_kept_as_parts_that_mean_the_same(server: LiveServer) -> None:
    form = {"prompt": "what is this?", "temperature": "0", "max_tokens": "4", "store": "true", "image_weight": "0.5"}
    first = server.upload(form, image_file(picture()))
    rows = server.get(f"/v1/chat/completions/{first.json()['id']}/messages").json()["data"]
    assert [part["type"] for part in rows[0]["content_parts"]] == ["text", "image_url"]
    again = server.chat(rows[0]["content_parts"], ignore_eos=False)
    assert reply_text(again) == reply_text(first)


def test_stored_chats_outlive_the_server_and_belong_to_their_key(tmp_path: Path) -> None:
    options: dict[str, Any] = {"files_dir": tmp_path, "api_keys": KEYS}
    with live_server(**options) as server, opened(server, KEYS[0]) as client:
        made = client.chat.completions.create(messages=HELLO, store=True, **GREEDY)
    with live_server(**options) as server, opened(server, KEYS[0]) as client, opened(server, KEYS[1]) as other:
        assert client.chat.completions.retrieve(made.id).choices == made.choices
        assert list(other.chat.completions.list()) == []
        with pytest.raises(openai.NotFoundError):
            other.chat.completions.messages.list(made.id)


def test_a_wrong_question_is_named(server: LiveServer) -> None:
    assert_refused(server.get("/v1/chat/completions?colour=red"), 400, "colour", param="colour")
    assert_refused(server.get("/v1/chat/completions?after=nothing"), 404, "nothing")
    assert_refused(server.get("/v1/chat/completions?limit=0"), 400, "limit")
