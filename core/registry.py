"""Explicit tables of `"name": "module:attribute"`, loaded on demand."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Generic, TypeVar, cast

from core.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Resolve names to attributes without importing anything before it is asked for."""

    def __init__(self, noun: str, entries: Mapping[str, str]) -> None:
        self._noun = noun
        self._entries = dict(entries)

    def names(self) -> tuple[str, ...]:
        """Return every registered name in the order of the table."""
        return tuple(self._entries)

    def load(self, name: str) -> T:
        """Import and return the entry. Raises `UnknownName` that lists the allowed names."""
        if name not in self._entries:
            allowed = ", ".join(sorted(self._entries))
            raise UnknownName(f"unknown {self._noun} {name!r}; known: {allowed}", param=self._noun)
        module_name, _, attribute = self._entries[name].partition(":")
        return cast(T, getattr(import_module(module_name), attribute))
