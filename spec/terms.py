"""A specification function read into typed terms: what the compiler and the translation to Z3 interpret.

Scalar expressions carry the interval [low, high] of the values they can take, so that an interpreter knows how wide a
number is, how often a loop can turn, and which range checks can never fail. Booleans are the integers 0 and 1.
`line` is the line in the function's file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hwmark.spec.layout import Field, Record, Scalar, Sequence, Type

# ------------------------------------------------------------------------------------------------ places


@dataclass(frozen=True)
class Root:
    """A state, a record or a container that a parameter or a local name stands for."""

    name: str
    type: Type


@dataclass(frozen=True)
class Member:
    """A field of a record."""

    of: Place
    field: Field

    @property
    def type(self) -> Type:
        """The field's type."""
        return self.field.type


@dataclass(frozen=True)
class Item:
    """An element of an array or a sequence; an index outside it is an error."""

    of: Place
    index: Expr
    type: Type
    line: int


Place = Root | Member | Item


@dataclass(frozen=True)
class Fresh:
    """A record built from its fields, in the order of their declaration."""

    type: Record
    values: tuple[Expr | Place | Fresh, ...]
    line: int


Source = Place | Fresh
"""Where a record's content comes from."""

# ------------------------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Const:
    """A number."""

    value: int

    @property
    def low(self) -> int:
        """The value."""
        return self.value

    @property
    def high(self) -> int:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Local:
    """A scalar local name or parameter."""

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class Load:
    """The scalar at a place."""

    place: Place
    type: Scalar

    @property
    def low(self) -> int:
        """The type's least value."""
        return self.type.low

    @property
    def high(self) -> int:
        """The type's greatest value."""
        return self.type.high


@dataclass(frozen=True)
class Length:
    """How many elements a sequence has."""

    place: Place
    type: Sequence

    @property
    def low(self) -> int:
        """Zero."""
        return 0

    @property
    def high(self) -> int:
        """The capacity."""
        return self.type.capacity


Operator = Literal["+", "-", "*", "//", "%", "&", "|", "&~", "min", "max"]
Comparison = Literal["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True)
class Binary:
    """Arithmetic on two numbers or two sets (`&~` is the difference of sets)."""

    operator: Operator
    left: Expr
    right: Expr
    low: int
    high: int


@dataclass(frozen=True)
class Compare:
    """A comparison of two numbers."""

    operator: Comparison
    left: Expr
    right: Expr
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Junction:
    """`and` or `or` of two truths or more, evaluated from the left until decided."""

    operator: Literal["and", "or"]
    parts: tuple[Expr, ...]
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Not:
    """The opposite truth; `part` may be any number, and nonzero is true."""

    part: Expr
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Choose:
    """`then if test else other`."""

    test: Expr
    then: Expr
    other: Expr
    low: int
    high: int


@dataclass(frozen=True)
class Contains:
    """Whether a set has an element; false for a negative one."""

    members: Expr
    element: Expr
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Bit:
    """The set of one element, which must be 0 to 62."""

    element: Expr
    line: int
    low: int
    high: int


@dataclass(frozen=True)
class Count:
    """How many elements a set has."""

    members: Expr
    low: int
    high: int


@dataclass(frozen=True)
class Same:
    """Whether two records (or containers) of the same type are equal."""

    left: Place
    right: Source
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Has:
    """Whether a bag or a set of messages has a message equal to this one."""

    place: Place
    type: Sequence
    message: Source
    low: int = 0
    high: int = 1


@dataclass(frozen=True)
class Over:
    """`any`, `all` or `sum` of `body` over `name` in `range(start, stop)`, counting only where `test` holds."""

    operator: Literal["any", "all", "sum"]
    name: str
    start: Expr
    stop: Expr
    test: Expr
    body: Expr
    low: int
    high: int


@dataclass(frozen=True)
class Call:
    """A call of another specification function; its value, if it has one, is a scalar."""

    function: str
    arguments: tuple[Expr | Source, ...]
    line: int
    low: int
    high: int


Expr = (
    Const | Local | Load | Length | Binary | Compare | Junction | Not | Choose | Contains | Bit | Count | Same | Has
    | Over | Call
)  # fmt: skip

# -------------------------------------------------------------------------------------------- statements


@dataclass(frozen=True)
class SetLocal:
    """Assign a scalar local name."""

    name: str
    value: Expr


@dataclass(frozen=True)
class Bind:
    """Make a name stand for a place, once: what is written through it is written there."""

    name: str
    place: Place


@dataclass(frozen=True)
class New:
    """Make a name stand for a record of its own, a copy of the source."""

    name: str
    type: Type
    source: Source


@dataclass(frozen=True)
class Store:
    """Write a scalar; outside the range of the place's type it is an error."""

    place: Place
    type: Scalar
    value: Expr
    line: int


@dataclass(frozen=True)
class Copy:
    """Write a whole record or container."""

    place: Place
    source: Source


@dataclass(frozen=True)
class Append:
    """Add an element to a sequence; beyond the capacity it is an error."""

    place: Place
    type: Sequence
    element: Expr | Source
    line: int


@dataclass(frozen=True)
class Truncate:
    """Cut a sequence to a length, which must be at most its own."""

    place: Place
    type: Sequence
    length: Expr
    line: int


@dataclass(frozen=True)
class Send:
    """Add a message to a bag or a set of messages."""

    place: Place
    type: Sequence
    message: Source
    line: int


@dataclass(frozen=True)
class Discard:
    """Take the message at an index out of a bag or a set of messages."""

    place: Place
    type: Sequence
    index: Expr
    line: int


@dataclass(frozen=True)
class If:
    """`if test: then; else: other`."""

    test: Expr
    then: tuple[Statement, ...]
    other: tuple[Statement, ...]


@dataclass(frozen=True)
class For:
    """`for name in range(start, stop, step)`; the step is 1 or -1."""

    name: str
    start: Expr
    stop: Expr
    step: Literal[1, -1]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Return:
    """Leave the function; None where it returns nothing."""

    value: Expr | None


@dataclass(frozen=True)
class Do:
    """Call a function for its effects."""

    call: Call


Statement = SetLocal | Bind | New | Store | Copy | Append | Truncate | Send | Discard | If | For | Return | Do

# --------------------------------------------------------------------------------------------- functions


@dataclass(frozen=True)
class Parameter:
    """A parameter: a scalar ranges over its type, anything else is a place in the state."""

    name: str
    type: Type


@dataclass(frozen=True)
class Function:
    """One specification function at fixed bounds.

    `returns` is None where it returns nothing; `written` names the parameters through which it, or a callee, writes.
    """

    name: str
    file: str
    line: int
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    returns: tuple[int, int] | None
    written: frozenset[str]

    @property
    def writes(self) -> bool:
        """Whether it changes anything but records of its own."""
        return bool(self.written)

    def domain(self) -> tuple[tuple[str, Scalar], ...]:
        """The scalar parameters after the state: what an action or an invariant ranges over."""
        return tuple((each.name, each.type) for each in self.parameters[1:] if isinstance(each.type, Scalar))


def place_root(place: Place) -> str:
    """The name at the bottom of a place."""
    while not isinstance(place, Root):
        place = place.of
    return place.name
