# ruff: noqa: E501  (templates of source text)
"""Random small models, as source text that uses every construct of the specification language, and random states of them.

`write` draws the text of a module, `load` makes a real module of it (a specification's source must be readable), and
`random_row` draws a canonical state. A `careful` model stays inside its ranges; a `symmetric` one is careful and treats its
identities alike.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from hwmark.spec import views
from hwmark.spec.errors import SpecError
from hwmark.spec.instance import Instance
from hwmark.spec.layout import Json, Record, Scalar, Sequence, Table, Type
from hwmark.spec.model import Model

HEADER = """
from __future__ import annotations
from enum import IntEnum
from typing import Annotated
from hwmark.spec.lang import (EMPTY, NONE, Array, Bag, Bound, Capacity, Domain, Messages, Optional, Range, Seq, SetOf, Struct,
    append, contains, copy, difference, discard, everything, has_message, insert, intersection, is_subset, only, remove, send,
    size, truncate, union)
from hwmark.spec.model import Model

n = Bound("n", {n})
top = Bound("top", {top})
LIMIT = top + 1
Id = Annotated[int, Domain("id", n, symmetric={symmetric})]
Slot = Annotated[int, Domain("slot", 2, symmetric={symmetric})]
Small = Annotated[int, Range(-1, top)]
Place = Annotated[int, Range(0, 1)]

class Color(IntEnum):
    RED = 0
    GREEN = 1
    BLUE = 2

class Pair(Struct):
    who: Optional[Id]
    value: Small

class Cell(Struct):
    flag: bool
    members: SetOf[Id]
    pair: Pair
    log: Annotated[Seq[Pair], Capacity(2)]
    numbers: Annotated[Seq[Small], Capacity(2)]

class World(Struct):
    color: Color
    cells: Array[Id, Cell]
    owner: Optional[Id]
    count: Small
    wide: Annotated[int, Range(-70000, 70000)]
    sent: Annotated[Messages[Pair], Capacity(2)]
    bag: Annotated[Bag[Pair], Capacity(2)]
    chosen: Array[Slot, Optional[Id]]
    grid: Array[Color, Array[Id, bool]]
    maybe: Optional[bool]
"""

FOOTER = """
model = Model.of(
    "small", "small", why="drawn at random", state=World, bounds=(n, top), init=init,
    actions=({actions}), invariants=(first_property, second_property), sometimes=(third_property,),
    constraint=inside, lanes="id")
