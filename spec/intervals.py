"""Intervals of the values that an expression can take: how wide a number is, and which range checks can never fail."""

from __future__ import annotations

from collections.abc import Callable

from hwmark.spec.terms import Expr, Operator

Interval = tuple[int, int]

WIDE = (-(2**31), 2**31 - 1)
"""The interval of a number about which nothing better is known."""

WORD = (-(2**63), 2**63 - 1)
"""The interval of all numbers that there are."""


def hull(known: Interval | None, interval: Interval) -> Interval:
    """The least interval that has both; the second alone where nothing is known yet."""
    return interval if known is None else (min(known[0], interval[0]), max(known[1], interval[1]))


def fold(operator: Operator, left: int, right: int) -> int:
    """The value of an operator on two constants."""
    apply: dict[Operator, Callable[[int, int], int]] = {
        "+": int.__add__, "-": int.__sub__, "*": int.__mul__, "//": int.__floordiv__, "%": int.__mod__,
        "&": int.__and__, "|": int.__or__, "&~": lambda a, b: a & ~b, "min": min, "max": max,
    }  # fmt: skip
    return apply[operator](left, right)


def interval_of(operator: Operator, left: Expr, right: Expr) -> Interval:
    """The interval of an operator's results."""
    match operator:
        case "+":
            return left.low + right.low, left.high + right.high
        case "-":
            return left.low - right.high, left.high - right.low
        case "*":
            corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
            return min(corners), max(corners)
        case "//":
            return left.low // right.high, left.high // right.high
        case "%":
            return 0, min(left.high, right.high - 1)
        case "&":
            return 0, min(left.high, right.high)
        case "|":
            return 0, (1 << max(left.high.bit_length(), right.high.bit_length())) - 1
        case "&~":
            return 0, left.high
        case "min":
            return min(left.low, right.low), min(left.high, right.high)
        case "max":
            return max(left.low, right.low), max(left.high, right.high)
