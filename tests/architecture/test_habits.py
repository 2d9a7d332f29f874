"""Habits that hold everywhere, checked on the syntax tree rather than by eye."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.source_tree import (
    LAYERS,
    FunctionNode,
    calls,
    functions,
    parse,
    python_files,
    relative,
    text_files,
)

# Written in halves, so that this file does not find itself.
UNFINISHED = re.compile("TO" + "DO|FIX" + "ME|X" + "XX|NotImplemented" + "Error|pragma: no " + "cover")
MACHINE_PATHS = re.compile(
    r"(?<![\w.~-])/(?:wo" + r"rk|ro" + r"ot|tm" + r"p|opt/(?:wh" + r"eels|py" + r"pi)|Us" + r"ers)\b"
)
CONTAINER_FILES = ("docker/", "docker-compose.yml", ".ci/", "docs/deployment.md")
SLEEPS = ("time.sleep", "asyncio.sleep", "anyio.sleep")
ASSERTING_CALLS = re.compile(r"(^|[._])(assert|raises|warns|fail|check|expect)")


def _where(path: Path, node: ast.expr | ast.stmt | ast.ExceptHandler) -> str:
    return f"{relative(path)}:{node.lineno}"


def _is_empty(body: list[ast.stmt]) -> bool:
    """Say whether a block is nothing but `pass` or `...`."""
    return all(
        isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
        for line in body
    )


def test_no_exception_is_swallowed_in_silence() -> None:
    handlers = [
        _where(path, node)
        for path in python_files(*LAYERS, "tests")
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ExceptHandler) and _is_empty(node.body)
    ]
    suppressed = [
        _where(path, call)
        for path in python_files(*LAYERS, "tests")
        for call, name in calls(path)
        if name.endswith("suppress") and any(ast.unparse(arg) in {"Exception", "BaseException"} for arg in call.args)
    ]
    assert not handlers + suppressed


def test_no_weights_are_loaded_leniently() -> None:
    lenient = [
        _where(path, call)
        for path in python_files(*LAYERS, "tests")
        for call, name in calls(path)
        if name.endswith("load_state_dict")
        for keyword in call.keywords
        if keyword.arg == "strict" and ast.unparse(keyword.value) != "True"
    ]
    assert not lenient, "a missing or unexpected key is an error that names it"


def test_pickle_is_neither_imported_nor_allowed_in_torch_load() -> None:
    unsafe = []
    for path in python_files(*LAYERS):
        for call, name in calls(path):
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)
            if name == "torch.load" and not safe:
                unsafe.append(_where(path, call))
            if name.startswith(("pickle.", "marshal.", "joblib.")):
                unsafe.append(_where(path, call))
    assert not unsafe


def test_no_state_is_global() -> None:
    rebound = [
        _where(path, node)
        for path in python_files(*LAYERS)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Global)
    ]
    assert not rebound, "everything arrives through a constructor"


def test_no_test_sleeps() -> None:
    sleeping = [
        _where(path, call)
        for path in python_files("tests")
        for call, name in calls(path)
        if name in SLEEPS and not (name != "time.sleep" and ast.unparse(call.args[0]) == "0")
    ]
    assert not sleeping, "inject the clock or wait for an event; asyncio.sleep(0) is allowed, it only yields"


def test_nothing_is_left_unfinished() -> None:
    found = {
        relative(path): matches
        for path in text_files(*LAYERS, "tests", "docs", "docker")
        if (matches := UNFINISHED.findall(path.read_text(encoding="utf-8")))
    }
    assert not found


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {}
    for path in text_files(*LAYERS, "tests", "docs", "docker", "requirements", ".ci"):
        if relative(path).startswith(CONTAINER_FILES):
            continue
        if matches := MACHINE_PATHS.findall(path.read_text(encoding="utf-8")):
            found[relative(path)] = matches
    assert not found, "use a relative path or an argument; tests take pytest's tmp_path"


def _asserts_something(node: FunctionNode) -> bool:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assert | ast.Raise):
            return True
        if isinstance(inner, ast.Call) and ASSERTING_CALLS.search(ast.unparse(inner.func)):
            return True
    return False


@pytest.mark.parametrize("folder", ["unit", "contracts", "integration", "golden", "architecture", "gpu", "security"])
def test_every_test_function_asserts_something(folder: str) -> None:
    silent = [
        function.key
        for path in python_files(f"tests/{folder}")
        for function in functions(path)
        if function.node.name.startswith("test_") and not _asserts_something(function.node)
    ]
    assert not silent, "a test that cannot fail tests nothing"


def test_every_test_is_named_as_a_sentence() -> None:
    terse = [
        function.key
        for path in python_files("tests")
        for function in functions(path)
        if function.node.name.startswith("test_") and function.node.name.count("_") < 3
    ]
    assert not terse, "name the behaviour: test_a_disconnect_frees_the_slot"
