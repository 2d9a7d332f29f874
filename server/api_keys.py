"""API keys: who may use the server. Files hold digests, never keys.

A key made by `bindchat keys add` is 256 random bits, which no guessing reaches, so a plain SHA-256 protects it at rest;
a slow hash would only slow down every request. One line of a key file, options in any order:

    NAME sha256:HEX [admin] [requests_per_minute=N] [max_concurrent=N]
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from core.errors import ConfigError, Unauthorized

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LIMITS = ("requests_per_minute", "max_concurrent")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One client. Its name owns files and cached results, so a new key under the same name keeps them.

    A limit of None is the server's own. An admin may also change what all clients share.
    """

    name: str
    digest: bytes = b""
    is_admin: bool = False
    requests_per_minute: int | None = None
    max_concurrent: int | None = None


ANYONE = ApiKey(name="", is_admin=True)
"""Who calls a server that asks for no key: the operator, alone on the machine or by explicit choice."""

NOBODY = ApiKey(name="")
"""Who reads an open path of a server that asks for keys, without one."""


class KeyRing:
    """Every key of one server, from its settings and from a file that `reload` reads again."""

    def __init__(
        self, *, keys: Sequence[SecretStr] = (), admin_keys: Sequence[SecretStr] = (), file: Path | None = None
    ) -> None:
        """Read the file. Raises `ConfigError` for a file that cannot be read and for two keys of one name."""
        self._fixed = [_unnamed(key, is_admin=False) for key in keys] + [_unnamed(k, is_admin=True) for k in admin_keys]
        self._file = file
        self._keys: tuple[ApiKey, ...] = ()
        self.reload()

    @property
    def asks(self) -> bool:
        """Tell whether a key is asked for; an empty key file lets nobody in."""
        return bool(self._fixed) or self._file is not None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(key.name for key in self._keys)

    def reload(self) -> None:
        """Read the key file again; on `ConfigError` the keys stay as they are."""
        keys = [*self._fixed, *([] if self._file is None else read_key_file(self._file))]
        _check_unique(keys)
        self._keys = tuple(keys)

    def named(self, name: str) -> ApiKey:
        """Return the key of a name, for what goes on without its client. Raises `Unauthorized` when it is gone."""
        if not self.asks:
            return ANYONE
        found = next((key for key in self._keys if key.name == name), None)
        if found is None:
            raise Unauthorized("the API key that asked for this has been removed")
        return found

    def find(self, offered: str) -> ApiKey | None:
        """Return whose key it is. Compares with every key in constant time, so timing tells nothing."""
        digest = hashlib.sha256(offered.encode("utf-8", "surrogateescape")).digest()
        matching = [key for key in self._keys if hmac.compare_digest(key.digest, digest)]
        return matching[0] if matching else None


def read_key_file(path: Path) -> list[ApiKey]:
    """Return the keys of a file. Raises `ConfigError` naming the line that is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key file {path} cannot be read: {error}; bindchat keys add NAME makes one") from None
    keys = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            keys.append(_parse(line, f"line {number} of {path}"))
    _check_unique(keys)
    return keys


def add_key(path: Path, key: ApiKey) -> str:
    """Append a new key to a file, made when missing, and return the key itself, which is stored nowhere.

    Raises `ConfigError` for a name that is taken or not allowed.
    """
    keys = read_key_file(path) if path.exists() else []
    if not KEY_NAME.fullmatch(key.name):
        raise ConfigError(f"a key's name has 1 to 64 letters, digits, dots, dashes, underscores, got {key.name!r}")
    if key.name in {known.name for known in keys}:
        raise ConfigError(f"{path} has a key {key.name} already; remove it first or choose another name")
    secret = f"bc-{secrets.token_urlsafe(32)}"
    digest = hashlib.sha256(secret.encode()).digest()
    line = _format(replace(key, digest=digest))
    text = path.read_text(encoding="utf-8") if path.exists() else "# made by bindchat keys add; holds no keys\n"
    _replace(path, text + ("" if text.endswith("\n") else "\n") + line + "\n")
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out of a file. Raises `ConfigError` when it is not there."""
    if name not in {key.name for key in read_key_file(path)}:
        raise ConfigError(f"{path} has no key {name}; bindchat keys list shows them")
    lines = path.read_text(encoding="utf-8").splitlines()
    _replace(path, "".join(f"{line}\n" for line in lines if line.split()[:1] != [name]))


def _replace(path: Path, text: str) -> None:
    """Write the whole file under another name first: a server that reloads meanwhile sees the old or the new one."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be written: {error.strerror}") from None


def _unnamed(key: SecretStr, *, is_admin: bool) -> ApiKey:
    digest = hashlib.sha256(key.get_secret_value().encode()).digest()
    return ApiKey(name=f"key-{digest.hex()[:12]}", digest=digest, is_admin=is_admin)


def _parse(line: str, where: str) -> ApiKey:
    name, *rest = line.split()
    digest = _DIGEST.fullmatch(rest[0]) if rest else None
    if digest is None or not KEY_NAME.fullmatch(name):
        raise ConfigError(f"{where} is not NAME sha256:HEX [admin] [{'=N] ['.join(_LIMITS)}=N]")
    limits: dict[str, int] = {}
    for word in rest[1:]:
        option, _, value = word.partition("=")
        if option in _LIMITS and re.fullmatch("[1-9][0-9]{0,8}", value):
            limits[option] = int(value)
        elif word != "admin":
            raise ConfigError(f"{where} has {word[:40]!r}; options are admin, {'=N, '.join(_LIMITS)}=N")
    return ApiKey(name=name, digest=bytes.fromhex(digest[1]), is_admin="admin" in rest[1:], **limits)


def _format(key: ApiKey) -> str:
    limits = [f"{name}={getattr(key, name)}" for name in _LIMITS if getattr(key, name) is not None]
    return " ".join([key.name, f"sha256:{key.digest.hex()}", *(["admin"] if key.is_admin else []), *limits])


def _check_unique(keys: Iterable[ApiKey]) -> None:
    seen: set[str] = set()
    for key in keys:
        if key.name in seen:
            raise ConfigError(f"two API keys are named {key.name}; give each its own name")
        seen.add(key.name)
