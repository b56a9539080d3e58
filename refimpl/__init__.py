"""HOW a small Kafka does it: deterministic state machines without I/O, clock or threads.

Where to begin: `machine` (what a machine is), `requests` (what they say to each other), `config`. Then by layer:

- a partition's log: `batches`, `log`, `leader_epochs`, `producer_state`, `log_cleaner`;
- a broker: `replica` (lead or follow one partition), `broker`;
- who leads: `partition_change` (the rules), `cluster_image`, `controller`, `zookeeper`;
- coordinators: `transaction_metadata`, `transaction_coordinator`, `group_metadata`, `group_coordinator`, hosted by
  `coordinators`;
- clients: `client`; `producer`; `consumer`, `fetcher`, `membership`, `assignors`.
"""
