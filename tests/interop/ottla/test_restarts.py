"""A broker that goes away and comes back: applications notice a delay, no error."""

from __future__ import annotations

import threading
from functools import partial

import pytest

import ottla
from ottla.testing import Broker
from tests.interop.ottla.members import GROUP_SETTINGS, Member
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


def has_read(member: Member, count: int) -> bool:
    return len(member.records) >= count


def test_producer_and_consumer_ride_through_restarts() -> None:
    stopping = threading.Event()
    sent: list[ottla.Delivery] = []
    with Broker({"num.partitions": 3}) as broker:
        # It may not make the topic itself: a client that is quicker than the start would find it gone.
        with ottla.Admin(broker.bootstrap) as admin:
            admin.create_topic("t", 3, 1)

        def produce() -> None:
            with ottla.Producer(broker.bootstrap, linger_ms=1) as producer:
                while not stopping.wait(0.0005):
                    sent.append(producer.send("t", b"%d" % len(sent), key=b"%d" % (len(sent) % 7)))

        thread = threading.Thread(target=produce)
        thread.start()
        with Member(broker.bootstrap, "t", "g") as member:
            for _ in range(3):
                enough = len(member.records) + 50
                eventually(partial(has_read, member, enough), "records")
                broker.restart()
            stopping.set()
            thread.join()
            eventually(lambda: len(member.records) >= len(sent), "all records")
        for partition in range(3):
            mine = [d.result(0) for d in sent if d.result(0).partition == partition]
            read = {r.offset: int(r.value) for r in member.records if r.partition == partition}
            # Nothing lost, nothing doubled, and all of it in the order in which it was sent.
            assert sorted(read) == list(range(len(mine)))
            assert sorted(read.values()) == [read[offset] for offset in sorted(read)]
            known = [metadata.offset for metadata in mine if metadata.offset >= 0]
            assert known == sorted(set(known))


def test_a_producer_waits_for_a_broker_that_starts_later() -> None:
    with Broker() as broker:
        port = broker.port
    with ottla.Producer(f"127.0.0.1:{port}", max_block_ms=30_000) as producer:
        taken: list[ottla.RecordMetadata] = []
        thread = threading.Thread(target=lambda: taken.append(producer.send("t", b"x").result(30)))
        thread.start()
        with Broker(port=port):
            thread.join()
    assert taken[0].offset == 0


def test_a_consumer_waits_for_a_broker_that_starts_later() -> None:
    with Broker() as broker:
        port = broker.port
    with ottla.Consumer(
        "t", group="g", bootstrap=f"127.0.0.1:{port}", **GROUP_SETTINGS
    ) as consumer:
        assert consumer.poll(0.05) == []
        with Broker(port=port) as broker:
            with ottla.Producer(broker.bootstrap) as producer:
                producer.send("t", b"x")
            records = eventually(lambda: consumer.poll(1.0), "the record")
            assert records[0].value == b"x"
            consumer.commit()
            consumer.close()


def test_records_that_nobody_took_fail_after_the_delivery_time_out() -> None:
    with Broker() as broker:
        producer = ottla.Producer(
            broker.bootstrap, delivery_timeout_ms=300, request_timeout_ms=200, linger_ms=0
        )
        assert producer.send("t", b"one").result(30).offset == 0
        broker.stop()
        delivery = producer.send("t", b"two")
        with pytest.raises(ottla.DeliveryTimeout):
            delivery.result(30)
        producer.close()
