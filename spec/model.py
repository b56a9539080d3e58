"""A model is a namespace of specification functions; a variant re-binds names in it and nothing else.

`Model.at(...)` fixes the bounds and gives an `Instance`: the functions callable over rows of bytes (this module),
and their terms for the compiler and for Z3 (`Instance.program`).
"""

from __future__ import annotations

import builtins
import difflib
import functools
import inspect
import itertools
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from hwmark.spec import lang, terms, views
from hwmark.spec.errors import RangeError, SpecError
from hwmark.spec.lang import Bound, Size, Struct, size_at
from hwmark.spec.layout import Json, Record, Scalar, record, row_size
from hwmark.spec.reader import Program, SpecFunction
from hwmark.spec.terms import Function

Arguments = dict[str, int]


@dataclass(frozen=True)
class Model:
    """One protocol, or one published variant of it.

    Actions change the state they are given and return whether they were enabled (None counts as enabled). Invariants
    hold for every value of their parameters, `sometimes` properties for some value in some state. `standing`
    names the invariants that are checked when none is asked for. States outside `constraint` are checked, but
    neither counted nor explored.
    """

    family: str
    variant: str
    why: str
    state: type[Struct]
    bounds: tuple[Bound, ...]
    init: str
    actions: tuple[str, ...]
    invariants: tuple[str, ...]
    standing: tuple[str, ...]
    sometimes: tuple[str, ...]
    constraint: str | None
    lanes: str | None
    functions: Mapping[str, SpecFunction]
    base: Model | None = None

    @staticmethod
    def of(
        family: str,
        variant: str,
        *,
        why: str,
        state: type[Struct],
        bounds: Iterable[Bound],
        init: SpecFunction,
        actions: Iterable[SpecFunction],
        invariants: Iterable[SpecFunction] = (),
        also: Iterable[SpecFunction] = (),
        sometimes: Iterable[SpecFunction] = (),
        constraint: SpecFunction | None = None,
        lanes: str | None = None,
    ) -> Model:
        """A model of these functions and of all functions that they call.

        `also` are invariants that are checked only when asked for; `lanes` names the domain that pictures give a lane
        to each value of.
        """
        standing, asked = tuple(invariants), tuple(also)
        listed, may = tuple(actions), tuple(sometimes)
        roots = (init, *listed, *standing, *asked, *may, *([constraint] if constraint else []))
        _require_different(f"{family}/{variant}", roots)
        return Model(
            family, variant, why, state, tuple(bounds), _name(init), _names(listed), _names(standing + asked),
            _names(standing), _names(may), _name(constraint) if constraint else None, lanes,
            _reachable(f"{family}/{variant}", {root.__name__: root for root in roots}, None),
        )  # fmt: skip

    def derive(
        self,
        variant: str,
        *,
        why: str,
        adds: Iterable[SpecFunction] = (),
        drops: Iterable[str] = (),
        **rebinds: SpecFunction,
    ) -> Model:
        """A variant: this model with names re-bound, actions added (`adds`) and actions dropped (`drops`).

        Raises SpecError for a name that the model does not know, one that it already has under `adds`, for a variant
        that changes nothing.
        """
        added, dropped = tuple(adds), tuple(drops)
        title = f"{self.family}/{variant}"
        for name in (*rebinds, *dropped):
            if name not in self.functions:
                raise SpecError(f"{title}: {self.variant} has no {name}; it has {', '.join(sorted(self.functions))}")
        for name in dropped:
            if name not in self.actions:
                raise SpecError(f"{title}: {name} is no action of {self.variant}, and cannot be dropped")
        for name, function in rebinds.items():
            if function is self.functions[name]:
                raise SpecError(f"{title}: {name} is bound to {function.__name__} already")
        _require_different(title, added)
        for function in added:
            if function.__name__ in self.functions:
                raise SpecError(f"{title}: {self.variant} already has {function.__name__}; re-bind it instead")
        if not (rebinds or added or dropped):
            raise SpecError(f"{title}: it changes nothing")
        bound = {**self.functions, **rebinds, **{function.__name__: function for function in added}}
        return replace(
            self,
            variant=variant,
            why=why,
            actions=tuple(name for name in self.actions if name not in dropped) + _names(added),
            functions=_reachable(title, bound, self),
            base=self,
        )

    @property
    def title(self) -> str:
        """Family and variant, as messages name the model."""
        return f"{self.family}/{self.variant}"

    def at(self, **bounds: int) -> Instance:
        """The model at these bounds; those not named have their defaults.

        Raises SpecError for an unknown bound or one below the least value that makes sense.
        """
        known = {bound.name: bound for bound in self.bounds}
        for name, value in bounds.items():
            if name not in known:
                raise SpecError(f"{self.title} has no bound {name}; it has {', '.join(known)}")
            if value < known[name].least:
                raise SpecError(f"{self.title}: the bound {name} is at least {known[name].least}, not {value}")
        return Instance(self, {name: bounds.get(name, int(bound)) for name, bound in known.items()})

    def diff(self) -> str:
        """What this variant changed in its base: added, dropped and re-bound names, with both sources of the latter."""
        if self.base is None:
            return f"{self.title} is a base model\n"
        before, after = self.base.functions, self.functions
        lines = [f"{self.title}: {self.why}"]
        lines += [f"- {name}" for name in self.base.actions if name not in self.actions]
        lines += [f"+ {name}" for name in self.actions if name not in self.base.actions]
        for name in sorted(set(before) & set(after)):
            if before[name] is not after[name]:
                lines.append(f"{name}: {before[name].__name__} -> {after[name].__name__}")
                old, new = (inspect.getsource(each).splitlines() for each in (before[name], after[name]))
                lines += list(difflib.unified_diff(old, new, lineterm="", n=99))[3:]
        return "\n".join(lines) + "\n"


