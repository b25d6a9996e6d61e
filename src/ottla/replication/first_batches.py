"""What a leader that has just begun makes of producers that it does not know. Sans-IO.

A producer that is not known may begin with any sequence, as in Kafka: its records may have been deleted, or its topic made
again. But where another broker led a moment ago it may as well be that what comes before was refused there, and is on
its way here. librdkafka (2.16) can send such a later batch first: the thread of the new leader takes the partition's
queue while the last refused batch is still with the old one's (``rd_kafka_toppar_producer_serve``). Let in, it makes
librdkafka take all that comes before for written ("implicitly acked", ``rd_kafka_dr_implicit_ack``), which is then
nowhere: acknowledged records would be lost, at Apache Kafka's brokers, too.

So for some seconds of an epoch such a batch is refused once, with an error on which every client sends the same batch
again, in its order: what comes before then comes before. One that begins there after all is let in when it comes
again. What lies behind it waits until then.
"""

from __future__ import annotations

from collections.abc import Container

from ottla.errors import ErrorCode, KafkaError
from ottla.records.batch import SEQUENCE_MODULUS, BatchHeader

FIRST_MS = 10_000
"""So long of an epoch: clients know a new leader by then."""
PRODUCERS_MAX = 10_000
"""Of more than these at once, nobody is asked to come again."""


class FirstBatches:
    """The producers that were asked to come again, in one leader epoch."""

    __slots__ = ("_asked", "until_ms")

    def __init__(self, now_ms: int) -> None:
        """The epoch begins at ``now_ms``."""
        self.until_ms = now_ms + FIRST_MS
        self._asked: dict[int, tuple[int, int]] = {}
        """By producer id, its epoch and the sequence it is to come again with, or with an earlier one."""

    def check(self, header: BatchHeader, known: Container[int]) -> None:
        """Raises ``KafkaError`` (NOT_ENOUGH_REPLICAS: nothing was appended, come again) where a batch has to.

        ``known`` has the ids of the producers that are.
        """
        producer_id, sequence = header.producer_id, header.base_sequence
        if producer_id < 0 or sequence <= 0 or producer_id in known:
            return
        asked = self._asked.get(producer_id)
        if asked is None or asked[0] != header.producer_epoch:
            if len(self._asked) >= PRODUCERS_MAX:
                return
            self._asked[producer_id] = header.producer_epoch, sequence
        elif (asked[1] - sequence) % SEQUENCE_MODULUS < SEQUENCE_MODULUS // 2:
            return
        raise KafkaError(
            ErrorCode.NOT_ENOUGH_REPLICAS,
            f"producer {producer_id} begins here with sequence {sequence}: what comes before it may be on its way",
        )
