"""Real Kafka brokers on this machine: found, started, faulted and stopped."""
