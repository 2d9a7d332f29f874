"""What joins the condition of a chat: weights, text as a medium, films of single pictures; JSON and forms agree."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from core.types import FloatArray
from engine.encoding.fusion import fuse
from tests.support.listening import Listening, build_listening
from tests.support.live_server import (
    MODEL,
    LiveServer,
    UploadedPart,
    assert_refused,
    data_uri,
    image_file,
    image_part,
    live_server,
    picture,
)
from tests.support.sample_films import film

RED, BLUE, GREEN = (220, 20, 20), (20, 20, 220), (20, 200, 20)


@pytest.fixture(scope="module")
def adapter() -> Listening:
    return Listening()


@pytest.fixture(scope="module")
def server(adapter: Listening, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("blend") / "files"
    with live_server(build_listening(adapter), files_dir=folder) as running:
        yield running


@pytest.fixture(scope="module")
def textless() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def rows(answer: httpx.Response) -> list[FloatArray]:
    assert answer.status_code == 200, answer.text
    return [np.array(row["embedding"], dtype=np.float32) for row in answer.json()["data"]]


def embedded(server: LiveServer, *inputs: Any, **fields: Any) -> list[FloatArray]:
    with server.client() as client:
        return rows(client.post("/v1/embeddings", json={"model": MODEL, "input": list(inputs), **fields}))


def embedded_form(server: LiveServer, *form: tuple[str, Any]) -> list[FloatArray]:
    with server.client() as client:
        return rows(client.post("/v1/embeddings", files=list(form)))


def heard_in_chat(server: LiveServer, adapter: Listening, parts: Any) -> FloatArray:
    assert server.chat([{"type": "text", "text": "what is this?"}, *parts]).status_code == 200
    heard = adapter.heard[-1]
    assert heard is not None
    return heard


def heard_in_form(server: LiveServer, adapter: Listening, *form: UploadedPart | tuple[str, Any]) -> FloatArray:
    answer = server.upload({"prompt": "what is this?", "max_tokens": "4"}, *form)
    assert answer.status_code == 200, answer.text
    heard = adapter.heard[-1]
    assert heard is not None
    return heard


def field(name: str, value: str) -> tuple[str, Any]:
    return (name, (None, value))


def bind_text(text: str, **siblings: Any) -> dict[str, Any]:
    return {"type": "bind_text", "text": text, **siblings}


def sound(seconds: float = 0.5) -> bytes:
    wave_form = (np.sin(np.arange(int(8000 * seconds)) / 5) * 9000).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(wave_form.tobytes())
    return buffer.getvalue()


def small_film() -> bytes:
    return film([np.full((32, 32, 3), level, np.uint8) for level in (30, 120, 220)])


CLOUD = b"0 0 0\n1 0 0\n0 1 0\n0.5 0.5 1\n"
URL_PARTS = {"image": picture(RED), "audio": sound(), "video": small_film(), "point_cloud": CLOUD}


def test_weights_and_text_mean_the_same_in_json_in_a_form_and_in_an_embedding(
    server: LiveServer, adapter: Listening
) -> None:
    parts = [
        image_part(picture(RED), weight=2.0),
        image_part(picture(BLUE), weight=-0.5),
        bind_text("a dog", weight=0.25),
    ]
    form = [
        image_file(picture(RED)),
        image_file(picture(BLUE)),
        field("image_weight", "[2, -0.5]"),
        field("bind_text", "a dog"),
        field("bind_text_weight", "0.25"),
    ]
    red, blue, text = embedded(server, image_part(picture(RED)), image_part(picture(BLUE)), "a dog")
    expected = fuse([red, blue, text], [2.0, -0.5, 0.25])
    np.testing.assert_allclose(heard_in_chat(server, adapter, parts), expected, atol=1e-6)
    np.testing.assert_array_equal(heard_in_form(server, adapter, *form), heard_in_chat(server, adapter, parts))
    np.testing.assert_array_equal(embedded(server, parts)[0], adapter.heard[-1])
    np.testing.assert_array_equal(embedded(server, *parts, blend=True)[0], adapter.heard[-1])
    np.testing.assert_array_equal(embedded_form(server, *form, field("blend", "true"))[0], adapter.heard[-1])


def test_weights_follow_the_order_of_their_own_kind_wherever_they_stand(server: LiveServer, adapter: Listening) -> None:
    repeated = [
        field("image_weight", "3"),
        image_file(picture(RED)),
        ("audio", ("tone", sound(), "audio/wav")),
        image_file(picture(BLUE)),
        field("image_weight", "-1"),
    ]
    first = heard_in_form(server, adapter, *repeated)
    parts = [
        image_part(picture(RED), weight=3.0),
        {"type": "audio_url", "audio_url": {"url": data_uri(sound(), "audio/wav")}},
        image_part(picture(BLUE), weight=-1.0),
    ]
    np.testing.assert_array_equal(first, heard_in_chat(server, adapter, parts))


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ([image_file(picture()), field("image_weight", "[1, 2]")], "image_weight"),
        ([image_file(picture()), field("audio_weight", "1")], "audio_weight"),
        ([image_file(picture()), field("image_weight", "heavy")], "image_weight"),
        ([image_file(picture()), field("image_weight", "true")], "image_weight"),
        ([image_file(picture()), field("image_weight", "0")], "image"),
        ([field("bind_text", " ")], "bind_text"),
        ([image_file(picture()), field("video_frame_fps", "2")], "video_frame_fps"),
        ([image_file(picture(), "video_frame"), field("video_frame_fps", "0")], "video_frame_fps"),
        ([image_file(picture()), field("image_weight", "-1")], "messages"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(server: LiveServer, form: list[Any], param: str) -> None:
    assert_refused(server.upload({"prompt": "hello"}, *form), 400, param=param)


def test_text_alone_conditions_a_reply_and_is_no_part_of_the_prompt(server: LiveServer, adapter: Listening) -> None:
    asked = server.chat([{"type": "text", "text": "what is this?"}])
    bound = server.chat([{"type": "text", "text": "what is this?"}, bind_text("a dog")])
    np.testing.assert_array_equal(adapter.heard[-1], fuse(embedded(server, "a dog"), [1]))
    assert bound.json()["usage"]["prompt_tokens"] == asked.json()["usage"]["prompt_tokens"]


@pytest.mark.parametrize("part", [bind_text(""), bind_text("dog", weight=0.0), {"type": "bind_text"}])
def test_a_text_that_cannot_join_is_refused(server: LiveServer, part: dict[str, Any]) -> None:
    assert_refused(server.chat([{"type": "text", "text": "hello"}, part]), 400)


def test_a_model_without_an_encoder_of_text_refuses_text_as_a_medium(textless: LiveServer) -> None:
    parts = [{"type": "text", "text": "hello"}, bind_text("dog")]
    assert_refused(textless.chat(parts), 415, "no encoder of text", "audio, image", param="messages[0].content[1]")
    form = [image_file(picture()), field("bind_text", "dog")]
    assert_refused(textless.upload({"prompt": "hello"}, *form), 415, "no encoder of text", param="bind_text")


def test_single_pictures_make_one_film_however_they_are_sent(server: LiveServer, adapter: Listening) -> None:
    pictures = [picture(RED), picture(GREEN), picture(BLUE)]
    frames = {"frames": [{"url": data_uri(content)} for content in pictures], "fps": 2.0}
    joined = "data:video/jpeg;base64," + ",".join(data_uri(content).partition(",")[2] for content in pictures)
    as_parts = heard_in_chat(server, adapter, [{"type": "video_frames", "video_frames": frames}])
    as_uri = heard_in_chat(server, adapter, [{"type": "video_url", "video_url": {"url": joined}}])
    form = [*(image_file(content, "video_frame") for content in pictures), field("video_frame_fps", "2")]
    np.testing.assert_array_equal(as_parts, as_uri)
    np.testing.assert_array_equal(as_parts, heard_in_form(server, adapter, *form))
    assert not np.array_equal(as_parts, heard_in_chat(server, adapter, [image_part(picture(RED))]))


def test_the_frames_of_a_list_are_cut_and_told_like_those_of_a_film(server: LiveServer) -> None:
    frames = {"frames": [{"url": data_uri(picture(colour))} for colour in (RED, GREEN, BLUE)], "fps": 2.0}
    part = {"type": "video_frames", "video_frames": frames, "start": 0.5, "num_frames": 2}
    answer = server.chat([{"type": "text", "text": "hello"}, part], bind={"trace": True})
    sampled = answer.json()["bind"]["media"][0]["sampled"]
    assert (sampled["num_frames"], sampled["frame_times_s"]) == (2, [0.5, 1.0])


def test_a_list_of_frames_is_refused_by_the_frame_at_fault(server: LiveServer) -> None:
    def ask(*urls: str) -> httpx.Response:
        frames = {"frames": [{"url": url} for url in urls]}
        return server.chat([{"type": "text", "text": "hello"}, {"type": "video_frames", "video_frames": frames}])

    good = data_uri(picture())
    assert_refused(ask(*[good] * 65), 413, "65 frames", "at most 64")
    assert_refused(
        ask(good, data_uri(sound(), "audio/wav")), 415, param="messages[0].content[1].video_frames.frames[1]"
    )
    assert_refused(ask(good, data_uri(picture()[:50])), 422, "frame 1")
    assert_refused(ask(good, "frame.png"), 422, param="messages[0].content[1].video_frames.frames[1]")


@pytest.mark.parametrize("modality", URL_PARTS)
def test_every_way_to_send_a_medium_gives_the_same_condition(
    server: LiveServer, adapter: Listening, modality: str
) -> None:
    content = URL_PARTS[modality]
    encoded = data_uri(content, "application/octet-stream")
    with server.client() as client:
        upload = client.post("/v1/files", files={"file": ("medium", content)}, data={"purpose": "user_data"})
    file_id = upload.json()["id"]
    kind = f"{modality}_url"
    ways = [
        {"type": kind, kind: {"url": encoded}},
        {"type": kind, kind: {"file_id": file_id}},
    ]
    if modality in ("audio", "point_cloud"):
        inline = f"input_{modality}"
        ways += [
            {"type": inline, inline: {"data": encoded.partition(",")[2]}},
            {"type": inline, inline: {"file_id": file_id}},
        ]
    ways += [
        {"type": "file", "file": {"file_data": encoded}},
        {"type": "file", "file": {"file_data": encoded.partition(",")[2]}},
        {"type": "file", "file": {"file_id": file_id}},
    ]
    heard = [heard_in_chat(server, adapter, [way]) for way in ways]
    heard.append(heard_in_form(server, adapter, (modality, ("medium", content))))
    heard.append(heard_in_form(server, adapter, ("file", ("medium", content))))
    for vector in heard[1:]:
        np.testing.assert_array_equal(vector, heard[0])


@pytest.mark.parametrize("kind", ["depth_url", "thermal_url", "imu_url"])
def test_a_modality_the_model_lacks_is_refused_with_what_it_takes(server: LiveServer, kind: str) -> None:
    part = {"type": kind, kind: {"url": data_uri(picture())}}
    taken = "audio, image, point_cloud, text, video"
    assert_refused(server.chat([{"type": "text", "text": "hello"}, part]), 415, taken, param="messages[0].content[1]")
    name = kind.removesuffix("_url")
    assert_refused(server.upload({"prompt": "hello"}, image_file(picture(), name)), 415, taken, param=name)


def test_the_api_document_knows_every_field_of_a_form(server: LiveServer) -> None:
    document = json.dumps(server.get("/openapi.json").json())
    for name in ("bind_text", "video_frame", "image_weight", "bind_text_weight"):
        assert f'"{name}"' in document
