"""Sequential models: what one object may answer if its operations happen one after the other.

A model is ordinary Python: `initial(init, part)` gives the first state, a hashable value; `step(state, operation)` the
states that may follow if the operation happens there, none if its answer is impossible. Several next states make the
model nondeterministic. Where `operation.known` is false nobody knows the answer (`output` is None): the step gives
every state that may follow, whatever was answered.

Linearizability is local (Herlihy & Wing 1990): `part` names the object that an operation belongs to, and each object is
judged alone (P-compositionality). Values are JSON scalars, compared as Python compares them.

To use a model of your own, write a subclass of `Model` in a file and name it as `--model FILE.py`:

    from hwmark.checkers.linearizability.models import Model

    class Counter(Model):
        def initial(self, init, part):
            return 0

        def step(self, state, operation):
            if operation.f == "increment":
                return [state + 1]
            return [state] if not operation.known or operation.output == state else []
"""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hwmark.traces.errors import BadInputError

State = Hashable


class Operation(NamedTuple):
    """What was asked and answered, without who and when; `known` is false where there is no answer."""

    f: str
    input: Any
    output: Any
    known: bool = True


class Shape(NamedTuple):
    """What an input or an output has to look like: the test, and the words for the error."""

    accepts: Callable[[Any], bool]
    words: str


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, (list, dict))


def _is_list(value: Any, length: int | None = None) -> bool:
    return isinstance(value, list) and length in (None, len(value)) and all(map(_is_scalar, value))


def _is_text_pair(value: Any) -> bool:
    return _is_list(value, 2) and isinstance(value[1], str)


def _is_transaction(value: Any) -> bool:
    return isinstance(value, list) and all(
        _is_list(micro, 3) and isinstance(micro[0], str) and micro[0].lstrip(":") in ("read", "write")
        for micro in value
    )


NOTHING = Shape(lambda value: value is None, "null")
VALUE = Shape(_is_scalar, "one value")
VALUES = Shape(_is_list, "a list of values")
KEY = Shape(lambda value: _is_list(value, 1), "[key]")
KEY_VALUE = Shape(lambda value: _is_list(value, 2), "[key, value]")
KEY_TEXT = Shape(_is_text_pair, "[key, text]")
KEY_OLD_NEW = Shape(lambda value: _is_list(value, 3), "[key, old, new]")
OLD_NEW = Shape(lambda value: _is_list(value, 2), "[old, new]")
TEXT = Shape(lambda value: isinstance(value, str), "text")
TRUTH = Shape(lambda value: isinstance(value, bool), "true or false")
DONE = Shape(lambda value: value == "ok", '"ok"')
DONE_OR_NOT = Shape(lambda value: value in ("ok", "fail"), '"ok" or "fail"')
TRANSACTION = Shape(_is_transaction, "a list of [read or write, key, value]")

Functions = dict[str, tuple[Shape, Shape]]
READ_WRITE: Functions = {"read": (NOTHING, VALUE), "write": (VALUE, DONE)}


class Model:
    """The base of the models; only `step` has to be defined.

    `functions` maps each `f` to the shapes of its input and of its output (None: not looked at); `default_init` stands
    in for a header without `init`; `finite` promises that operations repeated without end reach finitely many states.
    """

    name: ClassVar[str] = ""
    functions: ClassVar[Functions | None] = None
    default_init: ClassVar[Any] = None
    finite: ClassVar[bool] = False

    def initial(self, init: Any, part: Hashable) -> State:
        """The first state of one part of the object; raises ValueError, with what was expected, for a wrong `init`."""
        state: State = init
        return state

    def step(self, state: Any, operation: Operation) -> Iterable[State]:
        """The states that may follow if the operation happens in `state`; none if it cannot."""
        raise NotImplementedError

    def part(self, operation: Operation) -> Hashable:
        """Which object the operation belongs to, where the model is a set of independent ones."""
        return None

    def is_divisible(self, operations: Sequence[Operation]) -> bool:
        """Whether these operations may be judged part by part."""
        return True

    def is_read(self, operation: Operation) -> bool:
        """Whether the operation leaves every state as it is."""
        return False

    def why_malformed(self, operation: Operation) -> str | None:
        """What is wrong with an operation and what was expected, None if nothing is."""
        if self.functions is None:
            return None
        if operation.f not in self.functions:
            return f"unknown f {operation.f!r}; expected {_one_of(self.functions)} for model {self.name}"
        for_input, for_output = self.functions[operation.f]
        if not for_input.accepts(operation.input):
            return f"{operation.f} with input {operation.input!r}; expected {for_input.words}"
        if not operation.known:
            return None if operation.output is None else f"an output without a return; expected {NOTHING.words}"
        if not for_output.accepts(operation.output):
            return f"{operation.f} with output {operation.output!r}; expected {for_output.words}"
        return None


