"""The state of machines as values: copied, frozen to be hashed and compared, and written as JSON.

State is ints, strings, booleans, enums, None, NamedTuples, dataclasses, tuples, lists, dicts and sets of these. What
may be hashed by its declaration (a NamedTuple of such fields, whatever is annotated Hashable) never changes, and is
shared by copies. Of everything else copies share nothing, and what was one object in the machine is one in its copy.
"""

from __future__ import annotations

import copy
import dataclasses
import types
import typing
from collections.abc import Callable, Hashable
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")
Memo = dict[int, Any]

SCALARS = (int, str, bool, float, bytes, type(None))


def is_named_tuple(kind: type) -> bool:
    """Whether the class is a NamedTuple."""
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


class _Kinds(dict[type, Any]):
    """What to do with a value, by its class; found out once for every class."""

    def __init__(self, find: Callable[[type], Any]) -> None:
        self.find = find

    def __missing__(self, kind: type) -> Any:
        found = self[kind] = self.find(kind)
        return found


@cache
def is_immutable(kind: Any) -> bool:
    """Whether values of a class, or of an annotation, never change as far as its declaration says."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return all(map(is_immutable, arguments))
    if origin is tuple or origin is frozenset:
        return all(argument is Ellipsis or is_immutable(argument) for argument in arguments)
    if kind in SCALARS or kind is Hashable:
        return True
    if not isinstance(kind, type):
        return False
    if is_named_tuple(kind):
        return all(map(is_immutable, typing.get_type_hints(kind).values()))
    return issubclass(kind, Enum)


def copy_of(value: T) -> T:
    """A copy that shares only what never changes."""
    copier = _COPIERS[type(value)]
    copied: T = value if copier is None else copier(value, {})
    return copied


def plain_copy(value: T) -> T:
    """The same by the standard library."""
    return copy.deepcopy(value)


def _copy_list(value: list[Any], memo: Memo) -> list[Any]:
    known = memo.get(id(value))
    if known is not None:
        return known  # type: ignore[no-any-return]
    copied = memo[id(value)] = value.copy()
    if not _SHARED.issuperset(map(type, value)):
        copied[:] = [_copy_inner(each, memo) for each in value]
    return copied


def _copy_dict(value: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    known = memo.get(id(value))
    if known is not None:
        return known  # type: ignore[no-any-return]
    copied = memo[id(value)] = value.copy()
    if value and not _SHARED.issuperset(map(type, value.values())):
        for key, each in value.items():
            copied[key] = _copy_inner(each, memo)
    return copied


def _copy_set(value: set[Any], memo: Memo) -> set[Any]:
    return memo.setdefault(id(value), value.copy())  # type: ignore[no-any-return]


def _copy_tuple(value: tuple[Any, ...], memo: Memo) -> tuple[Any, ...]:
    if _SHARED.issuperset(map(type, value)):
        return value
    copied = [_copy_inner(each, memo) for each in value]
    if all(new is old for new, old in zip(copied, value, strict=True)):
        return value
    return tuple.__new__(type(value), copied)


def _copy_inner(value: Any, memo: Memo) -> Any:
    copier = _COPIERS[type(value)]
    return value if copier is None else copier(value, memo)


def _object_copier(kind: Any) -> Callable[[Any, Memo], Any]:
    """Copy objects of a class, field by field."""
    names, new = _fields(kind), object.__new__
    values_of = _values_of(names)

    def copier(value: Any, memo: Memo) -> Any:
        copied = memo.get(id(value))
        if copied is None:
            copied = memo[id(value)] = new(kind)
            for name, each in zip(names, values_of(value), strict=True):
                inner = copiers[type(each)]
                setattr(copied, name, each if inner is None else inner(each, memo))
        return copied

    copiers = _COPIERS
    return copier


def _copier(kind: Any) -> Callable[[Any, Memo], Any] | None:
    """How to copy; None shares."""
    if is_immutable(kind) or kind in (frozenset, types.FunctionType, type):
        _SHARED.add(kind)
        return None
    for base, copier in _CONTAINERS:
        if issubclass(kind, base):
            return copier
    return _object_copier(kind)


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    """The names of an object's fields. TypeError for objects that are no state."""
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__qualname__} is no state: expected a dataclass, a NamedTuple or a container")
    return tuple([each.name for each in dataclasses.fields(kind)])


