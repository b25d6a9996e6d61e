"""A broker process for one test, and the short questions that the tests of faults ask it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ottla.errors import ErrorCode
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.offset_fetch import (
    OffsetFetchRequest,
    OffsetFetchRequestGroup,
    OffsetFetchRequestTopics,
)
from tests.crash.process import BrokerProcess
from tests.interop.raw import RawClient
from tests.support.requests import fetch, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

SETTINGS: dict[str, object] = {
    "offsets.topic.num.partitions": 1,
    "log.retention.ms": -1,
    "log.flush.offset.checkpoint.interval.ms": 50,
    "replica.high.watermark.checkpoint.interval.ms": 50,
}
GROUP = "group"


@contextmanager
def broker(
    directory: Path,
    data: Path | None = None,
    environment: dict[str, str] | None = None,
    **settings: object,
) -> Iterator[BrokerProcess]:
    """A broker that takes requests, its data in ``data``; settings have underscores for dots."""
    own = {name.replace("_", "."): value for name, value in settings.items()}
    started = BrokerProcess(
        data or directory / "data", directory / "broker.log", {**SETTINGS, **own}, environment
    )
    try:
        started.start()
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


def events(broker: BrokerProcess, event: str) -> list[dict[str, Any]]:
    """What the broker has logged under this name since its last start."""
    whole = broker.printed().rpartition(b"\n")[0]
    lines = [line for line in whole.splitlines() if line.startswith(b"{")]
    return [found for line in lines if (found := json.loads(line))["event"] == event]


def assert_no_traceback(broker: BrokerProcess) -> None:
    """Nothing that the broker has printed is an exception nobody expected."""
    printed = broker.output.read_text()
    assert not re.search(r"Traceback|never retrieved|was never awaited", printed), printed


def append(wire: Wire, value: bytes, topic: str = "t", acks: int = -1) -> tuple[ErrorCode, int]:
    """Send one record; what became of it, and its offset."""
    answer = produce(wire, topic, batch(value), acks=acks)
    return ErrorCode(answer.error_code), int(answer.base_offset)


def values(raw: RawClient, topic: str = "t") -> list[bytes]:
    """All that a consumer finds, and that it is dense."""
    records = raw.records(topic)
    assert [record.offset for record in records] == list(range(len(records)))
    return [record.value or b"" for record in records]


def fetch_error(wire: Wire, topic: str = "t") -> ErrorCode:
    """What a consumer is told who reads from the start."""
    return ErrorCode(fetch(wire, topic).error_code)


def create(wire: Wire, name: str) -> ErrorCode:
    """Ask for a topic; what became of that."""
    topic = CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    (created,) = wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 7).topics
    return ErrorCode(created.error_code)


def commit(wire: Wire, offset: int) -> ErrorCode:
    """Commit for ``GROUP`` where nobody is a member; what became of it."""
    partition = OffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    topic = OffsetCommitRequestTopic(name="t", partitions=[partition])
    answer = wire.ask(OffsetCommitRequest(group_id=GROUP, topics=[topic]), 8)
    return ErrorCode(answer.topics[0].partitions[0].error_code)


def find_coordinator(wire: Wire) -> None:
    """Have the groups' topic made, and wait until it can be used."""
    request = FindCoordinatorRequest(key_type=0, coordinator_keys=[GROUP])
    wait_until(lambda: wire.ask(request, 4).coordinators[0].error_code == 0)
    wait_until(lambda: commit(wire, 0) == ErrorCode.NONE)


def committed(wire: Wire) -> int:
    """The offset that ``GROUP`` has committed."""
    topic = OffsetFetchRequestTopics(name="t", partition_indexes=[0])
    request = OffsetFetchRequest(groups=[OffsetFetchRequestGroup(group_id=GROUP, topics=[topic])])
    found: list[int] = []

    def answered() -> bool:
        (group,) = wire.ask(request, 8).groups
        found[:] = [p.committed_offset for topic in group.topics for p in topic.partitions]
        return bool(group.error_code == 0)

    wait_until(answered)
    return found[0]
