"""NamedTuples, dataclasses and enums of the reference implementation as JSON, and read from it again.

A tuple is a JSON array. Whatever JSON does not have says what it `is`: {"is": "producer.Send", "topic": "x"}, with the
fields by name and without those that have their default; {"is": "errors.Error", "name": "NONE"};
{"is": "list", "items": [...]}; {"is": "dict", "items": [[key, value], ...]}.
"""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Hashable
from enum import Enum
from functools import cache
from typing import Any

from hwmark.checkers.simulation.values import SCALARS, is_named_tuple
from hwmark.traces.changes import Json

PACKAGE = "hwmark.refimpl."


def encode(value: Any) -> Json:
    """The value as JSON. TypeError for what is none of the values above."""
    kind: Any = type(value)
    if kind is tuple:
        return [encode(each) for each in value]
    if kind in SCALARS and kind is not bytes:
        return value  # type: ignore[no-any-return]
    if kind is list:
        return {"is": "list", "items": [encode(each) for each in value]}
    if kind is dict:
        return {"is": "dict", "items": [[encode(key), encode(each)] for key, each in value.items()]}
    if isinstance(value, Enum):
        return {"is": _name(kind), "name": value.name}
    defaults = _defaults(kind)
    fields = {name: getattr(value, name) for name in _hints(kind)}
    return {"is": _name(kind), **{name: encode(v) for name, v in fields.items() if not _is(v, defaults.get(name, ...))}}


def decode(value: Json) -> Any:
    """The value that `encode` wrote. ValueError says what it is if it is none."""
    if isinstance(value, list):
        return tuple([decode(each) for each in value])
    if not isinstance(value, dict):
        return value
    fields = value.copy()
    name = fields.pop("is", None)
    if name in ("list", "dict"):
        return _decode_container(name, fields)
    if not isinstance(name, str):
        raise ValueError('an object says what it "is"')
    kind = _kind(name)
    if issubclass(kind, Enum):
        if fields.keys() != {"name"} or str(fields["name"]) not in kind.__members__:
            raise ValueError(f"{name} has no {fields.get('name')!r}")
        return kind[str(fields["name"])]
    return _decode_fields(name, kind, fields)


def require(value: Any, kind: Any, what: str) -> None:
    """ValueError if a value is not of an annotation's type; `what` says whose."""
    if not fits(value, kind):
        name = kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)
        raise ValueError(f"{what} must be {name.replace('typing.', '')}, not {value!r}")


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotation's type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if kind is Hashable:
        return is_hashable(value)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1:] == (Ellipsis,):
            arguments = arguments[:1] * len(value) if type(value) is tuple else arguments
        is_as_long = type(value) is tuple and len(value) == len(arguments if arguments != ((),) else ())
        return is_as_long and all(map(fits, value, arguments))
    if origin in (list, dict):
        return type(value) is origin
    return type(value) is (type(None) if kind is None else kind)


def is_hashable(value: Any) -> bool:
    """Whether the value, with all that is in it, has a hash."""
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _decode_container(name: Json, fields: dict[str, Json]) -> Any:
    items = fields.get("items")
    if fields.keys() != {"items"} or not isinstance(items, list):
        raise ValueError(f"a {name} has its items as an array")
    if name == "list":
        return [decode(each) for each in items]
    if not all(isinstance(item, list) and len(item) == 2 and is_hashable(decode(item[0])) for item in items):
        raise ValueError("the items of a dict are arrays of a key and a value")
    return {decode(item[0]): decode(item[1]) for item in items if isinstance(item, list)}


def _decode_fields(name: Any, kind: type, fields: dict[str, Json]) -> Any:
    hints, defaults = _hints(kind), _defaults(kind)
    for field in fields:
        if field not in hints:
            raise ValueError(f"{name} has no field {field!r}")
    for field in hints:
        if field not in fields and field not in defaults:
            raise ValueError(f"{name} needs the field {field!r}")
    values = {field: decode(each) for field, each in fields.items()}
    for field, value in values.items():
        require(value, hints[field], f"{name}.{field}")
    return kind(**values)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """The fields with their types."""
    return typing.get_type_hints(kind)


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    """The fields that may be left out, with what they are then."""
    if is_named_tuple(kind):
        return dict(kind._field_defaults)
    if not dataclasses.is_dataclass(kind):
        raise TypeError(f"{kind.__qualname__} cannot be written as JSON")
    return {f.name: f.default for f in dataclasses.fields(kind) if f.default is not dataclasses.MISSING}


def _is(value: Any, default: Any) -> bool:
    """Whether a field has its default; True is no 1."""
    return type(value) is type(default) and bool(value == default)


def _name(kind: type) -> str:
    if not kind.__module__.startswith(PACKAGE):
        raise TypeError(f"{kind.__qualname__} is none of the reference implementation's classes")
    return f"{kind.__module__.removeprefix(PACKAGE)}.{kind.__name__}"


@cache
def _kind(name: str) -> type:
    """The class of that name. ValueError if there is none."""
    module, _, kind = name.rpartition(".")
    found = None
    if module.isidentifier():
        try:
            found = getattr(importlib.import_module(PACKAGE + module), kind, None)
        except ModuleNotFoundError:
            found = None
    is_value = isinstance(found, type) and (
        is_named_tuple(found) or dataclasses.is_dataclass(found) or issubclass(found, Enum)
    )
    if not is_value or found.__module__ != PACKAGE + module:
        raise ValueError(f"{name!r} is none of the reference implementation's values")
    return found  # type: ignore[return-value]
