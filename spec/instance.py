"""A model at fixed bounds: its functions callable over rows of bytes, and their terms for the other interpreters."""

from __future__ import annotations

import builtins
import functools
import inspect
import itertools
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hwmark.spec import views
from hwmark.spec.errors import RangeError, SpecError
from hwmark.spec.expressions import SpecFunction
from hwmark.spec.lang import Size, Struct, size_at
from hwmark.spec.layout import Json, Record, Scalar, record, row_size
from hwmark.spec.reader import Program
from hwmark.spec.terms import Function, Parameter

if TYPE_CHECKING:
    from hwmark.spec.model import Model

Arguments = dict[str, int]


@dataclass(frozen=True)
class Action:
    """An action with the domains that its parameters range over."""

    name: str
    domain: tuple[tuple[str, Scalar], ...]

    def choices(self) -> Iterator[Arguments]:
        """Every choice of arguments, the last parameter turning fastest."""
        names = [name for name, _ in self.domain]
        for values in itertools.product(*(range(kind.low, kind.high + 1) for _, kind in self.domain)):
            yield dict(zip(names, values, strict=True))

    def show(self, arguments: Mapping[str, int]) -> dict[str, Json]:
        """Arguments as JSON."""
        return {name: kind.show(arguments[name]) for name, kind in self.domain}


@dataclass(frozen=True)
class Step:
    """One enabled action and the row that it leads to."""

    action: str
    arguments: Arguments
    row: bytes


