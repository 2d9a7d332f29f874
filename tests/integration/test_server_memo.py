"""The memo of embeddings through the front door: a medium sent again is neither decoded nor encoded."""

from __future__ import annotations

import io
import threading
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from models.tiny import TinyEncoder
from tests.support.live_server import LiveServer, chat_body, image_part, live_server, picture, reply_text

MEMO = "x-bindchat-memo"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def photo(number: int) -> bytes:
    return picture((number, 200 - number, 90))


def lookups(server: LiveServer) -> dict[str, float]:
    lines = server.get("/metrics").text.splitlines()
    rows = [line.rpartition(" ") for line in lines if line.startswith("bindchat_memo_lookups_total")]
    return {name.split('"')[1]: float(value) for name, _, value in rows}


def test_the_second_time_a_picture_is_not_decoded_and_the_answer_is_the_same(server: LiveServer) -> None:
    first = server.chat([image_part(photo(1))], bind={"trace": True})
    again = server.chat([image_part(photo(1), weight=2.0)], bind={"trace": True})
    assert (first.headers[MEMO], again.headers[MEMO]) == ("miss", "hit")
    assert reply_text(first) == reply_text(again)
    (before,), (after,) = first.json()["bind"]["media"], again.json()["bind"]["media"]
    assert before["stages_ms"].keys() == {"decode", "encode"}
    assert (after["stages_ms"], after["from_memo"], after["weight"]) == ({}, True, 2.0)
    assert after["sampled"] == before["sampled"]


def test_some_known_and_some_new_media_are_a_partial_hit(server: LiveServer) -> None:
    server.chat([image_part(photo(2))])
    assert server.chat([image_part(photo(2)), image_part(photo(3))]).headers[MEMO] == "partial"
    assert server.chat([image_part(photo(2)), image_part(photo(3))]).headers[MEMO] == "hit"


def test_a_stream_and_embeddings_say_it_too_and_text_does_not(server: LiveServer) -> None:
    server.chat([image_part(photo(4))])
    with server.client() as client:
        body = chat_body([image_part(photo(4))], stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            assert answer.headers[MEMO] == "hit"
        assert client.post("/v1/embeddings", json={"input": [image_part(photo(4))]}).headers[MEMO] == "hit"
        two = {"input": [image_part(photo(4)), image_part(photo(5))]}
        assert client.post("/v1/embeddings", json=two).headers[MEMO] == "partial"
    assert MEMO not in server.chat("only words").headers


def test_the_same_bytes_cut_otherwise_are_another_medium(server: LiveServer) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(range(256)) * 125)
    form = [("prompt", (None, "listen")), ("model", (None, "tiny")), ("max_tokens", (None, "2"))]
    part = ("audio", ("a.wav", file.getvalue(), "audio/wav"))
    cut = [*form, ("start", (None, "0.5")), part]
    found = [server.post(files=parts).headers[MEMO] for parts in ([*form, part], cut, cut)]
    assert found == ["miss", "miss", "hit"]


def test_the_hit_rate_is_in_the_metrics(server: LiveServer) -> None:
    before = lookups(server)
    for _ in range(3):
        server.chat([image_part(photo(6))])
    after = lookups(server)
    assert (after["hit"] - before["hit"], after["miss"] - before["miss"]) == (2, 1)


def test_one_client_never_learns_what_another_has_sent() -> None:
    with live_server(api_keys=("alice", "bob")) as server:

        def ask(key: str) -> httpx.Response:
            with server.client(headers={"Authorization": f"Bearer {key}"}) as client:
                return client.post("/v1/chat/completions", json=chat_body([image_part(photo(7))]))

        assert [ask(key).headers[MEMO] for key in ("alice", "bob", "alice", "bob")] == ["miss", "miss", "hit", "hit"]


def test_a_server_without_a_memo_remembers_nothing_and_says_nothing() -> None:
    with live_server(max_memo_bytes=0) as server:
        answers = [server.chat([image_part(photo(8))], bind={"trace": True}) for _ in range(2)]
    assert all(MEMO not in answer.headers for answer in answers)
    assert answers[1].json()["bind"]["media"][0]["from_memo"] is None


def test_twins_that_come_together_are_encoded_once(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, arrived, opened = [], threading.Event(), threading.Event()
    encode = TinyEncoder.encode

    def slow(self: TinyEncoder, batch: list[object]) -> object:
        rows.extend(batch)
        arrived.set()
        assert opened.wait(20)
        return encode(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(TinyEncoder, "encode", slow)
    known = lookups(server)["miss"]
    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(server.chat, [image_part(photo(9))]) for _ in range(4)]
        assert arrived.wait(20)
        while lookups(server)["miss"] < known + 4:  # all four have asked
            continue
        opened.set()
        found = sorted(answer.result().headers[MEMO] for answer in answers)
    assert (found, len(rows)) == (["hit", "hit", "hit", "miss"], 1)
