"""Two-phase commit: the small example of the tutorial.

A transaction manager collects the promises of the resource managers to commit, and tells them all to commit or all to
abort. Messages are never lost, but may arrive late or never; they stay in the network once sent. Not modelled: crashes
of the transaction manager, which would leave prepared resource managers waiting for ever.

Source: Gray and Lamport, Consensus on Transaction Commit (2006), specification TwoPhase. Counts published with it:
3 resource managers 288 states, 5: 8,832, 7: 296,448, 8: 1,745,408.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from hwmark.spec.lang import Array, Bound, Domain, SetOf, Struct, contains, everything, insert
from hwmark.spec.model import Model

resource_managers = Bound("resource_managers", 3, why="resource managers that take part in the transaction")
ResourceManagerId = Annotated[int, Domain("resource manager", resource_managers, symmetric=True)]


class Vote(IntEnum):
    """Where a resource manager stands."""

    WORKING = 0
    PREPARED = 1
    COMMITTED = 2
    ABORTED = 3


class Decision(IntEnum):
    """What the transaction manager has decided."""

    PENDING = 0
    COMMIT = 1
    ABORT = 2


class Transaction(Struct):
    """Everybody's state, and the messages that were sent."""

    votes: Array[ResourceManagerId, Vote]
    decision: Decision
    promised: SetOf[ResourceManagerId]
    prepared_sent: SetOf[ResourceManagerId]
    commit_sent: bool
    abort_sent: bool


def init(s: Transaction) -> None:
    """Everybody is working, and nothing was sent."""


def resource_manager_prepare(s: Transaction, rm: ResourceManagerId) -> bool:
    """A working resource manager promises to commit when told to."""
    if s.votes[rm] != Vote.WORKING:
        return False
    s.votes[rm] = Vote.PREPARED
    s.prepared_sent = insert(s.prepared_sent, rm)
    return True


def resource_manager_abort_alone(s: Transaction, rm: ResourceManagerId) -> bool:
    """A resource manager that has promised nothing may abort by itself."""
    if s.votes[rm] != Vote.WORKING:
        return False
    s.votes[rm] = Vote.ABORTED
    return True


def manager_receive_prepared(s: Transaction, rm: ResourceManagerId) -> bool:
    """The transaction manager learns of a promise."""
    if s.decision != Decision.PENDING or not contains(s.prepared_sent, rm):
        return False
    s.promised = insert(s.promised, rm)
    return True


def manager_commit(s: Transaction) -> bool:
    """With every promise in hand, the transaction manager tells everybody to commit."""
    if s.decision != Decision.PENDING or s.promised != everything(resource_managers):
        return False
    s.decision = Decision.COMMIT
    s.commit_sent = True
    return True


def manager_abort(s: Transaction) -> bool:
    """Without waiting any longer, the transaction manager tells everybody to abort."""
    if s.decision != Decision.PENDING:
        return False
    s.decision = Decision.ABORT
    s.abort_sent = True
    return True


def resource_manager_receive_commit(s: Transaction, rm: ResourceManagerId) -> bool:
    """A resource manager is told to commit."""
    if not s.commit_sent:
        return False
    s.votes[rm] = Vote.COMMITTED
    return True


def resource_manager_receive_abort(s: Transaction, rm: ResourceManagerId) -> bool:
    """A resource manager is told to abort."""
    if not s.abort_sent:
        return False
    s.votes[rm] = Vote.ABORTED
    return True


def nobody_commits_what_another_aborts(s: Transaction, one: ResourceManagerId, other: ResourceManagerId) -> bool:
    """TCConsistent: no two resource managers end up at odds."""
    return not (s.votes[one] == Vote.COMMITTED and s.votes[other] == Vote.ABORTED)


def everybody_commits(s: Transaction) -> bool:
    """The transaction can succeed at all."""
    return all(s.votes[rm] == Vote.COMMITTED for rm in range(resource_managers))


def everybody_aborts(s: Transaction) -> bool:
    """The transaction can fail."""
    return all(s.votes[rm] == Vote.ABORTED for rm in range(resource_managers))


two_phase_commit = Model.of(
    "two-phase-commit",
    "two-phase-commit",
    why="the transaction manager decides once every resource manager has promised",
    state=Transaction,
    bounds=(resource_managers,),
    init=init,
    actions=(
        resource_manager_prepare,
        resource_manager_abort_alone,
        manager_receive_prepared,
        manager_commit,
        manager_abort,
        resource_manager_receive_commit,
        resource_manager_receive_abort,
    ),
    invariants=(nobody_commits_what_another_aborts,),
    sometimes=(everybody_commits, everybody_aborts),
    lanes="resource manager",
)