"""


class Writer:
    """Writes one random module. `ids` are the expressions in scope that name an existing identity.

    A symmetric model has an identity in scope everywhere, and computes with no index of a bag and with no slot: where
    a message is depends on what the identities are called.
    """

    def __init__(self, random: Random, *, careful: bool, symmetric: bool) -> None:
        self.random, self.careful, self.symmetric = random, careful or symmetric, symmetric
        self.lines: list[str] = []
        self.counter = 0
        self.enter(())

    def enter(self, ids: tuple[str, ...]) -> None:
        """Begin a function with these identities in scope."""
        self.ids = list(ids)
        self.places: list[str] = []
        self.slots: list[str] = []
        self.numbers: list[str] = []
        self.pairs: list[str] = []
        self.cells: list[str] = []
        self.writable: list[str] = []

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def fresh(self, prefix: str) -> str:
        self.counter += 1
        return f"{prefix}{self.counter}"

    # ------------------------------------------------------------------------------------------ expressions

    def identity(self) -> str:
        """An index of an array by identities."""
        if self.ids and (self.careful or self.chance(75)):
            return str(self.random.choice(self.ids))
        return str(self.pick("0", "1", "-1", "n", "s.owner", "s.count", "s.cells[0].pair.who", "n - 1"))

    def cell(self) -> str:
        return str(self.random.choice(self.cells)) if self.cells and self.chance(40) else f"s.cells[{self.identity()}]"

    def pair(self) -> str:
        """A place that holds a pair."""
        if self.pairs and self.chance(40):
            return str(self.random.choice(self.pairs))
        if self.careful or self.chance(60):
            return f"{self.cell()}.pair"
        index = self.pick("0", "1", "len(s.bag) - 1", "s.count")
        return str(self.pick(f"s.sent[{index}]", f"s.bag[{index}]", f"{self.cell()}.log[{index}]"))

    def who(self, depth: int) -> str:
        """An identity, or none."""
        if self.symmetric:
            options = ["NONE", "s.owner", f"{self.pair()}.who", *self.ids]
            choice = str(self.random.choice(options))
            return choice if depth == 0 else f"({choice} if {self.truth(depth - 1)} else NONE)"
        options = ["NONE", "s.owner", "0", f"{self.pair()}.who", *self.ids]
        return str(self.random.choice(options)) if self.careful or self.chance(80) else self.number(depth)

    def members(self, depth: int) -> str:
        """A set of identities."""
        if depth == 0 or self.chance(20):
            return str(self.pick(f"{self.cell()}.members", f"{self.cell()}.members", "EMPTY", "everything(n)"))
        one, other = self.members(depth - 1), self.members(depth - 1)
        element = self.random.choice(self.ids) if self.careful else self.element()
        return str(
            self.pick(
                f"insert({one}, {element})", f"remove({one}, {element})", f"only({element})", f"union({one}, {other})",
                f"intersection({one}, {other})", f"difference({one}, {other})",
                f"({one} if {self.truth(depth - 1)} else {other})",
            )
        )  # fmt: skip

    def element(self) -> str:
        return str(self.random.choice(["s.owner", "1", "len(s.bag)", "s.chosen[0]", *self.ids]))

    def number(self, depth: int) -> str:
        """Any number."""
        leaf = ["0", "1", "2", "-1", "LIMIT", "top", "s.count", "s.wide", f"{self.pair()}.value", "Color.BLUE", "s.color",
                *self.numbers]  # fmt: skip
        if not self.symmetric:
            leaf += ["s.owner", "n", *self.ids, *self.places, *self.slots]
        if depth == 0 or self.chance(25):
            return str(self.random.choice(leaf))
        one, other = self.number(depth - 1), self.number(depth - 1)
        return str(
            self.pick(
                f"({one} + {other})", f"({one} - {other})", f"(-{one})", f"({self.random.choice(leaf)} * {self.pick(2, 3)})",
                f"min({one}, {other})", f"max({one}, {other}, 0)", f"len({self.cell()}.log)", "len(s.sent)",
                f"size({self.members(depth - 1)})", f"(size({self.members(0)}) % 2)", "((len(s.bag) + 3) // 2)",
                f"({one} if {self.truth(depth - 1)} else {other})", self.quantified("sum", depth), "int(s.color == Color.RED)",
                f"count_of(s, {self.identity()})", "s.maybe" if not self.symmetric else "size(everything(n))",
            )
        )  # fmt: skip

    def quantified(self, operator: str, depth: int) -> str:
        """`any`, `all` or `sum` over all identities."""
        name = self.fresh("each")
        self.ids.append(name)
        test = f" if {self.truth(0)}" if self.chance(40) else ""
        body = self.number(depth - 1) if operator == "sum" else self.truth(depth - 1)
        self.ids.remove(name)
        return f"{operator}({body} for {name} in range(n){test})"

    def truth(self, depth: int) -> str:
        """Any condition."""
        leaves = [f"{self.cell()}.flag", "True", f"s.owner {self.pick('==', '!=')} NONE", "s.color == Color.GREEN",
                  f"s.grid[s.color][{self.identity()}]", f"{self.pair()}.who == {self.who(0)}"]  # fmt: skip
        if depth == 0:
            return str(self.random.choice(leaves))
        compare = f"{self.number(depth - 1)} {self.pick('==', '!=', '<', '<=', '>', '>=')} {self.number(depth - 1)}"
        options = [
            *leaves[:1], compare, f"{self.number(0)} <= {self.number(depth - 1)} < {self.number(0)}",
            f"(not {self.truth(depth - 1)})", f"({self.truth(depth - 1)} {self.pick('and', 'or')} {self.truth(depth - 1)})",
            f"contains({self.members(depth - 1)}, {self.who(0)})", f"is_subset({self.members(depth - 1)}, {self.members(0)})",
            f"{self.pair()} {self.pick('==', '!=')} {self.new_pair(0)}", f"has_message(s.sent, {self.new_pair(0)})",
            self.quantified("any", depth), self.quantified("all", depth), f"is_small({self.pair()}, {self.bounded(0)})",
            f"({self.truth(0)} if {self.truth(0)} else {self.truth(0)})", f"bool({self.number(0)})",
        ]  # fmt: skip
        return str(self.random.choice(options))

    def bounded(self, depth: int) -> str:
        """A number for a field of small range; often outside it unless the model is careful."""
        value = self.number(depth)
        return f"max(-1, min(top, {value}))" if self.careful or self.chance(50) else value

    def new_pair(self, depth: int) -> str:
        """The content of a pair."""
        return self.pair() if self.chance(30) else f"Pair(who={self.who(depth)}, value={self.bounded(depth)})"

    # ------------------------------------------------------------------------------------------- statements

    def say(self, level: int, line: str) -> None:
        self.lines.append("    " * level + line)

    def block(self, level: int, depth: int, leave: str) -> None:
        """One to three statements; names of this block are forgotten after it."""
        known = tuple(map(list, (self.ids, self.places, self.numbers, self.pairs, self.cells, self.writable)))
        for _ in range(self.random.randint(1, 3)):
            self.statement(level, depth, leave)
        self.ids, self.places, self.numbers, self.pairs, self.cells, self.writable = known

    def statement(self, level: int, depth: int, leave: str) -> None:
        """One statement."""
        kinds = [self.store, self.store, self.store, self.change, self.local, self.local]
        if depth > 0:
            kinds += [self.branch, self.loop]
        if self.chance(8):
            self.say(level, f"if {self.truth(1)}: return{self.answer(leave)}")
        kind = self.random.choice(kinds)
        if kind in (self.branch, self.loop):
            kind(level, depth, leave)
        else:
            kind(level)

    def answer(self, leave: str) -> str:
        return f" {self.pick('False', 'True', self.truth(1))}" if leave == "bool" else ""

    def store(self, level: int) -> None:
        """Write somewhere."""
        index = self.identity()
        self.say(
            level,
            self.pick(
                f"s.count = {self.bounded(2)}", f"s.owner = {self.who(1)}", f"{self.cell()}.flag = {self.truth(2)}",
                f"{self.cell()}.members = {self.members(2)}", f"s.color = {self.pick('Color.RED', 'Color.BLUE', 's.color')}",
                f"{self.cell()}.pair = {self.new_pair(1)}", f"s.cells[{index}] = {self.cell()}",
                f"s.grid[s.color][{index}] = {self.truth(1)}",
                *(f"s.chosen[{slot}] = {self.who(0)}" for slot in (self.slots if self.symmetric else "01")),
                f"s.maybe = {self.truth(0)}", f"mark({self.cell()}, {self.bounded(1)})",
                f"s.count += {self.pick(1, -1)}" if not self.careful else "s.count = min(s.count + 1, top)",
                f"s.wide -= {self.pick(1, 30000)}" if not self.careful else "s.wide = 0",
                *(f"{name}.value = {self.bounded(1)}" for name in self.writable),
            ),
        )  # fmt: skip

    def change(self, level: int) -> None:
        """Change a sequence, a bag or a set of messages."""
        cell, index = self.cell(), self.random.choice(self.places) if self.places else "0"
        guard, lines = self.pick(
            (f"len({cell}.log) < 2", [f"append({cell}.log, {self.new_pair(1)})"]),
            (f"len({cell}.numbers) < 2", [f"append({cell}.numbers, {self.bounded(1)})"]),
            (f"len({cell}.log) > 0", [f"truncate({cell}.log, len({cell}.log) - 1)"]),
            ("len(s.sent) < 2", [f"send(s.sent, {self.new_pair(1)})"]),
            ("len(s.bag) < 2", [f"send(s.bag, {self.new_pair(1)})"]),
            (f"{index} < len(s.sent)", [f"discard(s.sent, {index})"]),
            (f"{index} < len(s.bag)", [f"s.owner = s.bag[{index}].who", f"discard(s.bag, {index})"]),
            (f"len({cell}.numbers) == 2", [f"{cell}.numbers[1] = {self.bounded(0)}"]),
        )
        if self.symmetric and index == "0" and "discard" in lines[-1]:
            guard, lines = "True", ["s.owner = NONE"]
        if self.careful:
            self.say(level, f"if {guard}:")
        for line in lines:
            self.say(level + self.careful, line)

    def local(self, level: int) -> None:
        """Give something a name."""
        name = self.fresh("name")
        match self.pick("number", "pair", "cell", "copy", "new"):
            case "number":
                self.say(level, f"{name} = {self.number(2)}")
                self.numbers.append(name)
                if self.chance(40):
                    self.say(level, f"{name} += {self.number(1)}")
            case "pair":
                source = f"{self.cell()}.pair"
                self.say(level, f"{name} = {source}")
                self.pairs.append(name)
                self.writable.append(name)
            case "cell":
                self.say(level, f"{name} = {self.cell()}")
                self.cells.append(name)
            case "copy":
                self.say(level, f"{name} = copy({self.cell()})")
                self.cells.append(name)
            case "new":
                self.say(level, f"{name} = Pair(who={self.who(1)}, value={self.bounded(1)})")
                self.pairs.append(name)
                self.writable.append(name)

    def branch(self, level: int, depth: int, leave: str) -> None:
        self.say(level, f"if {self.truth(2)}:")
        self.block(level + 1, depth - 1, leave)
        if self.chance(30):
            self.say(level, f"elif {self.truth(1)}:")
            self.block(level + 1, depth - 1, leave)
        if self.chance(50):
            self.say(level, "else:")
            self.block(level + 1, depth - 1, leave)

    def loop(self, level: int, depth: int, leave: str) -> None:
        """A loop; over the order of identities only where they are not alike."""
        name = self.fresh("turn")
        if self.symmetric:
            self.say(level, f"for {name} in range(2):")
            self.numbers.append(name)
        else:
            self.say(
                level, f"for {name} in range({self.pick('n', '1, n', 'n - 1, -1, -1', 'size(s.cells[0].members)')}):"
            )
            self.ids.append(name)
        self.block(level + 1, depth - 1, leave)
        (self.numbers if self.symmetric else self.ids).remove(name)

    # -------------------------------------------------------------------------------------------- functions

    def action(self, number: int) -> str:
        """One action."""
        more = [("other", "Id"), ("slot", "Slot"), ("at", "Place"), ("given", "Small")]
        taken = [("one", "Id")] * (self.careful or self.chance(70)) + self.random.sample(
            more, self.random.randint(0, 2)
        )
        self.enter(tuple(name for name, kind in taken if kind == "Id"))
        self.numbers += [name for name, kind in taken if kind == "Small"]
        self.places += [name for name, kind in taken if kind == "Place"]
        self.slots += [name for name, kind in taken if kind == "Slot"]
        leave, name = self.pick("bool", "bool", "void"), f"action_{number}"
        head = "".join(f", {each}: {kind}" for each, kind in taken)
        self.say(0, f"def {name}(s: World{head}){' -> bool' if leave == 'bool' else ''}:")
        if leave == "bool":
            self.say(1, f"if not {self.truth(2)}:")
            self.say(2, "return False")
        for _ in range(self.random.randint(1, 4)):
            self.statement(1, 2, leave)
        self.say(1, f"return{self.answer(leave)}")
        return name

    def fixed(self) -> None:
        """The helpers and the initial states."""
        self.lines += [
            "def is_small(pair: Pair, limit: int) -> bool:", "    return pair.value < limit",
            "def count_of(s: World, one: Id) -> int:", "    return size(s.cells[one].members) + len(s.cells[one].log)",
            "def mark(cell: Cell, value: Small):", "    cell.pair.value = value", "    cell.flag = not cell.flag",
            "def init(s: World, first: bool) -> bool:", "    s.cells[0].flag = first" if not self.symmetric else
            "    s.maybe = first", "    s.wide = 5 if first else 0",
            "    return True",
        ]  # fmt: skip

    def properties(self) -> None:
        for name, parameters, body in (
            ("first_property", ("one",), "or"), ("second_property", ("one", "other"), "or"), ("third_property", ("one",), "and"),
            ("inside", ("one",), "or"),
        ):  # fmt: skip
            self.enter(parameters)
            head = "".join(f", {each}: Id" for each in parameters)
            self.say(0, f"def {name}(s: World{head}) -> bool:")
            extra = "" if body == "and" else f" {body} {self.truth(1)} {body} {self.truth(2)}"
            self.say(1, f"return {self.truth(2)}{extra}")


def write(random: Random, *, careful: bool = False, symmetric: bool = False, n: int = 2, top: int = 2) -> str:
    """The text of a random module that defines `model`."""
    writer = Writer(random, careful=careful, symmetric=symmetric)
    writer.fixed()
    actions = "".join(f"{writer.action(number)}, " for number in range(random.randint(1, 3)))
    writer.properties()
    header = HEADER.format(n=n, top=top, symmetric=symmetric)
    return header + "\n".join(writer.lines) + FOOTER.format(actions=actions)


MODULES = itertools.count()


def load(text: str, folder: Path) -> Model:
    """The model of a module's text, written to a file of its own."""
    name = f"small_model_{next(MODULES)}"
    file = folder / f"{name}.py"
    file.write_text(text)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    model = module.model
    assert isinstance(model, Model)
    return model


