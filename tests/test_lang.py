# ruff: noqa: E501  (tables of source text)
"""What the specification language refuses, in one line with model, file, line and function; and what its corners mean."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from hwmark.checkers.compiler import compile_instance
from hwmark.spec.errors import RangeError, SpecError
from hwmark.spec.instance import Instance
from hwmark.spec.lang import Bound
from hwmark.spec.model import Model

MODULE = """
from __future__ import annotations
from enum import IntEnum
from typing import Annotated
from hwmark.spec import lang
from hwmark.spec.lang import (EMPTY, NONE, Array, Bag, Bound, Capacity, Domain, Messages, Optional, Range, Seq, SetOf, Struct,
    append, contains, copy, discard, everything, has_message, insert, only, send, size, truncate)
from hwmark.spec.model import Model

n = Bound("n", 3)
LIMIT = n + 1
Id = Annotated[int, Domain("id", n)]
Small = Annotated[int, Range(0, 5)]
class Color(IntEnum):
    RED = 0
    BLUE = 1
class Pair(Struct):
    who: Optional[Id]
    value: Small
class State(Struct):
    x: Small
    y: Annotated[int, Range(-9, 99)]
    flag: bool
    color: Color
    members: SetOf[Id]
    pair: Pair
    pairs: Array[Id, Pair]
    log: Annotated[Seq[Pair], Capacity(3)]
    sent: Annotated[Messages[Pair], Capacity(3)]
    bag: Annotated[Bag[Pair], Capacity(3)]
    {fields}
def init(s: State): pass
def writes(s: State) -> bool:
    s.x = 1
    return True
