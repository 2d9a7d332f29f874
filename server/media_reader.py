"""Take the media of one request in: content parts, files of a form, files uploaded before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from core.errors import InvalidRequest, MediaTooLarge, UnknownName, UnsupportedMedia
from core.types import MediaBlob, Modality
from server.forms import SAMPLING_FIELDS, UploadedFile
from server.schemas.parts import (
    BindTextPart,
    ImageSource,
    ImageUrlPart,
    InlineSource,
    MediaPart,
    RemoteSource,
    SamplingFields,
    SourcedPart,
    VideoFramesPart,
)

if TYPE_CHECKING:
    from engine.intake import MediaIntake

ReadFile = Callable[[str], bytes]
"""Return the content of a file by its id. Raises `UnknownName`; blocks."""


class MediaReader:
    """Turn parts and files into blobs of the modalities that a model takes; `read_file` knows the client's files."""

    def __init__(
        self, intake: MediaIntake, *, model: str, modalities: Sequence[Modality], read_file: ReadFile | None = None
    ) -> None:
        self._intake = intake
        self._model = model
        self._modalities = modalities
        self._read_file = read_file

    def check(self, modality: Modality, *, param: str) -> None:
        """Raise `UnsupportedMedia` that lists what the model takes."""
        if modality in self._modalities:
            return
        lacks = (
            "has no encoder of text; it embeds" if modality is Modality.TEXT else f"does not read {modality}; it reads"
        )
        taken = ", ".join(sorted(str(known) for known in self._modalities)) or "nothing"
        raise UnsupportedMedia(f"model {self._model} {lacks} {taken}", param=param)

    async def part(self, part: MediaPart, *, param: str) -> MediaBlob:
        """Return the blob of a content part. Raises what the intake raises and `UnknownName` for a file."""
        if part.modality is not None:
            self.check(part.modality, param=param)
        blob = await self._blob(part, param)
        self.check(blob.modality, param=param)
        sampling = part.sampling if isinstance(part, SamplingFields) else None
        return blob if sampling is None else self._intake.with_sampling(blob, sampling, param=param)

    async def uploads(self, files: Sequence[UploadedFile]) -> list[MediaBlob]:
        """Return the blobs of a form's files; its one audio or video file is cut and sampled as the form asks."""
        blobs = [await self._upload(file) for file in files]
        sampling = files[0].sampling if files else None
        if sampling is None:
            return blobs
        timed = [place for place, blob in enumerate(blobs) if blob.modality in (Modality.AUDIO, Modality.VIDEO)]
        if len(timed) != 1:
            raise InvalidRequest(
                f"{', '.join(SAMPLING_FIELDS)} of a form belong to its one audio or video file, and it has "
                f"{len(timed)}; send JSON with one content part per file",
                param="messages",
            )
        (place,) = timed
        blobs[place] = self._intake.with_sampling(blobs[place], sampling, param=files[place].field_name)
        return blobs

    async def _blob(self, part: MediaPart, param: str) -> MediaBlob:
        if isinstance(part, BindTextPart):
            return self._intake.from_text(part.text, weight=part.weight, param=param)
        if isinstance(part, VideoFramesPart):
            return await self._film(part, param)
        if isinstance(part, SourcedPart):
            return await self._sourced(part, param)
        raise TypeError(f"no way to read {type(part).__name__}")

    async def _film(self, part: VideoFramesPart, param: str) -> MediaBlob:
        source = part.video_frames
        self._intake.check_num_frames(len(source.frames), param=param)
        pictures = []
        for place, frame in enumerate(source.frames):
            path = f"{param}.video_frames.frames[{place}]"
            as_image = ImageUrlPart(type="image_url", image_url=ImageSource(url=frame.url, file_id=frame.file_id))
            pictures.append((await self._sourced(as_image, path)).data)
        return await asyncio.to_thread(
            self._intake.from_frames, pictures, frames_per_s=source.fps, weight=part.weight, param=param
        )

    async def _sourced(self, part: SourcedPart, param: str) -> MediaBlob:
        source, expected, weight = part.source, part.modality, part.weight
        field = (
            "url" if isinstance(source, RemoteSource) else "data" if isinstance(source, InlineSource) else "file_data"
        )
        content: str | None = getattr(source, field)
        if (content is None) == (source.file_id is None):
            raise InvalidRequest(f"{param} needs either {field} or file_id", param=param)
        if content is None:
            return await self._stored(part, str(source.file_id), param)
        if content[:5].lower() == "data:":
            return await asyncio.to_thread(
                self._intake.from_data_uri, content, expected=expected, weight=weight, param=param
            )
        if isinstance(source, RemoteSource):
            return await self._intake.from_url(content, expected=expected, weight=weight, param=param)
        return await asyncio.to_thread(
            self._intake.from_base64,
            content,
            declared_type=source.format if isinstance(source, InlineSource) else None,
            expected=expected,
            weight=weight,
            param=param,
        )

    async def _stored(self, part: SourcedPart, file_id: str, param: str) -> MediaBlob:
        if self._read_file is None:
            raise InvalidRequest(
                f"{param}: this server keeps no files, so file_id is refused; send the medium inline", param=param
            )
        try:
            content = await asyncio.to_thread(self._read_file, file_id)
        except (UnknownName, MediaTooLarge) as error:
            error.param = param
            raise
        return await asyncio.to_thread(
            self._intake.from_bytes,
            content,
            declared_type=None,
            expected=part.modality,
            weight=part.weight,
            param=param,
        )

    async def _upload(self, file: UploadedFile) -> MediaBlob:
        if file.expected is not None:
            self.check(file.expected, param=file.field_name)
        blob = await self._uploaded(file)
        self.check(blob.modality, param=file.field_name)
        return blob

    async def _uploaded(self, file: UploadedFile) -> MediaBlob:
        if file.expected is Modality.TEXT:
            return self._intake.from_text(file.content.decode(), weight=file.weight, param=file.field_name)
        if file.frames:
            return await asyncio.to_thread(
                self._intake.from_frames,
                file.frames,
                frames_per_s=file.frames_per_s,
                weight=file.weight,
                param=file.field_name,
            )
        return await asyncio.to_thread(
            self._intake.from_bytes,
            file.content,
            declared_type=file.declared_type,
            expected=file.expected,
            weight=file.weight,
            param=file.field_name,
        )
