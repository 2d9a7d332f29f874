"""Shapes to `(N, 3)` float32: point clouds as stored, meshes sampled by area."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np

from core.errors import AppError, MediaDecodeError, UnsupportedMedia
from core.types import DecodedMedia
from media import meshes
from media.array import read_npy
from media.containers import DecodeJob
from media.limits import MediaLimits
from media.meshes import Shape, Vertices, columns, sample_surface, table, text_lines

NUM_MESH_SAMPLES = 8192
_MIN_POINTS = 3


def decode_points(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode a cloud or a mesh to `(N, 3)` float32 in the file's own units and axes.

    A mesh gives 8192 points spread evenly over its surface, the same ones each time; colours and normals are left out.
    A shape far from the origin, as scans in map coordinates are, is moved to it before float32 would blur it.
    Scanners mark missing points as NaN: such rows are dropped. Raises `MediaTooLarge` over `max_points`,
    `UnsupportedMedia` for a compressed variant and `MediaDecodeError` for damage or fewer than 3 points.
    """
    try:
        with np.errstate(all="ignore"):  # overflow shows as inf and is dropped below
            vertices, triangles = _READERS[job.container](data, job.limits)
            job.limits.check_points(len(vertices))
            points = vertices
            if triangles is not None and len(triangles):
                job.limits.check_points(len(triangles))
                points = sample_surface(vertices, triangles, num_points=NUM_MESH_SAMPLES, seed=0)
            points32 = np.ascontiguousarray(_near_origin(points), dtype=np.float32)  # (N, 3)
    except (AppError, MemoryError):
        raise
    except Exception as error:  # text and binary parsers raise ValueError, IndexError, struct.error, UnicodeError ...
        raise MediaDecodeError(f"the {job.container} file is damaged ({error}); export it again") from error
    finite = points32[np.isfinite(points32).all(axis=1)]
    if len(finite) < _MIN_POINTS:
        raise MediaDecodeError(f"the shape has {len(finite)} usable points; at least {_MIN_POINTS} are needed")
    return DecodedMedia(container=job.container, array=finite)


def _near_origin(points: Vertices) -> Vertices:
    """Subtract the median of `(N, 3)` when it is over 1000 times the middle half's extent away from the origin."""
    finite = points[np.isfinite(points).all(axis=1)]
    if len(finite) < _MIN_POINTS:
        return points
    low, middle, high = np.percentile(finite[:: 1 + len(finite) // 10_000], (25, 50, 75), axis=0)
    far = np.abs(middle).max() > 1000 * (high - low).max()
    return points - middle if far else points


def _read_xyz(data: bytes, limits: MediaLimits) -> Shape:
    return table([line for line in text_lines(data) if not line.startswith("//")], limits), None


def _read_pts(data: bytes, limits: MediaLimits) -> Shape:
    return table(text_lines(data)[1:], limits), None


def _read_npy(data: bytes, limits: MediaLimits) -> Shape:
    array = read_npy(data)
    if array.ndim != 2 or array.shape[1] < 3:
        raise UnsupportedMedia(f"a point cloud is an array (N, 3 or more), got {array.shape}")
    limits.check_points(array.shape[0])
    return array[:, :3].astype(np.float64), None


def _read_pcd(data: bytes, limits: MediaLimits) -> Shape:
    header: dict[str, list[str]] = {}
    stream = io.BytesIO(data)
    while "DATA" not in header:
        line = stream.readline(4096).decode("ascii")
        if not line:
            raise ValueError("the header has no DATA line")
        name, *values = line.split() or [""]
        header[name] = values
    num_points = int(header["POINTS"][0])
    limits.check_points(num_points)
    counts = [int(count) for count in header.get("COUNT", ["1"] * len(header["FIELDS"]))]
    body = data[stream.tell() :]
    if header["DATA"] == ["ascii"]:
        starts = [sum(counts[: header["FIELDS"].index(axis)]) for axis in "xyz"]
        rows = np.loadtxt(io.StringIO(body.decode("ascii")), usecols=starts, ndmin=2, max_rows=num_points)
        return rows.astype(np.float64), None
    if header["DATA"] != ["binary"]:
        raise UnsupportedMedia(f"PCD data of kind {header['DATA']} is not read; save it as binary or ascii")
    kinds = {"F": "f", "I": "i", "U": "u"}
    fields = [
        (f"{name}.{place}", f"<{kinds[kind]}{int(size)}", (count,))
        for place, (name, kind, size, count) in enumerate(
            zip(header["FIELDS"], header["TYPE"], header["SIZE"], counts, strict=True)
        )
    ]
    records = np.frombuffer(body, np.dtype(fields), count=num_points)
    return columns(records, [f"{axis}.{header['FIELDS'].index(axis)}" for axis in "xyz"]), None


_READERS: dict[str, Callable[[bytes, MediaLimits], Shape]] = {
    "xyz": _read_xyz,
    "pts": _read_pts,
    "npy": _read_npy,
    "pcd": _read_pcd,
    "ply": meshes.read_ply,
    "obj": meshes.read_obj,
    "off": meshes.read_off,
    "stl": meshes.read_stl,
    "glb": meshes.read_glb,
}
