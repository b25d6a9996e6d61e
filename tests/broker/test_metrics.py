"""/metrics says what happened, and costs a bounded amount."""

from __future__ import annotations

from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.log.disk import Disk
from ottla.log.quarantine import request_quarantine
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.testing import Broker
from tests.support.http import get, metrics, value
from tests.support.requests import create_topic, produce
from tests.support.waiting import eventually
from tests.support.wire import Wire, batch

HTTP = {"http.listener": "127.0.0.1:0"}


def http_of(broker: Broker) -> tuple[str, int]:
    assert broker.server is not None
    assert broker.server.observation is not None
    return broker.server.observation.address


@pytest.mark.ottla(HTTP)
def test_counters_move_with_what_clients_do(ottla_broker: Broker) -> None:
    address = http_of(ottla_broker)
    before = metrics(address)
    assert value(before, "kafka_server_brokertopicmetrics_messagesin_total") == 0
    values = [b"x" * 1000] * 50
    with Producer(ottla_broker.bootstrap) as producer:
        for one in values:
            producer.send("t", value=one).result()
    with Consumer(
        "t", group="readers", bootstrap=ottla_broker.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        for _ in zip(values[:20], consumer, strict=False):
            pass
        consumer.commit()
        now = metrics(address)
        assert value(now, "kafka_server_brokertopicmetrics_messagesin_total") >= 50
        assert value(now, "kafka_topic_messagesin_total", topic="t") == 50
        assert value(now, "kafka_topic_bytesin_total", topic="t") > 50_000
        assert value(now, "kafka_log_size_bytes", topic="t") == value(
            now, "kafka_topic_bytesin_total", topic="t"
        )
        assert value(now, "kafka_server_brokertopicmetrics_bytesout_total") > 50_000
        assert value(now, "kafka_network_requestmetrics_requests_total", request="Produce") == 50
        name = "kafka_network_requestmetrics_totaltime_seconds"
        assert value(now, f"{name}_count", request="Produce") == 50
        assert value(now, f"{name}_bucket", request="Produce", le="+Inf") == 50
        assert 0 < value(now, f"{name}_sum", request="Produce") < 50
        assert value(now, "kafka_consumergroup_lag", consumergroup="readers", topic="t",
                     partition=0) == 30  # fmt: skip
        assert value(now, "kafka_coordinator_group_numgroups", state="Stable") == 1
        assert value(now, "kafka_coordinator_group_rebalances_total") >= 1
        assert value(now, "ottla_group_members") == 1
        assert value(now, "kafka_server_socketserver_connections", listener="PLAINTEXT") >= 1
        assert value(now, "kafka_server_fetchsessioncache_numfetchsessions") >= 1
    for name in ("kafka_server_replicamanager_underreplicatedpartitions",
                 "kafka_controller_kafkacontroller_offlinepartitionscount",
                 "kafka_log_logmanager_offlinelogdirectorycount", "ottla_metrics_left_out"):  # fmt: skip
        assert value(now, name) == 0
    assert value(now, "kafka_controller_kafkacontroller_activecontrollercount") == 1
    assert value(now, "kafka_server_replicamanager_partitioncount") == 51
    assert value(now, "process_resident_memory_bytes") > 1_000_000
    assert value(now, "process_open_fds") > 5
    for (name, labels), before_value in before.items():
        if name.endswith("_total"):
            assert now[name, labels] >= before_value


@pytest.mark.ottla(HTTP)
def test_errors_are_counted_by_api_and_code_wherever_in_the_answer_they_are(
    ottla_broker: Broker,
) -> None:
    name = "kafka_network_requestmetrics_errors_total"
    with Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "t")
        broken = bytearray(batch(b"v"))
        broken[-1] ^= 1
        produce(wire, "t", bytes(broken))
        produce(wire, "nowhere", batch(b"v"))
        unknown = [MetadataRequestTopic(name="nowhere")]
        wire.ask(MetadataRequest(topics=unknown, allow_auto_topic_creation=False), 12)
        now = metrics(http_of(ottla_broker))
    assert value(now, name, request="Produce", error="CORRUPT_MESSAGE") == 1
    assert value(now, name, request="Produce", error="UNKNOWN_TOPIC_OR_PARTITION") == 1
    assert value(now, name, request="Metadata", error="UNKNOWN_TOPIC_OR_PARTITION") == 1


