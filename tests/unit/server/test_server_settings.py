"""Settings: sources, precedence, refusals, secrets, and the page that describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.errors import ConfigError
from server.configuration import configure, flags_of, load_settings, pairs_of
from server.reference import PAGES
from server.settings import GROUPS, Settings

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "bindchat.toml"


def test_command_line_beats_environment_beats_file_beats_default(toml: Path) -> None:
    toml.write_text('port = 1\nmax_slots = 2\nmodel = "tiny"\nmedia_domains = ["a.example", "b.example"]\n')
    environ = {"BINDCHAT_PORT": "3", "BINDCHAT_MAX_SLOTS": "4", "BINDCHAT_LOG_LEVEL": ""}
    made = configure({"port": 5, "host": None}, file=toml, environ=environ)
    settings, rows = made.settings, {row.name: row for row in made.rows}
    assert (settings.port, settings.max_slots, settings.model, settings.host) == (5, 4, "tiny", "127.0.0.1")
    assert settings.media_domains == ("a.example", "b.example")
    sources = [rows[name].source for name in ("port", "max_slots", "model", "host", "log_level")]
    assert sources == ["command line", "environment BINDCHAT_MAX_SLOTS", f"file {toml}", "default", "default"]
    assert rows["media_domains"].value == "a.example, b.example"


def test_the_environment_may_name_the_file(toml: Path) -> None:
    toml.write_text("port = 7\n")
    assert load_settings({}, environ={"BINDCHAT_CONFIG": str(toml)}).port == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_slot = 3", "max_slots"),
        ("[network]\nport = 1", "network"),
        ("port = ", "not TOML"),
        ("port = 70000", "port"),
        ('port = "many"', "port"),
    ],
)
def test_a_mistake_in_the_file_is_named(toml: Path, text: str, words: str) -> None:
    toml.write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_settings({}, file=toml, environ={})


def test_a_file_that_is_not_there_is_named(toml: Path) -> None:
    with pytest.raises(ConfigError, match=r"bindchat\.toml"):
        load_settings({}, file=toml, environ={})


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"BINDCHAT_PROT.*did you mean port"):
        load_settings({}, environ={"BINDCHAT_PROT": "1"})


@pytest.mark.parametrize(
    ("name", "value"), [("port", 70000), ("max_slots", 0), ("dtype", "int4"), ("keep_alive_s", 0), ("colour", 1)]
)
def test_a_value_out_of_range_or_a_name_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        load_settings({name: value})


def test_a_list_written_as_json_is_refused_with_the_form_that_is_taken() -> None:
    with pytest.raises(ConfigError, match="commas and without brackets"):
        load_settings({}, environ={"BINDCHAT_ALLOWED_HOSTS": '["chat.example.org"]'})
    assert load_settings({}, environ={"BINDCHAT_ALLOWED_HOSTS": "[::1],a"}).allowed_hosts == ("[::1]", "a")


def test_lists_are_written_with_commas() -> None:
    settings = load_settings({"cors_origins": "https://a.example, https://b.example,"})
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_keys_are_never_shown() -> None:
    made = configure({"api_keys": "very-secret", "admin_keys": "more-secret"})
    shown = " ".join(row.value for row in made.rows) + repr(made)
    assert "secret" not in shown


def test_every_setting_is_an_option() -> None:
    assert flags_of(["--max-slots", "3", "--max-queue=4", "--allow-unauthenticated", "--no-allow-remote-media"]) == {
        "max_slots": "3",
        "max_queue": "4",
        "allow_unauthenticated": "true",
        "allow_remote_media": "false",
    }
    assert pairs_of(["max-slots=3", "model=a=b"]) == {"max_slots": "3", "model": "a=b"}


@pytest.mark.parametrize("arguments", [["--max-slot", "3"], ["max_slots"], ["--max-slots"], ["--no-port"], ["-x"]])
def test_an_option_that_is_no_setting_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        flags_of(arguments)


def test_every_setting_belongs_to_one_group_and_says_what_it_means() -> None:
    names = [name for group in GROUPS for name in group.model_fields]
    assert sorted(names) == sorted(Settings.model_fields)
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_generated_page_of_the_docs_is_up_to_date(page: str) -> None:
    written = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert written == PAGES[page](), f"python -m server.reference {page} > docs/{page}.md"
