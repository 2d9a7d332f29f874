"""Settings: sources, precedence, refusals, secrets."""

from __future__ import annotations

from typing import Any

import pytest

from core.errors import ConfigError
from server.settings import load_settings, setting_rows


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BINDCHAT_PORT", "BINDCHAT_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_the_command_line_beats_the_environment_which_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDCHAT_PORT", "9001")
    monkeypatch.setenv("BINDCHAT_MODEL", "tiny")
    overrides = {"port": 9002, "host": None}
    settings = load_settings(overrides)
    assert (settings.port, settings.model, settings.host) == (9002, "tiny", "127.0.0.1")
    sources = {row.name: row.source for row in setting_rows(settings, overrides)}
    assert sources["port"] == "command line"
    assert sources["model"] == "environment BINDCHAT_MODEL"
    assert sources["host"] == "default"


def test_an_unknown_variable_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="BINDCHAT_PROT"):
        load_settings({}, environ={"BINDCHAT_PROT": "1"})


@pytest.mark.parametrize(("name", "value"), [("port", 70000), ("max_slots", 0), ("dtype", "int4"), ("keep_alive_s", 0)])
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        load_settings({name: value})


def test_lists_are_written_with_commas() -> None:
    settings = load_settings({"cors_origins": "https://a.example, https://b.example,"})
    assert settings.cors_origins == ("https://a.example", "https://b.example")


def test_keys_are_never_shown() -> None:
    settings = load_settings({"api_keys": "very-secret"})
    shown = " ".join(row.value for row in setting_rows(settings, {}))
    assert "very-secret" not in shown
    assert "very-secret" not in repr(settings)
