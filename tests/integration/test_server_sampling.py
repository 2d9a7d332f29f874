"""Cuts and frame rates of audio and video over HTTP, in content parts and in forms."""

from __future__ import annotations

import base64
import io
import math
import wave
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.support.live_server import LiveServer, assert_refused, data_uri, image_file, live_server, picture, reply_text

RED, BLUE = (220, 20, 20), (20, 20, 220)
FORM = {"prompt": "what is this?", "max_tokens": "12", "temperature": "0", "ignore_eos": "true"}
RATE_HZ = 8000


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def film(*colours: tuple[int, int, int]) -> bytes:
    """Return an animated GIF of half a second per colour, ten frames a second."""
    frames = [Image.new("RGB", (24, 24), colour) for colour in colours for _ in range(5)]
    for number, frame in enumerate(frames):
        frame.putpixel((number, 0), (255, 255, 255))  # equal frames would be merged
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


def sound(*tones_hz: int) -> bytes:
    """Return a WAV of one second per tone."""
    file = io.BytesIO()
    with wave.open(file, "wb") as target:
        target.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        for tone_hz in tones_hz:
            angles = (2 * math.pi * tone_hz * position / RATE_HZ for position in range(RATE_HZ))
            levels = (int(10 * tone_hz * math.sin(angle)) + 5 * tone_hz for angle in angles)
            target.writeframes(b"".join(level.to_bytes(2, "little", signed=True) for level in levels))
    return file.getvalue()


def video_part(content: bytes, **controls: Any) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": data_uri(content, "image/gif")}, **controls}


def audio_part(content: bytes, **controls: Any) -> dict[str, Any]:
    source = {"data": base64.b64encode(content).decode(), "format": "wav"}
    return {"type": "input_audio", "input_audio": source, **controls}


def reply(server: LiveServer, part: dict[str, Any]) -> str:
    return reply_text(server.chat([{"type": "text", "text": "what is this?"}, part], max_tokens=12))


def test_a_cut_film_is_the_film_of_that_stretch(server: LiveServer) -> None:
    whole = reply(server, video_part(film(RED, BLUE)))
    assert reply(server, video_part(film(RED, BLUE), end=0.5)) == reply(server, video_part(film(RED))) != whole
    late = reply(server, video_part(film(RED, BLUE), start=0.5))
    assert late not in {whole, reply(server, video_part(film(RED)))}


def test_the_number_of_frames_and_their_rate_are_obeyed(server: LiveServer) -> None:
    first_only = reply(server, video_part(film(RED), num_frames=1))
    assert reply(server, video_part(film(RED, BLUE), num_frames=1)) == first_only
    two = reply(server, video_part(film(RED, BLUE), fps=2.0))
    assert two != reply(server, video_part(film(RED, BLUE)))


def test_a_cut_sound_is_the_sound_of_that_stretch(server: LiveServer) -> None:
    whole = reply(server, audio_part(sound(200, 900)))
    assert reply(server, audio_part(sound(200, 900), end=1.0)) == reply(server, audio_part(sound(200))) != whole
    assert reply(server, audio_part(sound(200, 900), start=1.0)) == reply(server, audio_part(sound(900)))


def test_a_form_cuts_its_one_film(server: LiveServer) -> None:
    file = image_file(film(RED, BLUE), "video", "image/gif")
    whole = server.upload(FORM, file)
    cut = server.upload({**FORM, "start": "0", "end": "0.5"}, file, image_file(picture(BLUE)))
    parts = [video_part(film(RED, BLUE), end=0.5), {"type": "image_url", "image_url": {"url": data_uri(picture(BLUE))}}]
    as_json = server.chat([{"type": "text", "text": "what is this?"}, *parts], max_tokens=12)
    assert reply_text(cut) == reply_text(as_json) != reply_text(whole)


@pytest.mark.parametrize(
    ("controls", "status", "word"),
    [
        ({"start": 2.0, "end": 1.0}, 400, "end must be after start"),
        ({"start": -1.0}, 400, "start"),
        ({"fps": 61.0}, 400, "fps"),
        ({"num_frames": 0}, 400, "num_frames"),
        ({"num_frames": 65}, 413, "at most 64"),
        ({"fps": 1.0, "num_frames": 2}, 400, "not both"),
        ({"start": 90.0}, 422, "no frame between start and end"),
    ],
)
def test_a_stretch_that_cannot_be_is_refused(
    server: LiveServer, controls: dict[str, Any], status: int, word: str
) -> None:
    assert_refused(server.chat([video_part(film(RED), **controls)]), status, word)


def test_only_media_with_a_length_are_cut_and_only_films_have_frames(server: LiveServer) -> None:
    assert_refused(server.chat([audio_part(sound(200), fps=1.0)]), 400, "audio has no frames")
    picture_part = {"type": "image_url", "image_url": {"url": data_uri(picture())}, "start": 1.0}
    assert_refused(server.chat([picture_part]), 400, "start")


def test_a_form_whose_cut_has_no_one_place_to_go_is_refused(server: LiveServer) -> None:
    video = image_file(film(RED), "video", "image/gif")
    assert_refused(server.upload({**FORM, "end": "0.2"}), 400, "end", param="end")
    assert_refused(server.upload({**FORM, "end": "0.2"}, image_file(picture())), 400, "it has 0")
    assert_refused(server.upload({**FORM, "end": "0.2"}, video, video), 400, "it has 2")
    assert_refused(server.upload({**FORM, "fps": "fast"}, video), 400, "fps", param="fps")
