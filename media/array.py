"""Numeric NPY files: depth and thermal maps, inertial recordings; never pickled objects."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from core.errors import MediaDecodeError, UnsupportedMedia
from core.types import AnyArray, DecodedMedia, Modality
from media.containers import DecodeJob

_SHAPES = {Modality.DEPTH: "(H, W)", Modality.THERMAL: "(H, W)", Modality.IMU: "(6, S)"}


def decode_array(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode a depth or thermal map `(H, W)`, or six inertial channels `(6, S)`, to float32 in the file's own units.

    Raises `UnsupportedMedia` for another shape or type, `MediaTooLarge` and, for damage or NaN, `MediaDecodeError`.
    """
    try:
        array = read_npy(data)
    except ValueError as error:
        raise MediaDecodeError(f"the npy file is damaged ({error}); save it again") from error
    if array.ndim != 2 or not array.size or (job.modality is Modality.IMU and array.shape[0] != 6):
        raise UnsupportedMedia(f"{job.modality.value} is an array {_SHAPES[job.modality]}, got {array.shape}")
    job.limits.check_decoded_bytes(array.size * 4)
    values = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise MediaDecodeError("the array holds values that are not numbers; fill them before sending")
    return DecodedMedia(container=job.container, array=values)


def read_npy(data: bytes) -> AnyArray:
    """Return a view of the file's array. Raises `UnsupportedMedia` unless it is numeric, `ValueError` when damaged."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.kind not in "fiu":
        raise UnsupportedMedia(f"an npy file must hold numbers, got {dtype}; convert it")
    order: Any = "F" if fortran_order else "C"
    return np.ndarray(shape, dtype, data, stream.tell(), order=order)  # refuses a shape that the bytes do not fill
