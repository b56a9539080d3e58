"""Kafka's replication protocol: one base model, the published variants, and single rules removed from the last one."""
