"""`bind.trace`: the answer says what was sampled, how sure the encoder was, and how long each stage took."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from tests.support.live_server import LiveServer, data_uri, image_part, live_server, picture, stream_frames

STAGES = {"read_body", "take_media", "prompt", "embed", "condition", "first_event"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def test_a_picture_and_a_film_are_described(server: LiveServer) -> None:
    frames = [Image.new("RGB", (24, 16), (place * 20, 0, 0)) for place in range(10)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    film = {"type": "video_url", "video_url": {"url": data_uri(file.getvalue(), "image/gif")}, "num_frames": 3}
    answer = server.chat([image_part(picture(side_px=20), weight=2.0), film], bind={"trace": True}).json()
    still, moving = answer["bind"]["media"]
    assert still["sampled"] == {"width_px": 20, "height_px": 20}
    assert (still["modality"], still["container"], still["weight"]) == ("image", "png", 2.0)
    assert still["confidence"] is None
    assert still["stages_ms"].keys() == {"decode", "encode"}
    assert moving["sampled"]["num_frames"] == 3
    assert (moving["sampled"]["width_px"], moving["sampled"]["height_px"]) == (24, 16)
    assert answer["bind"]["stages_ms"].keys() >= STAGES


def test_text_alone_has_stages_and_no_media(server: LiveServer) -> None:
    bind = server.chat(bind={"trace": True}).json()["bind"]
    assert bind["media"] == []
    assert bind["stages_ms"].keys() >= STAGES


def test_a_stream_tells_it_where_the_choice_ends(server: LiveServer) -> None:
    with server.stream([image_part(picture())], bind={"trace": True}) as lines:
        *chunks, _ = stream_frames(lines)
    last = [chunk for chunk in chunks if chunk["choices"][0]["finish_reason"]]
    assert [chunk for chunk in chunks if "bind" in chunk] == last
    assert last[0]["bind"]["media"][0]["modality"] == "image"


@pytest.mark.parametrize("bind", [None, {}, {"trace": False}, {"scope": "all"}])
def test_nothing_is_told_unless_asked(server: LiveServer, bind: dict[str, object] | None) -> None:
    assert "bind" not in server.chat([image_part(picture())], bind=bind).json()
