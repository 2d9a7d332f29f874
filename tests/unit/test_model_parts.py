"""What each machine of several loads of a model, and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from core.errors import ConfigError, EngineFault
from core.types import Modality
from models.convert import convert
from models.llama.weights import hf_state
from models.parts import ModelPart, load_part, move_encoders
from models.registry import load_model
from models.tiny import load_tiny
from tests.support.released_files import plan_for

CLIP_FAMILY = "llama_adapter_v2_multimodal/lora_bias_newgate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = plan_for(CLIP_FAMILY, tmp_path_factory.mktemp("golden"))
    convert(plan)
    return plan.target


@pytest.fixture(params=["tiny", "folder"])
def name(request: pytest.FixtureRequest) -> str:
    return "tiny" if request.param == "tiny" else str(request.getfixturevalue("folder"))


def test_the_front_has_every_name_and_no_weights(name: str) -> None:
    whole, front = load_model(name, torch.float32), load_part(name, torch.float32, ModelPart.FRONT)
    assert {m: e.encoder_id for m, e in front.encoders.items()} == {m: e.encoder_id for m, e in whole.encoders.items()}
    assert front.decoder.config == whole.decoder.config
    assert {parameter.device.type for parameter in front.decoder.parameters()} == {"meta"}
    counts = [sum(parameter.numel() for parameter in bundle.decoder.parameters()) for bundle in (whole, front)]
    assert counts[0] == counts[1]
    assert front.joint_space_id == whole.joint_space_id
    with pytest.raises(EngineFault, match="another machine"):
        front.encoders[Modality.IMAGE].encode([])


def test_the_decoder_part_has_the_weights_of_the_whole(name: str) -> None:
    whole, part = load_model(name, torch.float32), load_part(name, torch.float32, ModelPart.DECODER)
    assert not part.encoders
    state = hf_state(part.decoder)
    assert all(torch.equal(state[key], value) for key, value in hf_state(whole.decoder).items())
    assert torch.equal(part.decoder.adapter_gates, whole.decoder.adapter_gates)


def test_the_encoder_part_has_encoders_that_work(name: str) -> None:
    part = load_part(name, torch.float32, ModelPart.ENCODERS)
    assert {parameter.device.type for parameter in part.decoder.parameters()} == {"meta"}
    assert set(part.encoders) == set(load_model(name, torch.float32).encoders)


def test_a_part_does_not_read_what_it_leaves_out(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for path in folder.iterdir():
        is_decoder = path.name.startswith("model") and path.suffix == ".safetensors"
        (copy / path.name).write_bytes(b"damaged" if is_decoder else path.read_bytes())
    assert load_part(str(copy), torch.float32, ModelPart.FRONT).encoders
    with pytest.raises(ConfigError):
        load_part(str(copy), torch.float32, ModelPart.DECODER)


def test_encoders_of_one_module_move_and_others_are_refused(folder: Path) -> None:
    move_encoders(load_part(str(folder), torch.float32, ModelPart.ENCODERS).encoders, "cpu")
    with pytest.raises(ConfigError, match=r"tiny/image runs on the CPU only; give its replicas no GPU"):
        move_encoders(load_tiny(torch.float32).encoders, "cuda")
