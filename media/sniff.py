"""Decide what a file is from its bytes; a name or a declared type can only contradict, never decide."""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.errors import MediaDecodeError, UnsupportedMedia
from core.types import Modality

_PICTURE = (Modality.IMAGE, Modality.DEPTH, Modality.THERMAL)
_MOVING_PICTURE = (*_PICTURE, Modality.VIDEO)
_ARRAY = (Modality.POINT_CLOUD, Modality.IMU, Modality.DEPTH, Modality.THERMAL)
_SOUND = (Modality.AUDIO,)
_FILM = (Modality.VIDEO, Modality.AUDIO)
_SHAPE = (Modality.POINT_CLOUD,)


@dataclass(frozen=True, slots=True)
class Container:
    """A known file format: the modalities it can carry (the first is the default) and its declared types."""

    modalities: tuple[Modality, ...]
    media_types: tuple[str, ...]


KNOWN: dict[str, Container] = {
    "png": Container(_MOVING_PICTURE, ("image/png", "image/x-png", "image/apng")),
    "jpeg": Container(_PICTURE, ("image/jpeg", "image/jpg", "image/pjpeg")),
    "webp": Container(_MOVING_PICTURE, ("image/webp",)),
    "gif": Container((Modality.IMAGE, Modality.VIDEO), ("image/gif", "video/gif")),
    "bmp": Container(_PICTURE, ("image/bmp", "image/x-bmp", "image/x-ms-bmp")),
    "wav": Container(_SOUND, ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave", "audio/x-pn-wav")),
    "flac": Container(_SOUND, ("audio/flac", "audio/x-flac")),
    "ogg": Container(_SOUND, ("audio/ogg", "application/ogg", "audio/opus", "audio/vorbis", "audio/x-vorbis+ogg")),
    "mp3": Container(_SOUND, ("audio/mpeg", "audio/mp3", "audio/mpeg3", "audio/x-mpeg-3")),
    "aac": Container(_SOUND, ("audio/aac", "audio/x-aac", "audio/aacp")),
    "m4a": Container(_SOUND, ("audio/mp4", "audio/x-m4a", "audio/m4a", "video/mp4")),
    "mp4": Container(_FILM, ("video/mp4", "audio/mp4", "video/x-m4v", "video/quicktime", "application/mp4")),
    "mov": Container(_FILM, ("video/quicktime", "video/mp4")),
    "webm": Container(_FILM, ("video/webm", "audio/webm", "video/x-matroska")),
    "mkv": Container(_FILM, ("video/x-matroska", "video/matroska", "audio/x-matroska", "video/webm")),
    "frames": Container((Modality.VIDEO,), ("video/x-frames",)),  # a list of pictures, packed by this server
    "ply": Container(_SHAPE, ("model/ply", "application/ply", "text/plain")),
    "pcd": Container(_SHAPE, ("model/pcd", "text/plain")),
    "glb": Container(_SHAPE, ("model/gltf-binary",)),
    "obj": Container(_SHAPE, ("model/obj", "application/x-tgif", "text/plain")),
    "off": Container(_SHAPE, ("model/off", "text/plain")),
    "stl": Container(_SHAPE, ("model/stl", "application/sla", "application/vnd.ms-pki.stl", "text/plain")),
    "xyz": Container(_SHAPE, ("chemical/x-xyz", "text/plain", "text/csv")),
    "pts": Container(_SHAPE, ("text/plain",)),
    "npy": Container(_ARRAY, ("application/x-npy", "application/npy")),
}

_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive (NPZ and PyTorch files are ZIP archives too)"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML or SVG document"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"{", "a JSON text"),
)

MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF87a", "gif"),
    (0, b"GIF89a", "gif"),
    (0, b"\0frames\0", "frames"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"ID3", "mp3"),
    (0, b"glTF", "glb"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"ply\n", "ply"),
    (0, b"ply\r", "ply"),
    (0, b"# .PCD", "pcd"),
    (0, b"solid", "stl"),
    (4, b"ftypM4A", "m4a"),
    (4, b"ftypqt", "mov"),
    (4, b"ftyp", "mp4"),
    (4, b"moov", "mov"),
)

_HEAD_BYTES = 4096
_GENERIC_TYPES = frozenset({"", "application/octet-stream", "binary/octet-stream", "application/binary", "*/*"})
_BARE_NAMES = {"jpg": "jpeg", "opus": "ogg"}
_OFF = re.compile(rb"(?:ST)?(?:C|N|4|n)*OFF[\s\d#]")
_OBJ_VERTEX = re.compile(rb"(?m)^v[ \t]+[-+.\d]")
_NUMBER = rb"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf)"
_XYZ_LINE = re.compile(rb"(?i)(?:" + _NUMBER + rb")(?:[ \t,;]+(?:" + _NUMBER + rb")){2,}\s*\Z")
_PTS_COUNT = re.compile(rb"\d+\s*\Z")


