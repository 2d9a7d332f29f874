"""docs/cli.md and docs/endpoints.md: every command and every endpoint, as the code itself describes them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

_CLI_INTRODUCTION = """# The command line

Made by `python -m server.reference cli`; a test compares.

Every command explains itself with `--help`, and `--install-completion` completes commands and options in your shell;
`bindchat --version` says which one it is.
Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 it ran and something failed,
2 the command or its settings are wrong.
"""
_ENDPOINTS_INTRODUCTION = """# Endpoints

Made by `python -m server.reference endpoints` from the OpenAPI document, which `bindchat openapi` prints whole and a
server serves at `/openapi.json`; a test compares. Every endpoint may also answer with the one error body:
[troubleshooting](troubleshooting.md). [The HTTP API](api.md) says what differs from OpenAI's.
"""


def cli_page() -> str:
    """Return docs/cli.md."""
    from server.cli import app

    root = typer.main.get_command(app)
    parts = [_CLI_INTRODUCTION, *(_command_section(name, command) for name, command in _commands(root, "bindchat"))]
    return "\n".join(parts)


def endpoints_page() -> str:
    """Return docs/endpoints.md."""
    from server.app import create_app
    from server.settings import Settings
    from server.wiring import build_service

    document = create_app(Settings(), build_service).openapi()
    parts = [_ENDPOINTS_INTRODUCTION]
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            parts.append(_endpoint_section(f"{method.upper()} {path}", operation))
    return "\n".join(parts)


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if not children:
        yield name, command
    for child_name, child in children.items():
        yield from _commands(child, f"{name} {child_name}")


def _command_section(name: str, command: Any) -> str:
    parameters = [parameter for parameter in command.params if parameter.name != "help"]
    usage = " ".join(
        part
        for parameter in parameters
        if (part := "" if parameter.param_type_name == "option" else _argument(parameter))
    )
    rows = [
        f"| `{_names(parameter)}` | {_cell(_default(parameter))} | {_cell(getattr(parameter, 'help', None) or '')} |"
        for parameter in parameters
    ]
    about = [_example(paragraph) for paragraph in inspect.cleandoc(command.help or "").split("\n\n")]
    table = ["", "| option | default | meaning |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {name} {usage}".rstrip(), "", "\n\n".join(about), *table, ""])


def _example(paragraph: str) -> str:
    """Return a paragraph of a help text, a command line in it as code."""
    joined = " ".join(paragraph.split())
    return f"    {joined}" if joined.startswith("bindchat ") else joined


def _argument(parameter: Any) -> str:
    name = str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    if value in (None, (), []) or callable(value) or type(value).__name__ == "Sentinel":
        return "none"
    value = getattr(value, "value", value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _endpoint_section(name: str, operation: dict[str, Any]) -> str:
    about = " ".join(operation.get("description", operation["summary"]).split())
    lines = [f"## {name}", "", about.partition(" Raises ")[0], ""]  # how a refusal looks is said once
    rows = [
        f"| `{parameter['name']}` | {parameter['in']} | {_shape(parameter['schema'])} |"
        for parameter in operation.get("parameters", ())
    ]
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        place = "form" if media_type == "multipart/form-data" else "body"
        required = content["schema"].get("required", ())
        for field, schema in content["schema"].get("properties", {}).items():
            rows.append(f"| `{field}` | {place}{', required' if field in required else ''} | {_shape(schema)} |")
    if rows:
        lines += ["| field | where | type |", "|---|---|---|", *rows, ""]
    success = operation["responses"].get("200", {}).get("content", {})
    lines += ["Answers " + " or ".join(_answer(kind, content) for kind, content in success.items()) + ".", ""]
    return "\n".join(lines)


def _answer(media_type: str, content: dict[str, Any]) -> str:
    schema = content.get("schema", {})
    name = schema.get("title") or schema.get("$ref", "").rpartition("/")[2]
    return f"`{media_type}`" + (f" ({name})" if name else "")


def _shape(schema: dict[str, Any]) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return f"object {schema['$ref'].rpartition('/')[2]}"
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(dict.fromkeys(_shape(choice) for choice in choices if choice.get("type") != "null"))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    told = ", ".join(f"{sign} {schema[word]:g}" for word, sign in bounds.items() if abs(schema.get(word, 1e18)) < 1e9)
    return f"{kind} {told}".rstrip()
