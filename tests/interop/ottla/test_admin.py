"""Looking after topics, settings and groups with ottla.Admin and ottla.aio.Admin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import ottla
from ottla import aio
from tests.interop.ottla.members import Member
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@pytest.fixture
def admin(bootstrap: str) -> Iterator[ottla.Admin]:
    with ottla.Admin(bootstrap) as admin:
        yield admin


def code_of(found: object) -> ottla.ErrorCode:
    assert isinstance(found, ottla.KafkaError)
    return found.code


def heard_of(admin: ottla.Admin, topic: str) -> None:
    """Wait until the broker knows a topic: it may hear of it a moment after its creation was answered."""
    eventually(lambda: topic in admin.list_topics(), "the topic")


def test_topics_are_made_described_grown_and_deleted(admin: ottla.Admin, unused: str) -> None:
    admin.create_topic(unused, 3, 1)
    heard_of(admin, unused)
    found = admin.describe_topic(unused)
    assert (found.name, found.internal, len(found.partitions)) == (unused, False, 3)
    assert len(found.topic_id) == 22
    assert unused in admin.list_topics()
    admin.create_partitions(unused, 5)
    eventually(lambda: len(admin.describe_topic(unused).partitions) == 5, "five partitions")
    admin.delete_topic(unused)
    eventually(lambda: unused not in admin.list_topics(), "the topic's end")
    with pytest.raises(ottla.KafkaError) as caught:
        admin.describe_topic(unused)
    assert caught.value.code is ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_each_of_several_topics_has_its_own_outcome(admin: ottla.Admin, unused: str) -> None:
    outcome = admin.create_topics([ottla.NewTopic(unused, 1, 1), ottla.NewTopic("no spaces")])
    assert outcome[unused] is None
    assert code_of(outcome["no spaces"]) is ottla.ErrorCode.INVALID_TOPIC_EXCEPTION
    with pytest.raises(ottla.KafkaError) as caught:
        admin.create_topic(unused)
    assert caught.value.code is ottla.ErrorCode.TOPIC_ALREADY_EXISTS
    heard_of(admin, unused)
    described = admin.describe_topics(unused, f"{unused}.not")
    assert isinstance(described[unused], tuple)
    assert code_of(described[f"{unused}.not"]) is ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    deleted = admin.delete_topics([unused, f"{unused}.not"])
    assert deleted[unused] is None
    assert code_of(deleted[f"{unused}.not"]) is ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION


def test_validate_only_makes_nothing(admin: ottla.Admin, unused: str) -> None:
    admin.create_topic(unused, 2, 1, validate_only=True)
    assert unused not in admin.list_topics()


def test_settings_are_set_and_go_back_to_their_defaults(admin: ottla.Admin, unused: str) -> None:
    admin.create_topic(unused, 1, 1, {"retention.ms": "1000"})
    heard_of(admin, unused)
    entry = admin.describe_config(topic=unused, names=["retention.ms"])["retention.ms"]
    assert (entry.value, entry.source, entry.is_default) == ("1000", "topic", False)
    admin.alter_config(topic=unused, set={"segment.bytes": "2000000"}, delete=["retention.ms"])

    def set_by_somebody() -> dict[str, str | None]:
        found = admin.describe_config(topic=unused)
        return {name: e.value for name, e in found.items() if e.source == "topic"}

    eventually(lambda: set_by_somebody() == {"segment.bytes": "2000000"}, "the changes")
    with pytest.raises(ottla.KafkaError) as caught:
        admin.alter_config(topic=unused, set={"segment.bytes": "many"})
    assert caught.value.code is ottla.ErrorCode.INVALID_CONFIG


def test_the_cluster_and_its_brokers_settings_are_described(admin: ottla.Admin) -> None:
    cluster = admin.describe_cluster()
    assert cluster.cluster_id
    assert cluster.controller_id in [node.node_id for node in cluster.nodes]
    settings = admin.describe_config(broker=cluster.nodes[0].node_id)
    assert settings["log.retention.ms"].name == "log.retention.ms"


def test_offsets_are_found_by_name_and_by_time(
    admin: ottla.Admin, bootstrap: str, unused: str
) -> None:
    admin.create_topic(unused, 1, 1)
    with ottla.Producer(bootstrap) as producer:
        for time_ms in (1000, 3000, 2000):
            producer.send(unused, b"", timestamp_ms=time_ms)
    tp = ottla.TopicPartition(unused, 0)

    def offset(at: int | str) -> int | None:
        found = admin.list_offsets({tp: at})[tp]
        return None if found is None else found.offset

    assert [offset(at) for at in ("earliest", "latest", "max_timestamp", 1500, 9000)] == [
        0,
        3,
        1,
        1,
        None,
    ]


def test_groups_are_listed_described_reset_and_deleted(
    admin: ottla.Admin, bootstrap: str, unused: str
) -> None:
    admin.create_topic(unused, 2, 1)
    tp = ottla.TopicPartition(unused, 0)
    with Member(bootstrap, unused, unused, client_id="me") as member:
        eventually(lambda: member.partitions == {0, 1}, "an assignment")
        found = admin.describe_group(unused)
        assert (found.state, found.protocol_type, found.assignor) == ("Stable", "consumer", "range")
        (described,) = found.members
        assert described.client_id == "me"
        assert set(described.partitions) == {(unused, 0), (unused, 1)}
        assert unused in [listing.group for listing in admin.list_groups(["Stable"])]
        with pytest.raises(ottla.KafkaError) as caught:
            admin.alter_group_offsets(unused, {tp: 5})
        assert caught.value.code is ottla.ErrorCode.NON_EMPTY_GROUP
        assert code_of(admin.delete_groups(unused)[unused]) is ottla.ErrorCode.NON_EMPTY_GROUP
    eventually(lambda: admin.describe_group(unused).state == "Empty", "an empty group")
    admin.alter_group_offsets(unused, {tp: 5})
    assert admin.group_offsets(unused)[tp].offset == 5
    assert admin.group_offsets(unused, [tp]) == {tp: ottla.OffsetAndMetadata(5)}
    with pytest.raises(ottla.KafkaError) as caught:
        admin.alter_group_offsets(unused, {(unused, 9): 5})
    assert caught.value.code is ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    assert admin.delete_groups(unused) == {unused: None}
    assert unused not in [listing.group for listing in admin.list_groups()]
    assert code_of(admin.delete_groups(unused)[unused]) is ottla.ErrorCode.GROUP_ID_NOT_FOUND


def test_records_are_deleted_from_the_start(
    admin: ottla.Admin, bootstrap: str, unused: str
) -> None:
    admin.create_topic(unused, 3, 1)
    with ottla.Producer(bootstrap) as producer:
        for partition in (0, 0, 0, 1):
            producer.send(unused, b"", partition=partition)
    tps = [ottla.TopicPartition(unused, number) for number in range(3)]
    missing = ottla.TopicPartition(f"{unused}.not", 0)
    found = admin.delete_records({tps[0]: 2, tps[1]: -1, tps[2]: 1, missing: 0})
    assert (found[tps[0]], found[tps[1]]) == (2, 1)
    assert code_of(found[tps[2]]) is ottla.ErrorCode.OFFSET_OUT_OF_RANGE
    assert code_of(found[missing]) is ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    starts = admin.list_offsets(dict.fromkeys(tps, "earliest"))
    found_starts = [starts[tp] for tp in tps]
    assert [None if at is None else at.offset for at in found_starts] == [2, 1, 0]


def test_producers_are_described(admin: ottla.Admin, bootstrap: str, unused: str) -> None:
    admin.create_topic(unused, 1, 1)
    with ottla.Producer(bootstrap) as producer:
        producer.send(unused, b"").result()
        producer.send(unused, b"").result()
    tp = ottla.TopicPartition(unused, 0)
    found = admin.describe_producers([tp, (unused, 9)])
    described = found[tp]
    assert isinstance(described, list)
    assert [(each.epoch, each.last_sequence) for each in described] == [(0, 1)]
    assert code_of(found[ottla.TopicPartition(unused, 9)]) is (
        ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    )


def test_offsets_are_forgotten_where_nobody_reads(
    admin: ottla.Admin, bootstrap: str, unused: str
) -> None:
    read, other = f"{unused}.read", f"{unused}.other"
    for topic in (read, other):
        admin.create_topic(topic, 1, 1)
    with pytest.raises(ottla.KafkaError) as caught:
        admin.delete_group_offsets(unused, [(read, 0)])
    assert caught.value.code is ottla.ErrorCode.GROUP_ID_NOT_FOUND
    admin.alter_group_offsets(unused, {(read, 0): 0, (other, 0): 0})
    with Member(bootstrap, read, unused) as member:
        eventually(lambda: member.partitions == {0}, "an assignment")
        codes = admin.delete_group_offsets(unused, [(read, 0), (other, 0), (other, 9)])
        assert codes[ottla.TopicPartition(other, 0)] is None
        assert code_of(codes[ottla.TopicPartition(read, 0)]) is (
            ottla.ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC
        )
        assert code_of(codes[ottla.TopicPartition(other, 9)]) is (
            ottla.ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        )
        assert list(admin.group_offsets(unused)) == [(read, 0)]


def test_subscriptions_to_client_metrics_are_settings(admin: ottla.Admin, unused: str) -> None:
    name = f"subscription.{unused}"
    admin.alter_config(client_metrics=name, set={"metrics": "org.", "interval.ms": "60000"})
    eventually(lambda: admin.describe_config(client_metrics=name), "the subscription")
    entries = admin.describe_config(client_metrics=name)
    # What nobody has set may be there with its default.
    found = {entry.name: entry.value for entry in entries.values()}
    assert {"metrics": "org.", "interval.ms": "60000"}.items() <= found.items()
    assert ("client metrics", name) in admin.list_config_resources("client metrics")
    admin.alter_config(client_metrics=name, delete=["metrics", "interval.ms"])
    eventually(
        lambda: ("client metrics", name) not in admin.list_config_resources("client metrics"),
        "its end",
    )
    with pytest.raises(ValueError, match="name a topic, a broker"):
        admin.describe_config(topic="a", client_metrics="b")


def test_what_has_settings_is_listed(admin: ottla.Admin, unused: str) -> None:
    admin.create_topic(unused, 1, 1)
    nodes = admin.describe_cluster().nodes
    found = admin.list_config_resources()
    assert ("topic", unused) in found
    assert [each.name for each in found if each.kind == "broker"] == [str(n.node_id) for n in nodes]
    with pytest.raises(ValueError, match="no such kind"):
        admin.list_config_resources("shoe")


def test_asyncio_admin_has_the_same_names(bootstrap: str, unused: str) -> None:
    async def work() -> None:
        async with aio.Admin(bootstrap) as admin:
            await admin.create_topic(unused, 1, 1)
            assert unused in await admin.list_topics()

    asyncio.run(work())
    waits = {name for name in dir(ottla.Admin) if not name.startswith("_")}
    assert waits <= set(dir(aio.Admin))


def test_nobody_listening_is_an_error_within_the_time_out() -> None:
    with (
        ottla.Admin("127.0.0.1:1", request_timeout_ms=200) as admin,
        pytest.raises(ottla.NoBrokerAvailable),
    ):
        admin.list_topics()


def test_a_setting_that_does_not_exist_is_refused() -> None:
    options: dict[str, Any] = {"request_timeout": 5}
    with pytest.raises(TypeError, match="'request_timeout'"):
        ottla.Admin("127.0.0.1:1", **options)


def test_log_directories_are_described(admin: ottla.Admin, bootstrap: str, unused: str) -> None:
    admin.create_topic(unused, 2, 1)

    def replicas() -> list[Any]:
        described = admin.describe_log_dirs()
        return [r for each in described for r in each.replicas if r.topic == unused]

    eventually(lambda: len(replicas()) == 2, "both partitions' logs")
    found = admin.describe_log_dirs()
    assert found
    for directory in found:
        assert directory.error is None
        assert directory.total_bytes >= directory.usable_bytes > 0
    here = [r for directory in found for r in directory.replicas if r.topic == unused]
    assert [(r.partition, r.size_bytes, r.is_future) for r in here] == [
        (0, 0, False),
        (1, 0, False),
    ]

    async def the_same() -> bool:
        async with aio.Admin(bootstrap) as other:
            described = await other.describe_log_dirs([found[0].broker])
        return [d.path for d in described] == [d.path for d in found]

    assert asyncio.run(the_same())
