"""Read meshes and sample their surface. Counts in headers are checked against budgets and bytes before use."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import AnyArray
from media.limits import MediaLimits

Vertices = npt.NDArray[np.float64]  # (N, 3)
Triangles = npt.NDArray[np.int64]  # (F, 3), rows of vertex indices
Shape = tuple[Vertices, Triangles | None]

_PLY_KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip
_STL_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
_GLB_KINDS = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_GLB_MAX_NODES = 10_000


def sample_surface(vertices: Vertices, triangles: Triangles, *, num_points: int, seed: int) -> Vertices:
    """Return `(num_points, 3)` points spread evenly over the area of triangles `(F, 3)`; vertices when all are flat."""
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise MediaDecodeError("a face of the mesh names a vertex that is not there; export it again")
    corners = vertices[triangles]  # (F, 3, 3)
    edge_a, edge_b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = np.linalg.norm(np.cross(edge_a, edge_b), axis=1)  # (F,) twice the area
    cumulated = np.cumsum(np.where(np.isfinite(area), area, 0.0))
    if not 0 < cumulated[-1] < np.inf:
        return vertices
    random = np.random.default_rng(seed)
    face = np.searchsorted(cumulated, random.random(num_points) * cumulated[-1], side="right").clip(0, len(area) - 1)
    u, v = random.random((2, num_points, 1))
    outside = u + v > 1  # fold the unit square onto the triangle
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    return np.asarray(corners[face, 0] + u * edge_a[face] + v * edge_b[face])  # (num_points, 3)


def text_lines(data: bytes) -> list[str]:
    """Return the lines that say something, without # comments."""
    lines = (line.partition("#")[0].strip() for line in data.decode("utf-8", "replace").splitlines())
    return [line for line in lines if line]


def table(lines: Sequence[str], limits: MediaLimits, use: Sequence[int] = (0, 1, 2)) -> Vertices:
    """Return three columns of numbers as `(N, 3)`."""
    limits.check_points(len(lines))
    if not any(line.strip() for line in lines):
        return np.zeros((0, 3))
    text = io.StringIO("\n".join(lines).replace(",", " ").replace(";", " "))
    return np.loadtxt(text, usecols=use, ndmin=2, comments=None, dtype=np.float64)


def columns(records: AnyArray, names: Sequence[str]) -> Vertices:
    """Return three fields of a record array as `(N, 3)` float64."""
    return np.stack([records[name].reshape(len(records)).astype(np.float64) for name in names], axis=1)


def fans(polygons: Iterable[Sequence[int]], limits: MediaLimits) -> Triangles:
    """Cut each polygon into a fan of triangles `(F, 3)`; those of equal length are cut together."""
    by_length: dict[int, list[Sequence[int]]] = {}
    num_triangles = 0
    for polygon in polygons:
        by_length.setdefault(len(polygon), []).append(polygon)
        num_triangles += max(0, len(polygon) - 2)
        if num_triangles > limits.max_points:
            limits.check_points(num_triangles)
    parts = [_fan_rows(np.array(group, dtype=np.int64)) for length, group in by_length.items() if length > 2]
    return np.concatenate(parts) if parts else np.zeros((0, 3), dtype=np.int64)


def _fan_rows(polygons: npt.NDArray[np.int64]) -> Triangles:
    """Cut polygons `(n, corners)` into triangles `(n * (corners - 2), 3)`."""
    first = np.repeat(polygons[:, :1], polygons.shape[1] - 2, axis=1)
    return np.stack((first, polygons[:, 1:-1], polygons[:, 2:]), axis=2).reshape(-1, 3)


def read_obj(data: bytes, limits: MediaLimits) -> Shape:
    """Read the `v` and `f` lines of a Wavefront OBJ; negative indices count from the latest vertex."""
    vertex_lines: list[str] = []
    polygons: list[list[int]] = []
    for line in text_lines(data):
        keyword, _, rest = line.replace("\t", " ").partition(" ")
        if keyword == "v":
            vertex_lines.append(rest)
        elif keyword == "f":
            indices = (int(corner.partition("/")[0]) for corner in rest.split())
            polygons.append([index - 1 if index > 0 else len(vertex_lines) + index for index in indices])
    return table(vertex_lines, limits), fans(polygons, limits)


def read_off(data: bytes, limits: MediaLimits) -> Shape:
    """Read an ASCII OFF file, also with its counts glued to the keyword as ModelNet has them."""
    first, *lines = text_lines(data)
    counts = re.sub(r"^[A-Za-z4]*OFF", "", first).split() or lines.pop(0).split()
    num_vertices, num_faces = int(counts[0]), int(counts[1])
    limits.check_points(max(num_vertices, num_faces))
    if min(num_vertices, num_faces) < 0 or len(lines) < num_vertices + num_faces:
        raise ValueError("fewer lines than the header counts")
    rows = (line.split() for line in lines[num_vertices : num_vertices + num_faces])
    return table(lines[:num_vertices], limits), fans(
        ([int(n) for n in row[1 : 1 + int(row[0])]] for row in rows), limits
    )


