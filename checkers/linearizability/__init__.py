"""Linearizability: a linear-time rule for partition logs, and a search for any sequential model."""
