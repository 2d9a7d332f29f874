"""Clouds and meshes, from real files that the tests write themselves."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
import pytest

from core.errors import InvalidRequest, MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import AnyArray, DecodedMedia, FloatArray, Modality
from media.array import decode_array
from media.containers import CONTAINERS, DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.points import NUM_MESH_SAMPLES, decode_points
from media.sniff import sniff

# A unit square in the plane z = 2 beside a triangle a quarter as large.
VERTICES = np.array([[0, 0, 2], [1, 0, 2], [1, 1, 2], [0, 1, 2], [5, 0, 2], [5.5, 0, 2], [5, 1, 2]], dtype=np.float32)
POLYGONS = [[0, 1, 2, 3], [4, 5, 6]]
TRIANGLES = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]])


def rows(array: AnyArray) -> str:
    return "\n".join(" ".join(f"{value:g}" for value in row) for row in array) + "\n"


def ply(encoding: str, faces: bool = True, points: AnyArray = VERTICES) -> bytes:
    lines = ["ply", f"format {encoding} 1.0", "comment ours", f"element vertex {len(points)}"]
    lines += ["property float x", "property float y", "property float z", "property uchar red"]
    if faces:
        lines += [f"element face {len(POLYGONS)}", "property list uchar int vertex_indices"]
    head = "\n".join([*lines, "end_header\n"]).encode()
    if encoding == "ascii":
        text = rows(np.column_stack([points, np.full(len(points), 7)]))
        text += "".join(f"{len(polygon)} {' '.join(map(str, polygon))}\n" for polygon in POLYGONS) if faces else ""
        return head + text.encode()
    order = "<" if "little" in encoding else ">"
    body = b"".join(struct.pack(order + "fffB", *point, 7) for point in points)
    lists = (struct.pack(f"{order}B{len(polygon)}i", len(polygon), *polygon) for polygon in POLYGONS)
    return head + body + (b"".join(lists) if faces else b"")


def pcd(kind: str, points: AnyArray = VERTICES) -> bytes:
    head = "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z rgb\nSIZE 4 4 4 4\nTYPE F F F U\n"
    head += (
        f"COUNT 1 1 1 1\nWIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {kind}\n"
    )
    if kind == "ascii":
        return (head + rows(np.column_stack([points, np.zeros(len(points))]))).encode()
    return head.encode() + b"".join(struct.pack("<fffI", *point, 0) for point in points)


def npy(array: AnyArray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def obj() -> bytes:
    faces = "f 1/1/1 2//2 3 4\nf -3 -2 -1\n"
    return ("# ours\no thing\n" + "".join(f"v {row}\n" for row in rows(VERTICES).splitlines()) + faces).encode()


def off(glued: bool = False) -> bytes:
    counts = f"{len(VERTICES)} {len(POLYGONS)} 0\n"
    faces = "".join(f"{len(polygon)} {' '.join(map(str, polygon))}\n" for polygon in POLYGONS)
    return (("OFF" if glued else "OFF\n") + counts + rows(VERTICES) + faces).encode()


def stl(ascii_text: bool) -> bytes:
    if not ascii_text:
        records = (struct.pack("<12fH", 0, 0, 1, *VERTICES[face].ravel(), 0) for face in TRIANGLES)
        return bytes(80) + struct.pack("<I", len(TRIANGLES)) + b"".join(records)
    facets = (
        "facet normal 0 0 1\nouter loop\n" + "".join(f"vertex {row}\n" for row in rows(VERTICES[face]).splitlines())
        + "endloop\nendfacet\n" for face in TRIANGLES
    )  # fmt: skip
    return ("solid ours\n" + "".join(facets) + "endsolid ours\n").encode()


def glb(node: dict[str, Any] | None = None, **changes: Any) -> bytes:
    binary = VERTICES.tobytes() + TRIANGLES.astype("<u2").tobytes()
    binary += bytes(-len(binary) % 4)
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, **(node or {})}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(VERTICES), "type": "VEC3"},
            {"bufferView": 1, "componentType": 5123, "count": TRIANGLES.size, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": VERTICES.nbytes},
            {"buffer": 0, "byteOffset": VERTICES.nbytes, "byteLength": TRIANGLES.size * 2},
        ],
        "buffers": [{"byteLength": len(binary)}],
        **changes,
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(binary), b"BIN\x00") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


CLOUDS = {
    "xyz": rows(VERTICES).encode(),
    "xyz with commas and colours": b"// x,y,z\n" + rows(np.hstack([VERTICES, VERTICES])).replace(" ", ",").encode(),
    "pts": f"{len(VERTICES)}\n".encode() + rows(np.hstack([VERTICES, VERTICES])).encode(),
    "pcd ascii": pcd("ascii"),
    "pcd binary": pcd("binary"),
    "npy": npy(VERTICES),
    "npy in Fortran order": npy(np.asfortranarray(np.hstack([VERTICES, VERTICES]).astype(np.float64))),
    "ply ascii": ply("ascii", faces=False),
    "ply binary": ply("binary_little_endian", faces=False),
    "ply big endian": ply("binary_big_endian", faces=False),
    "obj": obj().split(b"f 1")[0],
}
MESHES = {
    "ply ascii": ply("ascii"),
    "ply binary": ply("binary_little_endian"),
    "ply big endian": ply("binary_big_endian"),
    "obj": obj(),
    "off": off(),
    "off glued": off(glued=True),
    "stl": stl(ascii_text=False),
    "stl ascii": stl(ascii_text=True),
    "glb": glb(),
}


def shape(content: bytes, limits: MediaLimits | None = None, container: str | None = None) -> FloatArray:
    found = container or sniff(content)
    assert found is not None
    job = DecodeJob(
        container=found,
        modality=Modality.POINT_CLOUD,
        limits=limits or MediaLimits(),
        options=DecodeOptions(),
    )
    array: FloatArray = decode_points(content, job).array
    assert array.dtype == np.float32
    return array


@pytest.mark.parametrize("name", CLOUDS)
def test_every_cloud_gives_its_points_back(name: str) -> None:
    assert sniff(CLOUDS[name]) == name.split()[0]
    assert shape(CLOUDS[name]) == pytest.approx(VERTICES)


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_is_sampled_by_area_and_the_same_each_time(name: str) -> None:
    assert sniff(MESHES[name]) == name.split()[0]
    points = shape(MESHES[name])
    assert points.shape == (NUM_MESH_SAMPLES, 3)
    assert points[:, 2] == pytest.approx(2)
    in_square = points[:, 0] <= 1
    assert in_square.mean() == pytest.approx(0.8, abs=0.02)  # areas 1 and 1/4
    assert points[in_square][:, :2].mean(axis=0) == pytest.approx([0.5, 0.5], abs=0.02)
    assert (points == shape(MESHES[name])).all()


def test_every_table_entry_for_points_has_a_file_here() -> None:
    in_table = {key.partition("/")[0] for key in CONTAINERS if key.endswith("/point_cloud")}
    assert in_table == {name.split()[0] for name in (*CLOUDS, *MESHES)}


def test_node_transforms_of_a_scene_are_applied() -> None:
    turned = glb({"rotation": [0, 0, 2**-0.5, 2**-0.5], "scale": [2, 2, 2], "translation": [10, 0, 0]})
    points = shape(turned)
    assert points[:, 2] == pytest.approx(4)
    assert points[:, 0].max() == pytest.approx(10, abs=0.01)  # x' = 10 - 2 y
    assert points[:, 0].min() == pytest.approx(8, abs=0.05)
    column_major = [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2, 0, 1, 0, 0, 1]
    assert shape(glb({"matrix": column_major}))[:, 0].min() == pytest.approx(1, abs=0.05)


def test_missing_points_of_a_scan_are_dropped() -> None:
    holes = VERTICES.copy()
    holes[1, 0], holes[4, 2] = np.nan, np.inf
    for content in (npy(holes), pcd("binary", holes), ply("ascii", faces=False, points=holes)):
        assert len(shape(content)) == len(VERTICES) - 2


@pytest.mark.parametrize("content", [npy(VERTICES[:1]), npy(np.full((50, 3), np.nan)), b"1 2 3\n", npy(VERTICES[:0])])
def test_too_few_points_are_refused(content: bytes) -> None:
    with pytest.raises(MediaDecodeError, match="at least 3 are needed"):
        shape(content)


def test_a_mesh_without_area_gives_its_vertices() -> None:
    flat = b"OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n"
    assert shape(flat).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("name", [*CLOUDS, *MESHES])
def test_more_points_than_allowed_are_refused(name: str) -> None:
    content = CLOUDS.get(name, MESHES.get(name, b""))
    with pytest.raises(MediaTooLarge, match="at most 2 are allowed"):
        shape(content, MediaLimits(max_points=2))


def test_a_million_points_are_read() -> None:
    cloud = np.random.default_rng(0).normal(size=(1_000_000, 3)).astype(np.float32)
    assert shape(npy(cloud)).shape == (1_000_000, 3)


@pytest.mark.parametrize(
    "content",
    [
        ply("ascii").replace(b"vertex 7", b"vertex 1999999"),
        ply("binary_little_endian").replace(b"vertex 7", b"vertex 1999999"),
        off().replace(b"7 2 0", b"1999999 2 0"),
        pcd("binary").replace(b"POINTS 7", b"POINTS 1999999"),
        npy(VERTICES)[:-5],
        glb(bufferViews=[{"buffer": 0, "byteOffset": 1 << 40}, {"buffer": 0}]),
        obj() + b"f 1 2 99\n",
        glb()[:60],
    ],
)
def test_counts_and_indices_that_lie_are_a_damaged_file(content: bytes) -> None:
    with pytest.raises(MediaDecodeError):
        shape(content)


def test_a_scene_that_holds_itself_or_repeats_a_mesh_without_end_is_refused() -> None:
    with pytest.raises(MediaTooLarge, match="a node that holds itself"):
        shape(glb(nodes=[{"children": [0]}]))
    doubling = [{"children": [n + 1, n + 1]} for n in range(20)] + [{"mesh": 0}]
    with pytest.raises(MediaTooLarge):
        shape(glb(nodes=doubling))
    with pytest.raises(MediaTooLarge, match="more than 10000 nodes"):
        shape(glb(nodes=[{"children": [1] * 20_000}, {}]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (glb(extensionsRequired=["KHR_draco_mesh_compression"]), "draco"),
        (glb(buffers=[{"uri": "file:///etc/passwd"}]), "external buffers"),
        (pcd("binary").replace(b"DATA binary", b"DATA binary_compressed"), "binary_compressed"),
        (npy(np.zeros((4, 2))), r"\(N, 3 or more\)"),
        (npy(np.zeros((4, 3), dtype="U1")), "must hold numbers"),
    ],
)
def test_variants_that_are_not_read_are_refused_by_name(content: bytes, sentence: str) -> None:
    with pytest.raises(UnsupportedMedia, match=sentence):
        shape(content)


def test_an_array_of_python_objects_is_never_unpickled() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[1, "a", None]], dtype=object), allow_pickle=True)
    with pytest.raises(UnsupportedMedia):
        shape(buffer.getvalue())


def test_maps_and_inertial_recordings_come_as_arrays() -> None:
    def decode(array: AnyArray, modality: Modality) -> DecodedMedia:
        settings = DecodeJob(container="npy", modality=modality, limits=MediaLimits(), options=DecodeOptions())
        return decode_array(npy(array), settings)

    depth = np.array([[1, 2000], [40000, 7]], dtype=np.uint16)
    assert decode(depth, Modality.DEPTH).array.tolist() == depth.tolist()
    assert decode(np.zeros((6, 20)), Modality.IMU).array.shape == (6, 20)
    with pytest.raises(UnsupportedMedia, match=r"imu is an array \(6, S\), got \(20, 6\)"):
        decode(np.zeros((20, 6)), Modality.IMU)
    with pytest.raises(MediaDecodeError, match="not numbers"):
        decode(np.full((2, 2), np.nan), Modality.THERMAL)


@pytest.mark.parametrize("name", [*CLOUDS, *MESHES])
def test_damaged_shapes_are_points_or_a_refusal(name: str) -> None:
    content = MESHES.get(name, CLOUDS.get(name, b""))
    random = np.random.default_rng(5)
    for _ in range(60):
        damaged = bytearray(content[: random.integers(1, len(content) + 1)])
        for place in random.integers(0, len(damaged), 3):
            damaged[place] ^= int(random.integers(1, 256))
        try:
            points = shape(bytes(damaged), container=name.split()[0])
        except InvalidRequest:
            continue
        assert np.isfinite(points).all()
