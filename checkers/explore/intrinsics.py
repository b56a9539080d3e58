"""What the hot loop needs beyond Numba: words at addresses, atomics, prefetching, and calls of compiled model
functions.

Addresses are 64-bit integers. Nothing here checks anything: the callers in `loop` own the memory.

Numba's cache notices only changes of the file that a cached function is in: after a change here, touch `loop` and
`merging`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LONG, BYTE, POINTER = ir.IntType(64), ir.IntType(8), ir.PointerType()


def inlined(function: Callable[..., Any]) -> Any:
    """What Numba inlines as the LLVM code that the function emits."""
    return intrinsic(function)


def jit(function: Callable[..., Any]) -> Any:
    """Compile without the interpreter's lock, and keep the code for later processes where there is a place for it."""
    try:
        return numba.njit(nogil=True, cache=True, boundscheck=False)(function)
    except RuntimeError:
        return numba.njit(nogil=True, boundscheck=False)(function)


def _address(builder: Any, value: Any) -> Any:
    return builder.inttoptr(value, POINTER)


@inlined
def word_at(typing_context: Any, address: Any) -> Any:
    """The unsigned 64-bit word at an address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_address(builder, arguments[0]), typ=LONG)

    return types.uint64(types.int64), code


@inlined
def put_word(typing_context: Any, address: Any, word: Any) -> Any:
    """Store an unsigned 64-bit word at an address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[1], _address(builder, arguments[0]))
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), code


@inlined
def swap_word(typing_context: Any, address: Any, expected: Any, word: Any) -> Any:
    """Atomically put a word where the expected one is; whether it was."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(builder, arguments[0])
        outcome = builder.cmpxchg(place, arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.extract_value(outcome, 1)

    return types.boolean(types.int64, types.uint64, types.uint64), code


@inlined
def add_word(typing_context: Any, address: Any, amount: Any) -> Any:
    """Atomically add to the signed word at an address; what it was before."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("add", _address(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@inlined
def prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which will be written."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = [POINTER, ir.IntType(32), ir.IntType(32), ir.IntType(32)]
        known: Any = cgutils
        function = known.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        hints = [ir.Constant(ir.IntType(32), hint) for hint in (0, 3, 1)]
        builder.call(function, [_address(builder, arguments[0]), *hints])
        return context.get_dummy_value()

    return types.void(types.int64), code


def _caller(count: int) -> Callable[..., Any]:
    """The code of a call of a function at an address, with `count` 64-bit arguments and such a result."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.inttoptr(arguments[0], ir.FunctionType(LONG, [LONG] * count).as_pointer())
        return builder.call(function, arguments[1:])

    return code


@inlined
def call2(typing_context: Any, function: Any, a: Any, b: Any) -> Any:
    """Call the function at an address."""
    return types.int64(*[types.int64] * 3), _caller(2)


@inlined
def call3(typing_context: Any, function: Any, a: Any, b: Any, c: Any) -> Any:
    """Call the function at an address."""
    return types.int64(*[types.int64] * 4), _caller(3)


@inlined
def call4(typing_context: Any, function: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call the function at an address."""
    return types.int64(*[types.int64] * 5), _caller(4)
