"""The exhaustive engine: breadth-first, exact, and as fast as the memory lets it be."""

from hwmark.checkers.explore.exploration import Exploration, explore

__all__ = ["Exploration", "explore"]
