"""What commands that ask a server share: its address, its first model, fields of the body, files to write."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from core.errors import InvalidRequest


def api_root(url: str) -> str:
    """Return the address that OpenAI's clients call `base_url`."""
    bare = url.rstrip("/")
    return bare if bare.endswith("/v1") else f"{bare}/v1"


async def first_model(client: httpx.AsyncClient) -> str:
    """Return the first model that a server lists. Raises `InvalidRequest` when it lists none."""
    try:
        answer = await client.get("/models")
        answer.raise_for_status()
        return str(answer.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise InvalidRequest(
            f"{client.base_url}models cannot be read ({error}); check --url, or name --model"
        ) from None


def parse_fields(assignments: Sequence[str]) -> dict[str, Any]:
    """Return `NAME=JSON` options as fields. Raises `InvalidRequest` for what is not that."""
    fields = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        try:
            fields[name] = json.loads(value)
        except ValueError:
            equals = ""
        if not equals:
            raise InvalidRequest(f"--field takes NAME=JSON, as ignore_eos=true, got {assignment!r}")
    return fields


def write_text(path: Path | None, text: str) -> None:
    """Write a file that was asked for. Raises `InvalidRequest` when it cannot be written."""
    try:
        if path is not None:
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}") from None


def run_facts(root: str | None, model: str) -> dict[str, Any]:
    """Return what a reader of numbers asks about the run; `root` None for a server started inside."""
    return {
        "server": root or "started inside",
        "model": model,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["bindchat", *sys.argv[1:]]),
        "client": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
