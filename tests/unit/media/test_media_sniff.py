"""What a file is, from its bytes."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from core.errors import ConfigError, InvalidRequest, MediaDecodeError, UnsupportedMedia
from core.types import Modality
from media.animation import pack_frames
from media.containers import CONTAINERS
from media.limits import DecodeOptions, MediaLimits
from media.sniff import KNOWN, containers_of, resolve, sniff


def _picture(file_format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, file_format)
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 3), dtype=np.float32))
    return buffer.getvalue()


_EBML = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84"
HEADS = {
    **{name: _picture(name) for name in ("png", "jpeg", "webp", "gif", "bmp")},
    "wav": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "flac": b"fLaC\x00\x00\x00\x22",
    "ogg": b"OggS\x00\x02",
    "mp3": b"\xff\xfb\x90\x64" + bytes(100),
    "aac": b"\xff\xf1\x50\x80" + bytes(100),
    "m4a": b"\x00\x00\x00\x20ftypM4A \x00\x00",
    "mp4": b"\x00\x00\x00\x20ftypisom\x00\x00",
    "mov": b"\x00\x00\x00\x14ftypqt  \x00\x00",
    "webm": _EBML + b"webm",
    "mkv": _EBML + b"matroska",
    "frames": pack_frames([_picture("png")], 1.0),
    "ply": b"ply\nformat ascii 1.0\n",
    "pcd": b"# .PCD v0.7 - Point Cloud Data\n",
    "glb": b"glTF\x02\x00\x00\x00",
    "obj": b"# a cube\no cube\nv 0 0 0\nv 1 0 0\nf 1 2 3\n",
    "off": b"OFF\n3 1 0\n0 0 0\n",
    "stl": bytes(80) + struct.pack("<I", 1) + bytes(50),
    "xyz": b"0.1 0.2 -0.3\n1 2 3\n",
    "pts": b"2\n0.1 0.2 0.3 12 255 0 0\n1 2 3 4 5 6 7\n",
    "npy": _npy(),
}


@pytest.mark.parametrize("container", KNOWN)
def test_every_known_container_is_recognised_from_its_bytes(container: str) -> None:
    assert sniff(HEADS[container]) == container


@pytest.mark.parametrize("container", KNOWN)
def test_every_container_agrees_with_its_own_types_and_names(container: str) -> None:
    for declared in (*KNOWN[container].media_types, container, None, "application/octet-stream", "*/*"):
        _, found = resolve(HEADS[container], declared_type=declared, expected=None)
        assert found == container


def test_every_decoder_in_the_table_has_a_known_container() -> None:
    assert {key.partition("/")[0] for key in CONTAINERS} <= set(KNOWN)


@pytest.mark.parametrize(
    ("head", "container"),
    [
        (b"ID3\x04\x00", "mp3"),
        (b"solid cube\n facet normal", "stl"),
        (b"COFF\n1 2 3\n", "off"),
        (b"1,2,3\n4,5,6\n", "xyz"),
    ],
)
def test_other_spellings_are_recognised(head: bytes, container: str) -> None:
    assert sniff(head) == container


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\x80\x04\x95\x00", "pickle"),
        (b"PK\x03\x04" + bytes(20), "ZIP"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\n  <!DOCTYPE html><html>", "web page"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x1cftypavif", "AVIF"),
        (b"II*\x00\x08", "TIFF"),
        (b"just some words", "no format known here"),
    ],
)
def test_other_files_are_refused_by_name_with_the_allowed_formats(content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMedia, match=name) as caught:
        resolve(content, declared_type=None, expected=Modality.IMAGE)
    assert "png, jpeg, webp" in caught.value.message


def test_a_wrong_declared_type_is_refused_with_both_names() -> None:
    with pytest.raises(UnsupportedMedia, match=r"'audio/wav' but its bytes are jpeg"):
        resolve(HEADS["jpeg"], declared_type="audio/wav; rate=8000", expected=Modality.IMAGE)


def test_the_bytes_decide_which_kind_of_picture_it_is() -> None:
    assert resolve(HEADS["jpeg"], declared_type="image/png", expected=Modality.IMAGE) == (Modality.IMAGE, "jpeg")


def test_noise_declared_as_a_picture_is_undecodable_and_names_the_declaration() -> None:
    with pytest.raises(MediaDecodeError, match="image/png"):
        resolve(b"\x01\x02\x03\x04", declared_type="image/png", expected=Modality.IMAGE)


def test_text_declared_as_text_is_unsupported() -> None:
    with pytest.raises(UnsupportedMedia, match="text/plain"):
        resolve(b"dear diary, today", declared_type="text/plain", expected=Modality.IMAGE)


def test_empty_bytes_are_refused() -> None:
    with pytest.raises(MediaDecodeError, match="empty"):
        resolve(b"", declared_type="image/png", expected=Modality.IMAGE)


def test_a_modality_the_part_does_not_take_is_refused_with_what_it_takes() -> None:
    with pytest.raises(UnsupportedMedia, match=r"takes image but the bytes are wav \(audio\); image comes as png"):
        resolve(HEADS["wav"], declared_type="audio/wav", expected=Modality.IMAGE)


def test_one_container_serves_several_modalities() -> None:
    assert resolve(HEADS["gif"], declared_type=None, expected=None)[0] is Modality.IMAGE
    assert resolve(HEADS["gif"], declared_type=None, expected=Modality.VIDEO)[0] is Modality.VIDEO
    assert resolve(HEADS["mp4"], declared_type="audio/mp4", expected=None)[0] is Modality.AUDIO
    assert resolve(HEADS["png"], declared_type="image/*", expected=Modality.DEPTH)[0] is Modality.DEPTH
    assert "mp4" in containers_of(Modality.AUDIO)


def test_a_limit_that_cannot_work_is_refused_when_built() -> None:
    with pytest.raises(ConfigError, match="max_pixels must be positive"):
        MediaLimits(max_pixels=0)


@pytest.mark.parametrize(
    ("wrong", "param"),
    [({"start_s": -1.0}, "start"), ({"start_s": 2.0, "end_s": 1.0}, "end"), ({"frames_per_s": 0.0}, "fps"),
     ({"num_frames": 0}, "num_frames"), ({"start_s": float("nan")}, "start")],
)  # fmt: skip
def test_a_sampling_option_out_of_range_names_the_request_field(wrong: dict[str, float], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DecodeOptions(**wrong)  # type: ignore[arg-type]
    assert caught.value.param == param
