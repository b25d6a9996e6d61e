"""``ottla store export``: a single broker with its data becomes the first of a cluster on a real ZooKeeper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ottla import Admin, Consumer, Producer
from ottla.coordination import export, znodes
from ottla.coordination.store import Create, Store
from ottla.coordination.zookeeper import ZooKeeper
from ottla.messages.init_producer_id import InitProducerIdRequest
from ottla.testing import Broker
from tests.cli.conftest import Done
from tests.support.wire import Wire
from tests.support.zookeeper import Ensemble

T = TypeVar("T")
Run = Callable[..., Done]


def in_store(connect: str, ask: Callable[[Store], Any]) -> Any:
    """The answer of one session, from outside of any loop."""

    async def run() -> Any:
        ensemble = ZooKeeper(connect)
        try:
            return await ask(await ensemble.connect())
        finally:
            await ensemble.close()

    return asyncio.run(run())


def producer_id(broker: Broker) -> int:
    with Wire(broker.bootstrap) as wire:
        request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=0)
        answer = wire.ask(request, 4)
        assert answer.error_code == 0
        return int(answer.producer_id)


def values(bootstrap: str, group: str, count: int) -> list[bytes]:
    """What a group reads on from where it stands, committed."""
    with Consumer("t", group=group, bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        found: list[bytes] = []
        for record in consumer:
            found.append(bytes(record.value or b""))
            if len(found) == count:
                break
        consumer.commit()
        return found


@pytest.fixture
def single(tmp_path: Path) -> Path:
    """The data of a stopped single broker: a topic with settings, records, a group and producers."""
    data = tmp_path / "data"
    with Broker(data=data) as broker:
        with Admin(broker.bootstrap) as admin:
            admin.create_topic("t", partitions=3, config={"retention.ms": "1234567"})
            admin.create_topic("gone", partitions=1)
            admin.delete_topic("gone")
            admin.alter_config(topic="t", set={"max.message.bytes": "654321"})
        with Producer(broker.bootstrap) as producer:
            for index in range(30):
                producer.send("t", partition=index % 3, value=b"%d" % index).result()
        values(broker.bootstrap, "g", 10)
    return data


@contextmanager
def clustered(data: Path, connect: str) -> Iterator[Broker]:
    settings = {"zookeeper.connect": connect, "offsets.topic.replication.factor": 1}
    with Broker(settings, data=data) as broker:
        yield broker


def test_an_exported_broker_goes_on_with_all_it_had(
    single: Path, zookeeper: Ensemble, run: Run
) -> None:
    connect = zookeeper.fresh_chroot()
    command = ("store", "export", "--data", str(single), "--zookeeper", connect)
    with Broker(data=single) as alone:
        with Admin(alone.bootstrap) as admin:
            before = admin.describe_topic("t")
            cluster_id = admin.describe_cluster().cluster_id
        last_id = producer_id(alone)
        refused = run(*command)
        assert refused.code == 1
        assert "stop it before" in refused.err
    dry = run(*command, "--dry-run")
    assert dry.code == 0, dry.err
    assert "znodes would be written" in dry.out
    chroot = "/" + connect.partition("/")[2]
    assert in_store(zookeeper.connect, lambda store: store.exists(chroot)) is None
    done = run(*command)
    assert done.code == 0, done.err
    assert cluster_id in done.out
    assert "2 topics with 53 partitions are in ZooKeeper" in done.out  # __consumer_offsets has 50
    assert in_store(connect, lambda store: store.exists(znodes.EXPORT)) is None
    with clustered(single, connect) as broker:
        assert broker.server is not None
        assert broker.server.node_id == 1
        with Admin(broker.bootstrap) as admin:
            assert admin.describe_cluster().cluster_id == cluster_id
            after = admin.describe_topic("t")
            assert after.topic_id == before.topic_id
            settings = admin.describe_config(topic="t")
            assert settings["retention.ms"].value == "1234567"
            assert settings["max.message.bytes"].value == "654321"
            assert "gone" not in admin.list_topics()
        rest = values(broker.bootstrap, "g", 20)
        everything = values(broker.bootstrap, "another", 30)
        assert sorted(everything, key=int) == [b"%d" % index for index in range(30)]
        assert set(rest) < set(everything)
        assert len(set(rest)) == 20
        assert producer_id(broker) > last_id
        with Producer(broker.bootstrap) as producer:
            assert producer.send("t", partition=0, value=b"on").result().offset == 10


def test_a_broker_whose_state_was_exported_starts_alone_no_more(
    single: Path, zookeeper: Ensemble, run: Run
) -> None:
    connect = zookeeper.fresh_chroot()
    with pytest.raises(Exception, match="ottla store export"), clustered(single, connect):
        pass
    again = zookeeper.fresh_chroot()
    assert run("store", "export", "--data", str(single), "--zookeeper", again).code == 0
    with pytest.raises(Exception, match="has gone to the ZooKeeper"), Broker(data=single):
        pass


@pytest.mark.parametrize(
    ("batches_written", "told"),
    [(3, "in this store there is none"), (None, "is there in part")],
    ids=["before the cluster id", "before the comparison"],
)
def test_an_export_that_was_broken_off_keeps_brokers_out_and_is_gone_on_with(
    single: Path,
    zookeeper: Ensemble,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    batches_written: int | None,
    told: str,
) -> None:
    connect = zookeeper.fresh_chroot()
    command = ("store", "export", "--data", str(single), "--zookeeper", connect)
    monkeypatch.setattr(export, "_OPERATIONS_IN_ONE", 20)
    batches = export._batches

    def broken_off(writes: Any) -> Iterator[list[Any]]:
        for count, batch in enumerate(batches(writes)):
            if count == batches_written:
                break
            yield batch
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "_batches", broken_off)
    assert run(*command).code != 0
    monkeypatch.setattr(export, "_batches", batches)
    (single / "ottla-store.sqlite.exported").touch()  # as if somebody had helped himself
    with pytest.raises(Exception, match=told), clustered(single, connect):
        pass
    dry = run(*command, "--dry-run", "-o", "json").json
    assert dry["resumed"]
    assert (dry["to_write"] > 0) == (batches_written is not None)
    assert dry["to_write"] < dry["znodes"]
    done = run(*command, "-o", "json").json
    assert done["written"] == dry["to_write"]
    assert run(*command, "-o", "json").json["written"] == 0  # once more does no harm
    with clustered(single, connect) as broker:
        assert len(values(broker.bootstrap, "new", 30)) == 30


async def _lay_out(store: Store, *creates: Create) -> None:
    from ottla.coordination.bootstrap import prepare_layout

    await prepare_layout(store)
    for create in creates:
        await store.create(*create)


def test_nothing_is_written_where_there_is_anything_else(
    single: Path, zookeeper: Ensemble, run: Run
) -> None:
    def refusal(connect: str) -> str:
        done = run("store", "export", "--data", str(single), "--zookeeper", connect)
        assert done.code == 1
        assert done.err.count("\n") == 1
        return done.err

    connect = zookeeper.fresh_chroot()
    in_store(connect, _lay_out)
    assert "is there already" in refusal(connect)

    connect = zookeeper.fresh_chroot()
    parents = [Create("/brokers"), Create("/brokers/topics"), Create("/brokers/topics/other")]
    in_store(connect, lambda store: store.multi(parents))
    assert "topics already, other" in refusal(connect)
    assert sorted(in_store(connect, lambda store: store.children("/"))) == ["brokers"]

    connect = zookeeper.fresh_chroot()
    parents = [Create("/brokers"), Create("/brokers/ids"), Create("/brokers/ids/7")]
    in_store(connect, lambda store: store.multi(parents))
    assert "running there (ids 7)" in refusal(connect)

    connect = zookeeper.fresh_chroot()
    in_store(connect, lambda store: store.create("/controller_epoch", b"99"))
    assert "/controller_epoch holds something else" in refusal(connect)

    with Broker() as another:
        other = another.data
        with Admin(another.bootstrap) as admin:
            admin.create_topic("u", partitions=1)
        assert "no store" in run("store", "export", "--data", "/nowhere", "--zookeeper", "z").err
        assert (
            "stop it before"
            in run("store", "export", "--data", str(other), "--zookeeper", connect).err
        )


def test_what_is_asked_wrongly_is_one_line(run: Run, single: Path) -> None:
    missing = run("store", "export")
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    bad = run("store", "export", "--data", str(single), "--zookeeper", "host:port")
    assert bad.code == 1
    assert "is no host:port" in bad.err
    unreachable = ("--zookeeper", "127.0.0.1:1", "--set", "zookeeper.connection.timeout.ms=200")
    nobody = run("store", "export", "--data", str(single), *unreachable)
    assert nobody.code == 1
    assert "opened no session within 200 ms" in nobody.err


def test_notifications_stay_behind() -> None:
    found = {
        "/": b"",
        "/config/changes": b"",
        "/config/changes/config_change_0000000007": b"x",
        "/log_dir_event_notification/log_dir_event_0000000000": b"x",
        znodes.EXPORT: b"x",
    }
    assert export.exportable(found) == {"/config/changes": b""}