class Instance:
    """A model at fixed bounds."""

    def __init__(self, model: Model, bounds: Mapping[str, int]) -> None:
        self.model, self.bounds = model, dict(bounds)
        self.state: Record = record(model.state, bounds)
        self.row_size = row_size(self.state)
        self.program = Program(model.title, bounds, self._lookup)
        self.actions = tuple(self._action(name) for name in model.actions)
        self.init = self._action(model.init)
        asked: tuple[str, ...] = (
            *model.invariants,
            *model.sometimes,
            *((model.constraint,) if model.constraint else ()),
        )
        self.properties = {name: self._property(name) for name in asked}
        self._callables = self._rebound()

    def __repr__(self) -> str:
        return f"{self.model.title}({', '.join(f'{name}={value}' for name, value in self.bounds.items())})"

    # ------------------------------------------------------------------------------------------- naming

    def _lookup(self, name: str, function: SpecFunction) -> Any:
        if name in self.model.functions:
            return self.model.functions[name]
        if name in function.__globals__:
            return function.__globals__[name]
        return getattr(builtins, name, None)

    def terms(self, name: str) -> Function:
        """The terms of the function that a name of the model is bound to."""
        return self.program.function(self.model.functions[name])

    def _action(self, name: str) -> Action:
        function = self.terms(name)
        where = self._where(function)
        if not function.parameters or function.parameters[0].type != self.state:
            raise SpecError(f"{where}: the first parameter is the state, a {self.state.name}")
        for parameter in function.parameters[1:]:
            if not isinstance(parameter.type, Scalar) or parameter.type.high - parameter.type.low > 1 << 20:
                raise SpecError(f"{where}: {parameter.name} needs a bounded domain to range over")
        return Action(name, function.domain())

    def _property(self, name: str) -> Action:
        function = self.terms(name)
        if function.returns is None:
            raise SpecError(f"{self._where(function)}: a property returns whether it holds")
        if function.writes:
            raise SpecError(f"{self._where(function)}: a property leaves the state as it is")
        return self._action(name)

    def _where(self, function: Function) -> str:
        return f"{self.model.title}: {function.file}:{function.line}: in {function.name}"

    def _rebound(self) -> dict[str, SpecFunction]:
        """The model's functions over this instance's bounds, structs and bindings."""
        rebound: dict[str, SpecFunction] = {}
        scopes: dict[int, dict[str, Any]] = {}
        for name, function in self.model.functions.items():
            scope = scopes.get(id(function.__globals__))
            if scope is None:
                scope = {key: self._bind(value) for key, value in function.__globals__.items()}
                scopes[id(function.__globals__)] = scope
            assert isinstance(function, types.FunctionType)
            bare = types.FunctionType(function.__code__, scope, function.__name__)
            rebound[name] = _guarded(bare, self.terms(name).parameters)
        for scope in scopes.values():
            scope.update(rebound)
        return rebound

    def _bind(self, value: Any) -> Any:
        if isinstance(value, Size):
            return size_at(value, self.bounds)
        if inspect.isclass(value) and issubclass(value, Struct) and value is not Struct:
            return functools.partial(_build, value, self.bounds)
        return value

    # ------------------------------------------------------------------------------------------ calling

    def call(self, name: str, buffer: bytearray, arguments: Mapping[str, int]) -> Any:
        """Call a function of the model on the state in a buffer, which it may change.

        Raises RangeError, with the model, the function, the file and the line, where it leaves a range.
        """
        try:
            return self._callables[name](views.StructView(self.state, buffer, 0), **arguments)
        except RangeError as error:
            raise self._located(error, name, arguments) from None

    def _located(self, error: RangeError, name: str, arguments: Mapping[str, int]) -> RangeError:
        files = {function.__code__.co_filename for function in self.model.functions.values()}
        frames, traceback = [], error.__traceback__
        while traceback is not None:
            frames.append((traceback.tb_frame.f_code.co_filename, traceback.tb_lineno))
            traceback = traceback.tb_next
        file, line = next((frame for frame in reversed(frames) if frame[0] in files), ("<unknown>", 0))
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        return RangeError(f"{self.model.title}: {file}:{line}: in {name}({shown}): {error}")

    def initial(self) -> list[bytes]:
        """The rows of the initial states, sorted and each once."""
        rows = set()
        for arguments in self.init.choices():
            buffer = bytearray(self.row_size)
            if self.call(self.model.init, buffer, arguments) in (None, True, 1):
                rows.add(bytes(buffer))
        return sorted(rows)

    def step(self, name: str, row: bytes, arguments: Mapping[str, int]) -> bytes | None:
        """The row that an action leads to, or None where it is disabled."""
        buffer = bytearray(row)
        enabled = self.call(name, buffer, arguments)
        return bytes(buffer) if enabled is None or enabled else None

    def successors(self, row: bytes) -> Iterator[Step]:
        """Every enabled action in the model's order, with its row; a RangeError where one leaves a range."""
        for action in self.actions:
            for arguments in action.choices():
                after = self.step(action.name, row, arguments)
                if after is not None:
                    yield Step(action.name, arguments, after)

    def witness(self, name: str, row: bytes) -> Arguments | None:
        """The first parameters for which a property is false of a state, or None where it holds for all."""
        for arguments in self.properties[name].choices():
            if not self.call(name, bytearray(row), arguments):
                return arguments
        return None

    def instance_of(self, name: str, row: bytes) -> Arguments | None:
        """The first parameters for which a `sometimes` property is true of a state, or None."""
        for arguments in self.properties[name].choices():
            if self.call(name, bytearray(row), arguments):
                return arguments
        return None

    def within(self, row: bytes) -> bool:
        """Whether the state is inside the model's constraint."""
        return self.model.constraint is None or self.witness(self.model.constraint, row) is None

    def to_json(self, row: bytes) -> Json:
        """A state as JSON."""
        return views.to_json(self.state, row)

    def from_json(self, shown: Json) -> bytes:
        """The row of a state shown as JSON."""
        buffer = bytearray(self.row_size)
        views.from_json(self.state, shown, buffer)
        return bytes(buffer)


def _guarded(function: SpecFunction, parameters: tuple[Parameter, ...]) -> SpecFunction:
    """The function, raising RangeError for a scalar argument outside its parameter's domain."""
    kinds = [(place, each.name, each.type) for place, each in enumerate(parameters) if isinstance(each.type, Scalar)]

    def call(*arguments: Any, **named: Any) -> Any:
        for place, name, kind in kinds:
            value = arguments[place] if place < len(arguments) else named[name]
            if not kind.low <= value <= kind.high:
                raise RangeError(f"{name} = {int(value)} is outside {kind.low}..{kind.high}")
        return function(*arguments, **named)

    return call if kinds else function


def _build(struct: type[Struct], bounds: Mapping[str, int], **fields: Any) -> views.StructView:
    return views.build(record(struct, bounds), fields)
