"""Reads a specification function's source into typed terms, and refuses what is not part of the language.

The language is the part of Python that all three interpretations know: assignment, augmented assignment, `if`,
`for .. in range(..)`, `return`, comparison, integer arithmetic, `and`/`or`/`not`, `any`/`all`/`sum` over a range, the
helpers of `lang`, building a struct, and calls of other specification functions. Whatever else stands in a body is a
SpecError with the model, the function, the file and the line.
"""

from __future__ import annotations

import ast
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hwmark.spec import lang, terms
from hwmark.spec.assignment import unassigned_reads
from hwmark.spec.errors import SpecError
from hwmark.spec.expressions import Expressions, SpecFunction
from hwmark.spec.intervals import WIDE, Interval, hull
from hwmark.spec.layout import Scalar, Type, resolve
from hwmark.spec.terms import Source, Statement

PASSES_MAX = 4
"""Readings of a function after which a local name's interval that still grows is taken as `WIDE`."""

GROWN_MAX = 2**32
"""How far a number that is already `WIDE` may be from zero when it is assigned again: the sum of two such numbers."""


class Program:
    """The functions of one model at fixed bounds, read on demand.

    `lookup(name, function)` says what a global name means in a function's body, variants included.
    """

    def __init__(self, model: str, bounds: Mapping[str, int], lookup: Callable[[str, SpecFunction], Any]) -> None:
        self.model, self.bounds, self.lookup = model, bounds, lookup
        self.functions: dict[str, terms.Function] = {}
        self._specs: dict[str, SpecFunction] = {}
        self._reading: list[str] = []

    def function(self, function: SpecFunction) -> terms.Function:
        """The terms of a function; equal names mean the same function within one model."""
        name = function.__name__
        if self._specs.setdefault(name, function) is not function:
            raise SpecError(f"{self.model}: two different functions are called {name}")
        if name not in self.functions:
            if name in self._reading:
                raise SpecError(f"{self.model}: {' -> '.join([*self._reading, name])}: a specification cannot recurse")
            self._reading.append(name)
            try:
                self.functions[name] = Reader(self, function).read()
            finally:
                self._reading.pop()
        return self.functions[name]


