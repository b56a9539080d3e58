"""Specification functions, from their terms to LLVM: one internal function each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from hwmark.checkers.compiler.emit import BIT, LONG, POINTER, VOID, Emitter, Site, Unit, Value, bit, long
from hwmark.spec import terms
from hwmark.spec.layout import Scalar, Sequence, Table, leaves
from hwmark.spec.terms import Expr, Place, Source, Statement


class Functions:
    """The functions of one program as LLVM functions `(fault, parameters...) -> i64 or void`, emitted on demand."""

    def __init__(self, unit: Unit, functions: dict[str, terms.Function]) -> None:
        self.unit, self.terms = unit, functions
        self._emitted: dict[str, Value] = {}
        self._helpers: dict[tuple[str, Sequence], Value] = {}

    def __getitem__(self, name: str) -> Value:
        if name not in self._emitted:
            function = self.terms[name]
            kinds = [LONG if isinstance(each.type, Scalar) else POINTER for each in function.parameters]
            result = VOID if function.returns is None else LONG
            emitted = self.unit.function(f"spec.{name}", result, [POINTER, *kinds])
            self._emitted[name] = emitted
            Body(self, function, emitted).emit()
        return self._emitted[name]

    def helper(self, name: str, kind: Sequence) -> Value:
        """`send` or `has` for one type of messages: (sequence, message) -> i64, and -1 where there is no room."""
        key = (name, kind)
        if key not in self._helpers:
            number = len(self._helpers)
            self._helpers[key] = function = self.unit.function(f"{name}.{number}", LONG, [POINTER, POINTER])
            {"send": emit_send, "has": emit_has}[name](self, kind, function)
        return self._helpers[key]


class Body(Emitter):
    """Emits one specification function."""

    def __init__(self, functions: Functions, spec: terms.Function, function: Value) -> None:
        super().__init__(functions.unit, function, function.args[0])
        self.functions, self.spec = functions, spec
        self.scalars: dict[str, Value] = {}
        self.places: dict[str, Value] = {}

    def emit(self) -> None:
        """The whole body."""
        self.function.args[0].add_attribute("noalias")
        for parameter, argument in zip(self.spec.parameters, self.function.args[1:], strict=True):
            if isinstance(parameter.type, Scalar):
                self.scalars[parameter.name] = self.variable(argument)
            else:
                self.places[parameter.name] = argument
        self.run(self.spec.body)
        if not self.at.block.is_terminated:
            self.at.unreachable()
        self.finish()

    def site(self, line: int) -> Site:
        """A fault site in this function."""
        return Site(self.spec.name, self.spec.file, line)

    # ----------------------------------------------------------------------------------------- statements

    def run(self, statements: tuple[Statement, ...]) -> None:
        """Statements in order; what follows a return is left out."""
        for statement in statements:
            if self.at.block.is_terminated:
                return
            self.statement(statement)

    def statement(self, statement: Statement) -> None:
        """One statement."""
        match statement:
            case terms.SetLocal(name, value):
                self.set(self.local(name), self.number(value))
            case terms.Bind(name, place):
                self.places[name] = self.address(place)
            case terms.New(name, kind, source):
                content = self.content(source)
                self.places[name] = self.scratch(kind.size)
                self.copy(self.places[name], content, kind.size)
            case terms.Store(place, kind, value, line):
                number = self.number(value)
                self.put(kind, self.address(place), number, value, line)
            case terms.Copy(place, source):
                content = self.content(source)
                self.copy(self.address(place), content, place.type.size)
            case terms.Append() | terms.Truncate() | terms.Send() | terms.Discard():
                self.change(statement)
            case terms.If(test, then, other):
                self.branch(test, then, other)
            case terms.For(name, start, stop, step, body):
                self.iterate(name, start, stop, step, body)
            case terms.Return(value):
                self.leave(value)
            case terms.Do(call):
                self.call(call)
            case _:
                assert_never(statement)

    def local(self, name: str) -> Value:
        """The variable of a local name."""
        if name not in self.scalars:
            self.scalars[name] = self.variable()
        return self.scalars[name]

    def leave(self, value: Expr | None) -> None:
        """Return."""
        if value is None:
            self.at.ret_void()
        else:
            self.at.ret(self.number(value))

    def branch(self, test: Expr, then: tuple[Statement, ...], other: tuple[Statement, ...]) -> None:
        """`if`."""
        yes, no, after = self.block("if"), self.block("else"), self.block("endif")
        self.at.cbranch(self.truth(test), yes, no)
        for block, statements in ((yes, then), (no, other)):
            self.at.position_at_end(block)
            self.run(statements)
            self.go(after)
        self.at.position_at_end(after)

    def iterate(self, name: str, start: Expr, stop: Expr, step: int, body: tuple[Statement, ...]) -> None:
        """`for`. Python evaluates the range once, and assigning the name inside does not change the count."""
        first, last = self.number(start), self.number(stop)
        counter = self.variable()
        with self.loop(counter, first, last, step):
            self.set(self.local(name), self.get(counter))
            self.run(body)

    def put(self, kind: Scalar, address: Value, number: Value, value: Expr, line: int) -> None:
        """Store a number, with a range check unless the interval of its term says that none can fail."""
        if kind.low <= value.low and value.high <= kind.high:
            self.store(kind, address, number)
            return
        with self.when(self.require(self.within(number, kind.low, kind.high), self.site(line))):
            self.store(kind, address, number)

    def within(self, number: Value, low: int, high: int) -> Value:
        """Whether low <= number <= high, as one unsigned comparison."""
        return self.at.icmp_unsigned("<=", self.at.sub(number, long(low)), long(high - low))

    # ---------------------------------------------------------------------------------- sequences and bags

    def change(self, statement: terms.Append | terms.Truncate | terms.Send | terms.Discard) -> None:
        """The statements that change how many elements there are."""
        site, kind = self.site(statement.line), statement.type
        match statement:
            case terms.Append(place, _, element):
                self.append(self.address(place), kind, element, statement.line)
            case terms.Truncate(place, _, length):
                address, wanted = self.address(place), self.number(length)
                fits = self.within_length(wanted, self.load(kind.length, address), inclusive=True)
                with self.when(self.require(fits, site)):
                    self.cut(address, kind, wanted)
            case terms.Send(place, _, message):
                address, content = self.address(place), self.content(message)
                sent = self.at.call(self.functions.helper("send", kind), [address, content])
                self.require(self.at.icmp_signed(">=", sent, long(0)), site)
            case terms.Discard(place, _, index):
                address, number = self.address(place), self.number(index)
                fits = self.within_length(number, self.load(kind.length, address), inclusive=False)
                with self.when(self.require(fits, site)):
                    self.take_out(address, kind, number)

    def within_length(self, number: Value, length: Value, *, inclusive: bool) -> Value:
        """Whether 0 <= number < length (or <= length)."""
        return self.at.icmp_unsigned("<=" if inclusive else "<", number, length)

    def slot(self, address: Value, kind: Sequence, index: Value) -> Value:
        """The address of an element."""
        return self.offset(self.offset(address, kind.items_offset), self.at.mul(index, long(kind.stride)))

    def append(self, address: Value, kind: Sequence, element: Expr | Source, line: int) -> None:
        """Write an element after the last one."""
        evaluate: Any = self.number if isinstance(kind.element, Scalar) else self.content
        content = evaluate(element)
        length = self.load(kind.length, address)
        room = self.at.icmp_unsigned("<", length, long(kind.capacity))
        with self.when(self.require(room, self.site(line))):
            self.store(kind.length, address, self.at.add(length, long(1)))
            slot = self.slot(address, kind, length)
            if isinstance(kind.element, Scalar):
                self.put(kind.element, slot, content, element, line)  # type: ignore[arg-type]
            else:
                self.copy(slot, content, kind.stride)

    def cut(self, address: Value, kind: Sequence, wanted: Value) -> None:
        """Clear the elements from `wanted` on."""
        counter = self.variable()
        with self.loop(counter, wanted, self.load(kind.length, address)):
            self.fill(self.slot(address, kind, self.get(counter)), long(kind.stride))
        self.store(kind.length, address, wanted)

    def take_out(self, address: Value, kind: Sequence, index: Value) -> None:
        """Close the gap that a discarded element leaves."""
        last = self.at.sub(self.load(kind.length, address), long(1))
        slot, end = self.slot(address, kind, index), self.slot(address, kind, last)
        following = self.at.mul(self.at.sub(last, index), long(kind.stride))
        self.move(slot, self.offset(slot, kind.stride), following)
        self.fill(end, long(kind.stride))
        self.store(kind.length, address, last)

    # --------------------------------------------------------------------------------------------- places

    def address(self, place: Place) -> Value:
        """The address of a place."""
        match place:
            case terms.Root(name):
                return self.places[name]
            case terms.Member(of, field):
                return self.offset(self.address(of), field.offset)
            case terms.Item(of, index, _, line):
                return self.element(of, index, line)

    def element(self, of: Place, index: Expr, line: int) -> Value:
        """The address of an element; a bad index records a fault and reads element 0 instead."""
        base, number, kind = self.address(of), self.number(index), of.type
        assert isinstance(kind, Table | Sequence)
        if isinstance(kind, Sequence):
            fits = self.at.icmp_unsigned("<", number, self.load(kind.length, base))
            return self.slot(base, kind, self.clamp(fits, number, self.site(line)))
        if not (index.low >= 0 and index.high < kind.count):
            fits = self.at.icmp_unsigned("<", number, long(kind.count))
            number = self.clamp(fits, number, self.site(line))
        return self.offset(base, self.at.mul(number, long(kind.stride)))

    def content(self, source: Source) -> Value:
        """The address of a record's content; one built here is built completely before anything is written."""
        if not isinstance(source, terms.Fresh):
            return self.address(source)
        scratch = self.scratch(source.type.size)
        contents = [
            self.number(value) if isinstance(field.type, Scalar) else self.content(value)  # type: ignore[arg-type]
            for field, value in zip(source.type.fields, source.values, strict=True)
        ]
        for field, value, content in zip(source.type.fields, source.values, contents, strict=True):
            target = self.offset(scratch, field.offset)
            if isinstance(field.type, Scalar):
                self.put(field.type, target, content, value, source.line)  # type: ignore[arg-type]
            else:
                self.copy(target, content, field.type.size)
        return scratch

    # ---------------------------------------------------------------------------------------- expressions

    def number(self, expr: Expr) -> Value:
        """The 64-bit value of an expression."""
        match expr:
            case terms.Const(value):
                return long(value)
            case terms.Local(name):
                return self.get(self.local(name))
            case terms.Load(place, kind):
                return self.load(kind, self.address(place))
            case terms.Length(place, kind):
                return self.load(kind.length, self.address(place))
            case terms.Binary(operator, left, right):
                return self.arithmetic(operator, self.number(left), self.number(right))
            case terms.Choose(test, then, other):
                return self.either(self.truth(test), lambda: self.number(then), lambda: self.number(other))
            case terms.Bit(element, line):
                return self.at.shl(long(1), self.element_of_set(element, line))
            case terms.Count(members):
                return self.at.call(self.unit.memory["popcount"], [self.number(members)])
            case terms.Over("sum"):
                return self.total(expr)
            case terms.Call():
                return self.call(expr)
            case _:
                return self.at.zext(self.truth(expr), LONG)

    def element_of_set(self, element: Expr, line: int) -> Value:
        """A number that can be a set's element."""
        number = self.number(element)
        if element.low >= 0:
            return number
        return self.clamp(self.at.icmp_signed(">=", number, long(0)), number, self.site(line))

    def arithmetic(self, operator: terms.Operator, left: Value, right: Value) -> Value:
        """Two numbers combined."""
        if operator in ("min", "max"):
            smaller = self.at.icmp_signed("<" if operator == "min" else ">", left, right)
            return self.at.select(smaller, left, right)
        if operator == "&~":
            return self.at.and_(left, self.at.not_(right))
        simple: dict[str, Callable[[Any, Any], Any]] = {
            "+": self.at.add, "-": self.at.sub, "*": self.at.mul, "//": self.at.udiv, "%": self.at.urem,
            "&": self.at.and_, "|": self.at.or_,
        }  # fmt: skip
        return simple[operator](left, right)

    def truth(self, expr: Expr) -> Value:
        """Whether an expression is true, as one bit."""
        match expr:
            case terms.Compare(operator, left, right):
                return self.at.icmp_signed(operator, self.number(left), self.number(right))
            case terms.Not(part):
                return self.at.not_(self.truth(part))
            case terms.Junction(operator, parts):
                return self.junction(operator, parts)
            case terms.Contains(members, element):
                return self.contains(members, element)
            case terms.Same(left, right):
                content = self.content(right)
                return self.equal(self.address(left), content, left.type.size)
            case terms.Has(place, kind, message):
                address, content = self.address(place), self.content(message)
                found = self.at.call(self.functions.helper("has", kind), [address, content])
                return self.at.icmp_signed("!=", found, long(0))
            case terms.Over("any" | "all"):
                return self.quantified(expr)
            case _:
                return self.at.icmp_signed("!=", self.number(expr), long(0))

    def junction(self, operator: str, parts: tuple[Expr, ...]) -> Value:
        """`and`, `or`: the rest is evaluated only while undecided."""
        decided = operator == "or"
        after = self.block("decided")
        incoming = []
        for part in parts[:-1]:
            truth = self.truth(part)
            incoming.append((bit(decided), self.at.block))
            rest = self.block("rest")
            self.at.cbranch(truth, *((after, rest) if decided else (rest, after)))
            self.at.position_at_end(rest)
        incoming.append((self.truth(parts[-1]), self.at.block))
        self.at.branch(after)
        self.at.position_at_end(after)
        result = self.at.phi(BIT)
        for value, block in incoming:
            result.add_incoming(value, block)
        return result

    def contains(self, members: Expr, element: Expr) -> Value:
        """Whether a set has an element; no set has one that is negative or beyond 62."""
        mask, number = self.number(members), self.number(element)
        shifted = self.at.lshr(mask, self.at.and_(number, long(63)))
        found = self.at.trunc(shifted, BIT)
        if element.low >= 0 and element.high <= 63:
            return found
        return self.at.and_(found, self.at.icmp_unsigned("<", number, long(64)))

    def quantified(self, over: terms.Over) -> Value:
        """`any`, `all`: the loop ends as soon as it is decided."""
        decisive = over.operator == "any"
        result = self.variable(long(not decisive))
        with self.each(over) as after:
            truth = self.truth(over.body)
            decided, undecided = self.block("decided"), self.block("undecided")
            self.at.cbranch(truth, *((decided, undecided) if decisive else (undecided, decided)))
            self.at.position_at_end(decided)
            self.set(result, long(decisive))
            self.at.branch(after)
            self.at.position_at_end(undecided)
        return self.at.icmp_signed("!=", self.get(result), long(0))

    def total(self, over: terms.Over) -> Value:
        """`sum`."""
        result = self.variable(long(0))
        with self.each(over):
            self.set(result, self.at.add(self.get(result), self.number(over.body)))
        return self.get(result)

    def each(self, over: terms.Over) -> Any:
        """The loop of an `Over`, with its name in scope and its test passed; yields the exit block."""
        return _Each(self, over)

    def call(self, call: terms.Call) -> Value:
        """Call another specification function; an argument outside its parameter's domain is an error."""
        pairs = list(zip(call.arguments, self.functions.terms[call.function].parameters, strict=True))
        arguments = [
            self.number(argument) if isinstance(parameter.type, Scalar) else self.content(argument)  # type: ignore[arg-type]
            for argument, parameter in pairs
        ]
        for number, (argument, parameter) in enumerate(pairs):
            if isinstance(parameter.type, Scalar):
                arguments[number] = self.in_domain(parameter.type, arguments[number], argument, call.line)  # type: ignore[arg-type]
        return self.at.call(self.functions[call.function], [self.fault, *arguments])

    def in_domain(self, kind: Scalar, number: Value, argument: Expr, line: int) -> Value:
        """A scalar argument, checked unless the interval of its term says that the check cannot fail."""
        if kind.low <= argument.low and argument.high <= kind.high:
            return number
        return self.clamp(self.within(number, kind.low, kind.high), number, self.site(line), kind.low)


