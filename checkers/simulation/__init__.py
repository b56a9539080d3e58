"""Clusters of the reference implementation: their time, network, disks and faults, and what is checked of their runs."""
