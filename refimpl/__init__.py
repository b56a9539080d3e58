"""HOW a small Kafka does it: deterministic state machines without I/O (see the README for what exists so far)."""
