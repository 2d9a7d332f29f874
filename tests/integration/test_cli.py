"""The commands a person types, run as they are typed."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from server.cli import app
from server.terminal_chat import ChatSession, open_client, run_terminal_chat
from tests.support.live_server import LiveServer, chat_body, live_server, picture

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--model", "tiny", "--set", "dtype=float32"]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(default_max_tokens=8, default_temperature=0.0) as running:
        yield running


def test_serve_refuses_a_port_that_is_taken_before_it_loads_a_model(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = CliRunner().invoke(
            app, ["serve", "--port", str(port), "--model", "nobody", "--log-dir", str(tmp_path)]
        )
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1:{port}" in result.output
    assert "nobody" not in result.output


def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(picture())
    return path


def test_print_config_shows_values_and_sources() -> None:
    result = CliRunner().invoke(
        app, ["serve", "--port", "9", "--set", "max-slots=3", "--max-queue", "5", "--print-config"]
    )
    assert result.exit_code == 0, result.output
    assert re.search(r"^port +9 +command line$", result.output, re.MULTILINE)
    assert re.search(r"^max_slots +3 +command line$", result.output, re.MULTILINE)
    assert re.search(r"^max_queue +5 +command line$", result.output, re.MULTILINE)
    assert re.search(r"^model +mini +default$", result.output, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["serve", "--set", "colour=red"], "colour"),
        (["serve", "--set", "max_slots"], "NAME=VALUE"),
        (["serve", "--colour", "red"], "colour"),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml"),
        (["serve", "--host", "0.0.0.0"], "--allow-unauthenticated"),
        (["serve", "--tls-cert-file", "nowhere.pem"], "tls_key_file"),
        (["serve", "--set", "max_slots=0"], "max_slots"),
        (["chat", "--image", "nowhere.png", "--url", "http://127.0.0.1:9", "what?"], "nowhere.png"),
        (["chat", "--url", "http://127.0.0.1:9", "what?"], "refused"),
        (["convert", "out", "--family", "imagebind_llm", "--adapter", "nowhere.pth", "--base", "none"], "nowhere.pth"),
        (["convert", "out", "--family", "opera", "--adapter", "nowhere.pth", "--base", "none"], "imagebind_llm"),
    ],
)
def test_a_mistake_ends_with_one_sentence_and_code_2(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert word in result.output
    assert "Traceback" not in result.output


def test_doctor_finds_the_tiny_model_well() -> None:
    result = CliRunner().invoke(app, ["doctor", *TINY, "--json"])
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert result.exit_code == 0, result.output
    assert "tiny" in findings["model"]["text"]
    assert findings["self-test"]["text"].startswith("1 token")


def test_doctor_reports_what_is_broken_with_code_1() -> None:
    result = CliRunner().invoke(app, ["doctor", "--model", "nobody"])
    assert result.exit_code == 1
    assert re.search(r"BROKEN +model .*tiny", result.output)


def test_doctor_looks_into_a_folder_that_is_no_model(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--model", str(tmp_path)])
    assert result.exit_code == 1
    assert "bindchat.json is missing" in result.output


def test_chat_asks_a_running_server_about_a_picture(server: LiveServer, tmp_path: Path) -> None:
    def answer(*more: str) -> str:
        result = CliRunner().invoke(app, ["chat", "--url", server.url, *more, "what is this?"])
        assert result.exit_code == 0, result.output
        return result.output

    assert answer() != answer("--image", str(photo(tmp_path)))


def test_chat_starts_a_server_of_its_own_when_none_is_named() -> None:
    result = CliRunner().invoke(app, ["chat", *TINY, "--set", "default_max_tokens=4", "hello"])
    assert result.exit_code == 0, result.output
    assert result.output.strip()


def test_a_conversation_attaches_pictures_forgets_and_survives_refusals(server: LiveServer, tmp_path: Path) -> None:
    typed = iter(
        ["/image nowhere.png", f"/image {photo(tmp_path)}", "what is this?", "/help", "x" * 2000, "hi", "/clear"]
    )
    written: list[str] = []

    def read_line() -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    with open_client(server.url, None) as client:
        session = ChatSession(client, None)
        run_terminal_chat(session, read_line, written.append)
    text = "".join(written)
    assert "! cannot read nowhere.png" in text
    assert "attached" in text
    assert "! the prompt has" in text
    finished = [line for line in server.events.lines if '"num_media": 1' in line]
    assert finished


def test_serve_announces_itself_answers_logs_and_stops_cleanly_on_sigterm(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "server.cli", "serve", *TINY, "--port", "0", "--log-dir", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = []
        while "is ready" not in (line := process.stdout.readline()):
            assert process.poll() is None
            printed.append(line)
        text = "".join(printed)
        found = re.search(r"curl (http://\S+)/v1/chat/completions .*-F image=@(\S+)", text)
        assert found is not None
        url, sample = found.groups()
        assert (ROOT / sample).exists()
        with (
            httpx.Client(base_url=url, timeout=20) as client,
            client.stream("POST", "/v1/chat/completions", json=chat_body(max_tokens=300, stream=True)) as answer,
        ):
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert "data: [DONE]" in list(lines)
        assert process.wait(30) in (0, -signal.SIGTERM)
    log = [json.loads(line) for line in (tmp_path / "server.jsonl").read_text(encoding="utf-8").splitlines()]
    events = [line["event"] for line in log]
    assert {"model_ready", "request_finished", "drain_started", "server_stopped"} <= set(events)
