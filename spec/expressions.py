"""Reads the expressions of a specification function: names, places, scalars, and calls.

`Expressions` knows what the function's names stand for so far; `reader` adds the statements, which tell it.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import textwrap
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from hwmark.spec import lang, terms
from hwmark.spec.assignment import local_names
from hwmark.spec.errors import SpecError
from hwmark.spec.intervals import WORD, Interval, fold, interval_of
from hwmark.spec.lang import Struct, size_at
from hwmark.spec.layout import Record, Scalar, Sequence, Table, Type, record
from hwmark.spec.terms import Expr, Place, Source

if TYPE_CHECKING:
    from hwmark.spec.reader import Program

SpecFunction = Callable[..., Any]

ELEMENT_MAX = 62
"""The greatest element of a set."""

SET_HELPERS: dict[Any, int] = {
    lang.contains: 1, lang.insert: 1, lang.remove: 1, lang.only: 0, lang.everything: 0, lang.union: 2,
    lang.intersection: 2, lang.difference: 2, lang.is_subset: 2, lang.size: 1,
}  # fmt: skip
"""The helpers on sets, and how many of their first arguments are sets."""

SET_OPERATORS: dict[Any, terms.Operator] = {lang.union: "|", lang.intersection: "&", lang.difference: "&~"}

OPERATORS: dict[type[ast.operator], terms.Operator] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip

COMPARISONS: dict[type[ast.cmpop], terms.Comparison] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip


class Expressions:
    """The names of one function, and the terms of its expressions."""

    def __init__(self, program: Program, function: SpecFunction) -> None:
        self.program, self.spec = program, function
        self.file = inspect.getsourcefile(function) or "<unknown>"
        try:
            lines, self.first_line = inspect.getsourcelines(function)
        except (OSError, TypeError) as error:
            raise SpecError(f"{program.model}: the source of {function.__name__} cannot be read: {error}") from None
        self.tree = self.definition("".join(lines))
        self.local = local_names(self.tree)
        self.places: dict[str, Type] = {}
        self.scalars: dict[str, Interval] = {}
        self.bindings: dict[str, tuple[int, int]] = {}
        self.origins: dict[str, str | None] = {}
        self.sorted: set[str] = set()
        self.written: set[str] = set()
        self.returns: Interval | None = None
        self.bare_return: ast.Return | None = None
        self.widen = False

    def definition(self, source: str) -> ast.FunctionDef:
        """The `def` of the function."""
        if self.spec.__name__ != "<lambda>":
            tree = ast.parse(textwrap.dedent(source)).body[0]
            if isinstance(tree, ast.FunctionDef):
                return tree
        where = f"{self.program.model}: {self.file}:{self.first_line}: in {self.spec.__name__}"
        raise SpecError(f"{where}: a specification function is written with def")

    # ----------------------------------------------------------------------------------------- refusals

    def refuse(self, node: ast.AST, why: str) -> NoReturn:
        """Raise the SpecError that names model, function, file and line."""
        raise SpecError(f"{self.program.model}: {self.file}:{self.line(node)}: in {self.spec.__name__}: {why}")

    def line(self, node: ast.AST) -> int:
        """The line of a node in its file."""
        return self.first_line + getattr(node, "lineno", 1) - 1

    # -------------------------------------------------------------------------------------------- places

    def is_sorted(self, place: Place) -> bool:
        """Whether a place is inside a bag or a set of messages, whose elements stay as they were sent."""
        while not isinstance(place, terms.Root):
            place = place.of
            if isinstance(place.type, Sequence) and place.type.kind != "seq":
                return True
        return place.name in self.sorted

    def write(self, node: ast.expr, place: Place) -> None:
        """Note that a place is written, by this function or by one that it calls."""
        if self.is_sorted(place):
            self.refuse(node, f"{ast.unparse(node)} is in a bag or a set of messages: discard it and send another")
        origin = self.origins[terms.place_root(place)]
        if origin is not None:
            self.written.add(origin)

    def is_place(self, node: ast.expr) -> bool:
        """Whether an expression is a path from a name that stands for a place."""
        while isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        return isinstance(node, ast.Name) and node.id in self.places

    def place(self, node: ast.expr) -> Place:
        """A path: a name, `.field`, `[index]`."""
        match node:
            case ast.Name(id=name) if name in self.places:
                return terms.Root(name, self.places[name])
            case ast.Attribute(value=base, attr=attribute):
                of = self.place(base)
                if not isinstance(of.type, Record):
                    self.refuse(node, f"a {type(of.type).__name__.lower()} has no field {attribute}")
                try:
                    return terms.Member(of, of.type[attribute])
                except KeyError:
                    self.refuse(node, f"{of.type.name} has no field {attribute}")
            case ast.Subscript(value=base, slice=index):
                of = self.place(base)
                if not isinstance(of.type, Table | Sequence):
                    self.refuse(node, f"{ast.unparse(base)} is neither an array nor a sequence")
                return terms.Item(of, self.scalar(index), of.type.element, self.line(node))
        self.refuse(node, f"{ast.unparse(node)} is not a place in the state")

    def sequence(self, node: ast.expr) -> tuple[Place, Sequence]:
        """A place that is a sequence, a bag or a set of messages."""
        place = self.place(node)
        if not isinstance(place.type, Sequence):
            self.refuse(node, f"{ast.unparse(node)} is not a sequence, a bag or a set of messages")
        return place, place.type

    def source(self, node: ast.expr, kind: Type) -> Source:
        """A record or container of the wanted type: a place, or a struct built here."""
        match node:
            case ast.Call(func=ast.Name(id=called)) if self.struct(called):
                source: Source = self.build(node)
            case ast.Call(func=ast.Name(id=called), args=[original]) if self.means(called, lang.copy):
                source = self.place(original)
            case _:
                source = self.place(node)
        if source.type != kind:
            self.refuse(node, f"{ast.unparse(node)} is not of the type wanted here")
        return source

    def value(self, node: ast.expr, kind: Type) -> Expr | Source:
        """A value of the wanted type, scalar or not."""
        return self.scalar(node) if isinstance(kind, Scalar) else self.source(node, kind)

    def build(self, node: ast.Call) -> terms.Fresh:
        """`Record(id=..., epoch=...)`."""
        assert isinstance(node.func, ast.Name)
        struct = self.struct(node.func.id)
        assert struct is not None
        kind = record(struct, self.program.bounds)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if node.args or set(given) != {field.name for field in kind.fields}:
            names = ", ".join(field.name for field in kind.fields)
            self.refuse(node, f"{kind.name} is built from exactly the fields {names}, by name")
        values = tuple(self.value(given[field.name], field.type) for field in kind.fields)
        return terms.Fresh(kind, values, self.line(node))

    # --------------------------------------------------------------------------------------------- names

    def meaning(self, node: ast.expr) -> Any:
        """What a global name or `Enumeration.MEMBER` means; None for anything else."""
        match node:
            case ast.Name(id=name):
                return self.globally(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                holder = self.globally(name)
                if inspect.isclass(holder) and issubclass(holder, enum.IntEnum):
                    return getattr(holder, attribute, None)
        return None

    def globally(self, name: str) -> Any:
        """What a name means outside the function; None for a name that is local to it."""
        return None if name in self.local or name in self.scalars else self.program.lookup(name, self.spec)

    def means(self, name: str, helper: Any) -> bool:
        """Whether a global name means this helper."""
        return self.globally(name) is helper

    def builtin(self, node: ast.expr) -> tuple[str, list[ast.expr]] | None:
        """The name and the arguments of a call of one of Python's own functions; None for anything else."""
        match node:
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return (name, arguments) if self.means(name, getattr(builtins, name, self)) else None
        return None

    def struct(self, name: str) -> type[Struct] | None:
        """The struct that a global name means, if it does."""
        found = self.globally(name)
        return found if inspect.isclass(found) and issubclass(found, Struct) else None

    # --------------------------------------------------------------------------------------- expressions

    def scalar(self, node: ast.expr) -> Expr:
        """A scalar expression."""
        match node:
            case ast.Constant(value=bool() | int() as value):
                return self.constant(node, int(value))
            case ast.Name(id=name) if name in self.scalars:
                return terms.Local(name, *self.scalars[name])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return terms.Not(self.scalar(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.arithmetic(node, "-", terms.Const(0), self.scalar(operand))
            case ast.BoolOp(op=op, values=values):
                parts = tuple(self.truth(each) for each in values)
                return terms.Junction("and" if isinstance(op, ast.And) else "or", parts)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return self.arithmetic(node, OPERATORS[type(op)], self.scalar(left), self.scalar(right))
            case ast.Compare():
                return self.comparison(node)
            case ast.IfExp(test=test, body=then, orelse=other):
                return _choose(self.scalar(test), self.scalar(then), self.scalar(other))
            case ast.Call():
                return self.call_value(node)
            case ast.Name() | ast.Attribute() | ast.Subscript():
                return self.load(node)
        self.refuse(node, f"{ast.unparse(node)!r} is not part of the specification language")

    def constant(self, node: ast.expr, value: int) -> terms.Const:
        """A number that fits a word."""
        return terms.Const(self.in_word(node, (value, value))[0])

    def in_word(self, node: ast.expr, interval: Interval) -> Interval:
        """The interval of a number, which must fit a word."""
        if interval[0] < WORD[0] or interval[1] > WORD[1]:
            self.refuse(node, f"{ast.unparse(node)} may not fit 64 bits")
        return interval

    def truth(self, node: ast.expr) -> Expr:
        """A part of `and` or `or`: Python's answer would be the part itself, so it must be true or false."""
        expr = self.scalar(node)
        if expr.low < 0 or expr.high > 1:
            self.refuse(node, f"{ast.unparse(node)} is a number, and `and` and `or` join truths: compare it")
        return expr

    def load(self, node: ast.expr) -> Expr:
        """The scalar at a place, or a global constant."""
        if not self.is_place(node):
            constant = self.meaning(node)
            if isinstance(constant, int):
                return self.constant(node, size_at(constant, self.program.bounds))
            self.refuse(node, f"{ast.unparse(node)} is neither a local name, a place nor an integer constant")
        place = self.place(node)
        if not isinstance(place.type, Scalar):
            self.refuse(node, f"{ast.unparse(node)} is not a scalar")
        return terms.Load(place, place.type)

    def comparison(self, node: ast.Compare) -> Expr:
        """One comparison or a chain of them; `==` and `!=` also compare records."""
        parts: list[Expr] = []
        left = node.left
        for between in node.comparators[:-1]:
            self.refuse_writers(between)
        for op, right in zip(node.ops, node.comparators, strict=True):
            if type(op) not in COMPARISONS:
                self.refuse(node, f"{ast.unparse(node)}: only ==, !=, <, <=, > and >= compare here")
            parts.append(self.compare(node, left, COMPARISONS[type(op)], right))
            left = right
        return parts[0] if len(parts) == 1 else terms.Junction("and", tuple(parts))

    def compare(self, node: ast.Compare, left: ast.expr, operator: terms.Comparison, right: ast.expr) -> Expr:
        """One comparison."""
        if self.is_place(left):
            place = self.place(left)
            if not isinstance(place.type, Scalar):
                if operator not in ("==", "!="):
                    self.refuse(node, "records are compared with == and != only")
                same = terms.Same(place, self.source(right, place.type))
                return same if operator == "==" else terms.Not(same)
        return terms.Compare(operator, self.scalar(left), self.scalar(right))

    def arithmetic(self, node: ast.expr, operator: terms.Operator, left: Expr, right: Expr) -> Expr:
        """Arithmetic, with the interval of its result."""
        if operator in ("//", "%") and not (isinstance(right, terms.Const) and right.value > 0 and left.low >= 0):
            self.refuse(node, f"{operator} takes a number that is never negative and a positive constant")
        if isinstance(left, terms.Const) and isinstance(right, terms.Const):
            return self.constant(node, fold(operator, left.value, right.value))
        return terms.Binary(operator, left, right, *self.in_word(node, interval_of(operator, left, right)))

    def call_value(self, node: ast.Call) -> Expr:
        """A call that has a value: a helper, `len`, `min`, `max`, `any`, `all`, `sum`, or another function."""
        match self.builtin(node):
            case "any" | "all" | "sum" as name, [ast.GeneratorExp() as each]:
                return self.over(name, each)
            case "len", [of]:
                return terms.Length(*self.sequence(of))
            case "min" | "max" as name, [first, *others] if others:
                operator: terms.Operator = "min" if name == "min" else "max"
                expr = self.scalar(first)
                for other in others:
                    expr = self.arithmetic(node, operator, expr, self.scalar(other))
                return expr
            case "bool", [only]:
                return terms.Not(terms.Not(self.scalar(only)))
            case "int", [only]:
                return self.scalar(only)
        helper = self.meaning(node.func)
        if helper is lang.has_message and len(node.args) == 2:
            place, kind = self.sequence(node.args[0])
            return terms.Has(place, kind, self.source(node.args[1], kind.element))
        if helper in SET_HELPERS:
            return self.set_helper(node, helper)
        expr = self.call(node)
        if self.program.functions[expr.function].returns is None:
            self.refuse(node, f"{expr.function} returns nothing")
        return expr

    def set_helper(self, node: ast.Call, helper: Any) -> Expr:
        """A helper on sets."""
        arity = helper.__code__.co_argcount
        if len(node.args) != arity or node.keywords:
            self.refuse(node, f"{helper.__name__} takes {arity} argument{'s' * (arity > 1)}")
        arguments = [self.scalar(argument) for argument in node.args]
        if any(argument.low < 0 for argument in arguments[: SET_HELPERS[helper]]):
            self.refuse(node, f"{helper.__name__} takes a set, and this may be a negative number")
        return self.set_term(node, helper, arguments)

    def set_term(self, node: ast.Call, helper: Any, arguments: list[Expr]) -> Expr:
        """The term of a helper on sets."""
        left, right = arguments[0], arguments[-1]
        if helper is lang.contains:
            return terms.Contains(left, right)
        if helper is lang.only:
            return self.bit(node, left)
        if helper is lang.insert:
            return self.arithmetic(node, "|", left, self.bit(node, right))
        if helper is lang.remove:
            return self.arithmetic(node, "&~", left, self.bit(node, right))
        if helper is lang.size:
            return terms.Count(left, 0, left.high.bit_length())
        if helper is lang.is_subset:
            return terms.Compare("==", self.arithmetic(node, "&~", left, right), terms.Const(0))
        if helper is lang.everything:
            if not isinstance(left, terms.Const) or not 0 <= left.value <= ELEMENT_MAX + 1:
                self.refuse(node, f"everything takes a constant from 0 to {ELEMENT_MAX + 1}")
            return terms.Const((1 << left.value) - 1)
        return self.arithmetic(node, SET_OPERATORS[helper], left, right)

    def bit(self, node: ast.Call, element: Expr) -> Expr:
        """The set of one element."""
        if element.high > ELEMENT_MAX:
            self.refuse(node, f"a set's element is at most {ELEMENT_MAX}, and this may be larger")
        if isinstance(element, terms.Const) and element.value >= 0:
            return terms.Const(1 << element.value)
        return terms.Bit(element, self.line(node), 1, 1 << max(element.high, 0))

    def over(self, operator: Any, node: ast.GeneratorExp) -> Expr:
        """`any(... for name in range(...) if ...)`, `all`, `sum`."""
        match node.generators:
            case [ast.comprehension(target=ast.Name(id=name), iter=iterated, ifs=tests, is_async=0)]:
                start, stop, step = self.range_of(iterated)
            case _:
                self.refuse(node, f"{operator} runs over one name in one range")
        if step != 1 or name in self.places:
            self.refuse(node, f"{operator} runs over a number that counts up")
        outer = self.scalars.get(name)
        self.scalars[name] = (start.low, max(start.low, stop.high - 1))
        parts = tuple(self.scalar(test) for test in tests)
        test: Expr = terms.Const(1) if not parts else terms.Junction("and", parts) if len(parts) > 1 else parts[0]
        body = self.scalar(node.elt)
        if outer is None:
            del self.scalars[name]
        else:
            self.scalars[name] = outer
        turns = max(0, stop.high - start.low)
        low, high = (0, 1) if operator != "sum" else (min(0, body.low * turns), max(0, body.high * turns))
        return terms.Over(operator, name, start, stop, test, body, low, high)

    def range_of(self, node: ast.expr) -> tuple[Expr, Expr, Literal[1, -1]]:
        """The start, stop and step of a `range(...)`."""
        match self.builtin(node):
            case "range", [stop]:
                return terms.Const(0), self.scalar(stop), 1
            case "range", [start, stop]:
                return self.scalar(start), self.scalar(stop), 1
            case "range", [start, stop, step]:
                match self.scalar(step):
                    case terms.Const(1):
                        return self.scalar(start), self.scalar(stop), 1
                    case terms.Const(-1):
                        return self.scalar(start), self.scalar(stop), -1
        self.refuse(node, "a loop runs over range(stop), range(start, stop) or range(start, stop, -1)")

    def call(self, node: ast.Call) -> terms.Call:
        """A call of another specification function, which is read if it was not yet."""
        function = self.meaning(node.func)
        if not isinstance(function, types.FunctionType) or function.__module__ == lang.__name__:
            self.refuse(node, f"{ast.unparse(node.func)} is not a specification function or a helper known here")
        called = self.program.function(function)
        if node.keywords or len(node.args) != len(called.parameters):
            self.refuse(node, f"{called.name} takes {len(called.parameters)} arguments, by position")
        arguments = tuple(
            self.argument(argument, parameter, called)
            for argument, parameter in zip(node.args, called.parameters, strict=True)
        )
        return terms.Call(called.name, arguments, self.line(node), *(called.returns or (0, 0)))

    def argument(self, node: ast.expr, parameter: terms.Parameter, called: terms.Function) -> Expr | Source:
        """An argument: a scalar by value, anything else by reference."""
        if isinstance(parameter.type, Scalar):
            return self.scalar(node)
        source = self.source(node, parameter.type)
        if isinstance(node, ast.Call) and isinstance(source, terms.Place):
            self.refuse(node, "give the copy a name before passing it on")
        if parameter.name in called.written and isinstance(source, terms.Place):
            self.write(node, source)
        return source

    def refuse_writers(self, node: ast.expr) -> None:
        """Refuse calls that write in an expression that is evaluated twice."""
        for call in ast.walk(node):
            function = self.meaning(call.func) if isinstance(call, ast.Call) else None
            if not isinstance(function, types.FunctionType) or function.__module__ == lang.__name__:
                continue
            if self.program.function(function).writes:
                self.refuse(node, f"{function.__name__} writes, and cannot be called here")


def _choose(test: Expr, then: Expr, other: Expr) -> Expr:
    return terms.Choose(test, then, other, min(then.low, other.low), max(then.high, other.high))
