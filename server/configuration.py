"""Read the settings: command line over environment over TOML file over default, and say which one won."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import ConfigError
from server.settings import ENV_PREFIX, GROUPS, Settings

FILE_VARIABLE = ENV_PREFIX + "CONFIG"
_OTHER_VARIABLES = frozenset({FILE_VARIABLE, ENV_PREFIX + "CHAT_KEY"})


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of `--print-config`."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The settings, and every one with its source."""

    settings: Settings
    rows: tuple[SettingRow, ...]


def load_settings(
    overrides: Mapping[str, Any], *, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Return the settings alone. Raises what `configure` raises."""
    return configure(overrides, file=file, environ=environ).settings


def configure(
    overrides: Mapping[str, Any], *, file: Path | None = None, environ: Mapping[str, str] = os.environ
) -> Configuration:
    """Build the settings. An override of None is none; `file` is a TOML file, by default that of `BINDCHAT_CONFIG`.

    Raises `ConfigError` for a bad value by its name, and for a key or a `BINDCHAT_` variable that is no setting.
    """
    variables = _variables(environ)
    path = file or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    in_file = {} if path is None else _read_file(path)
    given = {name: value for name, value in overrides.items() if value is not None}
    _check_names(given, "the command line")
    below = {name: value for name, value in {**in_file, **variables}.items() if name not in given}
    try:
        settings = Settings(**{**below, **given})
    except ValidationError as error:
        raise _bad_value(error) from None
    sources = {
        **dict.fromkeys(in_file, f"file {path}"),
        **{name: f"environment {ENV_PREFIX}{name.upper()}" for name in variables},
        **dict.fromkeys(given, "command line"),
    }
    rows = [SettingRow(name, _shown(getattr(settings, name)), sources.get(name, "default")) for name in _names()]
    return Configuration(settings=settings, rows=tuple(rows))


def pairs_of(assignments: Sequence[str]) -> dict[str, Any]:
    """Return `NAME=VALUE` texts as a mapping. Raises `ConfigError` for any other form or name."""
    pairs = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set takes NAME=VALUE, got {assignment!r}")
        pairs[name.replace("-", "_")] = value
    _check_names(pairs, "--set")
    return pairs


def flags_of(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `--name value`, `--name=value` and, for yes-or-no settings, `--name` and `--no-name` as a mapping.

    Raises `ConfigError` for anything else.
    """
    flags: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--"):
            raise ConfigError(f"unexpected argument {argument!r}; settings are written --name value")
        if name.startswith("no_") and _is_switch(name[3:]) and not equals:
            flags[name[3:]] = "false"
            continue
        _check_names([name], "the command line")
        if not equals and _is_switch(name):
            value = "true"
        elif not equals and not rest:
            raise ConfigError(f"{flag} needs a value", param=name)
        elif not equals:
            value = rest.pop(0)
        flags[name] = value
    return flags


def _is_switch(name: str) -> bool:
    return name in Settings.model_fields and Settings.model_fields[name].annotation is bool


def _names() -> list[str]:
    return [name for group in GROUPS for name in group.model_fields]


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of the environment; an empty variable is none. Raises `ConfigError` for an unknown one."""
    ours = {name.upper(): value for name, value in environ.items() if name.upper().startswith(ENV_PREFIX)}
    for name in _OTHER_VARIABLES:
        ours.pop(name, None)
    found = {name.removeprefix(ENV_PREFIX).lower(): value for name, value in ours.items()}
    if unknown := [name for name in found if name not in Settings.model_fields]:
        variable = ENV_PREFIX + unknown[0].upper()
        raise ConfigError(f"unknown environment variable {variable}{_hint(unknown[0])}", param=variable)
    return {name: value for name, value in found.items() if value}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the configuration {path} is not TOML: {error}") from None
    _check_names(values, str(path))
    return values


def _check_names(names: Iterable[str], where: str) -> None:
    for name in names:
        if name not in Settings.model_fields:
            raise ConfigError(f"{where} names {name!r}, which is no setting{_hint(name)}", param=name)


def _hint(name: str) -> str:
    near = difflib.get_close_matches(name, _names(), n=1)
    return f"; did you mean {near[0]}?" if near else "; bindchat serve --print-config lists all"


def _bad_value(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    shown = "" if name.endswith("keys") else f", got {first['input']!r}"
    return ConfigError(f"setting {name}: {first['msg']}{shown}", param=name)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(str(piece) for piece in value) or "(none)"
    return "(none)" if value is None else str(value)