def read_stl(data: bytes, limits: MediaLimits) -> Shape:
    """Read a binary or ASCII STL file."""
    if len(data) >= 84 and len(data) == 84 + 50 * int.from_bytes(data[80:84], "little"):
        records = np.frombuffer(data, _STL_RECORD, offset=84)
        limits.check_points(3 * len(records))
        vertices = records["corners"].reshape(-1, 3).astype(np.float64)
    else:
        lines = text_lines(data)
        vertices = table([line[6:] for line in lines if line[:6].lower() == "vertex"], limits)
    return vertices, np.arange(len(vertices) // 3 * 3).reshape(-1, 3)


def read_ply(data: bytes, limits: MediaLimits) -> Shape:
    """Read an ASCII or binary PLY file: x, y, z of `vertex` and the index list of `face`."""
    end = data.index(b"end_header")
    body = io.BytesIO(data[data.index(b"\n", end) + 1 :])
    encoding = ""
    elements: list[tuple[str, int, list[list[str]]]] = []
    for words in (line.split() for line in data[:end].decode("ascii", "replace").splitlines()):
        if words[:1] == ["format"]:
            encoding = words[1]
        elif words[:1] == ["element"]:
            elements.append((words[1], int(words[2]), []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}[encoding]
    vertices, triangles = np.zeros((0, 3)), None
    for name, count, properties in elements:
        limits.check_points(count)
        names = [words[-1] for words in properties]
        has_list = any(words[0] == "list" for words in properties)
        if encoding == "ascii":
            lines = [body.readline().decode("ascii") for _ in range(count)]
            if name == "vertex":
                vertices = table(lines, limits, [names.index(axis) for axis in "xyz"])
            elif name == "face":
                rows = ([int(float(word)) for word in line.split()] for line in lines)
                triangles = fans((row[1 : 1 + row[0]] for row in rows), limits)
        elif has_list:
            equal = _equal_lists(body, count, properties, order) if name == "face" else None
            if equal is not None:
                limits.check_points(count * max(0, equal.shape[1] - 2))
                triangles = _fan_rows(equal) if equal.shape[1] > 2 else np.zeros((0, 3), dtype=np.int64)
                continue
            lists = fans(_binary_lists(body, count, properties, order), limits)
            triangles = lists if name == "face" else triangles
        else:
            record = np.dtype([(words[-1], order + _PLY_KINDS[words[0]]) for words in properties])
            records = np.frombuffer(body.read(count * record.itemsize), record, count=count)
            vertices = columns(records, "xyz") if name == "vertex" else vertices
    return vertices, triangles


def _equal_lists(body: io.BytesIO, count: int, properties: list[list[str]], order: str) -> npt.NDArray[np.int64] | None:
    """Return the index lists `(count, corners)` of faces that all have as many corners, or None, having read nothing.

    A million triangles are then one array view instead of a million small reads.
    """
    lists = [words for words in properties if words[0] == "list"]
    if not count or len(lists) != 1 or not lists[0][-1].startswith("vertex_ind"):
        return None
    start, place = body.tell(), properties.index(lists[0])
    length_kind, item_kind = (order + _PLY_KINDS[kind] for kind in lists[0][1:3])
    before = [(f"before{n}", _PLY_KINDS[words[0]]) for n, words in enumerate(properties[:place])]
    after = [(f"after{n}", _PLY_KINDS[words[0]]) for n, words in enumerate(properties[place + 1 :])]
    head = np.dtype([*before, ("length", length_kind)])
    corners = int(np.frombuffer(body.getbuffer(), head, count=1, offset=start)["length"][0])
    if not 0 <= corners <= 64:
        return None
    record = np.dtype([*before, ("length", length_kind), ("items", item_kind, (corners,)), *after])
    if start + count * record.itemsize > len(body.getbuffer()):
        return None
    records = np.frombuffer(body.getbuffer(), record, count=count, offset=start)
    if (records["length"] != corners).any():
        return None
    body.seek(count * record.itemsize, io.SEEK_CUR)
    return records["items"].astype(np.int64)


def _binary_lists(body: io.BytesIO, count: int, properties: list[list[str]], order: str) -> Iterable[Sequence[int]]:
    for _ in range(count):
        for words in properties:
            if words[0] != "list":
                body.seek(np.dtype(_PLY_KINDS[words[0]]).itemsize, io.SEEK_CUR)
                continue
            length_kind, item_kind = (np.dtype(order + _PLY_KINDS[kind]) for kind in words[1:3])
            length = int(np.frombuffer(body.read(length_kind.itemsize), length_kind, count=1)[0])
            if length < 0:
                raise ValueError("a list of negative length")
            items = np.frombuffer(body.read(length * item_kind.itemsize), item_kind, count=length).tolist()
            if words[-1].startswith("vertex_ind"):
                yield items


def read_glb(data: bytes, limits: MediaLimits) -> Shape:
    """Read the default scene of a binary glTF 2 file, with node transforms; external buffers are refused."""
    document, binary = _glb_chunks(data)
    compressed = [name for name in document.get("extensionsRequired", []) if "draco" in name or "meshopt" in name]
    if compressed:
        raise UnsupportedMedia(f"glb with {compressed[0]} is not read; export it without compression")
    nodes = document.get("nodes", [])
    scene = document.get("scenes", [{"nodes": range(len(nodes))}])[document.get("scene", 0)]
    parts: list[tuple[Vertices, Triangles]] = []
    num_vertices = num_faces = num_nodes = 0
    pending: list[tuple[int, npt.NDArray[np.float64]]] = []
    children, transform = scene.get("nodes", []), np.eye(4)
    while children or pending:
        num_nodes += len(children)  # counted before they are kept: one list may name millions
        if num_nodes > _GLB_MAX_NODES:
            raise MediaTooLarge(f"the scene has more than {_GLB_MAX_NODES} nodes, or a node that holds itself")
        pending.extend((child, transform) for child in children)
        index, parent = pending.pop()
        transform = parent @ _node_transform(nodes[index])
        children = nodes[index].get("children", [])
        if "mesh" not in nodes[index]:
            continue
        for primitive in document["meshes"][nodes[index]["mesh"]]["primitives"]:
            local = _accessor(document, binary, primitive["attributes"]["POSITION"], limits).astype(np.float64)
            faces = _glb_faces(document, binary, primitive, limits)
            parts.append((local @ transform[:3, :3].T + transform[:3, 3], faces + num_vertices))
            num_vertices, num_faces = num_vertices + len(local), num_faces + len(faces)
            limits.check_points(max(num_vertices, num_faces))
    if not parts:
        return np.zeros((0, 3)), None
    return np.concatenate([part for part, _ in parts]), np.concatenate([faces for _, faces in parts])


def _glb_chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    chunks: dict[bytes, bytes] = {}
    offset = 12
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from("<I4s", data, offset)
        chunks.setdefault(kind, data[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return json.loads(chunks[b"JSON"]), chunks.get(b"BIN\x00", b"")


def _node_transform(node: dict[str, Any]) -> npt.NDArray[np.float64]:
    if "matrix" in node:
        return np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T  # stored column by column
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    transform = np.eye(4)
    transform[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), dtype=np.float64)
    transform[:3, 3] = node.get("translation", (0, 0, 0))
    return transform


def _accessor(document: dict[str, Any], binary: bytes, index: int, limits: MediaLimits) -> AnyArray:
    accessor = document["accessors"][index]
    if "sparse" in accessor or "bufferView" not in accessor:
        raise UnsupportedMedia("glb with sparse accessors is not read; export it without them")
    view = document["bufferViews"][accessor["bufferView"]]
    if view.get("buffer", 0) != 0 or "uri" in document["buffers"][0]:
        raise UnsupportedMedia("glb with external buffers is not read; embed them")
    width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
    limits.check_points(accessor["count"] // (3 if width == 1 else 1))
    kind = np.dtype(_GLB_KINDS[accessor["componentType"]])
    stride = view.get("byteStride", kind.itemsize * width)
    offset = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
    values = np.ndarray((accessor["count"], width), kind, binary, offset, (stride, kind.itemsize))  # bounds are checked
    if accessor.get("normalized") and kind.kind != "f":  # KHR_mesh_quantization
        return values / np.float64(np.iinfo(kind).max)
    return values


def _glb_faces(document: dict[str, Any], binary: bytes, primitive: dict[str, Any], limits: MediaLimits) -> Triangles:
    if "indices" in primitive:
        indices = _accessor(document, binary, primitive["indices"], limits)[:, 0].astype(np.int64)
    else:
        count = document["accessors"][primitive["attributes"]["POSITION"]]["count"]
        indices = np.arange(count)
    mode = primitive.get("mode", 4)
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    if mode == 5:  # strip
        return np.stack([indices[:-2], indices[1:-1], indices[2:]], axis=1)
    if mode == 6:  # fan
        return np.stack([np.full(len(indices[2:]), indices[0]), indices[1:-1], indices[2:]], axis=1)
    return np.zeros((0, 3), dtype=np.int64)  # points and lines have no surface
