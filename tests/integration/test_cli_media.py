"""`bindchat embed`, `bindchat chat` with any medium, and what every command owes its user: help, JSON, exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from server.cli import app
from server.load_test.traffic import cloud, film_uri, sound
from tests.support.films import film_bytes
from tests.support.listening import Listening, build_listening
from tests.support.live_server import LiveServer, live_server, picture


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(build_listening(Listening()), default_max_tokens=4, default_temperature=0.0) as running:
        yield running


@pytest.fixture
def media(tmp_path: Path) -> dict[str, str]:
    """One file of each kind, by the option that takes it."""
    rng = np.random.default_rng(0)
    contents = {"image": picture(), "audio": sound(rng), "video": film_bytes(), "point-cloud": cloud(rng)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return {f"--{name}": str(tmp_path / name) for name in contents}


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_inputs_of_every_kind_are_embedded_at_unit_length(
    server: LiveServer, media: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "rows.npy"
    options = [piece for pair in media.items() for piece in pair]
    found = json.loads(run("embed", "red", "blue", *options, "--url", server.url, "--json", "--out", str(out)))
    assert [row["input"] for row in found] == ["red", "blue", *media.values()]
    rows = np.load(out)
    np.testing.assert_allclose(rows, [row["embedding"] for row in found])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_without_json_the_likeness_of_the_inputs_is_shown(server: LiveServer, media: dict[str, str]) -> None:
    shown = run("embed", "red", "--image", media["--image"], "--image", media["--image"], "--url", server.url)
    head, *lines = shown.splitlines()
    assert head.startswith("3 of width")
    table = np.array([[float(value) for value in line.split()[1:4]] for line in lines])
    np.testing.assert_allclose(np.diag(table), 1, atol=1e-3)
    assert table[1, 2] == pytest.approx(1, abs=1e-3)


def test_a_blend_is_one_row_of_as_many_numbers_as_asked(server: LiveServer) -> None:
    (row,) = json.loads(run("embed", "red", "blue", "--blend", "--dimensions", "4", "--url", server.url, "--json"))
    assert (row["input"], len(row["embedding"])) == ("red + blue", 4)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["embed"], "--help"),
        (["embed", "--image", "nowhere.png"], "nowhere.png"),
        (["embed", "x", "--dimensions", "100000"], "dimensions"),
        (["embed", "x", "--url", "http://127.0.0.1:1"], "refused"),
    ],
)
def test_what_cannot_be_embedded_ends_with_a_sentence(server: LiveServer, arguments: list[str], word: str) -> None:
    where = [] if "--url" in arguments else ["--url", server.url]
    result = CliRunner().invoke(app, [*arguments, *where])
    assert (result.exit_code, word in result.output) == (2, True), result.output


def test_a_question_about_every_kind_is_answered_as_json(server: LiveServer, media: dict[str, str]) -> None:
    for option, path in media.items():
        found = json.loads(run("chat", option, path, "--url", server.url, "--json", "what is this?"))
        assert found["question"] == "what is this?"
        assert found["answer"]
    finished = server.events.wait_for("request_finished", num_media=1)
    assert finished["status"] == 200


def commands(command: Any, name: str = "bindchat") -> Iterator[tuple[str, click.Command]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child_name, child in children.items():
        yield from commands(child, f"{name} {child_name}")


ALL = dict(commands(typer.main.get_command(app)))
PRINTS_JSON_ANYWAY = {"bindchat openapi"}


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_command_teaches_and_can_answer_as_json(name: str) -> None:
    command = ALL[name]
    assert len(command.help or "") > 20
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options or name in PRINTS_JSON_ANYWAY
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} of {name} has no help"


def test_the_shell_can_complete_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_BINDCHAT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "bindchat be")
    monkeypatch.setenv("COMP_CWORD", "1")
    result = CliRunner().invoke(app, [], prog_name="bindchat")
    assert result.output.split() == ["bench"]


def test_made_up_films_are_read(server: LiveServer) -> None:
    part = {"type": "video_url", "video_url": {"url": film_uri(np.random.default_rng(1))}}
    assert server.chat([{"type": "text", "text": "?"}, part]).status_code == 200
