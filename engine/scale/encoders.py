"""`MediumEncoder` over the encoder replicas of a Ray Serve application."""

from __future__ import annotations

from collections.abc import Mapping

from core.telemetry import EventLog
from core.types import MediaBlob, Modality, ModalityEncoder
from engine.encoding.medium import Decode, MediumEncoding
from engine.encoding.runner import find_encoder
from engine.scale.backend import ENCODERS, deployment
from engine.scale.calls import Handle, RetryingCaller


def remote_encoder(encoders: Mapping[Modality, ModalityEncoder]) -> RemoteEncoder:
    """Return the encoder of an ingress replica. Raises `ConfigError` outside of one."""
    return RemoteEncoder(deployment(ENCODERS), encoders, EventLog("engine"))


class RemoteEncoder:
    """Send the bytes of a medium to the replica that its digest belongs to, which decodes, encodes and remembers it.

    So the memos of the replicas are parts of one, and the same medium sent to two ingress replicas at once is encoded
    once. `encoders` give the names.
    """

    def __init__(self, handle: Handle, encoders: Mapping[Modality, ModalityEncoder], log: EventLog) -> None:
        self._caller = RetryingCaller(handle, log)
        self._encoders = encoders

    async def start(self) -> None:
        """The replicas run by themselves."""

    async def stop(self) -> None:
        """The replicas go on for others."""

    def encoder_id(self, modality: Modality) -> str:
        return find_encoder(self._encoders, modality).encoder_id

    async def encode(self, blob: MediaBlob, tenant: str, decode: Decode | None = None) -> MediumEncoding:
        """Raises what the replica's encoder raises, and `EngineFault` when replicas were lost with the medium."""
        encoded: MediumEncoding = await self._caller.result("encode", blob, tenant, key=blob.sha256)
        return encoded
