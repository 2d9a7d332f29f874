"""Content parts of a message: text, and one class per way to send a medium."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from core.types import MediaSampling, Modality


class EdgeModel(BaseModel):
    """A body read strictly: no coercion, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class RemoteSource(EdgeModel):
    """A data URI, or an https address when fetching is allowed."""

    url: str | None = None
    file_id: str | None = None


class ImageSource(RemoteSource):
    """`detail` says at which resolution to look; this server has one, the low one."""

    detail: Literal["auto", "low"] = "auto"


class InlineSource(EdgeModel):
    """Base64 bytes and the name of their container, or an uploaded file."""

    data: str | None = None
    format: str | None = None
    file_id: str | None = None


class FileSource(EdgeModel):
    """An uploaded file by id, or its bytes as a data URI; the kind is decided from the bytes."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None


class FrameListSource(EdgeModel):
    """Pictures in the order of time that are one film; `fps` is the rate they were taken at."""

    frames: list[RemoteSource] = Field(min_length=1)
    fps: float = Field(1.0, gt=0, le=1000)


class TextPart(EdgeModel):
    """Words."""

    type: Literal["text"]
    text: str


class MediaPart(EdgeModel):
    """What every medium may carry; a negative `weight` subtracts it from the blend."""

    modality: ClassVar[Modality | None] = None
    weight: float = 1.0  # its range is the intake's


class BindTextPart(MediaPart):
    """Text as a medium: it joins the blend of the condition instead of the prompt."""

    modality = Modality.TEXT
    type: Literal["bind_text"]
    text: str


class SourcedPart(MediaPart):
    """A medium whose bytes come from somewhere."""

    @property
    def source(self) -> RemoteSource | InlineSource | FileSource:
        """Return the field that is named like the part's type."""
        field_name: str = self.type  # type: ignore[attr-defined]
        found: RemoteSource | InlineSource | FileSource = getattr(self, field_name)
        return found


class SamplingFields(EdgeModel):
    """Cuts and sampling of a medium that has a length, in seconds and frames per second."""

    fps: float | None = Field(None, gt=0, le=60)
    num_frames: int | None = Field(None, ge=1)
    start: float | None = Field(None, ge=0)
    end: float | None = Field(None, gt=0)

    @property
    def sampling(self) -> MediaSampling | None:
        """Return what was asked for, None when nothing was."""
        asked = MediaSampling(start_s=self.start, end_s=self.end, frames_per_s=self.fps, num_frames=self.num_frames)
        return None if asked == MediaSampling() else asked


class TimedPart(SamplingFields, SourcedPart):
    """A medium that has a length."""


class ImageUrlPart(SourcedPart):
    modality = Modality.IMAGE
    type: Literal["image_url"]
    image_url: ImageSource


class AudioUrlPart(TimedPart):
    modality = Modality.AUDIO
    type: Literal["audio_url"]
    audio_url: RemoteSource


class InputAudioPart(TimedPart):
    modality = Modality.AUDIO
    type: Literal["input_audio"]
    input_audio: InlineSource


class VideoUrlPart(TimedPart):
    modality = Modality.VIDEO
    type: Literal["video_url"]
    video_url: RemoteSource


class VideoFramesPart(SamplingFields, MediaPart):
    modality = Modality.VIDEO
    type: Literal["video_frames"]
    video_frames: FrameListSource


class PointCloudUrlPart(SourcedPart):
    modality = Modality.POINT_CLOUD
    type: Literal["point_cloud_url"]
    point_cloud_url: RemoteSource


class InputPointCloudPart(SourcedPart):
    modality = Modality.POINT_CLOUD
    type: Literal["input_point_cloud"]
    input_point_cloud: InlineSource


class DepthUrlPart(SourcedPart):
    modality = Modality.DEPTH
    type: Literal["depth_url"]
    depth_url: RemoteSource


class ThermalUrlPart(SourcedPart):
    modality = Modality.THERMAL
    type: Literal["thermal_url"]
    thermal_url: RemoteSource


class ImuUrlPart(SourcedPart):
    modality = Modality.IMU
    type: Literal["imu_url"]
    imu_url: RemoteSource


class FilePart(SourcedPart):
    type: Literal["file"]
    file: FileSource


ContentPart = Annotated[
    TextPart
    | BindTextPart
    | ImageUrlPart
    | AudioUrlPart
    | InputAudioPart
    | VideoUrlPart
    | VideoFramesPart
    | PointCloudUrlPart
    | InputPointCloudPart
    | DepthUrlPart
    | ThermalUrlPart
    | ImuUrlPart
    | FilePart,
    Field(discriminator="type"),
]

PART_TYPES = frozenset(
    get_args(part_class.model_fields["type"].annotation)[0] for part_class in get_args(get_args(ContentPart)[0])
)
"""Every `type` a content part may have."""
