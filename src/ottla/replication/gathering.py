"""The Produce requests of one read: appended one by one, written with one call a partition.

A client that pipelines sends many small requests at once, and most of the cost of appending one is the call
that writes it. So the appends of the requests that came with one read are gathered, and ``settle`` writes
them before anything else happens on the event loop: before another request is handled, an answer is sent, or a
reader looks. An append whose write fails was not made, and its producer is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import KafkaError
from ottla.logs import logger

if TYPE_CHECKING:
    from ottla.replication.partition import Partition

log = logger(__name__)


class Gathering:
    """The partitions of one event loop with appends that are not settled."""

    __slots__ = ("partitions",)

    def __init__(self) -> None:
        self.partitions: dict[Partition, None] = {}
        """Those that have gathered an append, in their order; each puts itself here."""

    def settle(self, now_ms: int) -> None:
        """Write everything, then tell who waits for it.

        What failed is logged; its appends learn from ``Log.kept``, or find that their log is unusable.
        """
        partitions = self.partitions
        if not partitions:
            return
        self.partitions = {}
        for partition in partitions:
            try:
                partition.log.write_gathered(now_ms)
            except KafkaError as error:
                log.warning("appends failed", partition=repr(partition), reason=error.message)
            except Exception as error:  # ours to mend: what is in the file is not known any more
                log.error("appends failed", error=error, partition=repr(partition))
                partition.log.quarantine(f"appends could not be written: {error!r}")
        alone = len(partitions) == 1
        for partition in partitions:
            try:
                partition.appended(alone=alone)
            except Exception as error:  # ours to mend, and nothing that others' appends wait for
                log.error("telling of an append failed", error=error, partition=repr(partition))
