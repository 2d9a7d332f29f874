"""The table of decoders: one line per container, or per "container/modality" where one file can be several things.

Sniffing (`media/sniff.py`) may know more containers than are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core.types import DecodedMedia, Modality
from media.limits import DecodeOptions, MediaLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeJob:
    """What a decoder needs besides the bytes."""

    container: str
    modality: Modality
    limits: MediaLimits
    options: DecodeOptions


Decoder = Callable[[bytes, DecodeJob], DecodedMedia]

CONTAINERS: dict[str, str] = {
    "png": "media.image:decode_image",
    "jpeg": "media.image:decode_image",
    "webp": "media.image:decode_image",
    "gif": "media.image:decode_image",
    "bmp": "media.image:decode_image",
    "gif/video": "media.animation:decode_animation",
    "webp/video": "media.animation:decode_animation",
    "png/video": "media.animation:decode_animation",
    "frames/video": "media.animation:decode_frame_list",
    "mp4/video": "media.video:decode_video",
    "mov/video": "media.video:decode_video",
    "webm/video": "media.video:decode_video",
    "mkv/video": "media.video:decode_video",
    "mp4/audio": "media.audio:decode_audio",
    "mov/audio": "media.audio:decode_audio",
    "webm/audio": "media.audio:decode_audio",
    "mkv/audio": "media.audio:decode_audio",
    "m4a": "media.audio:decode_audio",
    "aac": "media.audio:decode_audio",
    "wav": "media.audio:decode_audio",
    "flac": "media.audio:decode_audio",
    "ogg": "media.audio:decode_audio",
    "mp3": "media.audio:decode_audio",
    **dict.fromkeys(
        (f"{container}/point_cloud" for container in ("ply", "pcd", "glb", "obj", "off", "stl", "xyz", "pts", "npy")),
        "media.points:decode_points",
    ),
    **dict.fromkeys(("npy/depth", "npy/thermal", "npy/imu"), "media.array:decode_array"),
}


def decoder_key(table: Mapping[str, str], container: str, modality: Modality) -> str | None:
    """Return the key of a medium's decoder, "container/modality" before "container"; None when there is none."""
    return next((key for key in (f"{container}/{modality.value}", container) if key in table), None)