class _Each:
    """Context of one `Over`: a loop around, the name shadowing an outer one, and the test inside."""

    def __init__(self, body: Body, over: terms.Over) -> None:
        self.body, self.over = body, over

    def __enter__(self) -> Value:
        body, over = self.body, self.over
        start, stop = body.number(over.start), body.number(over.stop)
        self.outer = body.scalars.get(over.name)
        counter = body.variable()
        self.loop = body.loop(counter, start, stop)
        after = self.loop.__enter__()
        body.scalars[over.name] = counter
        self.test = body.when(body.truth(over.test))
        self.test.__enter__()
        return after

    def __exit__(self, *_: object) -> None:
        self.test.__exit__(None, None, None)
        self.loop.__exit__(None, None, None)
        if self.outer is None:
            del self.body.scalars[self.over.name]
        else:
            self.body.scalars[self.over.name] = self.outer


def _messages(functions: Functions, kind: Sequence, function: Value) -> tuple[Body, Value, Value, Value]:
    """A body over (messages, message), and the number of messages."""
    body = Body(functions, terms.Function("messages", "", 0, (), (), None, frozenset()), function)
    messages, message = function.args
    return body, messages, message, body.load(kind.length, messages)


def emit_has(functions: Functions, kind: Sequence, function: Value) -> None:
    """Whether an equal message is there: 1 or 0."""
    body, messages, message, count = _messages(functions, kind, function)
    counter = body.variable()
    with body.loop(counter, long(0), count):
        same = body.equal(body.slot(messages, kind, body.get(counter)), message, kind.stride)
        with body.when(same):
            body.at.ret(long(1))
    body.at.ret(long(0))
    body.finish()


def emit_send(functions: Functions, kind: Sequence, function: Value) -> None:
    """Insert a message where the order wants it: 1; 0 where a set has it already; -1 where there is no room."""
    body, messages, message, count = _messages(functions, kind, function)
    if kind.kind == "messages":
        there = body.at.call(functions.helper("has", kind), [messages, message])
        with body.when(body.at.icmp_signed("!=", there, long(0))):
            body.at.ret(long(0))
    with body.when(body.at.icmp_unsigned(">=", count, long(kind.capacity))):
        body.at.ret(long(-1))
    counter, index = body.variable(), body.variable(long(0))
    order = [(offset, scalar.size) for offset, scalar in leaves(kind.element)]
    with body.loop(counter, long(0), count):
        before = body.less(body.slot(messages, kind, body.get(counter)), message, order)
        body.set(index, body.at.add(body.get(index), body.at.zext(before, LONG)))
    slot = body.slot(messages, kind, body.get(index))
    following = body.at.mul(body.at.sub(count, body.get(index)), long(kind.stride))
    body.move(body.offset(slot, kind.stride), slot, following)
    body.copy(slot, message, kind.stride)
    body.store(kind.length, messages, body.at.add(count, long(1)))
    body.at.ret(long(1))
    body.finish()