class Reader(Expressions):
    """Reads one function."""

    # ------------------------------------------------------------------------------------- whole function

    def read(self) -> terms.Function:
        """Read the function until the intervals of its local names stand still."""
        if self.spec.__closure__:
            self.refuse(self.tree, f"it closes over {', '.join(self.spec.__code__.co_freevars)}")
        parameters = self.parameters()
        for node in unassigned_reads(self.tree):
            self.refuse(node, f"{node.id} may have no value here: on some path to this line nothing was assigned to it")
        body = self.stable_body()
        if self.returns is None:
            body = body if isinstance(body[-1] if body else None, terms.Return) else (*body, terms.Return(None))
        elif self.bare_return is not None or self.may_end(body):
            self.refuse(self.bare_return or self.tree, "it returns a value, but can also end without one")
        return terms.Function(
            self.spec.__name__, self.file, self.first_line, parameters, body, self.returns, frozenset(self.written)
        )

    def stable_body(self) -> tuple[Statement, ...]:
        """The body as read when the intervals of the local names no longer grew."""
        readings, before = 0, None
        while before != self.scalars:
            before = dict(self.scalars)
            self.widen = readings >= PASSES_MAX
            body = self.block(self.tree.body)
            readings += 1
        return body

    def parameters(self) -> tuple[terms.Parameter, ...]:
        """The declared parameters at the model's bounds."""
        signature = self.tree.args
        if signature.vararg or signature.kwarg or signature.kwonlyargs or signature.defaults or signature.posonlyargs:
            self.refuse(self.tree, "parameters are plain names without defaults")
        try:
            hints = typing.get_type_hints(self.spec, include_extras=True)
        except NameError as error:
            self.refuse(self.tree, f"its annotations cannot be read: {error}")
        found = []
        for argument in signature.args:
            if argument.arg not in hints:
                self.refuse(argument, f"the parameter {argument.arg} has no type")
            where = f"{self.program.model}: {self.file}:{self.line(argument)}: parameter {argument.arg}"
            kind = resolve_parameter(hints[argument.arg], self.program.bounds, where)
            found.append(terms.Parameter(argument.arg, kind))
            if isinstance(kind, Scalar):
                self.scalars[argument.arg] = (kind.low, kind.high)
            else:
                self.places[argument.arg] = kind
                self.origins[argument.arg] = argument.arg
        return tuple(found)

    def may_end(self, body: tuple[Statement, ...]) -> bool:
        """Whether control can reach the end of these statements."""
        match body[-1] if body else None:
            case terms.Return():
                return False
            case terms.If(_, then, other):
                return self.may_end(then) or self.may_end(other)
        return True

    # ---------------------------------------------------------------------------------------- statements

    def block(self, nodes: list[ast.stmt]) -> tuple[Statement, ...]:
        """Statements in order, docstrings and `pass` left out."""
        read = [self.statement(node) for node in nodes if not _says_nothing(node)]
        return tuple(statement for statement in read)

    def statement(self, node: ast.stmt) -> Statement:
        """One statement."""
        match node:
            case ast.Assign(targets=[target], value=value):
                return self.assign(target, value)
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                return self.assign(target, value)
            case ast.AugAssign(target=target, op=op, value=value):
                self.refuse_writers(target)
                return self.assign(target, ast.copy_location(ast.BinOp(_as_load(target), op, value), node))
            case ast.If(test=test, body=then, orelse=other):
                return terms.If(self.scalar(test), self.block(then), self.block(other))
            case ast.For(target=ast.Name(id=name), iter=iterated, body=body, orelse=[]):
                return self.loop(node, name, iterated, body)
            case ast.Return(value=value):
                return self.leave(node, value)
            case ast.Expr(value=ast.Call() as call):
                return self.effect(call)
        self.refuse(node, f"{_word(node)} is not part of the specification language")

    def leave(self, node: ast.Return, value: ast.expr | None) -> terms.Return:
        """`return`, with or without a scalar."""
        if value is None:
            self.bare_return = node
            return terms.Return(None)
        expr = self.scalar(value)
        self.returns = hull(self.returns, (expr.low, expr.high))
        return terms.Return(expr)

    def loop(self, node: ast.For, name: str, iterated: ast.expr, body: list[ast.stmt]) -> terms.For:
        """`for name in range(...)`."""
        start, stop, step = self.range_of(iterated)
        if name in self.places:
            self.refuse(node, f"{name} already stands for a place")
        turns = (start.low, stop.high - 1) if step == 1 else (stop.low + 1, start.high)
        self.note(node, name, (min(turns), max(turns)))
        return terms.For(name, start, stop, step, self.block(body))

    def assign(self, target: ast.expr, value: ast.expr) -> Statement:
        """`name = ...`, `place = ...`."""
        if isinstance(target, ast.Name):
            return self.assign_name(target, value)
        place = self.place(target)
        self.write(target, place)
        if isinstance(place.type, Scalar):
            return terms.Store(place, place.type, self.scalar(value), self.line(target))
        return terms.Copy(place, self.source(value, place.type))

    def assign_name(self, target: ast.Name, value: ast.expr) -> Statement:
        """A scalar is assigned; a place is bound, once; `copy(...)` and a struct built make a local record."""
        name = target.id
        if name in self.scalars:
            return self.set_local(target, value)
        match value:
            case ast.Call(func=ast.Name(id=called), args=[original], keywords=[]) if self.means(called, lang.copy):
                source: Source = self.place(original)
                if isinstance(source.type, Scalar):
                    self.refuse(value, f"{ast.unparse(original)} is a scalar, and needs no copy")
                return self.new(target, source, source.type)
            case ast.Call(func=ast.Name(id=called)) if self.struct(called):
                built = self.build(value)
                return self.new(target, built, built.type)
        if not self.is_place(value):
            return self.set_local(target, value)
        place = self.place(value)
        if isinstance(place.type, Scalar):
            return self.set_local(target, value)
        self.name_place(target, place.type)
        self.origins[name] = self.origins[terms.place_root(place)]
        if self.is_sorted(place):
            self.sorted.add(name)
        return terms.Bind(name, place)

    def new(self, target: ast.Name, source: Source, kind: Type) -> terms.New:
        """A local record."""
        self.name_place(target, kind)
        self.origins[target.id] = None
        return terms.New(target.id, kind, source)

    def name_place(self, target: ast.Name, kind: Type) -> None:
        """Let a name stand for a place; one name, one place."""
        known, here = self.places.get(target.id), (target.lineno, target.col_offset)
        if known is not None and (known != kind or here != self.bindings.get(target.id)):
            self.refuse(target, f"{target.id} already stands for another place; use another name")
        self.places[target.id] = kind
        self.bindings[target.id] = here

    def set_local(self, target: ast.Name, value: ast.expr) -> terms.SetLocal:
        """A scalar local name; its interval grows with every assignment."""
        if target.id in self.places:
            self.refuse(target, f"{target.id} stands for a place, and cannot become a number")
        expr = self.scalar(value)
        self.note(target, target.id, (expr.low, expr.high))
        return terms.SetLocal(target.id, expr)

    def note(self, node: ast.AST, name: str, interval: Interval) -> None:
        """Widen what is known about a local name."""
        known = hull(self.scalars.get(name), interval)
        grows = self.widen and known != self.scalars.get(name)
        if grows and not -GROWN_MAX <= known[0] <= known[1] <= GROWN_MAX:
            self.refuse(node, f"{name} may grow too fast to be bounded")
        self.scalars[name] = WIDE if grows else known

    def effect(self, call: ast.Call) -> Statement:
        """A call for its effects: a helper that writes, or another specification function."""
        helper = self.meaning(call.func)
        line = self.line(call)
        if helper in (lang.append, lang.truncate, lang.send, lang.discard):
            if len(call.args) != 2 or call.keywords:
                self.refuse(call, f"{helper.__name__} takes two arguments")
            place, kind = self.sequence(call.args[0])
            self.write(call.args[0], place)
            if helper in (lang.send, lang.discard) and kind.kind == "seq":
                self.refuse(call, f"{helper.__name__} is for bags and sets of messages")
            if helper in (lang.append, lang.truncate) and kind.kind != "seq":
                self.refuse(call, f"{helper.__name__} is for sequences")
            if helper is lang.append:
                return terms.Append(place, kind, self.value(call.args[1], kind.element), line)
            if helper is lang.truncate:
                return terms.Truncate(place, kind, self.scalar(call.args[1]), line)
            if helper is lang.send:
                return terms.Send(place, kind, self.source(call.args[1], kind.element), line)
            return terms.Discard(place, kind, self.scalar(call.args[1]), line)
        return terms.Do(self.call(call))


def resolve_parameter(annotation: Any, bounds: Mapping[str, int], where: str) -> Type:
    """A parameter's type; a plain `int` is a number of any size, for functions that actions call."""
    return Scalar(*WIDE) if annotation is int else resolve(annotation, bounds, where)


def _says_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _as_load(target: ast.expr) -> ast.expr:
    loaded = ast.parse(ast.unparse(target), mode="eval").body
    for node in ast.walk(loaded):
        ast.copy_location(node, target)
    return loaded


def _word(node: ast.stmt) -> str:
    return {ast.AsyncFunctionDef: "async def", ast.FunctionDef: "def", ast.ClassDef: "class"}.get(
        type(node), ast.unparse(node).split("\n")[0]
    )