def draw(random: Random, folder: Path, **kinds: Any) -> Instance:
    """An instance of a random model; one whose numbers the language cannot bound is drawn anew."""
    while True:
        try:
            return load(write(random, **kinds), folder).at()
        except SpecError as error:
            if "may grow too fast" not in str(error):
                raise


# ----------------------------------------------------------------------------------------------- states


def random_row(instance: Instance, random: Random) -> bytes:
    """A canonical state, reachable or not."""
    buffer = bytearray(instance.row_size)
    _fill(instance.state, buffer, 0, random)
    return bytes(buffer)


def _fill(kind: Type, buffer: bytearray, offset: int, random: Random) -> None:
    match kind:
        case Scalar():
            views.write_scalar(kind, buffer, offset, _value(kind, random), "random")
        case Record():
            for field in kind.fields:
                _fill(field.type, buffer, offset + field.offset, random)
        case Table():
            for index in range(kind.count):
                _fill(kind.element, buffer, offset + index * kind.stride, random)
        case Sequence():
            sequence = views.SequenceView(kind, buffer, offset)
            for _ in range(random.randint(0, kind.capacity)):
                content = bytearray(kind.stride)
                _fill(kind.element, content, 0, random)
                element = views.view(kind.element, content, 0)
                sequence.append(element) if kind.kind == "seq" else sequence.send(element)


