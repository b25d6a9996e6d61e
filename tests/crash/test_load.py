"""What the load's clients make of answers: no offset is believed that the broker did not tell."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.replication.partition import Partition
from ottla.testing import Broker
from tests.crash.checker import History
from tests.crash.load import LibrdkafkaLoad
from tests.interop.requirements import require_module
from tests.support.requests import create_topic
from tests.support.wire import Wire

COUNT = 4


@pytest.mark.interop
def test_librdkafkas_records_of_an_old_sequence_are_somewhere_and_not_at_an_offset(
    ottla_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_module("confluent_kafka", "confluent-kafka")
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "load")
    append = Partition.append_as_leader
    old = [True]

    def first_is_old(partition: Partition, *arguments: Any, **options: Any) -> Any:
        appended = append(partition, *arguments, **options)
        if old.pop():
            old.append(False)
            raise KafkaError(ErrorCode.DUPLICATE_SEQUENCE_NUMBER)
        old.append(False)
        return appended

    monkeypatch.setattr(Partition, "append_as_leader", first_is_old)
    history = History()
    load = LibrdkafkaLoad("librdkafka", ottla_broker.bootstrap, 1, history, [("load", 0)])
    for _ in range(2):
        for _ in range(COUNT):
            load._produce(("load", 0))
        assert load.producer.flush(30) == 0
    assert load.faults == []
    told = history._acknowledged["load", 0]
    assert {mark.number for mark in history._somewhere["load", 0]} == set(range(COUNT))
    assert {offset: mark.number for offset, mark in told.items()} == {
        offset: offset for offset in range(COUNT, 2 * COUNT)
    }
