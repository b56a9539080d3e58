"""Clusters of the reference implementation: their time, network, disks and faults, and checks of their runs."""
