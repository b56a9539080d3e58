"""What there is to check: the families of models, each loaded when it is first asked for.

A family's variants are the models that its modules define, in the order of their definition; whatever a module derives
is found without being listed here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from hwmark.spec.errors import SpecError
from hwmark.spec.model import Model

T = TypeVar("T")


@dataclass(frozen=True)
class Family:
    """One protocol with all its variants; `current` names the variant that is meant when none is named."""

    name: str
    what: str
    current: str
    modules: tuple[str, ...]

    @cached_property
    def variants(self) -> Mapping[str, Model]:
        """The models of this family by variant, bases first."""
        found: dict[str, Model] = {}
        for name in self.modules:
            for value in vars(importlib.import_module(f"hwmark.spec.{name}")).values():
                if isinstance(value, Model) and value.family == self.name:
                    found.setdefault(value.variant, value)
        return found

    def variant(self, name: str | None = None) -> Model:
        """A variant by its name; SpecError, naming those there are, for one that there is not."""
        return _known(self.variants, name or self.current, f"{self.name} has no variant")


FAMILIES = (
    Family(
        "replication",
        "replication of one partition: leaders, followers, the ISR, the high watermark, truncation",
        "kip-320",
        ("replication.base", "replication.variants", "replication.mutants"),
    ),
    Family(
        "async-isr", "a leader that asks the controller to change the ISR, and does not wait", "kip-497", ("async_isr",)
    ),
    Family(
        "consumer-group",
        "a consumer group whose coordinator hands partitions from member to member",
        "kip-848",
        ("consumer_group.protocol", "consumer_group.mutants"),
    ),
    Family(
        "two-phase-commit",
        "the small example of the tutorial: resource managers that commit together or not at all",
        "two-phase-commit",
        ("two_phase_commit",),
    ),
)


def families() -> dict[str, Family]:
    """Every family by its name."""
    return {family.name: family for family in FAMILIES}


def find(family: str, variant: str | None = None) -> Model:
    """A model; without a variant, the family's current one.

    Raises SpecError, naming those there are, for a family or a variant that there is not.
    """
    return _known(families(), family, "there is no model").variant(variant)


def find_properties(model: Model, names: Iterable[str]) -> tuple[str, ...]:
    """The invariants meant by names as the command line spells them (`weak-isr`).

    Raises SpecError, naming those there are, for a name that is not an invariant of the model.
    """
    known = {spelled(name): name for name in model.invariants}
    return tuple(_known(known, spelled(name), f"{model.title} has no invariant") for name in names)


def spelled(name: str) -> str:
    """A function's name as the command line spells it: `weak_isr` is weak-isr."""
    return name.replace("_", "-")


def _known(things: Mapping[str, T], name: str, what: str) -> T:
    if name not in things:
        raise SpecError(f"{what} {name!r}; known are {', '.join(things)}")
    return things[name]
