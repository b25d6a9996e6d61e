"""A leader as a follower meets it: partitions, and answers to its Fetch and ListOffsets, with sessions."""

from __future__ import annotations

from itertools import count

from ottla.broker.fetch_sessions import FetchContext, FetchSessions, Position
from ottla.errors import ErrorCode, KafkaError
from ottla.log.flusher import Durability, Flusher
from ottla.log.log import Log
from ottla.messages.fetch import (
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    PartitionData,
)
from ottla.messages.list_offsets import (
    ListOffsetsPartitionResponse,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopicResponse,
)
from ottla.replication.partition import Partition
from ottla.replication.recompression import Unpacking
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, batch, taken

LATEST = -1


class HeldFlusher(Flusher):
    """Syncs nothing by itself: a test flushes the log when its time has come."""

    def request(self, log: Log, *, alone: bool = False) -> None:
        pass


def replica_of(log: Log, *, node_id: int, durability: Durability = Durability.OS) -> Partition:
    """A replica of the log's partition that nobody leads yet."""
    return Partition(
        log.topic,
        log.topic_id,
        log.partition,
        log,
        node_id=node_id,
        flusher=HeldFlusher(SimulatedDisk(), durability=durability),
        unpacking=Unpacking(),
    )


class Leader:
    """What broker ``node_id`` leads, by topic and index."""

    def __init__(self, *partitions: Partition, node_id: int = 2) -> None:
        self.node_id = node_id
        self.partitions = {(p.topic, p.index): p for p in partitions}
        ids = count(7)
        self.sessions = FetchSessions(10, lambda: next(ids))
        self.asked: list[FetchRequest] = []
        """Every Fetch that came."""
        self.codes: dict[tuple[str, int], ErrorCode] = {}
        """What is answered for a partition instead."""

    def append(self, topic: str = "orders", index: int = 0, count: int = 1, **options: int) -> None:
        """A client's batch, committed at once."""
        partition = self.partitions[topic, index]
        content = memoryview(batch(count, **options))
        partition.append_as_leader(content, NOW_MS, required_acks=1)

    def _partition(self, position: Position) -> Partition:
        for partition in self.partitions.values():
            if partition.index == position.index and (
                partition.topic == position.topic or partition.topic_id == position.topic_id
            ):
                return partition
        raise KafkaError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def fetch(self, request: FetchRequest, version: int = 15) -> FetchResponse:
        """Answer a Fetch with what there is."""
        context = self.open(request, version)
        if isinstance(context, FetchResponse):
            return context
        answer, _ = self.look(context)
        context.finish()
        return answer

    def open(self, request: FetchRequest, version: int) -> FetchContext | FetchResponse:
        """Begin with a Fetch; an answer where its session is not known."""
        self.asked.append(request)
        try:
            return self.sessions.open(request, version, NOW_MS)
        except KafkaError as error:
            return FetchResponse(error_code=error.code)

    def look(self, context: FetchContext) -> tuple[FetchResponse, bool]:
        """The answer to a Fetch, and whether there is anything in it to answer at once for."""
        topics: dict[object, FetchableTopicResponse] = {}
        enough = False
        for key, position in context.due():
            data = PartitionData(partition_index=position.index, records=b"")
            try:
                context.attach(key, position, self._partition(position))
                self._read(position, data)
            except KafkaError as error:
                data.error_code = error.code
            quiet = not (data.records or data.error_code or data.diverging_epoch)
            enough |= not quiet
            if not quiet or context.includes(position, data.high_watermark, data.log_start_offset):
                topic = topics.setdefault(
                    key[0],
                    FetchableTopicResponse(topic=position.topic, topic_id=position.topic_id),
                )
                topic.partitions.append(data)
            context.settle(key, quiet=quiet)
        return FetchResponse(session_id=context.session_id, responses=list(topics.values())), enough

    def _read(self, position: Position, data: PartitionData) -> None:
        partition = self._partition(position)
        code = self.codes.get((partition.topic, partition.index))
        if code is not None:
            raise KafkaError(code)
        partition.require_leader(position.current_leader_epoch)
        data.high_watermark = partition.high_watermark
        data.log_start_offset = partition.log.log_start_offset
        offset, epoch = position.fetch_offset, position.last_fetched_epoch
        if epoch >= 0:
            ours = partition.log.end_offset_for_epoch(epoch)
            if ours is None:
                raise KafkaError(ErrorCode.OFFSET_OUT_OF_RANGE)
            if ours.epoch < epoch or ours.end_offset < offset:
                data.diverging_epoch = EpochEndOffset(epoch=ours.epoch, end_offset=ours.end_offset)
                return
        end = partition.log.log_end_offset
        data.records = taken(partition.log.read(offset, position.max_bytes, end))

    def list_offsets(self, request: ListOffsetsRequest) -> ListOffsetsResponse:
        """Where the logs start and end, as a replica is told."""
        response = ListOffsetsResponse()
        for topic in request.topics:
            answers = ListOffsetsTopicResponse(name=topic.name)
            response.topics.append(answers)
            for asked in topic.partitions:
                answer = ListOffsetsPartitionResponse(partition_index=asked.partition_index)
                answers.partitions.append(answer)
                log = self.partitions[topic.name, asked.partition_index].log
                latest = asked.timestamp == LATEST
                answer.offset = log.log_end_offset if latest else log.log_start_offset
        return response
