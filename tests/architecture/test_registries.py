"""Every table of names resolves, and every error has its HTTP row."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib import import_module

import pytest

from core.errors import AppError
from core.registry import Registry
from tests.architecture.source_tree import ROOT, RUNNING_LAYERS, parse, python_files

OPTIONAL_PACKAGES = {"vllm", "ray"}


def _registry_names() -> Iterator[tuple[str, str]]:
    """Yield `(module, variable)` of every registry that a layer defines at module level."""
    for path in python_files(*RUNNING_LAYERS):
        for node in parse(path).body:
            target = _assigned_name(node)
            value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
            if target and isinstance(value, ast.Call) and ast.unparse(value.func).startswith("Registry"):
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                yield module, target


def _assigned_name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else None


def _entries() -> list[tuple[str, str, str]]:
    found = []
    for module, variable in _registry_names():
        registry = getattr(import_module(module), variable)
        assert isinstance(registry, Registry)
        found += [(module, variable, name) for name in registry.names()]
    return found


def _missing_package(registry: Registry[object], name: str) -> str | None:
    """Return the optional package that an entry needs and this environment lacks."""
    try:
        registry.load(name)
    except ModuleNotFoundError as error:
        return error.name
    return None


@pytest.mark.parametrize(("module", "variable", "name"), _entries())
def test_every_registered_name_resolves(module: str, variable: str, name: str) -> None:
    missing = _missing_package(getattr(import_module(module), variable), name)
    assert missing is None or missing.partition(".")[0] in OPTIONAL_PACKAGES


def test_registries_are_found_at_all() -> None:
    assert ("models.registry", "MODELS") in set(_registry_names())


def _subclasses(root: type[AppError]) -> Iterator[type[AppError]]:
    for subclass in root.__subclasses__():
        if subclass.__module__.partition(".")[0] in RUNNING_LAYERS:
            yield subclass
        yield from _subclasses(subclass)


def test_every_error_has_an_http_row_that_is_not_the_catch_all() -> None:
    table = import_module("server.error_handlers").ERROR_TABLE
    nearest = {
        error: next(ancestor for ancestor in error.__mro__ if ancestor in table) for error in _subclasses(AppError)
    }
    missing = [error.__name__ for error, ancestor in nearest.items() if ancestor is AppError]
    assert not missing, "add a row to server/error_handlers.py"
    assert all(400 <= row.status <= 599 for row in table.values())


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in _subclasses(AppError)]
    assert len(codes) == len(set(codes))
