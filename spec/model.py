"""A model is a namespace of specification functions; a variant re-binds names in it and nothing else.

`Model.at(...)` fixes the bounds and gives an `Instance`, which can be called, compiled and translated.
"""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

from hwmark.spec import lang
from hwmark.spec.errors import SpecError
from hwmark.spec.expressions import SpecFunction
from hwmark.spec.instance import Instance
from hwmark.spec.lang import Bound, Struct


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
