"""The golden fixtures as the files people hold (Meta base, adapter `.pth`, encoder) and a plan to convert them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.adapters.options import AdapterOptions
from models.convert import ConversionPlan, ConversionSizes
from models.imagebind.config import ImageBindConfig, TowerSize
from models.imagebind.model import ImageBind
from models.pointbind.pointbert import PointBert, PointBertConfig
from models.released_encoders import EncoderSizes

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BASE_PARAMS = {"dim": 32, "n_layers": 4, "n_heads": 4, "multiple_of": 16, "norm_eps": 1e-6, "vocab_size": -1}
MATRICES = ("wq.weight", "wk.weight", "wv.weight", "wo.weight", "w1.weight", "w2.weight", "w3.weight")
FAMILIES = {
    "imagebind_llm/base": "imagebind_llm",
    "imagebind_llm/legacy_bridge": "imagebind_llm",
    "imagebind_llm/pretrain": "imagebind_llm",
    "llama_adapter_v2_multimodal/lora_bias_newgate": "llama_adapter_v2",
    "llama_adapter_v1": "llama_adapter_v1",
    "llama_adapter_v2_chat65b/with_adapter": "llama_adapter_v2_chat",
    "llama_adapter_v2_chat65b/released_bias_scale_norm": "llama_adapter_v2_chat",
}
TUNES_NORMS = {name for name in FAMILIES if name not in ("imagebind_llm/pretrain", "llama_adapter_v1")}


def is_base(key: str) -> bool:
    return "lora" not in key and (key.endswith(("tok_embeddings.weight", "output.weight")) or key.endswith(MATRICES))


def is_norm(key: str) -> bool:
    return key.endswith(("attention_norm.weight", "ffn_norm.weight")) or key in ("norm.weight", "llama.norm.weight")


def split_fixture(fixture: str, folder: Path) -> tuple[Path, Path]:
    """Write a fixture's weights as the two files people hold: a Meta base and an adapter `.pth`."""
    state = load_file(GOLDEN / fixture / "weights.safetensors")
    state = {key: value for key, value in state.items() if not key.startswith(("clip.", "image_bind."))}
    tuned = fixture in TUNES_NORMS
    base = {key: value for key, value in state.items() if is_base(key) or is_norm(key)}
    if tuned:  # the adapter's norms must win over the base's
        base = {key: torch.full_like(value, 7.0) if is_norm(key) else value for key, value in base.items()}
    adapter = {key: value for key, value in state.items() if not is_base(key) and (tuned or not is_norm(key))}
    base_folder = folder / "base"
    base_folder.mkdir(parents=True)
    torch.save({key.removeprefix("llama."): value for key, value in base.items()}, base_folder / "consolidated.00.pth")
    (base_folder / "params.json").write_text(json.dumps(BASE_PARAMS))
    shutil.copy(GOLDEN / "llama_tokenizer" / "tokenizer.model", folder)
    wrapped = adapter if fixture == "llama_adapter_v1" else {"model": adapter, "config": {"w_lora": True}}
    torch.save(wrapped, folder / "adapter.pth")
    return base_folder, folder / "adapter.pth"


def plan_for(fixture: str, folder: Path, **changes: Any) -> ConversionPlan:
    base, adapter = split_fixture(fixture, folder)
    encoder = None
    if FAMILIES[fixture] == "llama_adapter_v2":
        state = load_file(GOLDEN / fixture / "weights.safetensors")
        encoder = folder / "clip.safetensors"
        save_file({key: value for key, value in state.items() if key.startswith("clip.visual.")}, encoder)
    plan = ConversionPlan(
        family=FAMILIES[fixture],
        adapter=adapter,
        base=base,
        target=folder / "model",
        name="golden",
        encoder=encoder,
        dtype=torch.float32,
        sizes=ConversionSizes(adapter=AdapterOptions(num_visual_heads=3), encoder=EncoderSizes(clip_heads=3)),
        licences={"adapter": "research only"},
    )
    return replace(plan, **changes)


_TOWER = TowerSize(16, 1, 2)
TINY_ENCODER = EncoderSizes(
    clip_heads=3,
    imagebind=ImageBindConfig(
        embedding_width=40,
        image_size=28,
        audio_kernel=8,
        audio_stride=6,
        depth_kernel=7,
        thermal_kernel=7,
        **dict.fromkeys(("vision", "text", "audio", "depth", "thermal", "imu"), _TOWER),
    ),
    points=PointBertConfig(
        width=12,
        depth=1,
        num_heads=2,
        num_groups=8,
        group_size=4,
        token_width=16,
        net_widths=(8, 12),
        position_width=8,
        projection_width=10,
        embedding_width=40,
    ),
)
"""An ImageBind and a PointBERT whose joint space is as wide as the bind networks of the fixtures take."""


def write_imagebind(path: Path, *, with_points: bool) -> Path:
    """Write a random file laid out as `imagebind_huge`, or `imagebind_w3D`, of `TINY_ENCODER`'s size."""
    torch.manual_seed(5)
    model = ImageBind(TINY_ENCODER.imagebind)
    for parameter in model.parameters():  # far from the symmetric start, so that pictures differ
        parameter.data += 0.3 * torch.randn_like(parameter)
    points = PointBert(TINY_ENCODER.points).state_dict() if with_points else {}
    torch.save(model.state_dict() | points, path)
    return path
