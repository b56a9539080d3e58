"""Dense numbers for pairs are those of a sorted set, whichever way they are found."""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.numbering import Numbering
from hypothesis import given
from hypothesis import strategies as st

dense = st.integers(-5, 20)
sparse = st.integers(-(2**62), 2**62)
apart = st.builds(lambda base, step: base * 10**9 + step, st.integers(0, 3), st.integers(0, 9))
lone = st.one_of(st.integers(0, 9), st.just(30_000_000))
pairs = st.one_of(*(st.lists(st.tuples(st.integers(0, 4), number)) for number in (dense, sparse, apart, lone)))


@given(pairs)
def test_numbers_are_those_of_the_sorted_set(rows: list[tuple[int, int]]) -> None:
    group = np.array([g for g, _ in rows], dtype=np.int32)
    number = np.array([n for _, n in rows], dtype=np.int64)
    numbering = Numbering(group, number, 5)
    known = sorted(set(rows))
    assert list(zip(numbering.group.tolist(), numbering.number.tolist(), strict=True)) == known
    assert [known[i] for i in numbering.of.tolist()] == rows


def test_a_lone_large_number_among_many_is_not_a_table_of_its_size() -> None:
    number = np.arange(1000, dtype=np.int64)
    number[500] = 2**60
    numbering = Numbering(np.zeros(1000, dtype=np.int32), number, 1)
    assert len(numbering) == 1000 and numbering.number[-1] == 2**60


def test_groups_far_apart_have_tables_of_their_own() -> None:
    """Spans that fit only group by group."""
    group = np.repeat(np.arange(100, dtype=np.int32), 1000)
    number = np.tile(np.arange(1000, dtype=np.int64), 100) + group.astype(np.int64) * 10**12
    numbering = Numbering(group, number, 100)
    assert numbering.of.tolist() == list(range(100_000))
    assert numbering.number.tolist() == number.tolist()
