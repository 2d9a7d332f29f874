"""Budgets for media and the choices a decoder may make; all checked when built."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

from core.errors import ConfigError, InvalidRequest, MediaTooLarge
from core.types import MediaSampling

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaLimits:
    """What one medium, one request and one decoder process may use. Every number is positive."""

    max_bytes: int = 32 * MIB  # one medium, undecoded
    max_body_bytes: int = 64 * MIB  # one request
    max_parts: int = 16  # media in one request
    max_pixels: int = 64_000_000  # width * height of one picture or frame, from its header
    max_decoded_bytes: int = 256 * MIB  # one decoded array
    max_frames: int = 64  # frames sampled from one video
    max_seconds: int = 600  # one audio or video
    max_points: int = 2_000_000  # points or mesh vertices of one file
    max_worker_bytes: int = 1536 * MIB  # address space of one decoder process
    decode_timeout_s: float = 20.0  # wall clock of one decode

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"media limit {field.name} must be positive, got {value}", param=field.name)

    def check_bytes(self, num_bytes: int, *, param: str | None = None) -> None:
        """Raise `MediaTooLarge` when one medium holds more than `max_bytes`."""
        if num_bytes > self.max_bytes:
            raise MediaTooLarge(
                f"the medium is {num_bytes} bytes; at most {self.max_bytes} are allowed; send a smaller file",
                param=param,
            )

    def check_pixels(self, width: int, height: int) -> None:
        """Raise `MediaTooLarge` when a picture or frame is over `max_pixels`."""
        if width * height > self.max_pixels:
            raise MediaTooLarge(
                f"the picture is {width} x {height} pixels; at most {self.max_pixels} are allowed; scale it down"
            )

    def check_points(self, num_points: int) -> None:
        """Raise `MediaTooLarge` when a shape has more than `max_points` points or faces."""
        if num_points > self.max_points:
            raise MediaTooLarge(
                f"the shape has {num_points} or more points or faces; at most {self.max_points} are allowed"
            )

    def check_decoded_bytes(self, num_bytes: int) -> None:
        """Raise `MediaTooLarge` when a decoded array would be over `max_decoded_bytes`."""
        if num_bytes > self.max_decoded_bytes:
            raise MediaTooLarge(
                f"the medium decodes to {num_bytes} bytes; at most {self.max_decoded_bytes} are allowed; "
                "send a smaller or shorter one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """How a medium becomes an array.

    `alpha` "white" lays a transparent picture over white, as people see it on a page: the hidden colour under
    transparent pixels is often black or noise. "drop" is `Image.convert("RGB")`, as the ImageBind reference does.
    `apply_orientation` turns a photo as its EXIF tag says; the reference ignores the tag.
    `min_side_px` lets a decoder shrink a picture by a whole factor while both sides stay at least that long; 0 keeps
    every pixel, as the reference does.
    `start_s` and `end_s` cut audio and video; `frames_per_s` or `num_frames` say how video is sampled.
    """

    alpha: Literal["white", "drop"] = "white"
    apply_orientation: bool = True
    min_side_px: int = 512
    start_s: float = 0.0
    end_s: float | None = None
    frames_per_s: float | None = None
    num_frames: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.start_s < float("inf"):
            raise InvalidRequest(f"start must be 0 or more seconds, got {self.start_s}", param="start")
        if self.end_s is not None and not self.start_s < self.end_s < float("inf"):
            raise InvalidRequest(f"end must be after start ({self.start_s} s), got {self.end_s}", param="end")
        if self.frames_per_s is not None and not 0 < self.frames_per_s <= 60:
            raise InvalidRequest(f"fps must be in (0, 60], got {self.frames_per_s}", param="fps")
        if self.num_frames is not None and self.num_frames < 1:
            raise InvalidRequest(f"num_frames must be at least 1, got {self.num_frames}", param="num_frames")

    def sampled(self, sampling: MediaSampling | None) -> DecodeOptions:
        """Return these options with what a request asks for one medium. Raises `InvalidRequest`."""
        asked = {} if sampling is None else {k: v for k, v in asdict(sampling).items() if v is not None}
        return replace(self, **asked)


REFERENCE_OPTIONS = DecodeOptions(alpha="drop", apply_orientation=False, min_side_px=0)
"""Pixels exactly as the ImageBind reference reads them."""
