"""HOW a small Kafka does it: deterministic state machines without I/O.

So far the parts: the log of a partition, its replicas, who leads it, the transaction and group coordinators, assignors.
"""
