"""Faults that can be switched on in the reference implementation: one change of one function, or of the configuration.

A mutant is a published bug of Kafka by its name, or a guard that is left out. It has to be a fault of the protocol, so
that a run that it breaks would be broken on real brokers too, and every one is to be found: see `hunting`.
The mutants themselves are in `mutants_of_brokers`, `mutants_of_coordinators` and `mutants_of_clients`.
"""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from hwmark.checkers.simulation.plan import EVERYTHING, Focus
from hwmark.spec.errors import SpecError


class StaleMutantError(SpecError):
    """The text that a mutant changes is not, or not once, in the function that it names."""


class Mutant(NamedTuple):
    """A fault: `old` becomes `new` in the function at `where` ("replica.Replica.fetch"), or `changes` of the config.

    `focus` says which runs are likely to meet it; `first` is a seed that has found it, which a hunt may begin with.
    `source` is who published it.
    """

    name: str
    why: str
    source: str = ""
    where: str = ""
    old: str = ""
    new: str = ""
    changes: Mapping[str, Any] = {}
    focus: Focus = EVERYTHING
    first: int = 0


@contextmanager
def switched_on(mutant: Mutant) -> Iterator[None]:
    """Let this process's reference implementation have the fault. StaleMutantError if its text has gone.

    The function itself gets the code, so that all who hold it have it, tables of methods and importers too.
    """
    if not mutant.where:
        yield
        return
    function = function_at(mutant.where)
    before, function.__code__ = function.__code__, mutated_code(mutant, function)
    try:
        yield
    finally:
        function.__code__ = before


def function_at(where: str) -> FunctionType:
    """The function of the reference implementation, or a property's. StaleMutantError if there is none."""
    module, *path = where.split(".")
    found: Any = import_module(f"hwmark.refimpl.{module}")
    for name in path:
        found = inspect.getattr_static(found, name, None)
    found = found.fget if isinstance(found, property) else found
    if not isinstance(found, FunctionType):
        raise StaleMutantError(f"there is no function {where}")
    return found


def mutated_code(mutant: Mutant, function: FunctionType) -> CodeType:
    """The function's code with the change. StaleMutantError unless the old text is there, once."""
    source = inspect.getsource(function)
    if source.count(mutant.old) != 1:
        raise StaleMutantError(f"{mutant.name}: {mutant.where} has {mutant.old!r} {source.count(mutant.old)} times")
    text, flags = textwrap.dedent(source.replace(mutant.old, mutant.new)), __future__.annotations.compiler_flag
    module = compile(text, f"<{mutant.where}, {mutant.name}>", "exec", flags, dont_inherit=True)
    return next(code for code in module.co_consts if isinstance(code, CodeType) and code.co_name == function.__name__)
