"""Parity of the point encoders: groups, tokens, blocks, features, embeddings, and unit-sphere normalisation.

Widths come from the weights' shapes; heads and group sizes, which no shape shows, from the config.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.parity_families import Output
from models.pointbind.encoder import load_point_model
from models.pointbind.grouping import PointGroups, group_clouds, normalize_unit_sphere
from models.pointbind.i2pmae import I2pMae, I2pMaeConfig, StageConfig
from models.pointbind.pointbert import PointBert, PointBertConfig

TOLERANCE = 1e-4


def outputs(folder: Path) -> Iterator[Output]:
    """Yield every recorded output of a `pointbert`, `pointbind_i2pmae` or `pointcloud_normalize` fixture."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    inputs, expected = load_file(folder / "inputs.safetensors"), load_file(folder / "outputs.safetensors")
    if config["fixture"] == "pointcloud_normalize":
        produced = {"normalized": normalize_unit_sphere(inputs["points"])}
    else:
        state = load_file(folder / "weights.safetensors")
        run = run_pointbert if config["fixture"] == "pointbert" else run_i2pmae
        runs = dict.fromkeys(name.rpartition(".")[0] for name in expected)
        produced = {}
        for name in runs:
            values = run(config, state, inputs, name.partition(".")[2])
            produced |= {f"{name}.{key}": value for key, value in values.items()}
    for name, value in expected.items():
        tolerance = TOLERANCE * max(1.0, float(value.abs().max()))  # relative for the large, unnormed residual stream
        yield name, produced.get(name, torch.empty(0)).numpy(), value.numpy(), tolerance


def run_pointbert(
    config: Mapping[str, Any], state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], start: str
) -> dict[str, Tensor]:
    """Return every named value of one run; `start` is `start0` or the suffix of an `fps_...` input of ids."""
    model = load_point_model(PointBert(pointbert_config(config["point_config"], state)), state, "the fixture")
    points = inputs["points"]
    starts = [0] * len(points) if start == "start0" else [int(point_id) for point_id in inputs[f"fps_{start}"]]
    (groups,) = group_clouds(points, model.config.rules, starts=starts)
    transformer = model.point_trunk.point_encoder
    stages: dict[str, nn.Module] = {
        "group_tokens": transformer.encoder,
        "encoder_out": transformer,
        "trunk_out": model.point_trunk,
        "head_out_prenorm": model.modality_heads["point"],
        **{f"block{i}_out": block for i, block in enumerate(transformer.blocks.blocks)},
    }
    values = record(stages)
    with torch.inference_mode():
        values["embedding"] = model(points, starts=starts)
    return values | {"center": groups.centres, "neighborhood_sorted_norms": sorted_norms(groups)}


def run_i2pmae(
    config: Mapping[str, Any], state: Mapping[str, Tensor], inputs: Mapping[str, Tensor], cloud: str
) -> dict[str, Tensor]:
    """Return every named value of one run on the input called `cloud`."""
    model = load_point_model(I2pMae(i2pmae_config(config, state)), state, "the fixture")
    levels = group_clouds(inputs[cloud], model.config.rules)
    hierarchy = model.point_encoder.h_encoder
    stages: dict[str, nn.Module] = {
        "encoder_out": model.point_encoder,
        "head_out": model.bind["modality_head_point"],
        **{f"token_embed{i}": net for i, net in enumerate(hierarchy.token_embed)},
        **{f"stage{i}_out": blocks for i, blocks in enumerate(hierarchy.encoder_blocks)},
    }
    values = record(stages)
    with torch.inference_mode():
        values["embedding"] = model(inputs[cloud])
        values["pc_embed"] = values["encoder_out"] @ model.pc_projection
    for i, groups in enumerate(levels):
        values |= {f"center{i}": groups.centres, f"neighborhood_sorted_norms{i}": sorted_norms(groups)}
    return values


def record(stages: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Return a mapping that the modules' outputs fill when they next run."""
    values: dict[str, Tensor] = {}
    for name, module in stages.items():
        module.register_forward_hook(lambda _module, _inputs, output, name=name: values.update({name: output}))
    return values


def sorted_norms(groups: PointGroups) -> Tensor:
    """Return the neighbours' distances from their centre in rising order, `(B, G, K)`."""
    norms: Tensor = groups.offsets.norm(dim=-1)
    return norms.sort(dim=-1).values


def pointbert_config(fields: Mapping[str, Any], state: Mapping[str, Tensor]) -> PointBertConfig:
    """Read the widths off the weights and the rest from the reference's config fields."""
    encoder = "point_trunk.point_encoder."
    return PointBertConfig(
        width=int(fields["trans_dim"]),
        depth=int(fields["depth"]),
        num_heads=int(fields["num_heads"]),
        num_groups=int(fields["num_group"]),
        group_size=int(fields["group_size"]),
        token_width=int(fields["encoder_dims"]),
        net_widths=net_widths(state, f"{encoder}encoder"),
        position_width=len(state[f"{encoder}pos_embed.0.weight"]),
        projection_width=state["point_trunk.pc_projection"].shape[1],
        embedding_width=len(state["modality_heads.point.2.weight"]),
    )


def i2pmae_config(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> I2pMaeConfig:
    """Read the widths off the weights and the rest from the fixture's config."""
    fields = config["i2p"]
    radii = fields.get("radius") or config["local_radius"]
    stages = zip(fields["dims"], fields["depths"], fields["groups"], fields["sizes"], radii, strict=True)
    return I2pMaeConfig(
        stages=tuple(
            StageConfig(width=width, depth=depth, num_groups=num_groups, group_size=size, radius=radius)
            for width, depth, num_groups, size, radius in stages
        ),
        num_heads=int(fields["heads"]),
        net_widths=net_widths(state, "point_encoder.h_encoder.token_embed.0"),
        projection_width=state["pc_projection"].shape[1],
        embedding_width=len(state["bind.modality_head_point.2.weight"]),
    )


def net_widths(state: Mapping[str, Tensor], prefix: str) -> tuple[int, int]:
    """Return the two widths of a token network before pooling."""
    first, local = (len(state[f"{prefix}.first_conv.{index}.weight"]) for index in (0, 3))
    return first, local
