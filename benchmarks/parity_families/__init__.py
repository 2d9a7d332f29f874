"""One module per family: `outputs(fixture folder)` yields (name, produced, expected, absolute tolerance)."""

from __future__ import annotations

from core.types import AnyArray

Output = tuple[str, AnyArray, AnyArray, float]
"""Produced and expected arrays; a tolerance of 0 means exact. A produced value of another shape is a failure."""
