"""The compiled functions of a model do what the called ones do: the row after, the answer, and the line of a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from hwmark.checkers.compiler import Compiled, compile_instance
from hwmark.spec.catalogue import families
from hwmark.spec.errors import RangeError
from hwmark.spec.instance import Action, Instance
from hwmark.spec.model import Model
from hypothesis import given
from hypothesis import strategies as st

ROWS = 10
Outcome = tuple[str, bool | int, bytes]

seeds = st.integers(0, 2**32 - 1)


def called(instance: Instance, action: Action, row: bytes, arguments: dict[str, int]) -> Outcome:
    buffer = bytearray(row)
    try:
        answer = instance.call(action.name, buffer, arguments)
    except RangeError as error:
        found = re.match(r"[^:]+: (\S+):(\d+): in ", str(error))
        assert found is not None and action.name in str(error)
        return found[1], int(found[2]), b""
    return "", answer is None or bool(answer), bytes(buffer)


def compiled(code: Compiled, action: Action, row: bytes, arguments: dict[str, int]) -> Outcome:
    after, answer, site = code.run(action.name, row, arguments)
    return ("", answer, after) if site is None else (site.file, site.line, b"")


def assert_agree(code: Compiled, action: Action, row: bytes, arguments: dict[str, int]) -> None:
    instance = code.instance
    one, other = called(instance, action, row, arguments), compiled(code, action, row, arguments)
    may_differ = one[:2] == ("", False) and action in instance.actions  # a disabled action's writes are thrown away
    shown = instance.to_json(row)
    assert one[:2] == other[:2], f"{instance}: {action.name}({arguments}) in {shown}"
    assert may_differ or one[2] == other[2], f"{instance}: {action.name}({arguments}) in {shown}"


def everything_of(instance: Instance) -> tuple[Action, ...]:
    return (*instance.actions, *instance.properties.values())


@given(seed=seeds)
def test_a_random_model_is_compiled_as_it_is_called(seed: int, small_models: ModuleType, folder: Path) -> None:
    dice = Random(seed)
    instance = small_models.draw(dice, folder)
    code = compile_instance(instance, single=True)
    for _ in range(ROWS):
        row = small_models.random_row(instance, dice)
        for action in everything_of(instance):
            assert_agree(code, action, row, dice.choice(list(action.choices())))


def models() -> Iterator[Any]:
    for family in families().values():
        for name, model in family.variants.items():
            yield pytest.param(model, id=model.title, marks=[] if name == family.current else [pytest.mark.deep])


@pytest.mark.parametrize("model", list(models()))
def test_a_model_of_the_catalogue_is_compiled_as_it_is_called(model: Model, small_models: ModuleType) -> None:
    instance = model.at()
    code = compile_instance(instance, single=True)
    dice = Random(str(instance))
    reached = instance.initial()
    for _ in range(3 * ROWS):
        row = dice.choice(reached[-5:])
        successors = [step.row for step in instance.successors(row)] if instance.within(row) else []
        reached.extend(dice.sample(successors, min(len(successors), 2)))
        for each in (reached[-1], small_models.random_row(instance, dice)):
            for action in everything_of(instance):
                assert_agree(code, action, each, dice.choice(list(action.choices())))