def sniff(data: bytes) -> str | None:
    """Return the container's name, or None when the bytes are no format this table knows."""
    head = data[:_HEAD_BYTES]
    if _refused(head) is not None:
        return None
    if head[:4] == b"RIFF":
        return {b"WEBP": "webp", b"WAVE": "wav"}.get(head[8:12])
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return "bmp"
    if _is_binary_stl(data):
        return "stl"
    for offset, magic, container in MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return container
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm" if b"webm" in head[:64] else "mkv"
    if len(head) >= 4 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return _mpeg_audio(head)
    return _sniff_text(head)


_FAMILIES = frozenset({"image", "audio", "video"})


def resolve(data: bytes, *, declared_type: str | None, expected: Modality | None) -> tuple[Modality, str]:
    """Return the modality and the container of the bytes, held against what the client said they are.

    `declared_type` is a media type ("image/png") or a bare format ("wav"); None and generic types declare nothing.
    Raises `MediaDecodeError` for empty bytes and for bytes that are nothing like their declared type, and
    `UnsupportedMedia` for another kind of file than declared, an unknown format, or a modality the part does not take.
    """
    if not data:
        raise MediaDecodeError("the medium is empty (0 bytes); send the file's bytes")
    container = sniff(data)
    declared = (declared_type or "").partition(";")[0].strip().lower()
    if container is None:
        raise _unknown(data, declared)
    if not _agrees(declared, container):
        raise UnsupportedMedia(
            f"the medium is declared as {declared!r} but its bytes are {container}; "
            f"declare {KNOWN[container].media_types[0]!r} or send the right file"
        )
    modalities = KNOWN[container].modalities
    if expected is None:
        film_as_sound = declared.startswith("audio/") and Modality.AUDIO in modalities
        return (Modality.AUDIO if film_as_sound else modalities[0]), container
    if expected not in modalities:
        raise UnsupportedMedia(
            f"this part takes {expected.value} but the bytes are {container} ({modalities[0].value}); "
            f"{expected.value} comes as {', '.join(containers_of(expected)) or 'nothing this server reads'}"
        )
    return expected, container


def containers_of(modality: Modality) -> tuple[str, ...]:
    """Return the names of the containers that can carry a modality."""
    return tuple(name for name, container in KNOWN.items() if modality in container.modalities)


def _agrees(declared: str, container: str) -> bool:
    if declared in _GENERIC_TYPES or _BARE_NAMES.get(declared, declared) == container:
        return True
    media_types = KNOWN[container].media_types
    if declared in media_types:
        return True
    family = declared.split("/")[0]  # clients often call every picture image/jpeg: the bytes say which it is
    return family in _FAMILIES and any(known.startswith(f"{family}/") for known in media_types)


def _unknown(data: bytes, declared: str) -> MediaDecodeError | UnsupportedMedia:
    found = _refused(data[:_HEAD_BYTES])
    claimed = next((name for name in KNOWN if declared not in _GENERIC_TYPES and _agrees(declared, name)), None)
    if claimed is not None and found is None and declared != "text/plain":
        return MediaDecodeError(
            f"the medium is declared as {declared!r} but its bytes do not start like {claimed}: "
            "the file is damaged or is something else"
        )
    said = f"declared as {declared!r}, " if declared not in _GENERIC_TYPES else ""
    return UnsupportedMedia(
        f"the medium is {said}in truth {found or 'no format known here'}; allowed formats: {', '.join(KNOWN)}"
    )


def _refused(head: bytes) -> str | None:
    text = head.lstrip()
    for offset, magic, name in _REFUSED:
        if head[offset:].startswith(magic) or (magic[:1] in b"<{" and text.startswith(magic)):
            return name
    return None


def _mpeg_audio(head: bytes) -> str | None:
    layer = head[1] >> 1 & 3
    if layer == 0:  # ADTS frames carry layer 0
        return "aac" if head[1] & 0xF6 == 0xF0 else None
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    return "mp3" if 0 < bitrate < 15 and rate != 3 else None


def _is_binary_stl(data: bytes) -> bool:
    return len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little")


def _sniff_text(head: bytes) -> str | None:
    if b"\x00" in head:
        return None
    if _OFF.match(head):
        return "off"
    if _OBJ_VERTEX.search(head):
        return "obj"
    lines = [line for line in head.splitlines()[:-1] or [head] if line.strip() and not line.startswith((b"#", b"//"))]
    if not lines:
        return None
    if _XYZ_LINE.match(lines[0].strip()):
        return "xyz"
    if _PTS_COUNT.match(lines[0].strip()) and len(lines) > 1:
        second = lines[2] if len(lines) > 2 else lines[1]
        return "pts" if _XYZ_LINE.match(second.strip()) else None
    return None
