"""What exporters and scanners do to shapes: mixed polygons, quantised meshes, map coordinates, lies about counts."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest

from core.errors import AppError, MediaDecodeError, MediaTooLarge
from core.types import FloatArray, Modality
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.points import decode_points

CORNERS = np.array([[0, 0, 0], [4, 0, 0], [4, 1, 0], [0, 1, 0], [0, 0, 3], [4, 0, 3]], dtype=np.float64)
QUADS = [[0, 1, 2, 3], [0, 1, 5, 4]]


def shape(content: bytes, container: str, limits: MediaLimits | None = None) -> FloatArray:
    job = DecodeJob(
        container=container, modality=Modality.POINT_CLOUD, limits=limits or MediaLimits(), options=DecodeOptions()
    )
    array: FloatArray = decode_points(content, job).array
    return array


def ply_mesh(polygons: list[list[int]], order: str, *, with_flags: bool = False) -> bytes:
    encoding = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    lines = ["ply", f"format {encoding} 1.0", f"element vertex {len(CORNERS)}"]
    lines += [f"property double {axis}" for axis in "xyz"]
    lines += [f"element face {len(polygons)}", *(["property uchar flags"] if with_flags else [])]
    lines += [
        "property list uchar uint vertex_index",
        *(["property float quality"] if with_flags else []),
        "end_header",
    ]
    body = CORNERS.astype(f"{order}f8").tobytes()
    for polygon in polygons:
        body += b"\x07" if with_flags else b""
        body += struct.pack(f"{order}B{len(polygon)}I", len(polygon), *polygon)
        body += struct.pack(f"{order}f", 0.5) if with_flags else b""
    return "\n".join(lines).encode() + b"\n" + body


def glb_of(document: dict[str, Any], binary: bytes) -> bytes:
    text = json.dumps({"asset": {"version": "2.0"}, **document}).encode()
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("with_flags", [False, True])
def test_faces_of_equal_and_of_mixed_length_give_the_same_surface(order: str, with_flags: bool) -> None:
    equal = shape(ply_mesh(QUADS, order, with_flags=with_flags), "ply")
    mixed = shape(ply_mesh([QUADS[0], [0, 1, 5], [0, 5, 4]], order, with_flags=with_flags), "ply")
    for points in (equal, mixed):
        standing = points[:, 2] > 1e-6
        assert standing.mean() == pytest.approx(12 / 16, abs=0.02)  # areas 4 x 3 and 4 x 1
        assert points.max(axis=0) == pytest.approx([4, 1, 3], abs=0.05)


def test_an_obj_with_tabs_and_colours_is_read() -> None:
    text = "".join("v\t" + "\t".join(f"{value:g}" for value in (*corner, 1, 0, 0)) + "\n" for corner in CORNERS)
    assert shape(text.encode(), "obj").tolist() == CORNERS.tolist()


def test_an_stl_in_capitals_is_read() -> None:
    facet = "FACET NORMAL 0 0 1\nOUTER LOOP\nVERTEX 0 0 0\nVERTEX 1 0 0\nVERTEX 0 1 0\nENDLOOP\nENDFACET\n"
    assert shape(f"solid A\n{facet}endsolid\n".encode(), "stl").max() <= 1


def test_a_scan_in_map_coordinates_keeps_its_shape() -> None:
    scan = CORNERS * 0.01 + (500_000.25, 4_649_776.5, 120.0)
    text = "".join(f"{x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in scan)
    points = shape(text.encode(), "xyz")
    assert points - points[0] == pytest.approx((CORNERS - CORNERS[0]) * 0.01, abs=1e-4)


def test_quantised_positions_of_two_meshes_share_one_scale() -> None:
    """KHR_mesh_quantization: normalised integers stand for -1 to 1, whatever their width."""
    fine = np.array([[32767, 0, 0], [0, 32767, 0], [0, 0, 0]], dtype="<i2")
    plain = np.array([[1, 0, 5], [0, 1, 5], [0, 0, 5]], dtype="<f4")
    views = [{"buffer": 0, "byteLength": 18}, {"buffer": 0, "byteOffset": 20, "byteLength": 36}]
    accessors = [
        {"bufferView": 0, "componentType": 5122, "normalized": True, "count": 3, "type": "VEC3"},
        {"bufferView": 1, "componentType": 5126, "count": 3, "type": "VEC3"},
    ]
    meshes = [{"primitives": [{"attributes": {"POSITION": n}}]} for n in range(2)]
    document = {
        "scenes": [{"nodes": [0, 1]}], "nodes": [{"mesh": 0}, {"mesh": 1}], "meshes": meshes,
        "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": 56}],
    }  # fmt: skip
    points = shape(glb_of(document, fine.tobytes() + bytes(2) + plain.tobytes()), "glb")
    low = points[points[:, 2] < 1]
    assert low.max(axis=0)[:2] == pytest.approx([1, 1], abs=0.05)
    assert len(low) / len(points) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("container", ["obj", "off", "ply"])
def test_faces_without_their_vertices_are_refused(container: str) -> None:
    files = {
        "obj": b"f 1 2 3\nf 2 3 4\n",
        "off": b"OFF\n0 1 0\n3 0 1 2\n",
        "ply": b"ply\nformat ascii 1.0\nelement face 1\nproperty list uchar int vertex_indices\nend_header\n3 0 1 2\n",
    }
    with pytest.raises(MediaDecodeError):
        shape(files[container], container)


def test_a_mesh_whose_face_list_is_empty_is_its_vertices() -> None:
    assert shape(ply_mesh([], "<"), "ply").tolist() == CORNERS.tolist()


@pytest.mark.parametrize(
    "accessor",
    [
        {"count": 2_000_000_000, "type": "VEC3"},
        {"count": 50_000, "type": "VEC3"},
        {"count": -5, "type": "VEC3"},
        {"count": 3, "type": "VEC3", "byteOffset": 1 << 40},
    ],
)
def test_a_scene_that_lies_about_its_counts_is_refused(accessor: dict[str, Any]) -> None:
    document = {
        "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, **accessor}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}], "buffers": [{"byteLength": 36}],
    }  # fmt: skip
    with pytest.raises(AppError):
        shape(glb_of(document, bytes(36)), "glb")


def test_a_few_bytes_that_repeat_themselves_stay_within_the_budget() -> None:
    """A stride of zero and a mesh named by many nodes make millions of points of nothing: a bomb."""
    document = {
        "scenes": [{"nodes": list(range(500))}], "nodes": [{"mesh": 0}] * 500,
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 300_000, "type": "VEC3"}],
        "bufferViews": [{"buffer": 0, "byteLength": 36, "byteStride": 0}], "buffers": [{"byteLength": 36}],
    }  # fmt: skip
    with pytest.raises((MediaTooLarge, MediaDecodeError)):
        shape(glb_of(document, bytes(36)), "glb", MediaLimits(max_points=1_000_000))


def test_deeply_nested_json_in_a_scene_is_a_damaged_file() -> None:
    text = b"[" * 200_000
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    with pytest.raises(MediaDecodeError):
        shape(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks, "glb")
