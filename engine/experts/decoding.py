"""Decode and encode each medium of one request once, for its experts and for its encoder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from core.types import DecodedMedia, MediaBlob, Modality
from engine.encoding.medium import Decode, MediaDecoder, MediumEncoding
from engine.encoding.sharing import SharedWork
from media.limits import DecodeOptions

EncodeDecoded = Callable[[MediaBlob, Decode], Awaitable[MediumEncoding]]
READING_OPTIONS = replace(DecodeOptions(), min_side_px=2000)
"""Pixels that small print needs; encoders need fewer, so a large picture is decoded twice."""


class RequestDecoding:
    """The decoded media of one request; `read_by_experts` are those that experts will ask for in detail.

    `encode` encodes what a decoder that it is given has decoded.
    """

    def __init__(self, decoder: MediaDecoder, encode: EncodeDecoded, read_by_experts: Iterable[MediaBlob]) -> None:
        self._decoder, self._encode = decoder, encode
        self._for_experts = {_key(blob) for blob in read_by_experts}
        self._running: SharedWork[DecodedMedia] = SharedWork()
        self._done: dict[tuple[str, ...], DecodedMedia] = {}
        self._for_encoder: dict[tuple[str, ...], DecodedMedia] = {}
        self._encoding: SharedWork[MediumEncoding] = SharedWork()
        self._encoded: dict[tuple[str, ...], MediumEncoding] = {}

    async def for_expert(self, blob: MediaBlob) -> DecodedMedia:
        """Return a medium at the size experts read. Raises what decoding raises."""
        key = _key(blob)
        if key not in self._done:
            options = READING_OPTIONS if blob.modality is Modality.IMAGE else None
            self._done[key] = await self._running.run(key, lambda: self._decoder.decode(blob, options))
        return self._done[key]

    async def for_encoder(self, blob: MediaBlob) -> DecodedMedia:
        """Return exactly what the encoder gets without experts; from the same decoding where that is the same array."""
        key = _key(blob)
        if key not in self._for_encoder:
            decoded = self._running.run(("for encoder", *key), lambda: self._decode_for_encoder(blob))
            self._for_encoder[key] = await decoded
        return self._for_encoder[key]

    async def encode(self, blob: MediaBlob) -> MediumEncoding:
        """Return an encoded medium, the request's own or an expert's; for whoever comes second it is remembered."""
        key = _key(blob)
        if key in self._encoded:
            return replace(self._encoded[key], stages_ms={}, from_memo=True)
        is_second = self._encoding.is_running(key)
        encoded = await self._encoding.run(key, lambda: self._encode_once(blob))
        self._encoded[key] = encoded
        return replace(encoded, stages_ms={}, from_memo=True) if is_second else encoded

    async def _encode_once(self, blob: MediaBlob) -> MediumEncoding:
        return await self._encode(blob, self.for_encoder)

    async def _decode_for_encoder(self, blob: MediaBlob) -> DecodedMedia:
        if _key(blob) not in self._for_experts:
            return await self._decoder.decode(blob)
        media = await self.for_expert(blob)
        is_shrunk = blob.modality is Modality.IMAGE and min(media.array.shape[:2]) >= 2 * DecodeOptions().min_side_px
        return await self._decoder.decode(blob) if is_shrunk else media


def _key(blob: MediaBlob) -> tuple[str, ...]:
    return (str(blob.modality), blob.container, blob.sha256, str(blob.sampling))
