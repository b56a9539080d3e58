"""The exhaustive engine."""
