"""The search written out: any model, ordinary Python. It is the compiled search's twin, and the way for users' models.

Wing & Gong's search as Lowe improved it ("Testing for linearizability", 2017): operations take effect one by one; next
may be any that was called before the first of the remaining ones returned; a configuration - the set of operations that
took effect, and the state that they led to - is looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwmark.checkers.linearizability.models import State
from hwmark.checkers.linearizability.search_outcome import PARTIALS_MAX, Outcome, Stopwatch
from hwmark.checkers.linearizability.search_parts import Part
from hwmark.traces.operations import TIME_MAX

LOOKS_AT_CLOCK = 256
BEGIN = -1


def search(part: Part, limit: int, stopwatch: Stopwatch) -> Outcome:
    """Look for a legal order of the part's operations; give up after `limit` configurations."""
    search = _Search(part)
    while (result := search.advance()) is None:
        if len(search.seen) >= limit or (len(search.seen) % LOOKS_AT_CLOCK == 0 and stopwatch.is_over()):
            return Outcome(None, len(search.seen), why=stopwatch.why_not(len(search.seen)))
    if result:
        return Outcome(True, len(search.seen), order=search.numbers(search.stack[-1][1]))
    partials = tuple(map(search.numbers, search.longest))
    return Outcome(False, len(search.seen), partials=partials, stuck_at=search.stuck_at)


Path = tuple[int, "Path"] | None
"""The last position that took effect, and the path before it."""


class _Search:
    """Depth first; the stack holds, per configuration, what took effect, the path there, and what may follow."""

    def __init__(self, part: Part) -> None:
        self.part = part
        positions = range(len(part))
        self.settled = [i for i in positions if part.returned[i] is not None and i not in part.free]
        self.optional = [i for i in positions if (part.returned[i] is None or i in part.free) and i not in part.before]
        self.bit = {BEGIN: 0} | {i: 1 << b for b, i in enumerate(self.settled)}
        self.all_settled = (1 << len(self.settled)) - 1
        for b, i in enumerate(self.optional, len(self.settled)):
            self.bit[i] = 0 if i in part.free and part.endless else 1 << b
        self.seen: set[tuple[int, State]] = set()
        self.stack: list[tuple[int, Path, Iterator[tuple[int, State]]]] = []
        self.longest: list[Path] = []
        self.longest_size = -1
        self.stuck_at = -TIME_MAX
        self.stack.append((0, None, ((BEGIN, state) for state in self.first_states())))

    def first_states(self) -> Iterator[State]:
        """The first state, and where there are operations that come before all others, what they may lead to."""
        waiting, met = [self.part.initial], {self.part.initial}
        while waiting:
            state = waiting.pop()
            yield state
            for i in self.part.free if self.part.before else ():
                reached = set(self.part.model.step(state, self.part.operations[i])) - met
                met |= reached
                waiting.extend(reached)

    def advance(self) -> bool | None:
        """One move; true when every operation that has to happen did, false when nothing is left to try."""
        if not self.stack:
            return False
        done, path, moves = self.stack[-1]
        if done & self.all_settled == self.all_settled and path is not None:
            return True
        for i, state in moves:
            if (done | self.bit[i], state) not in self.seen:
                self.enter(done | self.bit[i], state, (i, path))
                return None
        self.stack.pop()
        return None

    def enter(self, done: int, state: State, path: Path) -> None:
        """Look at a configuration for the first time."""
        self.seen.add((done, state))
        deadline, candidates = self.open(done)
        self.stack.append((done, path, self.moves(done, state, candidates)))
        self.stuck_at = max(self.stuck_at, deadline)
        size = (done & self.all_settled).bit_count()
        if size > self.longest_size:
            self.longest, self.longest_size = [], size
        if size == self.longest_size and len(self.longest) < PARTIALS_MAX:
            self.longest.append(path)

    def moves(self, done: int, state: State, candidates: list[int]) -> Iterator[tuple[int, State]]:
        """What may take effect next, and the states that it leads to."""
        for i in candidates:
            for following in self.part.model.step(state, self.part.operations[i]):
                yield i, following

    def open(self, done: int) -> tuple[int, list[int]]:
        """The first return of what remains, and what was called until then; what may never happen comes last."""
        call, returned = self.part.call, self.part.returned
        deadline, candidates = TIME_MAX, []
        lowest_clear_bit = (~done & (done + 1)).bit_length() - 1
        for b in range(lowest_clear_bit, len(self.settled)):
            i = self.settled[b]
            if call[i] > deadline:
                break
            if not done >> b & 1:
                deadline = min(deadline, returned[i] or 0)
                candidates.append(i)
        for i in self.optional:
            if not done & self.bit[i]:
                candidates.append(i)
        return deadline, [i for i in candidates if call[i] <= deadline or i in self.part.free]

    def numbers(self, path: Path) -> tuple[int, ...]:
        """The operations on a path, in order, by number."""
        backwards = []
        while path is not None:
            i, path = path
            if i != BEGIN:
                backwards.append(self.part.numbers[i])
        return tuple(reversed(backwards))
