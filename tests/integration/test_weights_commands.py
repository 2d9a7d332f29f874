"""`pull` and `convert` as they are typed: a hub on loopback, golden weights, exit codes, JSON."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from models.folder import FolderManifest, verify_folder
from models.pull import CATALOGUE
from models.registry import ADAPTERS
from server.cli import app
from tests.support.hub_server import COMMITS, Hub, running_hub
from tests.support.released_files import split_fixture

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WEIGHTS = bytes(range(256)) * 40
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "official_weights.md"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with running_hub() as served:
        served.files = {"config.json": b"{}", "model.safetensors": WEIGHTS}
        monkeypatch.setenv("BINDCHAT_HUB_ENDPOINT", served.endpoint)
        yield served


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.stdout, result.stderr


def test_pull_fetches_from_the_mirror_of_the_environment_and_prints_the_receipt(hub: Hub, tmp_path: Path) -> None:
    code, out, err = run("pull", "owner/llama", "--to", tmp_path, "--revision", "v1", "--json")
    assert code == 0, err
    files = {file["name"]: file for file in json.loads(out)}
    assert files["model.safetensors"]["commit"] == COMMITS["v1"]
    assert files["model.safetensors"]["licence"] == "apache-2.0"
    assert (tmp_path / "model.safetensors").read_bytes() == WEIGHTS
    assert "owner/llama: apache-2.0" in err
    assert f"model.safetensors: sha256 {hub.digest(WEIGHTS)}" in err.replace("\n", " ").replace("  ", " ")


def test_pull_says_in_words_where_the_files_are(hub: Hub, tmp_path: Path) -> None:
    code, out, _ = run("pull", "owner/llama", "--to", tmp_path)
    assert (code, out) == (0, f"2 files of owner/llama are in {tmp_path}\n")


def test_pull_asks_for_consent_with_code_2_and_takes_it(hub: Hub, tmp_path: Path) -> None:
    hub.licence = "cc-by-nc-4.0"
    code, out, err = run("pull", "owner/llama", "--to", tmp_path)
    assert (code, out) == (2, "")
    assert "repeat with --accept-licence" in err
    assert list(tmp_path.iterdir()) == []
    assert run("pull", "owner/llama", "--to", tmp_path, "--accept-licence")[0] == 0


@pytest.mark.parametrize(("name", "sentence"), [("nobody", "unknown model 'nobody'"), ("owner/absent", "owner/absent")])
def test_pull_names_what_it_does_not_know_with_code_2(name: str, sentence: str, hub: Hub, tmp_path: Path) -> None:
    code, _, err = run("pull", name, "--to", tmp_path)
    assert code == 2
    assert sentence in err


def test_pull_refuses_a_file_with_another_digest_with_code_2(hub: Hub, tmp_path: Path) -> None:
    hub.wrong_digest = True
    code, _, err = run("pull", "owner/llama", "--to", tmp_path)
    assert code == 2
    assert "expected 0000" in err


def arguments_for(folder: Path) -> list[object]:
    base, adapter = split_fixture("llama_adapter_v1", folder)
    return [folder / "v1", "--family", "llama_adapter_v1", "--adapter", adapter, "--base", base]


def test_convert_writes_a_folder_and_names_it_as_json(tmp_path: Path) -> None:
    arguments = arguments_for(tmp_path)
    code, out, err = run("convert", *arguments, "--dtype", "bfloat16", "--json")
    assert code == 0, err
    target = tmp_path / "v1"
    assert json.loads(out) == {"model": "v1", "family": "llama_adapter_v1", "folder": str(target)}
    assert verify_folder(target) == []
    code, _, err = run("convert", *arguments)
    assert code == 2
    assert "already holds a finished model" in err


def test_convert_records_the_licences_of_pulled_files(tmp_path: Path) -> None:
    arguments = arguments_for(tmp_path)
    line = {"name": "adapter.pth", "sha256": "0", "source": "owner/llama", "commit": None, "licence": "MIT"}
    (tmp_path / "pulled.json").write_text(json.dumps({"adapter.pth": line}))
    assert run("convert", *arguments)[0] == 0
    licences = {source.name: source.licence for source in FolderManifest.read(tmp_path / "v1").sources}
    assert licences["adapter.pth"] == "MIT"
    assert licences["params.json"].startswith("not stated")


def test_convert_refuses_sizes_it_does_not_know_with_code_2(tmp_path: Path) -> None:
    (tmp_path / "sizes.json").write_text('{"colour": "red"}')
    code, out, err = run("convert", *arguments_for(tmp_path), "--sizes", tmp_path / "sizes.json")
    assert (code, out) == (2, "")
    assert "sizes.json has an unknown entry" in err


def documented_commands() -> list[list[str]]:
    """Return every `bindchat` command of the guide as its words; a line may go on after a backslash."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = (line.strip() for block in blocks for line in block.splitlines())
    return [shlex.split(line)[1:] for line in lines if line.startswith("bindchat ")]


def test_the_guide_has_commands_for_every_step_and_every_catalogued_name() -> None:
    commands = documented_commands()
    assert {words[0] for words in commands} >= {"pull", "convert", "serve", "doctor"}
    assert {words[1] for words in commands if words[0] == "pull"} >= set(CATALOGUE)


@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_every_command_of_the_guide_parses(words: list[str]) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    command = group.commands[words[0]]
    context = command.make_context(words[0], words[1:])
    if words[0] == "convert":
        assert context.params["family"] in ADAPTERS.names()


def num_parameters(keys: str, *prefixes: str) -> int:
    shapes = json.loads((GOLDEN / keys).read_text())
    return sum(math.prod(shape) for key, shape in shapes.items() if key.startswith(prefixes or ""))


def test_the_memory_table_of_the_guide_follows_from_the_released_shapes() -> None:
    v2 = ("clip_proj", "visual_", "adapter_query")
    expected = {
        "LLaMA-7B, merged": num_parameters("adapter_keys/llama_7b_consolidated.json"),
        "bind network of ImageBind-LLM": num_parameters("adapter_keys/imagebind_llm_7B.json", "image_bind_", "prefix_"),
        "ImageBind-huge": num_parameters("imagebind_keys/imagebind_huge.json"),
        "PointBERT of `imagebind_w3D`": num_parameters("imagebind_keys/imagebind_w3D_minus_huge.json"),
        "adapter of LLaMA-Adapter V2": num_parameters("adapter_keys/llama_adapter_v2_BIAS-7B.json", *v2),
        "CLIP ViT-L/14, visual": num_parameters("adapter_keys/clip_vit_l14_visual.json"),
    }
    row = re.compile(r"^\| ([^|]+) \| ([\d,]+) \| \w+, (\d) bytes \| ([\d.]+) \|$", re.MULTILINE)
    rows = row.findall(GUIDE.read_text(encoding="utf-8"))
    assert {part: int(count.replace(",", "")) for part, count, _, _ in rows} == expected
    for part, _, size, gigabytes in rows:
        assert float(gigabytes) == pytest.approx(expected[part] * int(size) / 1e9, abs=0.005)
