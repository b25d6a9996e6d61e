"""A broker with an address inside and a published port outside: every client works on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from ottla.testing import Broker
from tests.interop.requirements import require_module
from tests.support.port_proxy import PortProxy

pytestmark = pytest.mark.interop


class Sides(NamedTuple):
    """Where the broker is reached from inside, and from outside through the published port."""

    inside: str
    outside: str
    published: PortProxy


@pytest.fixture
def sides() -> Iterator[Sides]:
    with PortProxy() as published:
        settings = {
            "listeners": "INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.2:0",
            "advertised.listeners": f"INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:{published.port}",
            "listener.security.protocol.map": "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT",
            "inter.broker.listener.name": "INSIDE",
        }
        with Broker(settings) as broker:
            assert broker.server is not None
            (_, *inside), (_, *outside) = broker.server.addresses
            published.target = (outside[0], outside[1])
            yield Sides(f"{inside[0]}:{inside[1]}", f"127.0.0.1:{published.port}", published)


def through_ottla(write_to: str, read_from: str) -> bytes:
    from ottla import Consumer, Producer

    with Producer(write_to) as producer:
        producer.send("t", value=b"through").result()
    with Consumer("t", group="g", bootstrap=read_from, auto_offset_reset="earliest") as consumer:
        value = next(iter(consumer)).value
        assert isinstance(value, bytes)
        return value


def through_librdkafka(write_to: str, read_from: str) -> bytes:
    kafka = require_module("confluent_kafka", "confluent-kafka")
    producer = kafka.Producer({"bootstrap.servers": write_to})
    producer.produce("t", b"through")
    assert producer.flush(30) == 0
    consumer = kafka.Consumer(
        {"bootstrap.servers": read_from, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe(["t"])
        message = consumer.poll(30)
        assert message is not None
        assert message.error() is None
        value = message.value()
        assert isinstance(value, bytes)
        return value
    finally:
        consumer.close()


def through_aiokafka(write_to: str, read_from: str) -> bytes:
    aiokafka = require_module("aiokafka", "aiokafka")

    async def run() -> bytes:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=write_to) as producer:
            await producer.send_and_wait("t", b"through")
        consumer = aiokafka.AIOKafkaConsumer(
            "t", bootstrap_servers=read_from, group_id="g", auto_offset_reset="earliest"
        )
        async with consumer, asyncio.timeout(30):
            value = (await consumer.getone()).value
            assert isinstance(value, bytes)
            return value

    return asyncio.run(run())


@pytest.mark.parametrize("through", [through_ottla, through_librdkafka, through_aiokafka])
def test_a_client_stays_on_its_side(through: Callable[[str, str], bytes], sides: Sides) -> None:
    assert through(sides.inside, sides.inside) == b"through"
    assert sides.published.accepted == 0
    assert through(sides.outside, sides.outside) == b"through"
    assert sides.published.accepted > 1  # what it was told led it through the published port again
