"""Whether what a leader serves is damaged: asked when a follower wants the same bytes over and over (INVARIANTS 23).

A follower verifies each batch's checksum before it appends, and cannot say in a Fetch what it found: it asks again.
So a leader that is asked for the same offset again and again, though it has records there, looks at them itself. What is
damaged quarantines its log, and another replica may lead.

Rules: the disk is read off the loop. What does not verify while the log is no longer in service, or another one, says
nothing. Apache Kafka has no such thing: there the follower asks for ever, and consumers are sent the damage.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ottla.errors import KafkaError
from ottla.logs import logger
from ottla.records.batch import iter_batches, verify_crc

if TYPE_CHECKING:
    from ottla.replication.leading import LeadingReplica
    from ottla.wire.regions import FileRegion

log = logger(__name__)

CHECKED_BYTES = 1 << 20
"""So much is looked at, and one batch at least: what ``replica.fetch.max.bytes`` is by default."""


async def check_served(partition: LeadingReplica, offset: int) -> None:
    """Verify the checksums of what a read of ``offset`` gives, and quarantine the log if one is wrong.

    A read that fails has had its consequences in the log; nothing is raised.
    """
    served = partition.log
    try:
        found = served.read(offset, CHECKED_BYTES, served.log_end_offset)
        problem = await asyncio.to_thread(_problem, found.regions)
    except (KafkaError, OSError) as error:
        log.warning("what is served was not checked", partition=repr(partition), reason=str(error))
        return
    if problem is None or partition.log is not served or served.unusable is not None:
        return
    log.error("a follower asks again for damaged records", partition=repr(partition), offset=offset)
    served.quarantine(f"what was read at offset {offset} is damaged: {problem}")


def _problem(regions: Sequence[FileRegion]) -> str | None:
    """What is wrong with the batches in ``regions``, which are closed; a partial last one counts for nothing."""
    try:
        content = b"".join(region.read() for region in regions)
    finally:
        for region in regions:
            region.close()
    try:
        for position, header in iter_batches(content):
            verify_crc(content, header, position)
    except KafkaError as error:
        return error.message or str(error)
    return None
