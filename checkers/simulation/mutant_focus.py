"""The kinds of runs in which mutants are looked for."""

from __future__ import annotations

from typing import Any

from hwmark.checkers.simulation.plan import Focus

# Leaders change all the time, while followers stand still.
ELECTIONS: dict[str, Any] = {
    "min_insync_replicas": (1,),
    "replica_lag_times": (200,),
    "zookeeper_session_timeouts": (300,),
    "latencies": (2,),
    "faults": ("pause", "elect"),
    "fault_counts": (2,),
    "fault_intervals": (60,),
    "fault_lengths": (100, 400, 700),
    "nemeses": 3,
}
# Members of a group consume, transform and produce in transactions.
MEMBERS: dict[str, Any] = {
    "transforms": 1.0,
    "transformers": (2,),
    "users": (8,),
    "max_poll_intervals": (1_500,),
    "fetch_max_records": (1, 3),
    "readers": (0,),
}
ACKNOWLEDGEMENTS = Focus(
    brokers=(3,),
    inputs=(1,),
    acks=(-1,),
    idempotent=1.0,
    senders=(2,),
    transactions=0.0,
    readers=(0, 1),
    segment_records=(2**31,),
    latencies=(2, 10),
    durations=(4_000,),
    faults=("crash", "pause", "partition", "isolate", "one-way"),
    fault_counts=(0, 1, 2),
    fault_intervals=(150, 400),
)
REPLICATION = ACKNOWLEDGEMENTS._replace(
    **ELECTIONS,
    inputs=(4,),
    batch_records=(1,),
    users=(12,),
    replica_fetch_max_records=(1, 2**31),
    durations=(5_000,),
)
CONTROLLING = REPLICATION._replace(
    faults=("crash", "pause", "isolate", "partition", "reassign", "elect"), fault_counts=(3,)
)
PRODUCING = ACKNOWLEDGEMENTS._replace(
    users=(8,),
    readers=(1,),
    batch_records=(1, 2),
    unreliable=1.0,
    overtaking=(0.0, 0.02),
    latencies=(10, 60),
    faults=("crash", "pause", "isolate", "one-way"),
    fault_counts=(1, 2),
    fault_intervals=(150,),
    nemeses=2,
)
TRANSACTIONS = Focus(
    brokers=(3,),
    inputs=(1,),
    acks=(-1,),
    idempotent=1.0,
    senders=(1,),
    transactions=1.0,
    transactors=(6,),
    transforms=0.0,
    readers=(1,),
    segment_records=(20, 2**31),
    read_committed=1.0,
    request_timeout=300,
    latencies=(2, 10),
    durations=(4_000,),
    faults=("crash", "pause", "client", "isolate", "one-way", "elect"),
    fault_counts=(3,),
    fault_intervals=(150,),
    fault_lengths=(20, 300, 900),
)
# What clients send to brokers arrives when they have given it up.
OVERTAKING = TRANSACTIONS._replace(
    kip_890=1.0,
    delivery_timeouts=(500,),
    request_timeout=200,
    transaction_timeouts=(6_000,),
    latencies=(2,),
    holds_partitioned=1.0,
    faults=("late requests",),
    fault_counts=(1,),
    fault_lengths=(700, 1_200),
    nemeses=6,
)
TRANSACTION_ELECTIONS = TRANSACTIONS._replace(**ELECTIONS)
TRANSFORMING = TRANSACTIONS._replace(
    **MEMBERS,
    transactors=(3,),
    faults=("crash", "pause", "client", "isolate"),
    fault_counts=(3, 4),
)
TRANSFORMING_ELECTIONS = TRANSACTION_ELECTIONS._replace(**MEMBERS, transactors=(2,))
READING = Focus(
    acks=(-1,),
    idempotent=1.0,
    transactions=1.0,
    transforms=0.0,
    readers=(2, 3),
    read_committed=1.0,
    latencies=(2, 10),
    durations=(4_000,),
    faults=("crash", "pause", "client", "isolate"),
    fault_counts=(1, 2),
    fault_intervals=(400,),
)
