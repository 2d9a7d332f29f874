"""Where events go: one JSON object per line in a rotating file, warnings on the terminal as well."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from core.errors import ConfigError

LOG_FILE_NAME = "server.jsonl"
MAX_FILE_BYTES = 10 * 1024 * 1024
NUM_OLD_FILES = 5


class JsonLineFormatter(logging.Formatter):
    """Write a record as one JSON object; an event keeps its fields, anything else becomes `message`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **_event_fields(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(log_dir: Path, level: str) -> Path:
    """Send every logger to `log_dir/server.jsonl` and return that path.

    Raises `ConfigError` when the file cannot be written.
    """
    path = log_dir / LOG_FILE_NAME
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        to_file = RotatingFileHandler(path, maxBytes=MAX_FILE_BYTES, backupCount=NUM_OLD_FILES, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write the log to {path}: {error.strerror}; choose another --log-dir") from None
    to_file.setFormatter(JsonLineFormatter())
    to_terminal = logging.StreamHandler()
    to_terminal.setLevel(logging.WARNING)
    logging.basicConfig(level=level.upper(), handlers=[to_file, to_terminal], force=True)
    for noisy in ("httpx", "httpcore", "asyncio", "sse_starlette.sse"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return path


def _event_fields(message: str) -> dict[str, object]:
    if message.startswith('{"event"'):
        fields: dict[str, object] = json.loads(message)
        return fields
    return {"event": "message", "message": message}
