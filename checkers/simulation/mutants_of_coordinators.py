"""Mutants of the coordinators of transactions and groups, and of assignors."""

from __future__ import annotations

from hwmark.checkers.simulation.mutant_focus import TRANSACTION_ELECTIONS, TRANSACTIONS, TRANSFORMING
from hwmark.checkers.simulation.mutants import Mutant

COORDINATORS = (
    Mutant(
        name="coordinators-with-acks-one",
        why="Coordinators go on when the leader alone has their records.",
        where="replica_manager.ReplicaManager.perform",
        old="self.config.request_timeout, -1, transactional_id",
        new="self.config.request_timeout, 1, transactional_id",
        focus=TRANSACTION_ELECTIONS,
    ),
    Mutant(
        name="init-without-epoch",
        why="InitProducerId fences nobody.",
        source="KIP-98",
        where="transaction_metadata.TransactionMetadata.prepare_increment",
        old="current + (not is_retry)",
        new="max(current, 0)",
        focus=TRANSACTIONS._replace(zombies=1.0),
    ),
    Mutant(
        name="timed-out-without-epoch",
        why="A transaction that took too long is aborted, its producer not fenced.",
        source="KAFKA-6119",
        where="transaction_metadata.TransactionMetadata.prepare_fence",
        old="self.current.producer_epoch + (not self.has_failed_epoch_fence)",
        new="self.current.producer_epoch",
        focus=TRANSACTIONS._replace(
            kip_890=0.0, transaction_timeouts=(500,), faults=("pause", "one-way"), fault_counts=(2,)
        ),
    ),
    Mutant(
        name="any-epoch-joins-transaction",
        why="A fenced producer adds partitions to its successor's transaction.",
        source="KIP-98",
        where="transaction_metadata.TransactionMetadata.check",
        old="if producer.producer_epoch != self.current.producer_epoch:",
        new="if False:",
        focus=TRANSACTIONS._replace(zombies=1.0),
    ),
    Mutant(
        name="decided-transaction-left",
        why="After a failover nobody sends the markers of a decided transaction.",
        where="transaction_coordinator.TransactionCoordinator.load",
        old="if value.state in PREPARED else []",
        new="if False else []",
        focus=TRANSACTION_ELECTIONS,
    ),
    Mutant(
        name="coordinator-loads-oldest",
        why="A coordinator loads what was overwritten.",
        source="KAFKA-5600",
        where="transaction_coordinator.TransactionCoordinator.load",
        old="{str(record.key): record.value for record in records}",
        new="{str(record.key): record.value for record in [*records][::-1]}",
        focus=TRANSACTION_ELECTIONS,
    ),
    Mutant(
        name="refused-append-counts",
        why="What the transaction log refused counts as logged.",
        where="transaction_coordinator.TransactionCoordinator.on_appended",
        old="if error is not Error.NONE:",
        new="if error is Error.NOT_COORDINATOR:",
        focus=TRANSACTION_ELECTIONS,
    ),
    Mutant(
        name="aborts-commit",
        why="Every marker says COMMIT.",
        where="transaction_coordinator.TransactionCoordinator._send_markers",
        old="(COMMIT, ABORT)[PREPARED.index(current.state)]",
        new="COMMIT",
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="partitions-forgotten",
        why="Partitions that join a transaction replace those before.",
        where="transaction_metadata.TransactionMetadata.prepare_add_partitions",
        old="{*self.current.topic_partitions, *partitions}",
        new="{*partitions}",
        focus=TRANSACTIONS,
    ),
    Mutant(
        name="rebalance-without-generation",
        why="A rebalance makes no new generation.",
        where="group_metadata.GroupMetadata.init_next_generation",
        old="self.generation += 1",
        new="self.generation = max(self.generation, 1)",
        focus=TRANSFORMING,
    ),
)
