"""The bits of "what you may do here" in responses.

Without an authorizer a client may do all that the resource knows. Bit n is the operation with Kafka's code
n (``AclOperation``: 3 read, 4 write, 5 create, 6 delete, 7 alter, 8 describe, 9 cluster action, 10 describe
configs, 11 alter configs, 12 idempotent write). Source: ``AclEntry.supportedOperations``.
"""

from __future__ import annotations


def _bits(*operations: int) -> int:
    return sum(1 << operation for operation in operations)


TOPIC_OPERATIONS = _bits(3, 4, 5, 6, 7, 8, 10, 11)
GROUP_OPERATIONS = _bits(3, 6, 8, 10, 11)
CLUSTER_OPERATIONS = _bits(5, 7, 8, 9, 10, 11, 12)