def _name(function: SpecFunction) -> str:
    return function.__name__


def _names(functions: Iterable[SpecFunction]) -> tuple[str, ...]:
    return tuple(function.__name__ for function in functions)


def _require_different(title: str, functions: Iterable[SpecFunction]) -> None:
    """Refuse two functions of one name, and one function in two places."""
    seen: set[str] = set()
    for function in functions:
        if function.__name__ in seen:
            raise SpecError(f"{title}: two functions are called {function.__name__}")
        seen.add(function.__name__)


def _is_specification(found: object) -> TypeGuard[SpecFunction]:
    return isinstance(found, types.FunctionType) and found.__module__ != lang.__name__


def _global_names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _meanings(name: str, model: Model | None) -> Iterator[SpecFunction]:
    """What a name means in a model and meant in those that it is derived from."""
    while model is not None:
        if name in model.functions:
            yield model.functions[name]
        model = model.base


def _reachable(title: str, bound: Mapping[str, SpecFunction], base: Model | None) -> dict[str, SpecFunction]:
    """The bound functions and all that they call, by the names that they are called by.

    A name that a module uses for another function than the model and those it derives from is a SpecError.
    """
    functions = dict(bound)
    todo = list(functions.values())
    while todo:
        function = todo.pop()
        if not isinstance(function, types.FunctionType):
            raise SpecError(f"{title}: {function!r} is not a function")
        for name in _global_names(function.__code__):
            found = function.__globals__.get(name)
            if not _is_specification(found):
                continue
            if name not in functions:
                functions[name] = found
                todo.append(found)
            elif found is not functions[name] and found not in _meanings(name, base):
                where = ", ".join(f"{each.__module__}" for each in (functions[name], found))
                raise SpecError(f"{title}: {name} means different functions, of {where}; rename one")
    return functions


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

    def terms(self, name: str) -> terms.Function:
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


def _guarded(function: SpecFunction, parameters: tuple[terms.Parameter, ...]) -> SpecFunction:
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
