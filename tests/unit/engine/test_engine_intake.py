"""The one door for media: weights, sizes, data URIs and remote URLs."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from PIL import Image

from core.errors import InvalidRequest, MediaDecodeError, MediaFetchError, MediaTooLarge, UnsupportedMedia
from core.types import Modality
from engine.intake import MediaIntake
from media.fetch import FetchPolicy, RemoteFetcher
from media.limits import MediaLimits


def _png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (1, 2, 3)).save(buffer, "PNG")
    return buffer.getvalue()


PNG = _png()
BASE64 = base64.b64encode(PNG).decode()
PART: dict[str, Any] = {"expected": Modality.IMAGE, "weight": 1.0, "param": "messages.0.content.1"}


@pytest.fixture
def intake() -> MediaIntake:
    return MediaIntake(MediaLimits(max_bytes=1000))


def test_bytes_become_a_blob_with_their_digest_and_weight(intake: MediaIntake) -> None:
    blob = intake.from_bytes(PNG, declared_type="image/png", expected=None, weight=-0.5, param="image")
    assert (blob.modality, blob.container, blob.weight) == (Modality.IMAGE, "png", -0.5)
    assert blob.data == PNG
    assert blob.sha256 == hashlib.sha256(PNG).hexdigest()


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf"), -1e9])
def test_a_weight_that_means_nothing_is_refused(intake: MediaIntake, weight: float) -> None:
    with pytest.raises(InvalidRequest, match="weight must be a number other than 0") as caught:
        intake.from_bytes(PNG, declared_type=None, expected=None, weight=weight, param="image")
    assert caught.value.param == "image"


@pytest.mark.parametrize(
    "uri",
    [
        f"data:image/png;base64,{BASE64}",
        f"DATA:IMAGE/PNG;BASE64,{BASE64}",
        f"data:;base64,{BASE64}",
        f"data:image/png;name=cat.png;base64,{BASE64}",
        f"data:image/png;base64,{BASE64[:20]}\n  {BASE64[20:]}\r\n",
        f"data:image/png;base64,{BASE64.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}",
        f"data:image/png,{quote_from_bytes(PNG)}",
        f"data:application/octet-stream,{quote_from_bytes(PNG, safe='')}",
    ],
)
def test_every_form_of_data_uri_gives_the_same_bytes(intake: MediaIntake, uri: str) -> None:
    assert intake.from_data_uri(uri, **PART).data == PNG


@pytest.mark.parametrize(
    ("uri", "kind", "sentence"),
    [
        (f"data:image/png;base64{BASE64}", InvalidRequest, "with a comma"),
        (BASE64, InvalidRequest, "malformed"),
        (f"data:image/png;base64,{BASE64[:-1]}!", InvalidRequest, "not valid base64"),
        (f"data:image/png;base64,{BASE64[:-3]}", InvalidRequest, "not valid base64"),
        ("data:image/png;base64,ünïcode=", InvalidRequest, "not valid base64"),
        ("data:image/png;base64,", MediaDecodeError, "empty"),
        ("data:,", MediaDecodeError, "empty"),
        (f"data:audio/wav;base64,{BASE64}", UnsupportedMedia, "'audio/wav' but its bytes are png"),
        ("data:text/plain,hello%20there", UnsupportedMedia, "text/plain"),
        ("data:image/png;base64,AAECAwQFBgc=", MediaDecodeError, "image/png"),
        (f"data:image/png;base64,{'A' * 4000}", MediaTooLarge, "at most 1000 are allowed"),
        (f"data:image/png,{'%00' * 1001}", MediaTooLarge, "at most 1000 are allowed"),
    ],
)
def test_a_bad_data_uri_is_refused_with_the_field_and_a_reason(
    intake: MediaIntake, uri: str, kind: type[InvalidRequest], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        intake.from_data_uri(uri, **PART)
    assert type(caught.value) is kind
    assert caught.value.param == "messages.0.content.1"


@pytest.mark.parametrize("extra", [0, 1, 2, 3])
def test_the_size_limit_is_exact(extra: int) -> None:
    intake = MediaIntake(MediaLimits(max_bytes=len(PNG) + 1))
    text = base64.b64encode(PNG + bytes(extra)).decode()
    if extra <= 1:
        assert len(intake.from_base64(text, declared_type="png", **PART).data) == len(PNG) + extra
    else:
        with pytest.raises(MediaTooLarge):
            intake.from_base64(text, declared_type="png", **PART)


def test_audio_where_a_picture_belongs_is_unsupported(intake: MediaIntake) -> None:
    with pytest.raises(UnsupportedMedia, match="takes image but the bytes are wav"):
        intake.from_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ", declared_type="audio/wav", **PART)


@pytest.mark.anyio
async def test_from_url_takes_a_data_uri(intake: MediaIntake) -> None:
    blob = await intake.from_url(f" data:image/png;base64,{BASE64} ", **PART)
    assert blob.data == PNG


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://a/b", "cat.png", "", "javascript:alert(1)"])
async def test_other_schemes_are_refused(intake: MediaIntake, url: str) -> None:
    with pytest.raises(MediaFetchError, match=r"data: or http\(s\)") as caught:
        await intake.from_url(url, **PART)
    assert caught.value.param == "messages.0.content.1"


@pytest.mark.anyio
async def test_remote_media_are_refused_by_default(intake: MediaIntake) -> None:
    with pytest.raises(MediaFetchError, match="fetches no remote media") as caught:
        await intake.from_url("https://example.org/cat.png", **PART)
    assert caught.value.param == "messages.0.content.1"


@pytest.mark.anyio
async def test_an_enabled_fetch_still_refuses_private_addresses() -> None:
    async def resolver(host: str, port: int) -> Sequence[str]:
        return ["192.168.0.1"]

    fetcher = RemoteFetcher(FetchPolicy(enabled=True), resolver=resolver)
    with pytest.raises(MediaFetchError, match="not on the public internet"):
        await MediaIntake(MediaLimits(), fetcher).from_url("http://router.example/photo.png", **PART)