def _one_of(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _require(accepted: bool, init: Any, expected: str) -> None:
    if not accepted:
        raise ValueError(f"init {init!r}; expected {expected}")


class Register(Model):
    """One value that is read and written; null is a value like any other."""

    name = "register"
    functions: ClassVar[Functions | None] = READ_WRITE
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """The value in the header."""
        _require(_is_scalar(init), init, VALUE.words)
        return super().initial(init, part)

    def step(self, state: State, operation: Operation) -> list[State]:
        """A read answers the state; a write replaces it; cas replaces it if it is the old value and else fails."""
        if operation.f == "read":
            return [state] if not operation.known or operation.output == state else []
        if operation.f == "write":
            return [operation.input]
        old, new = operation.input
        if not operation.known:
            return [new if state == old else state]
        return ([new] if operation.output == "ok" else [state]) if (state == old) == (operation.output == "ok") else []

    def is_read(self, operation: Operation) -> bool:
        """Reads, and compare-and-set that failed."""
        return operation.f == "read" or operation.output == "fail"


class CasRegister(Register):
    """A register with compare-and-set: `[old, new]`, "fail" if the value was not the old one."""

    name = "cas-register"
    functions: ClassVar[Functions | None] = {**READ_WRITE, "cas": (OLD_NEW, DONE_OR_NOT)}


class Mutex(Model):
    """A lock that anybody may release; "fail" means that it was held (acquire) or free (release)."""

    name = "mutex"
    functions: ClassVar[Functions | None] = {"acquire": (NOTHING, DONE_OR_NOT), "release": (NOTHING, DONE_OR_NOT)}
    default_init = False
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """Whether it is held at first."""
        _require(isinstance(init, bool), init, TRUTH.words)
        return super().initial(init, part)

    def step(self, state: State, operation: Operation) -> list[State]:
        """Held is true."""
        held = operation.f == "acquire"
        if not operation.known:
            return [held]
        return [held if operation.output == "ok" else state] if (state != held) == (operation.output == "ok") else []

    def is_read(self, operation: Operation) -> bool:
        """What failed changed nothing."""
        return bool(operation.output == "fail")


class KeyValue(Model):
    """A map of compare-and-set registers, judged key by key; `init` is a map, and absent keys hold null."""

    name = "kv"
    functions: ClassVar[Functions | None] = {
        "get": (KEY, VALUE),
        "put": (KEY_VALUE, DONE),
        "delete": (KEY, DONE),
        "cas": (KEY_OLD_NEW, DONE_OR_NOT),
    }
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """The value of one key; JSON spells every key of a map as text."""
        _require(init is None or isinstance(init, dict), init, "a map from key to value")
        value: State = (init or {}).get(str(part))
        return value

    def step(self, state: State, operation: Operation) -> list[State]:
        """As the register of that key."""
        return CasRegister().step(state, as_register(operation))

    def part(self, operation: Operation) -> Hashable:
        """The key."""
        key: Hashable = operation.input[0]
        return key

    def is_read(self, operation: Operation) -> bool:
        """Gets, and compare-and-set that failed."""
        return operation.f == "get" or operation.output == "fail"


def as_register(operation: Operation) -> Operation:
    """An operation of a map as the operation of its key's register; deleting writes null."""
    f, (_, *arguments), output, known = operation
    if f == "get":
        return Operation("read", None, output, known)
    if f == "cas":
        return Operation("cas", arguments, output, known)
    return Operation("write", arguments[0] if arguments else None, output, known)


class KeyValueAppend(Model):
    """A map of texts that are got, put and appended to, judged key by key; `init` is the text of every key."""

    name = "kv-append"
    functions: ClassVar[Functions | None] = {"get": (KEY, TEXT), "put": (KEY_TEXT, DONE), "append": (KEY_TEXT, DONE)}
    default_init = ""

    def initial(self, init: Any, part: Hashable) -> State:
        """The text of every key."""
        _require(isinstance(init, str), init, TEXT.words)
        return super().initial(init, part)

    def step(self, state: Any, operation: Operation) -> list[State]:
        """The text of the key grows at its end."""
        if operation.f == "get":
            return [state] if not operation.known or operation.output == state else []
        return [operation.input[1] if operation.f == "put" else state + operation.input[1]]

    def part(self, operation: Operation) -> Hashable:
        """The key."""
        key: Hashable = operation.input[0]
        return key

    def is_read(self, operation: Operation) -> bool:
        """Gets."""
        return operation.f == "get"


class Set(Model):
    """A set that elements are added to, removed from and looked for in, and that is read as a whole, in any order.

    Without reads of the whole each element is an object of its own.
    """

    name = "set"
    functions: ClassVar[Functions | None] = {
        "add": (VALUE, DONE),
        "remove": (VALUE, DONE),
        "contains": (VALUE, TRUTH),
        "read": (NOTHING, VALUES),
    }
    default_init: ClassVar[Any] = []
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """The elements at first."""
        _require(_is_list(init), init, VALUES.words)
        return frozenset(init)

    def step(self, state: Any, operation: Operation) -> list[State]:
        """A read that names an element twice is impossible."""
        f, element, output, known = operation
        if f == "add":
            return [state | {element}]
        if f == "remove":
            return [state - {element}]
        if not known:
            return [state]
        seen = (element in state) == output if f == "contains" else len(output) == len(state) and set(output) == state
        return [state] if seen else []

    def part(self, operation: Operation) -> Hashable:
        """The element."""
        element: Hashable = operation.input
        return element

    def is_divisible(self, operations: Sequence[Operation]) -> bool:
        """Only while nobody reads the whole set."""
        return all(operation.f != "read" for operation in operations)

    def is_read(self, operation: Operation) -> bool:
        """Reads of the whole and of one element."""
        return operation.f in ("read", "contains")


class Queue(Model):
    """A first-in first-out queue; dequeue answers null where it is empty, so null cannot be enqueued."""

    name = "queue"
    functions: ClassVar[Functions | None] = {
        "enqueue": (Shape(lambda value: value is not None and _is_scalar(value), "one value, not null"), DONE),
        "dequeue": (NOTHING, VALUE),
    }
    default_init: ClassVar[Any] = []

    def initial(self, init: Any, part: Hashable) -> State:
        """What is queued at first, the head first."""
        _require(_is_list(init) and None not in init, init, VALUES.words)
        return tuple(init)

    def step(self, state: Any, operation: Operation) -> list[State]:
        """The head is answered and gone."""
        if operation.f == "enqueue":
            return [(*state, operation.input)]
        head = state[0] if state else None
        return [state[1:]] if not operation.known or operation.output == head else []

    def is_read(self, operation: Operation) -> bool:
        """A dequeue that found the queue empty."""
        return operation.f == "dequeue" and operation.known and operation.output is None


class MultiRegister(Model):
    """Registers that transactions of reads and writes change together; `init` maps the name of each to its value."""

    name = "multi-register"
    functions: ClassVar[Functions | None] = {"txn": (TRANSACTION, TRANSACTION)}
    default_init: ClassVar[Any] = {}
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """The registers that hold anything but null, by name."""
        _require(isinstance(init, dict) and all(map(_is_scalar, init.values())), init, "a map from register to value")
        return frozenset((name.lstrip(":"), value) for name, value in init.items() if value is not None)

    def step(self, state: Any, operation: Operation) -> list[State]:
        """The micro-operations happen in order; where the answer is unknown, so is what was read."""
        registers = dict(state)
        for f, name, value in operation.output if operation.known else operation.input:
            if f.endswith("write"):
                registers[name.lstrip(":")] = value
            elif operation.known and registers.get(name.lstrip(":")) != value:
                return []
        return [frozenset(item for item in registers.items() if item[1] is not None)]

    def why_malformed(self, operation: Operation) -> str | None:
        """An answer has to repeat its question."""
        why = super().why_malformed(operation)
        if why or not operation.known:
            return why
        asked, answered = (
            [(f, name, value if f.endswith("write") else None) for f, name, value in micros]
            for micros in (operation.input, operation.output)
        )
        return None if asked == answered else f"output {operation.output!r}; expected the micro-operations of the input"

    def is_read(self, operation: Operation) -> bool:
        """Transactions that write nothing."""
        return not any(micro[0].endswith("write") for micro in operation.input)


class NondeterministicRegister(Model):
    """A register of several values: put-any keeps some of those it is given, get-any shows some, get-all shows all."""

    name = "nondet-register"
    functions: ClassVar[Functions | None] = {
        "put-any": (VALUES, DONE),
        "get-any": (NOTHING, VALUES),
        "get-all": (NOTHING, VALUES),
    }
    default_init: ClassVar[Any] = []
    finite = True

    def initial(self, init: Any, part: Hashable) -> State:
        """The values at first."""
        _require(_is_list(init), init, VALUES.words)
        return frozenset(init)

    def step(self, state: Any, operation: Operation) -> Iterable[State]:
        """Any subset of what is put may be kept."""
        f, values, output, known = operation
        if f == "put-any":
            sizes = range(len(values) + 1)
            return {frozenset(kept) for kept in chain.from_iterable(combinations(values, size) for size in sizes)}
        seen = not known or (set(output) <= state if f == "get-any" else set(output) == state)
        return [state] if seen else []

    def is_read(self, operation: Operation) -> bool:
        """Both gets."""
        return operation.f != "put-any"


MODELS: dict[str, type[Model]] = {
    model.name: model
    for model in (
        Register,
        CasRegister,
        Mutex,
        KeyValue,
        KeyValueAppend,
        Set,
        Queue,
        MultiRegister,
        NondeterministicRegister,
    )
}


def load_model(file: str) -> Model:
    """The model in a user's Python file: the one subclass of `Model` that it defines; raises BadInputError."""
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        models = [
            member
            for member in vars(module).values()
            if isinstance(member, type) and issubclass(member, Model) and member.__module__ == module.__name__
        ]
        if len(models) != 1:
            found = _one_of(model.__name__ for model in models) if models else "none"
            raise BadInputError(file, None, f"subclasses of Model: {found}; expected exactly one")
        return models[0]()
    except BadInputError:
        raise
    except Exception as error:
        raise user_error(file, error) from None


def user_error(file: str, error: Exception) -> BadInputError:
    """The one line for what went wrong in a user's model."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
    hint = "hashable states" if "unhashable" in str(error) else "a model whose step gives a list of states"
    return BadInputError(file, line, f"{type(error).__name__}: {error}; expected {hint}")
