"""The consumer group protocol of KIP-848: clients heartbeat, the group coordinator assigns and reconciles.

`kip_848` is the model, `MUTANTS` are the same with single rules taken out.
"""

from hwmark.spec.consumer_group.mutants import MUTANTS
from hwmark.spec.consumer_group.protocol import kip_848

__all__ = ["MUTANTS", "kip_848"]
