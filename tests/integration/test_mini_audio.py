"""Sounds through real HTTP: containers, rates, lengths, and what a hostile file gets."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from models.mini.audio_files import load_audio_encoder
from tests.support.heard_sounds import CODECS, noise, sample_sound, siren, sound_file, wav_header
from tests.support.live_server import LiveServer, live_server

PATIENCE_S = 300  # a hang, on a machine that is busy with other work
ASKED = {"prompt": "What do you hear?", "temperature": "0", "max_tokens": "12"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(model="mini", audio_encoder="tower") as running:
        yield running


def ask(server: LiveServer, content: bytes, name: str = "sound.wav") -> httpx.Response:
    with server.client() as client:
        return client.post("/v1/chat/completions", data=ASKED, files={"audio": (name, content)}, timeout=PATIENCE_S)


def embedding_of(server: LiveServer, content: bytes, container: str) -> Any:
    source = {"data": base64.b64encode(content).decode(), "format": container}
    body = {"model": "mini", "input": [[{"type": "input_audio", "input_audio": source}]]}
    with server.client() as client:
        reply = client.post("/v1/embeddings", json=body, timeout=PATIENCE_S)
    assert reply.status_code == 200, reply.text
    return np.array(reply.json()["data"][0]["embedding"], dtype=np.float32)


@pytest.mark.parametrize("container", CODECS)
def test_every_container_is_answered_and_heard_alike(server: LiveServer, container: str) -> None:
    content = sound_file(sample_sound("two_dogs.ogg").array, 48000, container)
    reply = ask(server, content, f"sound.{container}")
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"].strip()
    encoder = load_audio_encoder("tower")
    similar = encoder.name_vectors @ embedding_of(server, content, container)
    assert encoder.names[int(similar.argmax())] == "dog"


@pytest.mark.parametrize(
    ("rate_hz", "channels", "seconds"), [(8000, 1, 0.2), (44100, 2, 3), (96000, 6, 1), (16000, 1, 600)]
)
def test_any_rate_channel_count_and_length_is_answered(
    server: LiveServer, rate_hz: int, channels: int, seconds: float
) -> None:
    assert ask(server, sound_file(siren(seconds, rate_hz, channels), rate_hz)).status_code == 200


def test_silence_is_answered(server: LiveServer) -> None:
    reply = ask(server, sound_file(np.zeros((1, 48000), np.float32), 16000))
    assert reply.status_code == 200
    assert embedding_of(server, sound_file(np.zeros((1, 48000), np.float32), 16000), "wav").shape == (384,)


@pytest.mark.parametrize(
    ("content", "status", "sentence"),
    [
        (wav_header(16000, 0), 422, "no sound"),
        (wav_header(16000, 32) + bytes(32), 400, "at least 25 ms"),
        (wav_header(2_000_000, 3200) + bytes(3200), 422, "2000000 Hz"),
        (wav_header(0xFFFFFFF0, 3200) + bytes(3200), 422, "damaged"),
        (wav_header(16000, 3200, channels=200) + bytes(3200), 422, "channels"),
        (sound_file(noise(610, 4000), 4000, "flac"), 413, "600 s"),
    ],
    ids=["zero length", "a millisecond", "forged rate", "impossible rate", "forged channels", "longer than allowed"],
)
def test_a_bad_sound_is_refused_with_a_reason(server: LiveServer, content: bytes, status: int, sentence: str) -> None:
    reply = ask(server, content)
    assert reply.status_code == status, reply.text
    assert sentence in json.dumps(reply.json()["error"])


def test_a_header_that_claims_ten_hours_is_not_believed(server: LiveServer) -> None:
    samples = (32767 * siren(1, 16000)[0]).astype("<i2").tobytes()
    assert ask(server, wav_header(16000, 10 * 3600 * 32000) + samples).status_code == 200
