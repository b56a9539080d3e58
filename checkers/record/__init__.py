"""Histories of real clusters: clients of all kinds, what they asked and what they were told, as it happens."""
