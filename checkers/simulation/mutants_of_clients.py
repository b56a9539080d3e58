"""Mutants of producers and consumers."""

from __future__ import annotations

from hwmark.checkers.simulation.mutant_focus import PRODUCING, TRANSACTIONS, TRANSFORMING
from hwmark.checkers.simulation.mutants import Mutant

CLIENTS = (
    Mutant(
        name="sequence-stays",
        why="Two batches get the same number.",
        where="accumulator.PartitionQueue.number",
        old="self.next_sequence = (batch.base_sequence + len(batch.records)) % (batches.SEQUENCE_MAX + 1)",
        new="pass",
        focus=PRODUCING,
    ),
    Mutant(
        name="retry-renumbered",
        why="A batch that is sent again gets another number.",
        where="producer.Producer._drain",
        old="if is_new:",
        new="if True:",
        focus=PRODUCING,
    ),
    Mutant(
        name="epoch-bumped-in-doubt",
        why="In a new epoch a producer numbers batches again that may have been written.",
        source="librdkafka #4953, KAFKA-14034",
        where="producer.Producer._drain",
        old="if is_new:",
        new="if is_new or batch.producer != producer:",
        focus=PRODUCING,
    ),
    Mutant(
        name="timeout-is-success",
        why="A producer takes REQUEST_TIMED_OUT for an acknowledgement.",
        where="producer.Producer._produced",
        old="if error is Error.NONE:",
        new="if error in (Error.NONE, Error.REQUEST_TIMED_OUT):",
        focus=PRODUCING,
    ),
    Mutant(
        name="out-of-order-is-success",
        why="A producer takes OUT_OF_ORDER_SEQUENCE_NUMBER for a duplicate.",
        where="producer.Producer._produced",
        old="if error is Error.NONE:",
        new="if error in (Error.NONE, Error.OUT_OF_ORDER_SEQUENCE_NUMBER):",
        focus=PRODUCING,
    ),
    Mutant(
        name="commit-before-flush",
        why="A transaction is committed while its batches are under way.",
        where="transaction_manager.TransactionManager._next_request",
        old='if unfinished or self.state == "IN_TRANSACTION":',
        new='if self.state == "IN_TRANSACTION":',
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="commit-with-failed-batch",
        why="A transaction is committed though a batch of it has failed.",
        where="transaction_manager.TransactionManager.batch_failed",
        old="self._fail(error, kip_360)",
        new="pass",
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="sent-before-added",
        why="Records are sent before their partition is in the transaction.",
        source="KIP-890",
        where="transaction_manager.TransactionManager.may_send",
        old='(self.state == "NOT_TRANSACTIONAL" or partition in self.added)',
        new="True",
        focus=TRANSACTIONS._replace(kip_890=0.0),
    ),
    Mutant(
        name="offsets-not-added",
        why="A producer commits offsets without adding their partition to the transaction.",
        where="transaction_manager.TransactionManager._offsets_request",
        old="if who.group_id not in self.added:",
        new="if False:",
        focus=TRANSFORMING._replace(kip_890=0.0),
    ),
)
