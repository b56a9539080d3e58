"""HOW a small Kafka does it: deterministic state machines without I/O, clock or threads.

Where to begin: `machine` (what a machine is), `requests` (what they say to each other), `config`. Then by layer:

- a partition's log: `batches`, `log`, `producer_state`;
- a broker: `replica` (lead or follow one partition), `broker`;
- who leads: `partition_change` (the rules), `controller`, `zookeeper`;
- coordinators: `coordinator`, `transaction_coordinator`, `group_coordinator`;
- clients: `client`; `producer`; `consumer`, `assignors`.
"""
