"""Integers and truths whose value Z3 chooses, as narrow as the interval that they can lie in.

A number that can be one value only is a constant and never reaches Z3; one that can be 0 or 1 is a truth. Any other is
a bit-vector: unsigned where the interval has no negative number, two's complement where it has. Intervals are tracked
through every operation and results are as wide as theirs, so nothing ever wraps around.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import z3
from hwmark.spec.terms import Comparison, Operator

Truth = Any
"""True, False or a z3.BoolRef."""


def both(left: Truth, right: Truth) -> Truth:
    """`and`."""
    if left is False or right is False:
        return False
    if left is True or left is right:
        return right
    return left if right is True else z3.And(left, right)


def either(left: Truth, right: Truth) -> Truth:
    """`or`."""
    if left is True or right is True:
        return True
    if left is False or left is right:
        return right
    return left if right is False else z3.Or(left, right)


def opposite(truth: Truth) -> Truth:
    """`not`."""
    if isinstance(truth, bool):
        return not truth
    return truth.arg(0) if z3.is_not(truth) else z3.Not(truth)


def z3_truth(truth: Truth) -> z3.BoolRef:
    """The truth as Z3 takes it."""
    return z3.BoolVal(truth) if isinstance(truth, bool) else truth


def choose_truth(test: Truth, then: Truth, other: Truth) -> Truth:
    """`then if test else other`, on truths."""
    if isinstance(test, bool):
        return then if test else other
    if then is other:
        return then
    if isinstance(then, bool):
        return either(test, other) if then else both(opposite(test), other)
    if isinstance(other, bool):
        return either(opposite(test), then) if other else both(test, then)
    return then if then.eq(other) else z3.If(test, then, other)


def width_of(low: int, high: int) -> int:
    """Bits that hold every number of an interval."""
    if low >= 0:
        return max(1, high.bit_length())
    return max((-low - 1).bit_length(), max(high, 0).bit_length()) + 1


class Number:
    """An integer from low to high, both included."""

    __slots__ = ("_bits", "_equals", "_truth", "high", "low")

    def __init__(self, low: int, high: int, bits: Any = None, truth: Truth = None) -> None:
        self.low, self.high, self._bits, self._truth = low, high, bits, truth
        self._equals: dict[int, Truth] = {}

    @property
    def value(self) -> int | None:
        """The value of a constant, else None."""
        return self.low if self.low == self.high else None

    @property
    def is_truth(self) -> bool:
        """Whether it can be nothing but 0 or 1."""
        return self.low >= 0 and self.high <= 1

    @property
    def truth(self) -> Truth:
        """Whether it is not zero."""
        if self.low == self.high:
            return self.low != 0
        return self._truth if self._truth is not None else opposite(self.equals(0))

    @property
    def bits(self) -> Any:
        """The bit-vector, `width_of(low, high)` bits wide."""
        if self._bits is None:
            if self.low == self.high:
                self._bits = z3.BitVecVal(self.low, width_of(self.low, self.high))
            else:
                self._bits = z3.If(self._truth, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))
        return self._bits

    def wide(self, width: int) -> Any:
        """The bit-vector extended or cut to a width."""
        if self.low == self.high:
            return z3.BitVecVal(self.low, width)
        surplus = width - width_of(self.low, self.high)
        if surplus < 0:
            return z3.Extract(width - 1, 0, self.bits)
        if surplus == 0:
            return self.bits
        return z3.SignExt(surplus, self.bits) if self.low < 0 else z3.ZeroExt(surplus, self.bits)

    def equals(self, value: int) -> Truth:
        """Whether it is this value."""
        if not self.low <= value <= self.high:
            return False
        if self.low == self.high:
            return True
        if value not in self._equals:
            if self._truth is not None:
                self._equals[value] = self._truth if value else opposite(self._truth)
            else:
                self._equals[value] = self._bits == value
        return self._equals[value]

    def bit(self, position: int) -> Truth:
        """Whether a bit of a number that is never negative is set."""
        if self.low == self.high:
            return bool(self.low >> position & 1)
        if position >= width_of(self.low, self.high):
            return False
        return self._truth if self._truth is not None else z3.Extract(position, position, self._bits) == 1


@functools.cache
def constant(value: int) -> Number:
    """A number that is this value."""
    return Number(value, value)


def number_of(truth: Truth) -> Number:
    """1 for true, 0 for false."""
    return constant(int(truth)) if isinstance(truth, bool) else Number(0, 1, truth=truth)


def number(bits: Any, low: int, high: int) -> Number:
    """A bit-vector of `width_of(low, high)` bits as a number of the interval."""
    if low == high:
        return constant(low)
    return Number(low, high, truth=bits == 1) if low >= 0 and high <= 1 else Number(low, high, bits=bits)


def variable(name: str, low: int, high: int) -> Number:
    """A number that Z3 chooses; `inside` says that it lies in its interval."""
    if low == high:
        return constant(low)
    if low >= 0 and high <= 1:
        return Number(low, high, truth=z3.Bool(name))
    return Number(low, high, bits=z3.BitVec(name, width_of(low, high)))


def in_domain(variable: Number) -> Truth:
    """That a variable, whose bits may say more, lies in its interval."""
    if variable.low == variable.high or variable.is_truth:
        return True
    width = width_of(variable.low, variable.high)
    least = -(1 << (width - 1)) if variable.low < 0 else 0
    return fits(Number(least, least + (1 << width) - 1, bits=variable.bits), variable.low, variable.high)


def fits(number: Number, low: int, high: int) -> Truth:
    """Whether a number lies from low to high."""
    return both(opposite(less(number, constant(low))), opposite(less(constant(high), number)))


def clamp(number: Number, low: int, high: int) -> Number:
    """A number that fits, with the interval that this leaves for it; what does not fit becomes any number that does."""
    if number.high < low or high < number.low:
        return constant(low)
    return _narrow(number, max(low, number.low), min(high, number.high))


def choose(test: Truth, then: Number, other: Number) -> Number:
    """`then if test else other`."""
    if then is other or test is True:
        return then
    if test is False:
        return other
    low, high = min(then.low, other.low), max(then.high, other.high)
    if low == high:
        return then
    if low >= 0 and high <= 1:
        return number_of(choose_truth(test, then.truth, other.truth))
    width = width_of(low, high)
    left, right = then.wide(width), other.wide(width)
    return then if left.eq(right) else Number(low, high, bits=z3.If(test, left, right))


def compare(operator: Comparison, left: Number, right: Number) -> Truth:
    """A comparison."""
    match operator:
        case "==":
            return equal(left, right)
        case "!=":
            return opposite(equal(left, right))
        case "<":
            return less(left, right)
        case ">=":
            return opposite(less(left, right))
        case ">":
            return less(right, left)
        case "<=":
            return opposite(less(right, left))


def equal(left: Number, right: Number) -> Truth:
    """Whether two numbers are the same."""
    if left is right:
        return True
    if left.high < right.low or right.high < left.low:
        return False
    if right.low == right.high:
        return left.equals(right.low)
    if left.low == left.high:
        return right.equals(left.low)
    if left.is_truth and right.is_truth:
        return left.truth == right.truth
    width = width_of(min(left.low, right.low), max(left.high, right.high))
    return left.wide(width) == right.wide(width)


def less(left: Number, right: Number) -> Truth:
    """Whether the first number is the smaller one."""
    if left.high < right.low:
        return True
    if left.low >= right.high:
        return False
    if left.high == right.low:
        return opposite(equal(left, right))
    if left.low + 1 == right.high:
        return both(left.equals(left.low), right.equals(right.high))
    low = min(left.low, right.low)
    width = width_of(low, max(left.high, right.high))
    smaller = z3.ULT if low >= 0 else _signed_less
    return smaller(left.wide(width), right.wide(width))


def _signed_less(left: Any, right: Any) -> Any:
    return left < right


def arithmetic(operator: Operator, left: Number, right: Number) -> Number:
    """An operation of the specification language; divisors are positive constants, sets are never negative."""
    match operator:
        case "+":
            if left.value == 0 or right.value == 0:
                return right if left.value == 0 else left
            return _exact(left, right, left.low + right.low, left.high + right.high, lambda a, b: a + b)
        case "-":
            if right.value == 0:
                return left
            return _exact(left, right, left.low - right.high, left.high - right.low, lambda a, b: a - b)
        case "*":
            corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
            return _exact(left, right, min(corners), max(corners), lambda a, b: a * b)
        case "//" | "%":
            return _divide(operator, left, right)
        case "&" | "|" | "&~":
            return _on_sets(operator, left, right)
        case "min":
            smaller = choose(less(left, right), left, right)
            return clamp(smaller, smaller.low, min(left.high, right.high))
        case "max":
            greater = choose(less(left, right), right, left)
            return clamp(greater, max(left.low, right.low), greater.high)


def _exact(left: Number, right: Number, low: int, high: int, operation: Any) -> Number:
    """Sums and products are right in the width of their result, whatever is cut off their operands."""
    if low == high:
        return constant(low)
    width = width_of(low, high)
    return number(operation(left.wide(width), right.wide(width)), low, high)


def _divide(operator: Operator, left: Number, right: Number) -> Number:
    divisor = right.low
    if operator == "//":
        low, high = left.low // divisor, left.high // divisor
    elif left.low // divisor == left.high // divisor:
        low, high = left.low % divisor, left.high % divisor
    else:
        low, high = 0, divisor - 1
    if low == high:
        return constant(low)
    width = width_of(0, max(left.high, divisor))
    operation = z3.UDiv if operator == "//" else z3.URem
    found = operation(left.wide(width), z3.BitVecVal(divisor, width))
    return number(z3.Extract(width_of(low, high) - 1, 0, found), low, high)


def _on_sets(operator: Operator, left: Number, right: Number) -> Number:
    if left.low == left.high and right.low == right.high:
        a, b = left.low, right.low
        return constant({"&": a & b, "|": a | b, "&~": a & ~b}[operator])
    if operator == "|":
        low, high = max(left.low, right.low), (1 << max(left.high.bit_length(), right.high.bit_length())) - 1
    else:
        low, high = 0, min(left.high, right.high) if operator == "&" else left.high
    width = max(width_of(0, left.high), width_of(0, right.high))
    a, b = left.wide(width), right.wide(width)
    found = a & b if operator == "&" else a | b if operator == "|" else a & ~b
    return _narrow(number(found, 0, (1 << width) - 1), low, high)


def _narrow(known: Number, low: int, high: int) -> Number:
    if (low, high) == (known.low, known.high) or low == high:
        return known if low != high else constant(low)
    return number(known.wide(width_of(low, high)), low, high)


def contains(members: Number, element: Number) -> Truth:
    """Whether a set has an element; false for a negative one."""
    found: Truth = False
    for position in range(max(0, element.low), min(element.high, width_of(0, members.high) - 1) + 1):
        found = either(found, both(element.equals(position), members.bit(position)))
    return found


def only(element: Number) -> Number:
    """The set of one element; a negative one counts as absent."""
    if element.low == element.high:
        return constant(1 << element.low if element.low >= 0 else 0)
    return mask([element.equals(position) for position in range(max(element.high, 0) + 1)])


def mask(members: Sequence[Truth]) -> Number:
    """The set of the positions that hold."""
    if all(isinstance(member, bool) for member in members):
        return constant(sum(member << position for position, member in enumerate(members)))
    if len(members) == 1:
        return number_of(members[0])
    bits = [number_of(member).wide(1) for member in reversed(members)]
    return number(z3.Concat(*bits), 0, (1 << len(members)) - 1)


def count(members: Number) -> Number:
    """How many elements a set has."""
    total = constant(0)
    for position in range(members.high.bit_length()):
        total = arithmetic("+", total, number_of(members.bit(position)))
    return total
