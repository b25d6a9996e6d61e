"""Topics whose files cannot be taken away at once."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ottla.broker import chores
from ottla.controller import controller
from ottla.errors import ErrorCode, KafkaError
from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.messages.create_topics import CreatableTopic, CreateTopicsRequest
from ottla.messages.delete_topics import DeleteTopicsRequest
from ottla.testing import Broker
from tests.support.requests import create_topic, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch


def test_a_topic_that_could_not_be_deleted_holds_up_no_other_and_goes_later(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        create_topic(wire, name, partitions=2)
    right, refused = LogDirectory.delete, list[str]()

    def failing(self: LogDirectory, topic: str, partition: int, now_ms: int) -> None:
        if topic == "b" and not refused:
            refused.append(topic)
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "no room")
        right(self, topic, partition, now_ms)

    monkeypatch.setattr(LogDirectory, "delete", failing)
    monkeypatch.setattr(controller, "DELETION_RETRY_S", 0.01)
    request = DeleteTopicsRequest(topic_names=names, timeout_ms=9000)
    codes = [topic.error_code for topic in wire.ask(request, 5).responses]
    assert codes == [0, ErrorCode.REQUEST_TIMED_OUT, 0]

    def created() -> bool:
        topic = CreatableTopic(name="b", num_partitions=2, replication_factor=1)
        answer = wire.ask(CreateTopicsRequest(topics=[topic]), 7).topics[0].error_code
        return answer == ErrorCode.NONE

    wait_until(created)


def test_files_of_a_deleted_topic_that_could_not_be_removed_go_later(
    ottla_broker: Broker, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_topic(wire, "t", file_delete_delay_ms=0)
    assert produce(wire, "t", batch(b"x")).error_code == 0
    right, refused = Disk.remove_tree, list[str]()

    def held(self: Disk, path: str) -> None:
        if len(refused) < 3:
            refused.append(path)
            raise OSError(errno.EBUSY, "held", path)
        right(self, path)

    monkeypatch.setattr(Disk, "remove_tree", held)
    monkeypatch.setattr(chores, "TRASH_RETRY_MS", 0)
    wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=9000), 5)
    data = Path(ottla_broker.data)
    wait_until(lambda: len(refused) == 3)
    wait_until(lambda: not list(data.glob("t-0*")))
