"""Mutants of producers and consumers."""

from __future__ import annotations

from hwmark.checkers.simulation.mutant_focus import PRODUCING, TRANSACTIONS, TRANSFORMING
from hwmark.checkers.simulation.mutants import Mutant

CLIENTS = (
    Mutant(
        name="sequence-stays",
        why="Two batches get the same number.",
        where="accumulator.PartitionQueue.assign_sequence",
        old="self.next_sequence = batch.next_sequence",
        new="pass",
        focus=PRODUCING,
    ),
    Mutant(
        name="retry-renumbered",
        why="A batch that is sent again gets another number.",
        where="producer.Producer._send",
        old="if self.config.enable_idempotence and batch.base_sequence == NO_SEQUENCE:",
        new="if self.config.enable_idempotence:",
        focus=PRODUCING,
    ),
    Mutant(
        name="epoch-bumped-in-doubt",
        why="A producer begins a new epoch while earlier batches may have been written.",
        source="librdkafka #4953, KAFKA-14034",
        where="transaction_manager.TransactionManager.may_retry",
        old="is_early = queue.unresolved is None and batch.base_sequence != queue.next_acked_sequence",
        new="is_early = False",
        focus=PRODUCING,
    ),
    Mutant(
        name="timeout-is-success",
        why="A producer takes REQUEST_TIMED_OUT for an acknowledgement.",
        where="producer.Producer._handle_produce",
        old="if error in (Error.NONE, Error.DUPLICATE_SEQUENCE_NUMBER):",
        new="if error in (Error.NONE, Error.DUPLICATE_SEQUENCE_NUMBER, Error.REQUEST_TIMED_OUT):",
        focus=PRODUCING,
    ),
    Mutant(
        name="out-of-order-is-success",
        why="A producer takes OUT_OF_ORDER_SEQUENCE_NUMBER for a duplicate.",
        where="producer.Producer._handle_produce",
        old="if error in (Error.NONE, Error.DUPLICATE_SEQUENCE_NUMBER):",
        new="if error in (Error.NONE, Error.OUT_OF_ORDER_SEQUENCE_NUMBER):",
        focus=PRODUCING,
    ),
    Mutant(
        name="commit-before-flush",
        why="A transaction is committed while its batches are under way.",
        where="transaction_manager.TransactionManager.next_request",
        old='if self.state == "IN_TRANSACTION" or has_incomplete:',
        new='if self.state == "IN_TRANSACTION":',
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="commit-with-failed-batch",
        why="A transaction is committed though a batch of it has failed.",
        where="transaction_manager.TransactionManager.batch_failed",
        old="self._abortable(error)",
        new="pass",
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="sent-before-added",
        why="Records are sent before their partition is in the transaction.",
        source="KIP-890",
        where="transaction_manager.TransactionManager.may_send",
        old="self.transactional_id is None or self.partitions.get(partition) == ADDED",
        new="True",
        focus=TRANSACTIONS._replace(kip_890=0.0),
    ),
    Mutant(
        name="offsets-not-added",
        why="A producer commits offsets without adding their partition to the transaction.",
        where="transaction_manager.TransactionManager._offsets_request",
        old="if not self.are_offsets_added:",
        new="if False:",
        focus=TRANSFORMING._replace(kip_890=0.0),
    ),
)
