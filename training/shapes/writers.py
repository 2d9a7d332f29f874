"""Write shapes in the formats that the server reads, so that tests and benchmarks send real files."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable

import numpy as np

from training.shapes.clouds import Cloud
from training.shapes.parts import Triangles


def _corners(triangles: Triangles) -> tuple[np.ndarray, np.ndarray]:
    """Return float32 vertices and int32 faces, one vertex for each corner."""
    vertices = triangles.reshape(-1, 3).astype("<f4")
    return vertices, np.arange(len(vertices), dtype="<i4").reshape(-1, 3)


def _rows(array: np.ndarray, form: str = "%.6g") -> str:
    stream = io.StringIO()
    np.savetxt(stream, array, fmt=form)
    return stream.getvalue()


def write_ply(triangles: Triangles, points: Cloud) -> bytes:
    vertices, faces = _corners(triangles)
    head = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
    head += "property float x\nproperty float y\nproperty float z\n"
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    records = np.zeros(len(faces), dtype=[("n", "u1"), ("corners", "<i4", 3)])
    records["n"], records["corners"] = 3, faces
    return head.encode() + vertices.tobytes() + records.tobytes()


def write_obj(triangles: Triangles, points: Cloud) -> bytes:
    vertices, faces = _corners(triangles)
    return (_rows(vertices, "v %.6g %.6g %.6g") + _rows(faces + 1, "f %d %d %d")).encode()


def write_off(triangles: Triangles, points: Cloud) -> bytes:
    vertices, faces = _corners(triangles)
    return (f"OFF\n{len(vertices)} {len(faces)} 0\n" + _rows(vertices) + _rows(faces, "3 %d %d %d")).encode()


def write_stl(triangles: Triangles, points: Cloud) -> bytes:
    records = np.zeros(len(triangles), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
    records["corners"] = triangles
    return bytes(80) + struct.pack("<I", len(triangles)) + records.tobytes()


def write_glb(triangles: Triangles, points: Cloud) -> bytes:
    vertices, faces = _corners(triangles)
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": vertices.nbytes + faces.nbytes}],
        "bufferViews": [
            {"buffer": 0, "byteLength": vertices.nbytes},
            {"buffer": 0, "byteOffset": vertices.nbytes, "byteLength": faces.nbytes},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(vertices), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5125, "count": faces.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = vertices.tobytes() + faces.tobytes()
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(body), b"BIN\0") + body
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def write_xyz(triangles: Triangles, points: Cloud) -> bytes:
    return _rows(points).encode()


def write_pts(triangles: Triangles, points: Cloud) -> bytes:
    return (f"{len(points)}\n" + _rows(points)).encode()


def write_npy(triangles: Triangles, points: Cloud) -> bytes:
    stream = io.BytesIO()
    np.save(stream, points)
    return stream.getvalue()


def write_pcd(triangles: Triangles, points: Cloud) -> bytes:
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
    )
    head += f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA binary\n"
    return head.encode() + points.astype("<f4").tobytes()


WRITERS: dict[str, Callable[[Triangles, Cloud], bytes]] = {
    "ply": write_ply,
    "obj": write_obj,
    "off": write_off,
    "stl": write_stl,
    "glb": write_glb,
    "xyz": write_xyz,
    "pts": write_pts,
    "npy": write_npy,
    "pcd": write_pcd,
}
