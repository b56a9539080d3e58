"""Histories of real clusters: a workload, its clients, what they asked and what they were told, written down as it happens."""
