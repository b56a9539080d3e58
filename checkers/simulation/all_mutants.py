"""All mutants, by their names."""

from __future__ import annotations

from hwmark.checkers.simulation.mutants import Mutant
from hwmark.checkers.simulation.mutants_of_brokers import BROKERS
from hwmark.checkers.simulation.mutants_of_clients import CLIENTS
from hwmark.checkers.simulation.mutants_of_coordinators import COORDINATORS

MUTANTS: dict[str, Mutant] = {mutant.name: mutant for mutant in (*BROKERS, *COORDINATORS, *CLIENTS)}
