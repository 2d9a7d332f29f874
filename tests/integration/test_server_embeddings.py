"""Embeddings over HTTP: every modality the model encodes, blends, texts where there is an encoder of text."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from core.types import FloatArray
from engine.encoding.fusion import fuse
from models.tiny import EMBEDDING_WIDTH
from tests.support.listening import Listening, build_listening
from tests.support.live_server import (
    MODEL,
    LiveServer,
    assert_refused,
    data_uri,
    image_file,
    image_part,
    live_server,
    picture,
)
from tests.support.tiny_engine import TOKENIZER

PATH = "/v1/embeddings"
RED, BLUE = (220, 20, 20), (20, 20, 220)


@pytest.fixture(scope="module")
def adapter() -> Listening:
    return Listening()


@pytest.fixture(scope="module")
def server(adapter: Listening) -> Iterator[LiveServer]:
    with live_server(build_listening(adapter)) as running:
        yield running


@pytest.fixture(scope="module")
def textless() -> Iterator[LiveServer]:
    with live_server(max_inputs=3, max_media_parts=2, max_prompt_chars=50) as running:
        yield running


def embed(server: LiveServer, value: Any, **fields: Any) -> httpx.Response:
    with server.client() as client:
        return client.post(PATH, json={"model": MODEL, "input": value, **fields})


def rows(answer: httpx.Response) -> list[FloatArray]:
    assert answer.status_code == 200, answer.text
    found = [np.array(row["embedding"], dtype=np.float32) for row in answer.json()["data"]]
    assert {row.shape for row in found} == {(EMBEDDING_WIDTH,)}
    return found


def test_the_embedding_of_a_picture_is_the_one_that_conditions_a_chat(server: LiveServer, adapter: Listening) -> None:
    parts = [image_part(picture(RED)), image_part(picture(BLUE), weight=-0.4)]
    (row,) = rows(embed(server, [parts]))
    assert server.chat(parts).status_code == 200
    heard = adapter.heard[-1]
    assert heard is not None
    np.testing.assert_array_equal(row, heard)


def test_parts_alone_get_rows_of_their_own_and_lists_of_parts_are_blended(server: LiveServer) -> None:
    red, blue = rows(embed(server, [image_part(picture(RED)), image_part(picture(BLUE))]))
    (blend,) = rows(embed(server, [[image_part(picture(RED), weight=2.0), image_part(picture(BLUE), weight=-0.5)]]))
    np.testing.assert_allclose(blend, fuse([red, blue], [2.0, -0.5]), atol=1e-6)
    assert not np.allclose(red, blue)


def test_texts_pictures_and_ids_come_back_in_order(server: LiveServer) -> None:
    answer = embed(server, ["a red square", image_part(picture(RED)), TOKENIZER.encode("a blue one")])
    text, red, other = rows(answer)
    assert [row["index"] for row in answer.json()["data"]] == [0, 1, 2]
    np.testing.assert_array_equal(text, rows(embed(server, "a red square"))[0])
    np.testing.assert_array_equal(other, rows(embed(server, TOKENIZER.encode("a blue one")))[0])
    np.testing.assert_array_equal(red, rows(embed(server, image_part(picture(RED))))[0])
    assert answer.json()["usage"]["prompt_tokens"] == len("a red square") + len("a blue one")


def test_text_joins_a_blend(server: LiveServer) -> None:
    text, red = rows(embed(server, ["red", image_part(picture(RED))]))
    (blend,) = rows(embed(server, [[{"type": "text", "text": "red"}, image_part(picture(RED))]]))
    np.testing.assert_allclose(blend, fuse([text, red], [1, 1]), atol=1e-6)


def test_the_official_client_reads_base64_and_floats(server: LiveServer) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        decoded = client.embeddings.create(model=MODEL, input=["one", "two"]).data
        floats = client.embeddings.create(model=MODEL, input=["one", "two"], encoding_format="float").data
    assert [row.embedding for row in decoded] == [row.embedding for row in floats]
    raw = embed(server, "one", encoding_format="base64", dimensions=EMBEDDING_WIDTH).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(raw), "<f4"), np.float32(floats[0].embedding))


def test_fewer_dimensions_are_the_first_ones_at_unit_length(server: LiveServer) -> None:
    (whole,) = rows(embed(server, "one"))
    (row,) = embed(server, "one", dimensions=5).json()["data"]
    np.testing.assert_allclose(row["embedding"], whole[:5] / np.linalg.norm(whole[:5]), atol=1e-6)


def test_a_form_embeds_each_file_after_its_text(server: LiveServer) -> None:
    files = [
        ("input", (None, "red")),
        ("encoding_format", (None, "float")),
        image_file(picture(RED)),
        image_file(picture(BLUE)),
    ]
    with server.client() as client:
        found = rows(client.post(PATH, files=files))
    expected = rows(embed(server, ["red", image_part(picture(RED)), image_part(picture(BLUE))]))
    np.testing.assert_array_equal(found, expected)


def test_a_model_without_an_encoder_of_text_says_what_it_embeds(textless: LiveServer) -> None:
    assert_refused(embed(textless, "words"), 415, "no encoder of text", "image", "audio", param="input[0]")
    assert_refused(embed(textless, [5, 6]), 415, "no encoder of text", param="input[0]")
    assert len(rows(embed(textless, image_part(picture(RED))))) == 1


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "input"),
        ("", "input[0]"),
        ([[]], "input[0]"),
        (3.5, "input[0]"),
        ([True], "input[0][0]"),
        ([5, "a"], "input[0]"),
        ([259], "input[0]"),
        ([{"type": "smell"}], "input[0][0]"),
        ([[{"type": "image_url", "image_url": {"url": 5}}]], "input[0][0].image_url.url"),
        ([[image_part(picture()), image_part(picture(), weight=-1)]], "input"),
    ],
)
def test_an_input_of_another_kind_is_refused_by_its_place(server: LiveServer, value: Any, param: str) -> None:
    assert_refused(embed(server, value), 400, param=param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"dimensions": 17}, "dimensions"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_what_cannot_be_honoured_is_refused(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    assert_refused(embed(server, "a", **fields), 400, param, param=param)


def test_every_limit_is_named(textless: LiveServer) -> None:
    assert_refused(embed(textless, [image_part(picture())] * 4), 400, "at most 3", param="input")
    assert_refused(embed(textless, [image_part(picture())] * 3), 413, "at most 2", param="input")
    assert_refused(embed(textless, "a" * 51), 400, "at most 50", param="input")


def test_media_are_checked_as_in_a_chat(server: LiveServer) -> None:
    broken = {"type": "image_url", "image_url": {"url": data_uri(picture()[:60])}}
    assert_refused(embed(server, [broken]), 422)
    assert_refused(embed(server, [{"type": "imu_url", "imu_url": {"url": data_uri(b"1")}}]), 415, "image")
    assert_refused(embed(server, "a", model="nobody"), 404, "nobody", param="model")
