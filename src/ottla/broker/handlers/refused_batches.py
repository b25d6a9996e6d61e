"""What is logged at DEBUG of an idempotent producer's batch that is answered with an error.

Who has to find out why a producer saw what it saw (it began a new epoch, sent a batch again, or gave up) needs both
sides: what it was told, and what the leader knew of it then. Nothing is gathered unless DEBUG is logged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.records.batch import NO_PRODUCER_ID, read_header

if TYPE_CHECKING:
    from ottla.log.log import AppendInfo
    from ottla.messages.produce import PartitionProduceResponse
    from ottla.replication.partition import Partition

log = logger(__name__)

NOWHERE = -1


class SentBatch:
    """A producer's batch, as it came; ``base_offset`` is where it was appended, ``NOWHERE`` if it was not."""

    __slots__ = ("base_offset", "first_sequence", "index", "producer_epoch", "producer_id", "topic")

    def __init__(
        self, topic: str, index: int, producer_id: int, producer_epoch: int, first_sequence: int
    ) -> None:
        """For partition ``index`` of ``topic``."""
        self.topic = topic
        self.index = index
        self.producer_id = producer_id
        self.producer_epoch = producer_epoch
        self.first_sequence = first_sequence
        self.base_offset = NOWHERE

    def appended(self, info: AppendInfo) -> None:
        """It is in the log."""
        self.base_offset = info.base_offset


def sent_batch(topic: str, index: int, records: object) -> SentBatch | None:
    """What to keep of a batch for ``log_refused``; None where nothing would be logged of it."""
    if not log.is_debug or not isinstance(records, memoryview):
        return None
    try:
        header = read_header(records)
    except KafkaError:
        return None
    if header.producer_id == NO_PRODUCER_ID:
        return None
    return SentBatch(topic, index, header.producer_id, header.producer_epoch, header.base_sequence)


def log_refused(
    partition: Partition | None, batch: SentBatch, answer: PartitionProduceResponse
) -> None:
    """Say what a batch is answered with, and what is known here of its producer and its partition now."""
    fields: dict[str, object] = {}
    if partition is not None:
        entry = partition.log.producers.producers.get(batch.producer_id)
        if entry is not None:
            batches = ((one.first_sequence, one.last_sequence) for one in entry.batches)
            fields["known_epoch"] = entry.epoch
            fields["known_sequences"] = ", ".join(f"{first}-{last}" for first, last in batches)
        fields["leader"] = partition.leader_id
        fields["leader_epoch"] = partition.leader_epoch
        fields["isr"] = partition.isr
        fields["log_end_offset"] = partition.log.log_end_offset
        fields["high_watermark"] = partition.high_watermark
    log.debug(
        "a producer's batch is not acknowledged",
        partition=f"{batch.topic}-{batch.index}",
        refused_with=ErrorCode(answer.error_code).name,
        why=answer.error_message,
        producer_id=batch.producer_id,
        producer_epoch=batch.producer_epoch,
        first_sequence=batch.first_sequence,
        appended_at=batch.base_offset,
        **fields,
    )