def _values_of(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What reads all fields of an object at once."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple([getattr(value, name) for name in names])


_CONTAINERS: tuple[tuple[type, Callable[[Any, Memo], Any]], ...] = (
    (list, _copy_list),
    (dict, _copy_dict),
    (set, _copy_set),
    (tuple, _copy_tuple),
)
_SHARED: set[type] = set()
_COPIERS = _Kinds(_copier)


def freeze(value: Any) -> Hashable:
    """A hashable value, equal for equal states: the order of dicts does not matter, lists are tuples."""
    freezer = _FREEZERS[type(value)]
    return value if freezer is None else freezer(value)  # type: ignore[no-any-return]


def plain_freeze(value: Any) -> str:
    """The same as text, for comparisons."""
    if isinstance(value, dict):
        return f"dict{sorted((plain_freeze(key), plain_freeze(each)) for key, each in value.items())}"
    if isinstance(value, set | frozenset):
        return f"set{sorted(map(plain_freeze, value))}"
    if isinstance(value, list | tuple):
        name = type(value).__qualname__ if is_named_tuple(type(value)) else ""
        return f"{name}[{', '.join(map(plain_freeze, value))}]"
    kind: Any = type(value)
    if hasattr(kind, "__dataclass_fields__"):
        return f"{kind.__qualname__}{[plain_freeze(getattr(value, name)) for name in _fields(kind)]}"
    return repr(value)


def _freeze_sequence(value: Any) -> Hashable:
    if not value:
        return ()
    if _SCALARS.issuperset(kinds := set(map(type, value))):
        return tuple(value)
    freezers = {kind: _FREEZERS[kind] for kind in kinds}
    if len(kinds) == 1 and (kind := kinds.pop()) in _TAGGED:
        return *value, kind  # not the class first, as of an object: that of one is not the one
    return tuple([each if (freezer := freezers[type(each)]) is None else freezer(each) for each in value])


def _freeze_dict(value: dict[Any, Any]) -> Hashable:
    if not value:
        return _EMPTY
    if _SCALARS.issuperset(map(type, value.values())):
        return frozenset(value.items())
    return frozenset([(key, freeze(each)) for key, each in value.items()])


def _fields_freezer(kind: Any, names: tuple[str, ...]) -> Callable[[Any], Hashable]:
    """Freeze objects by their class and their fields."""
    values_of = _values_of(names)

    def freezer(value: Any) -> Hashable:
        values = values_of(value)
        if scalars.issuperset(map(type, values)):
            return kind, values
        return kind, tuple([each if (inner := freezers[type(each)]) is None else inner(each) for each in values])

    scalars, freezers = _SCALARS, _FREEZERS
    return freezer


def _freezer(kind: Any) -> Callable[[Any], Hashable] | None:
    """How to freeze; None for what stands for itself."""
    if kind in SCALARS or issubclass(kind, Enum):
        _SCALARS.add(kind)
        return None
    if is_named_tuple(kind):
        if not is_immutable(kind):
            return _tuple_freezer(kind)
        _TAGGED.add(kind)
        return lambda value: (kind, value)
    if issubclass(kind, list | tuple):
        return _freeze_sequence
    if issubclass(kind, dict):
        return _freeze_dict
    if issubclass(kind, set | frozenset):
        return lambda value: (set, frozenset(value))
    return _fields_freezer(kind, _fields(kind))


def _tuple_freezer(kind: Any) -> Callable[[Any], Hashable]:
    return lambda value: (kind, tuple(map(freeze, value)))


_EMPTY: frozenset[Any] = frozenset()
_SCALARS: set[type] = set()  # classes of what stands for itself
_TAGGED: set[type] = set()  # NamedTuples that can be hashed; only their class has to be told, too
_FREEZERS = _Kinds(_freezer)
