"""What lies in a partition, batch by batch, where a client's own interface hides it."""

from __future__ import annotations

from typing import Any, Self

from ottla.errors import ErrorCode
from ottla.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
)
from ottla.messages.fetch import FetchPartition, FetchRequest, FetchTopic
from ottla.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsTopic,
)
from ottla.messages.registry import api
from ottla.records.batch import BatchHeader, iter_batches
from ottla.records.codec import Record, decode_batch
from tests.support.wire import DEADLINE_S, Wire

LATEST = -1
# The highest version that names topics instead of using their ids.
FETCH_BY_NAME = 12


class RawClient(Wire):
    """A connection that says what a broker has in store."""

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()

    def call(self, request: Any, version: int | None = None) -> Any:
        """Send a request, by default in the newest version, and wait for its answer."""
        if version is None:
            version = api(type(request).__api_key__).versions[1]
        return self.ask(request, version)

    def offset(self, topic: str, partition: int = 0, timestamp_ms: int = LATEST) -> int:
        """The offset for a time, or ``LATEST``: the high watermark."""
        found = self._offset(topic, partition, timestamp_ms)
        assert found.error_code == 0, found
        return int(found.offset)

    def leads(self, topic: str, partition: int = 0) -> bool:
        """Whether the broker serves the partition by now."""
        found = self._offset(topic, partition, LATEST)
        starting = (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
        assert found.error_code in (0, *starting, ErrorCode.LEADER_NOT_AVAILABLE), found
        return found.error_code == 0

    def _offset(self, topic: str, partition: int, timestamp_ms: int) -> Any:
        partitions = [ListOffsetsPartition(partition_index=partition, timestamp=timestamp_ms)]
        answer = self.call(
            ListOffsetsRequest(
                replica_id=-1, topics=[ListOffsetsTopic(name=topic, partitions=partitions)]
            ),
            7,
        )
        return answer.topics[0].partitions[0]

    def create_topic(
        self, topic: str, partitions: int = 1, config: dict[str, str] | None = None
    ) -> None:
        """Create a topic; fails if that fails."""
        settings = [
            CreatableTopicConfig(name=name, value=value) for name, value in (config or {}).items()
        ]
        new = CreatableTopic(
            name=topic, num_partitions=partitions, replication_factor=1, configs=settings
        )
        answer = self.call(CreateTopicsRequest(topics=[new], timeout_ms=int(DEADLINE_S * 1000)))
        assert answer.topics[0].error_code == 0, answer.topics[0]

    def log(
        self, topic: str, partition: int = 0, offset: int = 0
    ) -> list[tuple[BatchHeader, bytes]]:
        """Every batch from ``offset`` to the high watermark, with its bytes."""
        batches: list[tuple[BatchHeader, bytes]] = []
        end_offset = self.offset(topic, partition)
        while offset < end_offset:
            answer = self.call(
                FetchRequest(
                    max_wait_ms=1_000,
                    min_bytes=1,
                    max_bytes=8 << 20,
                    topics=[
                        FetchTopic(
                            topic=topic,
                            partitions=[
                                FetchPartition(
                                    partition=partition,
                                    fetch_offset=offset,
                                    partition_max_bytes=8 << 20,
                                )
                            ],
                        )
                    ],
                ),
                FETCH_BY_NAME,
            )
            data = answer.responses[0].partitions[0]
            assert data.error_code == 0, data.error_code
            records = bytes(data.records)
            for position, header in iter_batches(records):
                if header.next_offset > offset:
                    batches.append((header, records[position : position + header.size_bytes]))
                    offset = header.next_offset
        return batches

    def batches(self, topic: str, partition: int = 0) -> list[BatchHeader]:
        """The headers of all batches of a partition."""
        return [header for header, _ in self.log(topic, partition)]

    def records(self, topic: str, partition: int = 0, offset: int = 0) -> list[Record]:
        """All records of a partition from ``offset`` on."""
        return [
            record
            for _, batch in self.log(topic, partition, offset)
            for record in decode_batch(batch, max_decompressed_bytes=64 << 20)
            if record.offset >= offset
        ]