def _value(kind: Scalar, random: Random) -> int:
    return random.choice((kind.low, kind.high, random.randint(kind.low, kind.high)))


def renamed(kind: Type, value: Json, names: dict[str, tuple[int, ...]]) -> Json:
    """A state, shown as JSON, with the elements of symmetric domains renamed; bags and sets of messages in JSON's order."""
    match kind:
        case Scalar():
            new = names.get(kind.domain.name) if kind.domain is not None else None
            if new is None or value is None:
                return value
            return sorted(new[each] for each in value) if kind.kind == "set" else new[value]
        case Record():
            return {each.name: renamed(each.type, value[each.name], names) for each in kind.fields}
        case Table():
            moved = [renamed(kind.element, each, names) for each in value]
            new = names.get(kind.index.domain.name) if kind.index.domain is not None else None
            return moved if new is None else [moved[new.index(place)] for place in range(kind.count)]
        case Sequence():
            elements = [renamed(kind.element, each, names) for each in value]
            return elements if kind.kind == "seq" else sorted(elements, key=json.dumps)


def orbit(instance: Instance, row: bytes, domains: dict[str, int]) -> str:
    """The name of a state's orbit: the least text among all of its renamings."""
    shown = instance.to_json(row)
    choices = itertools.product(*(itertools.permutations(range(count)) for count in domains.values()))
    return min(json.dumps(renamed(instance.state, shown, dict(zip(domains, each, strict=True)))) for each in choices)
