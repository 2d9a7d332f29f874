"""What the architecture tests look at: the layers, their files, and parsed functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("core", "media", "models", "cache_index", "engine", "server", "training", "benchmarks")
RUNNING_LAYERS = ("core", "media", "models", "cache_index", "engine", "server")
WEB_SUFFIXES = (".html", ".css", ".js")

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class SourceFunction:
    """One function of one file; `key` is `path::qualified.name`, the name an exemption uses."""

    path: str
    qualified_name: str
    node: FunctionNode

    @property
    def key(self) -> str:
        return f"{self.path}::{self.qualified_name}"

    @property
    def num_lines(self) -> int:
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1


def python_files(*folders: str) -> list[Path]:
    """Return every Python file below the named top-level folders, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def text_files(*folders: str) -> list[Path]:
    """Return files below the folders, and at the root, that people read as text."""
    suffixes = {".py", ".md", ".toml", ".txt", ".in", ".yml", ".yaml", ".json", ".sh", *WEB_SUFFIXES, ""}
    below = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.iterdir() if not path.name.startswith(".")]
    return sorted(path for path in [*below, *top] if path.is_file() and path.suffix in suffixes)


def relative(path: Path) -> str:
    """Return a path as it is written in the repository."""
    return path.relative_to(ROOT).as_posix()


def num_lines(path: Path) -> int:
    """Return the number of lines of a text file."""
    return len(path.read_text(encoding="utf-8").splitlines())


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of one file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[SourceFunction]:
    """Yield every function and method of a file, nested ones included."""
    yield from _functions_below(parse(path), relative(path), "")


def _functions_below(node: ast.AST, path: str, prefix: str) -> Iterator[SourceFunction]:
    for child in ast.iter_child_nodes(node):
        inner = prefix
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield SourceFunction(path, f"{prefix}{child.name}", child)
        yield from _functions_below(child, path, inner)


def imported_modules(path: Path) -> set[str]:
    """Return the top-level names that a file imports anywhere, lazily or not."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def calls(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """Yield every call of a file with its dotted name, such as `time.sleep`."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)