def twice(value: int) -> int: return value * 2
def takes_id(value: Id) -> int: return value
def set_pair(pair: Pair): pair.value = 3
{helpers}
def act({parameters}){arrow}:
{body}
model = Model.of("family", "variant", why="test", state=State, bounds=(n,), init=init, actions=(act,){more})
"""

Load = Callable[..., Model]


@pytest.fixture
def load(small_models: ModuleType, folder: Path) -> Load:
    def load(
        body: str = "pass",
        *,
        parameters: str = "s: State",
        helpers: str = "",
        fields: str = "",
        more: str = "",
        arrow: str = "",
    ) -> Model:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        text = MODULE.format(body=lines, parameters=parameters, helpers=helpers, fields=fields, more=more, arrow=arrow)
        model: Model = small_models.load(text, folder)
        return model

    return load


REFUSED = {
    "while": ("while True:\n    pass", "while True: is not part of the specification language"),
    "break": ("for i in range(3):\n    break", "break is not part"),
    "try": ("try:\n    s.x = 1\nexcept ValueError:\n    pass", "try: is not part"),
    "with": ("with s.x:\n    pass", "is not part"),
    "nested def": ("def inner(): pass", "def is not part"),
    "lambda": ("f = lambda: 1", "'lambda: 1' is not part"),
    "str": ("s.x = 'one'", "is not part"),
    "float": ("s.x = 1.5", "'1.5' is not part"),
    "None": ("s.x = None", "'None' is not part"),
    "unknown name": ("s.x = unheard_of", "unheard_of is neither a local name, a place nor an integer constant"),
    "unknown function": ("s.x = unheard_of(s)", "unheard_of is not a specification function"),
    "unknown field": ("s.z = 1", "State has no field z"),
    "unknown nested field": ("s.x = s.pairs[0].what", "Pair has no field what"),
    "field of a scalar": ("s.x = s.x.value", "a scalar has no field value"),
    "index of a struct": ("s.x = s.pair[0]", "s.pair is neither an array nor a sequence"),
    "keyword call": ("s.x = twice(value=1)", "twice takes 1 arguments, by position"),
    "too many arguments": ("s.x = twice(1, 2)", "twice takes 1 arguments, by position"),
    "wrong struct": ("append(s.log, s)", "s is not of the type wanted here"),
    "struct for a scalar": ("s.x = s.pair", "s.pair is not a scalar"),
    "scalar for a struct": ("s.pair = 3", "3 is not a place"),
    "struct without a field": ("s.pair = Pair(who=0)", "Pair is built from exactly the fields who, value, by name"),
    "struct by position": ("s.pair = Pair(0, 1)", "Pair is built from exactly the fields"),
    "is": ("s.flag = s.x is s.y", "only ==, !=, <, <=, > and >= compare here"),
    "in": ("s.flag = s.x in s.log", "only =="),
    "order of structs": ("s.flag = s.pair < s.pairs[0]", "records are compared with == and != only"),
    "slice": ("s.pair = s.log[0:1][0]", "is not part"),
    "tuple": ("a, b = 1, 2", "(a, b) is not a place"),
    "chained assignment": ("a = b = 1", "a = b = 1 is not part"),
    "list": ("a = [1]", "'[1]' is not part"),
    "rebound place": ("a = s.pair\na = s.pairs[0]", "a already stands for another place"),
    "rebound state": ("s = s", "s already stands for another place"),
    "place to number": ("a = s.pair\na = 3", "a stands for a place, and cannot become a number"),
    "number to place": ("a = 3\na = s.pair", "s.pair is not a scalar"),
    "loop over a place": ("a = s.pair\nfor a in range(3): pass", "a already stands for a place"),
    "loop over a list": ("for a in s.log: pass", "a loop runs over range(stop)"),
    "loop by two": ("for a in range(0, 4, 2): pass", "a loop runs over range(stop)"),
    "loop with else": ("for a in range(2): pass\nelse: pass", "is not part"),
    "division by a variable": ("s.x = 6 // s.x", "// takes a number that is never negative and a positive constant"),
    "division by zero": ("s.x = s.x % 0", "% takes a number that is never negative and a positive constant"),
    "division of a negative": ("s.x = s.y // 2", "// takes a number that is never negative"),
    "power": ("s.x = s.x ** 2", "is not part"),
    "number in and": ("s.flag = s.x and s.flag", "s.x is a number, and `and` and `or` join truths"),
    "number in or": ("s.x = s.x or 3", "s.x is a number"),
    "too large a constant": ("s.x = 99999999999999999999", "may not fit 64 bits"),
    "too large a product": ("s.x = 3000000000 * 3000000000 * s.x", "may not fit 64 bits"),
    "a number without bound": ("a = 1\nfor i in range(9):\n    a = a * 3", "a may grow too fast to be bounded"),
    "element too large": ("s.members = insert(s.members, 63)", "a set's element is at most 62"),
    "everything negative": ("s.members = everything(n - 4)", "everything takes a constant from 0"),
    "copy of a scalar": ("a = copy(s.x)", "s.x is a scalar, and needs no copy"),
    "copy passed on": ("set_pair(copy(s.pair))", "give the copy a name"),
    "append to a bag": ("append(s.bag, s.pair)", "append is for sequences"),
    "send to a sequence": ("send(s.log, s.pair)", "send is for bags and sets of messages"),
    "change a message": ("s.sent[0].value = 1", "is in a bag or a set of messages"),
    "change a message by name": ("a = s.bag[0]\na.value = 1", "is in a bag or a set of messages"),
    "change a message by call": ("set_pair(s.sent[0])", "is in a bag or a set of messages"),
    "writer evaluated twice": ("s.pairs[writes(s)].value += 1", "writes writes, and cannot be called here"),
    "writer in a chain": ("s.flag = 0 < writes(s) < 2", "writes writes, and cannot be called here"),
    "nothing returned": ("s.x = set_pair(s.pair)", "set_pair returns nothing"),
    "shadowed helper": ("size = 1\ns.x = size(s.members)", "size is not a specification function"),
    "shadowed builtin": ("len = 1\ns.x = len(s.log)", "len is not a specification function"),
    "attribute of a module": ("s.x = lang.NONE", "lang.NONE is neither a local name"),
    "used before assigned": ("s.x = a\na = 1", "a may have no value here"),
    "global before local": ("s.x = LIMIT\nLIMIT = 1", "LIMIT may have no value here"),
    "assigned in one branch": ("if s.flag:\n    a = 1\ns.x = a", "a may have no value here"),
    "assigned in another branch": ("if s.flag:\n    a = 1\nelse:\n    b = 1\ns.x = b", "b may have no value here"),
    "assigned in a loop": ("for i in range(3):\n    a = 1\ns.x = a", "a may have no value here"),
    "loop variable after the loop": ("for i in range(3):\n    pass\ns.x = i", "i may have no value here"),
    "bound in one branch": ("if s.flag:\n    a = s.pair\na.value = 1", "a may have no value here"),
    "augmented before assigned": ("a += 1", "a may have no value here"),
    "used in a comprehension": ("s.x = sum(a for i in range(2))\na = 1", "a may have no value here"),
    "mixed returns": ("if s.flag:\n    return\nreturn False", "it returns a value, but can also end without one"),
    "no return at the end": ("if s.flag:\n    return True", "it returns a value, but can also end without one"),
}  # fmt: skip


def refusal(build: Callable[[], object]) -> str:
    with pytest.raises(SpecError) as refused:
        build()
    text = str(refused.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("name", REFUSED)
def test_a_body_outside_the_language_is_refused(load: Load, name: str) -> None:
    body, why = REFUSED[name]
    text = refusal(lambda: load(body).at())
    assert re.match(r"family/variant: \S+/small_model_\d+\.py:\d+: in act: ", text), text
    assert why in text
    file, line = re.findall(r"(\S+\.py):(\d+):", text)[0]
    first = next(at for at, each in enumerate(Path(file).read_text().splitlines(), 1) if each.startswith("def act("))
    assert first <= int(line) <= first + len(body.splitlines())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"parameters": "s: State, a: Small = 1"}, "parameters are plain names without defaults"),
        ({"parameters": "s: State, *a: Small"}, "parameters are plain names without defaults"),
        ({"parameters": "s: State, a"}, "the parameter a has no type"),
        ({"parameters": "s: State, a: Unknown"}, "its annotations cannot be read"),
        ({"parameters": "s: State, a: int"}, "a needs a bounded domain to range over"),
        ({"parameters": "s: State, a: Pair"}, "a needs a bounded domain to range over"),
        ({"parameters": "s: Pair"}, "the first parameter is the state, a State"),
        ({"parameters": "s: State, a: str"}, "is not a type of the specification language"),
        ({"body": "act(s)"}, "act -> act: a specification cannot recurse"),
        ({"body": "one(s)", "helpers": "def one(s: State): two(s)\ndef two(s: State): one(s)"}, "one -> two -> one"),
        ({"body": "def_free(s)", "helpers": "def make():\n    k = 1\n    def def_free(s: State): s.x = k\n"
          "    return def_free\ndef_free = make()"}, "it closes over k"),
        ({"body": "free(s)", "helpers": "free = lambda s: None"}, "a specification function is written with def"),
        ({"fields": "z: int"}, "a bare int has no range"),
        ({"fields": "z: Annotated[int, Range(3, 2)]"}, "the range 3..2 is empty"),
        ({"fields": "z: Annotated[int, Range(0, 2**70)]"}, "does not fit 62 bits"),
        ({"fields": "z: Seq[Pair]"}, "a Seq needs Annotated[..., Capacity(n)]"),
        ({"fields": "z: Annotated[Seq[Pair], Capacity(0)]"}, "a capacity is at least 1, not 0"),
        ({"fields": "z: Annotated[Messages[Id], Capacity(2)]"}, "the elements of a Messages are structs"),
        ({"fields": "z: Array[Annotated[int, Range(1, 2)], bool]"}, "an Array is indexed by a scalar that starts at 0"),
        ({"fields": "z: SetOf[Annotated[int, Domain('many', 63)]]"}, "a set has at most 62 elements, not 63"),
        ({"fields": "z: Optional[Annotated[int, Range(1, 2)]]"}, "applies to a scalar that starts at 0"),
        ({"fields": "z: list"}, "is not a type of the specification language"),
        ({"fields": "z: Odd", "helpers": "class Odd(IntEnum):\n    ONE = 1"}, "the members of Odd must count up from 0"),
        ({"more": ", invariants=(p,)", "helpers": "def p(s: State): writes(s)"}, "a property returns whether it holds"),
        ({"more": ", sometimes=(writes,)"}, "a property leaves the state as it is"),
        ({"more": ", constraint=p", "helpers": "def p(s: State) -> bool:\n    a = s.pair\n    set_pair(a)\n    return True"},
         "a property leaves the state as it is"),
        ({"more": ", invariants=(act,)"}, "two functions are called act"),
        ({"body": "s.x = SIZE", "helpers": "SIZE = 2.5"}, "SIZE is neither a local name"),
    ],
)  # fmt: skip
def test_a_declaration_outside_the_language_is_refused(load: Load, given: dict[str, str], why: str) -> None:
    assert why in refusal(lambda: load(**given).at())


def other(s: object) -> bool:
    return True


def twice(value: int) -> int:
    return value


def calls_twice(s: object) -> None:
    twice(1)


def test_a_variant_that_names_what_is_not_there_is_refused(load: Load) -> None:
    base = load("s.x = twice(1)")
    act, helper = base.functions["act"], base.functions["twice"]
    for build, why in (
        (lambda: base.derive("v", why="", unheard=other), "family/v: variant has no unheard; it has act, init, twice"),
        (lambda: base.derive("v", why="", drops=["unheard"]), "variant has no unheard"),
        (lambda: base.derive("v", why="", drops=["twice"]), "twice is no action of variant"),
        (lambda: base.derive("v", why="", adds=[act]), "variant already has act; re-bind it instead"),
        (lambda: base.derive("v", why="", adds=[other, other]), "two functions are called other"),
        (lambda: base.derive("v", why=""), "it changes nothing"),
        (lambda: base.derive("v", why="", twice=helper), "twice is bound to twice already"),
        (lambda: base.derive("v", why="", act=calls_twice), "twice means different functions"),
        (lambda: base.at(m=1), "family/variant has no bound m; it has n"),
        (lambda: base.at(n=0), "the bound n is at least 1, not 0"),
    ):
        assert why in refusal(build)  # type: ignore[arg-type]
    assert base.derive("v", why="", twice=twice).functions["twice"] is twice


# ---------------------------------------------------------------------------------------- what the corners mean


def outcome(instance: Instance, **fields: object) -> tuple[dict[str, object] | None, str]:
    """The state after `act`, called and compiled alike, None where it is disabled; and the message of a fault."""
    shown = instance.to_json(instance.initial()[0]) | fields
    row = instance.from_json(shown)
    after, enabled, site = compile_instance(instance, single=True).run("act", row, {})
    try:
        called = instance.step("act", row, {})
    except RangeError as error:
        assert site is not None
        assert f"{site.file}:{site.line}: " in str(error)
        return None, str(error)
    assert site is None
    assert called == (after if enabled else None)
    return (None if called is None else instance.to_json(called)), ""


CORNERS = {
    "assigned in both branches": ("if s.flag:\n    a = 1\nelse:\n    a = 2\ns.x = a", {"x": 2}),
    "the other branch leaves": ("if not s.flag:\n    a = 2\nelse:\n    return\ns.x = a", {"x": 2}),
    "a parameter of the loop assigned": ("for i in range(3):\n    i += 5\n    s.y += i", {"y": -9 + 5 + 6 + 7}),
    "a loop down": ("s.y = 0\nfor i in range(3, 0, -1):\n    s.y = s.y * 2 + i", {"y": 17}),
    "the last turn's value": ("i = 4\nfor i in range(2):\n    pass\ns.x = i", {"x": 1}),
    "no turn": ("i = 4\nfor i in range(2, 1):\n    pass\ns.x = i", {"x": 4}),
    "a local like a global": ("LIMIT = 2\ns.x = LIMIT", {"x": 2}),
    "a bound": ("s.x = LIMIT", {"x": 4}),
    "a truth as a number": ("s.x = s.flag + True + (s.x == 0)", {"x": 2}),
    "a comparison chain": ("s.flag = 0 <= s.x < 1 != 3", {"flag": True}),
    "min and max of three": ("s.x = min(5, 4, 3) + max(s.x, 1, 0)", {"x": 4}),
    "a nested return": ("for i in range(3):\n    for j in range(3):\n        if i + j == 3:\n            s.x = i\n"
                        "            return\n        s.y += 1", {"x": 1, "y": -4}),
    "an index protected by and": ("s.flag = len(s.log) > 0 and s.log[0].value == 0", {"flag": False}),
    "an index protected by or": ("s.flag = len(s.log) == 0 or s.log[0].value == 0", {"flag": True}),
    "an index protected by a condition": ("s.x = s.log[0].value if len(s.log) > 0 else 5", {"x": 5}),
    "an index protected by any": ("s.flag = any(s.log[i].value == 0 for i in range(len(s.log)))", {"flag": False}),
    "two names of one element": ("a = s.pairs[1]\nb = s.pairs[s.x + 1]\na.value = 2\nb.value += 1",
                                 {"pairs": [{"who": None, "value": 0}, {"who": None, "value": 3}, {"who": None, "value": 0}]}),
    "a copy": ("a = copy(s.pair)\na.value = 5\ns.x = s.pair.value", {"x": 0}),
    "a copy of a container": ("a = copy(s.log)\nappend(a, s.pair)\ns.x = len(s.log) + len(a)", {"x": 1}),
    "a place copied on itself": ("s.pair.value = 4\ns.pair = s.pair", {"pair": {"who": None, "value": 4}}),
    "a swap": ("s.pair.value = 4\na = copy(s.pair)\ns.pair = s.pairs[0]\ns.pairs[0] = a\ns.x = s.pairs[0].value",
               {"x": 4, "pairs": [{"who": None, "value": 4}, *[{"who": None, "value": 0}] * 2]}),
    "a struct from what it replaces": ("s.pair.value = 2\ns.pair = Pair(who=s.pair.value, value=1)",
                                       {"pair": {"who": 2, "value": 1}}),
    "a message from the state": ("send(s.bag, s.pair)\nsend(s.bag, s.bag[0])\ns.pair.value = 3\nsend(s.bag, s.pair)",
                                 {"bag": [{"who": None, "value": 0}] * 2 + [{"who": None, "value": 3}],
                                  "pair": {"who": None, "value": 3}}),
    "a set of messages": ("send(s.sent, s.pair)\nsend(s.sent, s.pair)\nsend(s.sent, s.sent[0])",
                          {"sent": [{"who": None, "value": 0}]}),
    "messages in order": ("send(s.sent, Pair(who=2, value=0))\nsend(s.sent, Pair(who=0, value=1))\ndiscard(s.sent, 1)",
                          {"sent": [{"who": 0, "value": 1}]}),
    "what follows a message moves up": ("for i in range(3):\n    send(s.bag, Pair(who=i, value=0))\ndiscard(s.bag, 0)",
                                        {"bag": [{"who": 1, "value": 0}, {"who": 2, "value": 0}]}),
    "what is cut off is gone": ("append(s.log, Pair(who=1, value=2))\ntruncate(s.log, 0)", {"log": []}),
    "a long counter": ("a = 0\nfor i in range(60):\n    a += 1\ns.y = a", {"y": 60}),
    "a call by reference": ("set_pair(s.pairs[2])\nset_pair(Pair(who=0, value=0))\ns.x = s.pairs[2].value",
                            {"x": 3, "pairs": [*[{"who": None, "value": 0}] * 2, {"who": None, "value": 3}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", CORNERS)
def test_a_corner_means_what_python_says(load: Load, name: str) -> None:
    body, changed = CORNERS[name]
    instance = load(body).at()
    before = instance.to_json(instance.initial()[0])
    assert outcome(instance) == (before | changed, "")


FAULTS = {
    "a negative index": ("s.pairs[s.x - 1].value = 1", "index -1 is outside 0..2"),
    "an index that can only be too low": ("s.pairs[s.x - 3].value = 1", "index -3 is outside 0..2"),
    "a negative index of a sequence": ("append(s.log, s.pair)\ns.x = s.log[s.x - 1].value", "index -1 is outside a sequence of 1"),
    "an index beyond": ("s.pairs[s.x + 3].value = 1", "index 3 is outside 0..2"),
    "an index of an empty sequence": ("s.x = s.log[0].value", "index 0 is outside a sequence of 0"),
    "a value beyond": ("s.x = 6", "State.x = 6 is outside 0..5"),
    "a value below": ("s.x -= 1", "State.x = -1 is outside 0..5"),
    "a field of a built struct": ("s.pair = Pair(who=3, value=0)", "Pair.who = 3 is outside -1..2"),
    "a sequence that is full": ("for i in range(4):\n    append(s.log, s.pair)", "length of a sequence = 4 is outside 0..3"),
    "a truncation beyond": ("truncate(s.log, 1)", "cannot truncate a sequence of 0 to 1"),
    "a bag that is full": ("for i in range(4):\n    send(s.bag, s.pair)", "length of a sequence = 4"),
    "a message that is not there": ("discard(s.bag, 0)", "index 0 is outside a sequence of 0"),
    "an element that is none": ("s.members = insert(s.members, s.pair.who)", "element -1 is outside 0..62"),
    "an argument outside its domain": ("s.x = takes_id(s.pair.who)", "value = -1 is outside 0..2"),
    "a counter beyond what was proved": ("a = 0\nfor i in range(9):\n    s.pairs[a].value = 1\n    a += 1", "index 3 is outside 0..2"),
    "a disabled action": ("s.x = 6\nreturn False", "State.x = 6 is outside 0..5"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_leaves_a_range_is_an_error_with_its_place(load: Load, name: str) -> None:
    body, why = FAULTS[name]
    after, error = outcome(load(body).at())
    assert after is None
    assert re.match(r"family/variant: \S+\.py:\d+: in act\(\): ", error)
    assert error.endswith(why) or why in error


def test_what_a_disabled_action_wrote_is_thrown_away(load: Load) -> None:
    instance = load("s.x = 1\nreturn s.flag", arrow=" -> bool").at()
    assert outcome(instance) == (None, "")
    assert outcome(instance, flag=True)[0] is not None
    assert [step.row for step in instance.successors(instance.initial()[0])] == []


def test_sizes_that_depend_on_bounds_follow_them() -> None:
    n = Bound("n", 3)
    for size, at_five in (
        (n + 1, 6),
        (1 + n, 6),
        (n - 1, 4),
        (10 - n, 5),
        (2 * n, 10),
        (n // 2 + 1, 3),
        (n % 3, 2),
        (-n, -5),
    ):
        assert size.at({"n": 5}) == at_five
