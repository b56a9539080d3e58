"""Quirks of the reference, Jepsen's Kafka workload checker, reproduced only where `Options.compat` asks for them.

Reproduced:

1. *Unseen without a promise.* The reference counts a key's values as unseen that were read but never acknowledged, if
   the last acknowledged operation of all is the first to read the key (`unpromised`).
2. *Forgotten offsets.* Within an operation, a send whose offset is unknown makes it forget the offsets of the sends
   before it when it computes the realtime lag (`forgotten_sends`).
3. *No more than it looks for.* The types that hwmark adds are not looked for (`ADDED`). Closing reads keep their
   meaning: the reference does not know the mark, and would take them for what a client did.

Not reproduced, since nothing can depend on them:

- Of several values at an offset it takes any one into the version order, by hash order; here it is the least.
- It throws on values that nobody sent, keys of which nothing but empty lists or unknown offsets were read, values of
  different types at one offset, lost values without a writer, and empty histories; here each has its report.
- Its search for cycles gives up after a second (`cycle-search-timeout`); here it has no such limit.
- Its plots, and its memory, grow with the largest offset.
"""

from __future__ import annotations

import numpy as np
from hwmark.checkers.histories.evidence import NOWHERE, Evidence, Mask
from hwmark.checkers.histories.kinds import MISSING, NO_WRITER
from hwmark.traces.history import NO_OFFSET, Function, Outcome

NOT_IN_REFERENCE = "the reference does not look for it"
ADDED = (
    MISSING,
    NO_WRITER,
    "torn-transaction",
    "aborted-visible",
    "processed-twice",
    "processed-never",
    "group-offset-back",
)


def unpromised(evidence: Evidence) -> Mask:
    """Messages that the reference counts as unseen though nobody was promised them."""
    operations, key = evidence.history.operations, evidence.history.micro.key
    judged = np.flatnonzero((operations.outcome == Outcome.OK) & (operations.function <= Function.TXN))
    found = np.zeros(len(evidence), dtype=bool)
    if len(judged):
        by_last = evidence.history.micro.operation == judged[-1]
        known = np.zeros(len(evidence.history.keys), dtype=bool)
        known[evidence.message_key[evidence.acknowledged]] = True
        known[key[evidence.is_ok_read & ~by_last]] = True
        found[evidence.message[evidence.is_ok_read & by_last & ~known[key]]] = True
    return found


def forgotten_sends(evidence: Evidence) -> Mask:
    """Micro-operations: sends that precede one of unknown offset in their operation."""
    micro = evidence.history.micro
    rows = np.arange(len(micro))
    unknown = np.flatnonzero(evidence.is_send & (micro.offset == NO_OFFSET))
    last_unknown = np.full(len(evidence.history.operations), NOWHERE)
    last_unknown[micro.operation[unknown]] = unknown
    forgotten: Mask = evidence.is_send & (rows < last_unknown[micro.operation])
    return forgotten
