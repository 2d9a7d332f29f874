"""What every decoder of the table promises, whatever it decodes."""

from __future__ import annotations

import pytest

from core.errors import MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.registry import Registry
from core.types import Modality
from media.containers import CONTAINERS, DecodeJob, Decoder
from media.limits import DecodeOptions, MediaLimits
from media.sniff import KNOWN

_NOISE = [b"", b"\x00", b"\xff" * 500, bytes(range(256)) * 4, b"RIFF", b"ply\nformat", b"1 2\n", b"{" * 300]


def _decoder(key: str) -> tuple[Decoder, DecodeJob]:
    container, _, modality = key.partition("/")
    job = DecodeJob(
        container=container,
        modality=Modality(modality) if modality else KNOWN[container].modalities[0],
        limits=MediaLimits(),
        options=DecodeOptions(),
    )
    return Registry[Decoder]("container", CONTAINERS).load(key), job


@pytest.mark.parametrize("key", CONTAINERS)
@pytest.mark.parametrize("content", _NOISE, ids=range(len(_NOISE)))
def test_noise_is_refused_with_a_sentence_that_the_client_can_act_on(key: str, content: bytes) -> None:
    decode, job = _decoder(key)
    with pytest.raises((MediaDecodeError, MediaTooLarge, UnsupportedMedia)) as caught:
        decode(content, job)
    assert len(caught.value.message) > 30
    assert "object at 0x" not in caught.value.message


@pytest.mark.parametrize("key", CONTAINERS)
def test_a_decoder_serves_a_modality_that_sniffing_can_give_its_container(key: str) -> None:
    _, job = _decoder(key)
    assert job.modality in KNOWN[job.container].modalities


@pytest.mark.parametrize("container", KNOWN)
def test_every_modality_of_every_known_container_has_a_decoder(container: str) -> None:
    for modality in KNOWN[container].modalities:
        assert container in CONTAINERS or f"{container}/{modality.value}" in CONTAINERS
