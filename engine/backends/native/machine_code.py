"""Vector instructions that numba has no name for, written in LLVM's language and compiled with what calls them.

Addresses are integers: what is emitted reads and writes memory where its caller says, without looking at any bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from llvmlite import ir
from numba.extending import intrinsic

LANES = 16  # numbers of four bytes in a register

byte, word, long, single = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
bytes_, words, singles = ir.VectorType(byte, 64), ir.VectorType(word, LANES), ir.VectorType(single, LANES)

# The decorator of functions that emit code; numba's own type counts the compiler's context as an argument.
emitted = cast(Callable[[Callable[..., Any]], Callable[..., Any]], intrinsic)


def number(value: int) -> Any:
    """Return a constant address or count."""
    return ir.Constant(long, value)


def instruction(builder: Any, name: str, result: Any, operands: Sequence[Any]) -> Any:
    """Emit one of the processor's instructions by LLVM's name for it."""
    kind = ir.FunctionType(result, [operand.type for operand in operands])
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(function, operands)


def loop(builder: Any, num_turns: Any, starts: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Emit a loop of at least one turn, and return what its last turn returned.

    `body` emits a turn from its number and the values that the turn before returned, `starts` for the first.
    """
    entry, turns, done = builder.block, builder.append_basic_block("turns"), builder.append_basic_block("done")
    builder.branch(turns)
    builder.position_at_end(turns)
    turn, values = builder.phi(long), [builder.phi(start.type) for start in starts]
    turn.add_incoming(number(0), entry)
    following = body(turn, values)
    next_turn = builder.add(turn, number(1))
    turn.add_incoming(next_turn, turns)
    for value, start, after in zip(values, starts, following, strict=True):
        value.add_incoming(start, entry)
        value.add_incoming(after, turns)
    builder.cbranch(builder.icmp_unsigned("<", next_turn, num_turns), turns, done)
    builder.position_at_end(done)
    return following


class Memory:
    """Loads and stores, and a value in every lane of a register."""

    def __init__(self, builder: Any) -> None:
        self._builder = builder

    def load(self, address: Any, kind: Any, offset: Any = 0, *, align: int = 4) -> Any:
        loaded = self._builder.load(self._pointer(address, kind, offset))
        loaded.align = align
        return loaded

    def store(self, value: Any, address: Any, offset: int = 0) -> None:
        self._builder.store(value, self._pointer(address, value.type, offset)).align = 4

    def spread(self, value: Any, kind: Any) -> Any:
        empty = ir.Constant(kind, ir.Undefined)
        first = self._builder.insert_element(empty, value, ir.Constant(word, 0))
        return self._builder.shuffle_vector(first, empty, ir.Constant(words, [0] * LANES))

    def _pointer(self, address: Any, kind: Any, offset: Any) -> Any:
        offset = number(offset) if isinstance(offset, int) else offset
        return self._builder.inttoptr(self._builder.add(address, offset), kind.as_pointer())