@pytest.mark.ottla(HTTP)
def test_a_topic_that_is_deleted_takes_nothing_from_the_total(ottla_broker: Broker) -> None:
    total = "kafka_server_brokertopicmetrics_messagesin_total"
    address = http_of(ottla_broker)
    with Wire(ottla_broker.bootstrap) as wire, Admin(ottla_broker.bootstrap) as admin:
        create_topic(wire, "t")
        produce(wire, "t", batch(b"1", b"2", b"3"))
        assert value(metrics(address), total) == 3
        admin.delete_topics(["t"])
        gone = ("kafka_topic_partitions", (("topic", "t"),))
        eventually(lambda: gone not in metrics(address), "the topic is gone")
        assert value(metrics(address), total) == 3


def test_a_partition_that_is_quarantined_shows_also_after_a_restart(tmp_path: Path) -> None:
    name = "ottla_quarantined_partitions"
    with Broker(HTTP, data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        for topic in ("t", "whole"):
            create_topic(wire, topic)
            produce(wire, topic, batch(b"1"))
        assert value(metrics(http_of(broker)), name) == 0
        request_quarantine(Disk(), str(tmp_path / "t-0"), "a test says so")
        eventually(
            lambda: value(metrics(http_of(broker)), name) == 1, "the broker has taken the request"
        )
    with Broker(HTTP, data=tmp_path) as broker:
        assert value(metrics(http_of(broker)), name) == 1


COMPACTING = HTTP | {"log.cleaner.backoff.ms": 20, "log.cleaner.min.cleanable.ratio": 0.01}


@pytest.mark.ottla(COMPACTING)
def test_compactions_are_counted(ottla_broker: Broker) -> None:
    address = http_of(ottla_broker)
    prefix = "kafka_log_logcleanermanager"
    now = metrics(address)
    assert value(now, "ottla_compactions_total") == 0
    assert value(now, f"{prefix}_max_dirty_percent") == 0
    with Producer(ottla_broker.bootstrap) as producer, Wire(ottla_broker.bootstrap) as wire:
        create_topic(wire, "t", cleanup_policy="compact", segment_bytes="1000")
        for number in range(40):
            producer.send("t", key=b"k", value=b"%d" % number * 100).result()
    eventually(
        lambda: value(metrics(address), "ottla_compactions_total") > 0, "the log is compacted"
    )
    assert value(metrics(address), f"{prefix}_uncleanable_partitions_count") == 0


@pytest.mark.ottla(HTTP | {"metrics.series.max": "2"})
def test_series_with_names_are_bounded_and_what_is_left_out_is_counted(
    ottla_broker: Broker,
) -> None:
    with Wire(ottla_broker.bootstrap) as wire:
        for name in "cabd":
            create_topic(wire, name)
    now = metrics(http_of(ottla_broker))
    topics = [dict(labels)["topic"] for name, labels in now if name == "kafka_topic_partitions"]
    assert sorted(topics) == ["a", "b"]
    assert value(now, "ottla_metrics_left_out") > 0


@pytest.mark.ottla(HTTP)
def test_a_groups_name_cannot_break_the_format(ottla_broker: Broker) -> None:
    evil = 'a"}\n# TYPE evil counter\nevil 1\\'
    with Producer(ottla_broker.bootstrap) as producer:
        producer.send("t", value=b"x").result()
    with Consumer(
        "t", group=evil, bootstrap=ottla_broker.bootstrap, auto_offset_reset="earliest"
    ) as consumer:
        next(iter(consumer))
        consumer.commit()
        now = metrics(http_of(ottla_broker))
    assert not any(name == "evil" for name, _ in now)
    (labels,) = [dict(labels) for name, labels in now if name == "kafka_consumergroup_lag"]
    assert labels["consumergroup"].startswith('a"}')


def test_the_http_port_is_off_unless_it_is_set(ottla_broker: Broker, tmp_path: Path) -> None:
    assert ottla_broker.server is not None
    assert ottla_broker.server.observation is None
    assert ottla_broker.server.server.meter is None
    with Broker(HTTP, data=tmp_path) as other:
        assert get(http_of(other), "/ready").status == 200
