"""CRC-32C (Castagnoli) of bytes in memory, as compiled code: by the processor's own instruction, or by tables.

Numba compiles for the processor that it runs on, and its cache keeps the code of different processors apart; so which
of the two ways is taken can be decided when this module is loaded.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from hwmark.checkers.explore.intrinsics import inlined, jit
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

LONG, INT, BYTE = ir.IntType(64), ir.IntType(32), ir.IntType(8)
POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, bits reversed."""
SLICES = 8
ALL_ONES = 0xFFFFFFFF


def _instructions() -> tuple[str, ...]:
    """LLVM's names of the instructions for eight bytes and for one, nothing where the processor has none."""
    has = llvmlite.binding.get_host_cpu_features()
    if platform.machine() in ("x86_64", "AMD64") and has.get("sse4.2"):
        return "llvm.x86.sse42.crc32.64.64", "llvm.x86.sse42.crc32.32.8"
    if platform.machine() in ("aarch64", "arm64") and has.get("crc"):
        return "llvm.aarch64.crc32cx", "llvm.aarch64.crc32cb"
    return ()


INSTRUCTIONS = _instructions()


def _tables() -> NDArray[np.uint32]:
    """Of shape (8, 256): what a byte contributes when 0 to 7 more bytes follow it in a word."""
    tables = np.zeros((SLICES, 256), dtype=np.uint32)
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(POLYNOMIAL), values >> 1).astype(np.uint32)
    tables[0] = values
    for i in range(1, SLICES):
        tables[i] = tables[0][tables[i - 1] & 255] ^ tables[i - 1] >> 8
    return tables


TABLES = _tables()


def _of_types(builder: Any, name: str, crc: Any, data: Any, width: Any) -> Any:
    """Call one of the instructions; `crc` and `data` are 64-bit values."""
    if name.endswith("64.64"):
        kinds = (LONG, LONG, LONG)
    else:
        kinds = (INT, INT, BYTE if name.endswith("32.8") else LONG if name.endswith("cx") else INT)
    result, first, second = kinds
    called = builder.module.declare_intrinsic(name, (), ir.FunctionType(result, [first, second]))
    narrow = [
        value if kind == LONG else builder.trunc(value, kind)
        for value, kind in zip((crc, data), (first, second), strict=True)
    ]
    answer = builder.call(called, narrow)
    return answer if result == LONG else builder.zext(answer, LONG)


def _step(width: Any, number: int) -> Callable[..., Any]:
    """The code of one step over the byte or the word at a position of an array."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        crc, address = arguments
        place = builder.inttoptr(address, ir.PointerType())
        loaded = builder.load(place, typ=width)
        loaded.align = 1
        data = loaded if width == LONG else builder.zext(loaded, LONG)
        return _of_types(builder, INSTRUCTIONS[number], crc, data, width)

    return code


@inlined
def crc_of_word(typing_context: Any, crc: Any, address: Any) -> Any:
    """Continue a CRC over the eight bytes at an address."""
    return types.uint64(types.uint64, types.int64), _step(LONG, 0)


@inlined
def crc_of_byte(typing_context: Any, crc: Any, address: Any) -> Any:
    """Continue a CRC over the byte at an address."""
    return types.uint64(types.uint64, types.int64), _step(BYTE, 1)


def by_tables(data: Any, start: int, end: int) -> Any:
    """The CRC-32C of data[start:end], eight bytes at a time."""
    crc = np.uint32(ALL_ONES)
    position = start
    while position + SLICES <= end:
        crc ^= (
            np.uint32(data[position])
            | np.uint32(data[position + 1]) << np.uint32(8)
            | np.uint32(data[position + 2]) << np.uint32(16)
            | np.uint32(data[position + 3]) << np.uint32(24)
        )
        crc = (
            TABLES[7, crc & np.uint32(255)]
            ^ TABLES[6, crc >> np.uint32(8) & np.uint32(255)]
            ^ TABLES[5, crc >> np.uint32(16) & np.uint32(255)]
            ^ TABLES[4, crc >> np.uint32(24)]
            ^ TABLES[3, data[position + 4]]
            ^ TABLES[2, data[position + 5]]
            ^ TABLES[1, data[position + 6]]
            ^ TABLES[0, data[position + 7]]
        )
        position += SLICES
    while position < end:
        crc = crc >> np.uint32(8) ^ TABLES[0, (crc ^ np.uint32(data[position])) & np.uint32(255)]
        position += 1
    return crc ^ np.uint32(ALL_ONES)


def by_instruction(data: Any, start: int, end: int) -> Any:
    """The CRC-32C of data[start:end], by the processor's instruction."""
    crc = np.uint64(ALL_ONES)
    address = numba.int64(data.ctypes.data) + start
    stop = numba.int64(data.ctypes.data) + end
    while address + 8 <= stop:
        crc = crc_of_word(crc, address)
        address += 8
    while address < stop:
        crc = crc_of_byte(crc, address)
        address += 1
    return np.uint32(crc) ^ np.uint32(ALL_ONES)


crc32c_by_tables = jit(by_tables)
crc32c = jit(by_instruction) if INSTRUCTIONS else crc32c_by_tables
"""The CRC-32C of data[start:end], of an array of bytes (uint8, contiguous), as an unsigned 32-bit number."""
