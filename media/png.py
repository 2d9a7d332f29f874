"""The checksums of a PNG file, which Pillow leaves unread for pixel data."""

from __future__ import annotations

import zlib

from core.errors import MediaDecodeError

_SIGNATURE_BYTES = 8
_FRAME_BYTES = 12  # length, type and checksum around the content of a chunk
_IS_ANCILLARY = 0x20  # bit of the first letter of a type: what a reader may do without


def check_png(data: bytes) -> None:
    """Raise `MediaDecodeError` for a file cut short and for a critical chunk that its CRC-32 does not fit.

    Source: PNG specification, third edition, sections 5.3 to 5.6. Chunks that only describe are not checked, and
    neither is what follows the end.
    """
    view, place = memoryview(data), _SIGNATURE_BYTES
    while place + _FRAME_BYTES <= len(data):
        end = place + _FRAME_BYTES + int.from_bytes(view[place : place + 4])
        if end > len(data):
            break
        kind = bytes(view[place + 4 : place + 8])
        if not kind[0] & _IS_ANCILLARY and zlib.crc32(view[place + 4 : end - 4]) != int.from_bytes(view[end - 4 : end]):
            raise MediaDecodeError(
                "the png picture is damaged or truncated "
                f"(the checksum of its {kind.decode('latin-1')!r} chunk is wrong); send the whole file"
            )
        if kind == b"IEND":
            return
        place = end
    raise MediaDecodeError("the png picture is damaged or truncated (it has no end); send the whole file")
