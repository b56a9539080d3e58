"""Independent pieces of work in several processes, a few handed out ahead of those who do them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from hwmark.checkers.verdict import StoppedError

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4  # pieces of work for each process, so that none waits, and that there may be any number of them


def processes(count: int) -> ProcessPoolExecutor:
    """New processes, which begin from nothing: a copy of this one may wait for ever for a lock that a thread held."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def in_processes(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, in the order in which they end; whoever stops listening stops the rest.

    StoppedError if a process dies.
    """
    if workers <= 1:
        yield from ((item, work(item)) for item in items)
        return
    pending: dict[Future[R], T] = {}
    with processes(workers) as pool:
        try:
            for item in items:
                pending[pool.submit(work, item)] = item
                if len(pending) >= AHEAD * workers:
                    yield from _ended(pending)
            while pending:
                yield from _ended(pending)
        except BrokenProcessPool as error:
            raise StoppedError("one of the processes was killed") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _ended(pending: dict[Future[R], T]) -> list[tuple[T, R]]:
    """Wait for one or more that end, and take them out."""
    return [(pending.pop(job), job.result()) for job in wait(pending, return_when=FIRST_COMPLETED).done]
