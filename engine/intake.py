"""Turn what a client sent into `MediaBlob`s: budgets and format are checked here, nothing is decoded."""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from core.errors import InvalidRequest, MediaDecodeError, MediaFetchError, MediaTooLarge, UnsupportedMedia
from core.telemetry import Measurements
from core.types import MediaBlob, MediaSampling, Modality
from media.animation import pack_frames
from media.fetch import FetchPolicy, RemoteFetcher
from media.limits import DecodeOptions, MediaLimits
from media.sniff import resolve

MAX_WEIGHT = 1000.0
FRAMES_TYPE = "video/jpeg"  # how clients of vLLM send a film: base64 pictures joined by commas in one data URI


class MediaIntake:
    """The one door for media: multipart files, base64, data URIs and, when allowed, remote URLs.

    `param` is the request field that an error names. `declared_type` is a media type or a bare format such as "wav".
    `expected` is what the part takes; None lets the bytes decide.
    """

    def __init__(
        self, limits: MediaLimits, fetcher: RemoteFetcher | None = None, measurements: Measurements | None = None
    ) -> None:
        self.limits = limits
        self._measurements = measurements or Measurements()
        self._fetcher = fetcher or RemoteFetcher(FetchPolicy())

    def from_bytes(
        self, data: bytes, *, declared_type: str | None, expected: Modality | None, weight: float, param: str
    ) -> MediaBlob:
        """Return the blob of one file.

        Raises `MediaTooLarge`, `MediaDecodeError` when empty or not what it is declared as, `UnsupportedMedia` for a
        format or modality the part does not take, and `InvalidRequest` for a weight that is not a finite number
        other than 0.
        """
        _check_weight(weight, param)
        self.limits.check_bytes(len(data), param=param)
        try:
            modality, container = resolve(data, declared_type=declared_type, expected=expected)
        except (MediaDecodeError, UnsupportedMedia) as error:
            raise type(error)(error.message, param=param) from None
        self._measurements.count("media_bytes", len(data), modality=str(modality))
        digest = hashlib.sha256(data).hexdigest()
        return MediaBlob(modality=modality, container=container, data=data, sha256=digest, weight=weight)

    def from_base64(
        self, text: str, *, declared_type: str | None, expected: Modality | None, weight: float, param: str
    ) -> MediaBlob:
        """Return the blob of a base64 text; whitespace is tolerated, any other foreign character is not.

        Raises `InvalidRequest` for malformed base64 and what `from_bytes` raises.
        """
        data = self._unbase64(text, param)
        return self.from_bytes(data, declared_type=declared_type, expected=expected, weight=weight, param=param)

    def from_data_uri(self, uri: str, *, expected: Modality | None, weight: float, param: str) -> MediaBlob:
        """Return the blob of `data:[type][;parameter][;base64],content` (RFC 2397), base64 or percent-encoded.

        Raises `InvalidRequest` for a malformed URI and what `from_bytes` raises.
        """
        header, comma, content = uri.partition(",")
        if not comma or not header[:5].lower() == "data:":
            raise InvalidRequest(
                "the data URI is malformed; write data:image/png;base64,... with a comma before the content",
                param=param,
            )
        declared_type, *parameters = header[5:].split(";")
        if "base64" in (parameter.strip().lower() for parameter in parameters):
            if declared_type.strip().lower() == FRAMES_TYPE and expected in (Modality.VIDEO, None):
                texts = content.split(",")
                self.check_num_frames(len(texts), param=param)
                pictures = [self._unbase64(text, param) for text in texts]
                return self.from_frames(pictures, frames_per_s=1.0, weight=weight, param=param)
            text = content if "%" not in content else unquote_to_bytes(content).decode("ascii", "replace")
            return self.from_base64(text, declared_type=declared_type, expected=expected, weight=weight, param=param)
        self._check_encoded_length(len(content) - 2 * content.count("%"), param)
        data = unquote_to_bytes(content)
        return self.from_bytes(data, declared_type=declared_type, expected=expected, weight=weight, param=param)

    async def from_url(self, url: str, *, expected: Modality | None, weight: float, param: str) -> MediaBlob:
        """Return the blob behind a `data:` URI or, when the fetch policy allows it, an http(s) URL.

        Raises `MediaFetchError` for every other scheme and for a fetch that is refused or fails, and what
        `from_bytes` raises. The type a remote server declares is not held against the bytes: the client did not say it.
        """
        scheme = url.partition(":")[0].strip().lower()
        if scheme == "data":
            return self.from_data_uri(url.strip(), expected=expected, weight=weight, param=param)
        if scheme not in ("http", "https"):
            raise MediaFetchError(f"media come as data: or http(s) URLs, got {url[:40]!r}", param=param)
        try:
            data = await self._fetcher.fetch(url.strip())
        except (MediaFetchError, MediaTooLarge) as error:
            raise type(error)(error.message, param=param) from error
        return self.from_bytes(data, declared_type=None, expected=expected, weight=weight, param=param)

    def from_text(self, text: str, *, weight: float = 1.0, param: str) -> MediaBlob:
        """Return text as a medium of its own, for models that embed text. Raises `InvalidRequest` when it is empty."""
        _check_weight(weight, param)
        if not text.strip():
            raise InvalidRequest(f"{param} is an empty text; write something, or leave it out", param=param)
        content = text.encode()
        digest = hashlib.sha256(content).hexdigest()
        return MediaBlob(modality=Modality.TEXT, container="text", data=content, sha256=digest, weight=weight)

    def from_frames(self, pictures: Sequence[bytes], *, frames_per_s: float, weight: float, param: str) -> MediaBlob:
        """Return the film that encoded pictures make in their order, `frames_per_s` of them a second.

        Raises `MediaTooLarge` for too many or too large ones; what they are is seen when they are decoded.
        """
        self.check_num_frames(len(pictures), param=param)
        packed = pack_frames(pictures, frames_per_s)
        return self.from_bytes(packed, declared_type=None, expected=Modality.VIDEO, weight=weight, param=param)

    def check_num_frames(self, num_frames: int, *, param: str) -> None:
        """Raise `MediaTooLarge` for a list of more pictures than one film may have."""
        if num_frames > self.limits.max_frames:
            raise MediaTooLarge(
                f"{param}: {num_frames} frames; at most {self.limits.max_frames} make one film", param=param
            )

    def with_sampling(self, blob: MediaBlob, sampling: MediaSampling, *, param: str) -> MediaBlob:
        """Return the blob cut and sampled as asked.

        Raises `InvalidRequest` for values that make no stretch, or for a medium that has no length or no frames, and
        `MediaTooLarge` for more frames than the budget.
        """
        takes_frames = blob.modality is Modality.VIDEO
        if not takes_frames and blob.modality is not Modality.AUDIO:
            raise InvalidRequest(f"{param}: start, end, fps and num_frames are for audio and video", param=param)
        if not takes_frames and (sampling.frames_per_s is not None or sampling.num_frames is not None):
            raise InvalidRequest(f"{param}: audio has no frames; remove fps and num_frames", param=param)
        if sampling.frames_per_s is not None and sampling.num_frames is not None:
            raise InvalidRequest(f"{param}: send fps or num_frames, not both", param=param)
        if sampling.num_frames is not None and sampling.num_frames > self.limits.max_frames:
            raise MediaTooLarge(
                f"{param}: num_frames is {sampling.num_frames}; at most {self.limits.max_frames} are taken", param=param
            )
        try:
            DecodeOptions().sampled(sampling)
        except InvalidRequest as error:
            raise InvalidRequest(f"{param}: {error.message}", param=param) from None
        return replace(blob, sampling=sampling)

    def _unbase64(self, text: str, param: str) -> bytes:
        compact = "".join(text.split())
        self._check_encoded_length(len(compact) // 4 * 3, param)
        try:
            return base64.b64decode(compact.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise InvalidRequest(
                f"the medium is not valid base64 ({error}); use the standard alphabet with padding", param=param
            ) from None

    def _check_encoded_length(self, num_bytes: int, param: str) -> None:
        if num_bytes > self.limits.max_bytes + 2:  # padding characters stand for up to two bytes that are not there
            self.limits.check_bytes(num_bytes, param=param)


def _check_weight(weight: float, param: str) -> None:
    if not math.isfinite(weight) or weight == 0 or abs(weight) > MAX_WEIGHT:
        raise InvalidRequest(
            f"weight must be a number other than 0 within ±{MAX_WEIGHT:g}, got {weight}; leave the medium out "
            "instead of weighting it 0",
            param=param,
        )
