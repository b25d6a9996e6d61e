"""Several log directories: partitions are spread over them, and one that fails takes only its own along."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ottla
from ottla.broker.store_place import STORE_FILE
from ottla.errors import ErrorCode
from ottla.groups.partitioner import partition_for
from ottla.log.directories import DirectoryMismatch
from ottla.log.directory import DirectoryInUse
from ottla.log.disk import Disk
from ottla.messages.alter_replica_log_dirs import (
    AlterReplicaLogDir,
    AlterReplicaLogDirsRequest,
    AlterReplicaLogDirTopic,
)
from ottla.messages.delete_topics import DeleteTopicsRequest, DeleteTopicState
from ottla.messages.describe_log_dirs import DescribeLogDirsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.settings.setting import SettingError
from ottla.testing import Broker
from tests.support.requests import create_topic, fetch_request, produce
from tests.support.waiting import wait_until
from tests.support.wire import Wire, batch

OFFSETS = "__consumer_offsets"


@pytest.fixture
def directories(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in "abc"]


def broker_on(directories: list[Path], **settings: object) -> Broker:
    paths = ",".join(map(str, directories))
    named = {name.replace("_", "."): value for name, value in settings.items()}
    return Broker({"durability": "disk", "log.dirs": paths, **named}, data=directories[0])


@pytest.fixture
def broker(directories: list[Path]) -> Iterator[Broker]:
    with broker_on(directories) as started:
        yield started


def lies_in(directories: list[Path], partition: str) -> Path:
    (found,) = [directory for directory in directories if (directory / partition).is_dir()]
    return found


def break_disk(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """From now on every sync in ``directory`` fails."""
    for call in ("fsync", "fdatasync"):
        real = getattr(os, call)

        def sync(descriptor: int, real: Any = real) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if path.startswith(f"{directory}/") or path == str(directory):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(Disk, call, staticmethod(sync))


def fetched(wire: Wire, topic: str, partition: int) -> Any:
    request = fetch_request(topic, *[0] * (partition + 1))
    return wire.ask(request, 12).responses[0].partitions[partition]


def metadata(wire: Wire, topic: str) -> dict[int, Any]:
    request = MetadataRequest(topics=[MetadataRequestTopic(name=topic)])
    return {p.partition_index: p for p in wire.ask(request, 8).topics[0].partitions}


def spread(wire: Wire, topic: str, partitions: int) -> None:
    create_topic(wire, topic, partitions=partitions)
    for index in range(partitions):
        assert produce(wire, topic, batch(b"safe"), partition=index).error_code == 0


def test_new_partitions_go_where_the_fewest_are(broker: Broker, directories: list[Path]) -> None:
    with Wire(broker.bootstrap) as wire:
        spread(wire, "t", 7)
    counts = sorted(len(list(directory.glob("t-*"))) for directory in directories)
    assert counts == [2, 2, 3]
    owners = {
        (directory / "meta.properties").read_text().splitlines()[-2] for directory in directories
    }
    assert len(owners) == 1, "each directory says whom it belongs to"


def test_what_is_in_all_directories_comes_back(directories: list[Path]) -> None:
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 6)
    assert all((directory / ".kafka_cleanshutdown").exists() for directory in directories)
    # The store is found wherever it lies, so the directories may be put in another order.
    with broker_on(directories[::-1]) as broker, Wire(broker.bootstrap) as wire:
        for index in range(6):
            assert b"safe" in bytes(fetched(wire, "t", index).records)
    assert [(directory / STORE_FILE).exists() for directory in directories] == [True, False, False]


def test_a_directory_that_fails_is_told_of_once_and_not_for_each_of_its_partitions(
    broker: Broker,
    directories: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Wire(broker.bootstrap) as wire:
        spread(wire, "t", 24)
        lost = [index for index in range(24) if (directories[1] / f"t-{index}").is_dir()]
        assert len(lost) == 8
        caplog.clear()
        break_disk(monkeypatch, directories[1])
        produce(wire, "t", batch(b"lost"), partition=lost[0])
        wait_until(lambda: metadata(wire, "t")[lost[-1]].leader_id == -1)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    (one,) = [record for record in told if record.msg.startswith("partitions are offline")]
    fields = {"partitions": 8, "directory": str(directories[1])}
    assert one.fields == fields  # type: ignore[attr-defined]
    assert len(told) < 8, [record.msg for record in told]


def test_a_directory_that_fails_takes_only_its_own_partitions_offline(
    broker: Broker, directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(broker.bootstrap) as wire:
        spread(wire, "t", 3)
        places = [lies_in(directories, f"t-{index}") for index in range(3)]
        lost = places.index(directories[0])  # the store lies there: it looks after itself
        break_disk(monkeypatch, directories[0])
        failed = produce(wire, "t", batch(b"lost"), partition=lost)
        assert failed.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        assert fetched(wire, "t", lost).error_code == ErrorCode.KAFKA_STORAGE_ERROR
        wait_until(lambda: metadata(wire, "t")[lost].leader_id == -1)
        told = metadata(wire, "t")
        assert told[lost].error_code == ErrorCode.LEADER_NOT_AVAILABLE
        assert told[lost].offline_replicas == [1]
        assert told[lost].isr_nodes == [1], "the last one that had everything stays in the ISR"
        for index in {0, 1, 2} - {lost}:
            assert told[index].error_code == 0
            assert told[index].offline_replicas == []
            assert produce(wire, "t", batch(b"more"), partition=index).error_code == 0
            assert b"more" in bytes(fetched(wire, "t", index).records)
        spread(wire, "new", 4)
        assert not list(directories[0].glob("new-*"))


def test_after_a_restart_with_a_sound_disk_everything_is_led_again(
    directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 3)
        lost = [lies_in(directories, f"t-{index}") for index in range(3)].index(directories[1])
        break_disk(monkeypatch, directories[1])
        assert produce(wire, "t", batch(b"lost"), partition=lost).error_code != 0
        wait_until(lambda: metadata(wire, "t")[lost].leader_id == -1)
        epoch = metadata(wire, "t")[lost].leader_epoch
    monkeypatch.undo()
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        assert metadata(wire, "t")[lost].leader_id == 1
        assert metadata(wire, "t")[lost].leader_epoch > epoch
        for index in range(3):
            assert b"safe" in bytes(fetched(wire, "t", index).records)


def test_a_directory_that_cannot_be_used_at_the_start_is_offline(directories: list[Path]) -> None:
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 3)
        lost = [lies_in(directories, f"t-{index}") for index in range(3)].index(directories[2])
    signed = (directories[2] / "meta.properties").read_bytes()
    (directories[2] / "meta.properties").write_bytes(b"\xff nonsense")
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        told = metadata(wire, "t")
        assert told[lost].leader_id == -1
        assert told[lost].offline_replicas == [1]
        failed = produce(wire, "t", batch(b"x"), partition=lost)
        assert failed.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        for index in {0, 1, 2} - {lost}:
            assert b"safe" in bytes(fetched(wire, "t", index).records)
        deleted = wire.ask(
            DeleteTopicsRequest(topics=[DeleteTopicState(name="t")], timeout_ms=1000), 6
        )
        assert deleted.responses[0].error_code == ErrorCode.REQUEST_TIMED_OUT
    (directories[2] / "meta.properties").write_bytes(signed)
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        request = MetadataRequest(topics=None)
        wait_until(lambda: not wire.ask(request, 8).topics)  # the deletion goes on
        assert not list(directories[2].glob("t-?"))


def test_groups_of_a_failed_directory_have_no_coordinator_and_the_others_go_on(
    directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def coordinator(wire: Wire, group: str) -> int:
        request = FindCoordinatorRequest(coordinator_keys=[group])
        code: int = wire.ask(request, 4).coordinators[0].error_code
        return code

    def heartbeat(wire: Wire, group: str) -> int:
        request = HeartbeatRequest(group_id=group, generation_id=1, member_id="nobody")
        code: int = wire.ask(request, 4).error_code
        return code

    with (
        broker_on(directories, offsets_topic_num_partitions=6) as broker,
        Wire(broker.bootstrap) as wire,
    ):
        groups = {partition_for(f"group {n}", 6): f"group {n}" for n in range(40)}
        assert coordinator(wire, groups[0]) == 0
        spread(wire, "t", 3)
        lost = [lies_in(directories, f"t-{index}") for index in range(3)].index(directories[1])
        assert broker.server is not None
        places = {
            index: broker.server.replicas.leader_of(OFFSETS, index).log.health.path
            for index in range(6)
        }
        assert set(places.values()) == {str(directory) for directory in directories}
        for group in groups.values():
            wait_until(lambda g=group: heartbeat(wire, g) == ErrorCode.UNKNOWN_MEMBER_ID)
        break_disk(monkeypatch, directories[1])
        assert produce(wire, "t", batch(b"lost"), partition=lost).error_code != 0
        for index, group in groups.items():
            if places[index] == str(directories[1]):
                assert heartbeat(wire, group) == ErrorCode.NOT_COORDINATOR
                wait_until(
                    lambda g=group: coordinator(wire, g) == ErrorCode.COORDINATOR_NOT_AVAILABLE
                )
            else:
                assert heartbeat(wire, group) == ErrorCode.UNKNOWN_MEMBER_ID
                assert coordinator(wire, group) == 0


def test_the_last_directory_takes_the_broker_down(
    directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with broker_on(directories[:2]) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 2)
        assert broker.server is not None
        failure = broker.server._failed
        places = [lies_in(directories[:2], f"t-{index}") for index in range(2)]
        for directory in directories[:2]:
            assert not failure.done()
            break_disk(monkeypatch, directory)
            index = places.index(directory)
            failed = produce(wire, "t", batch(b"lost"), partition=index)
            assert failed.error_code == ErrorCode.KAFKA_STORAGE_ERROR
        wait_until(failure.done)
        assert "failed" in str(failure.exception())


def test_a_failed_directory_is_described_as_offline_and_the_others_in_full(
    broker: Broker, directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(broker.bootstrap) as wire:
        spread(wire, "t", 3)
        break_disk(monkeypatch, directories[1])
        lost = [lies_in(directories, f"t-{index}") for index in range(3)].index(directories[1])
        assert produce(wire, "t", batch(b"lost"), partition=lost).error_code != 0
        answer = wire.ask(DescribeLogDirsRequest(topics=None), 4)
        assert answer.error_code == 0
        told = {result.log_dir: result for result in answer.results}
        assert list(told) == [str(directory) for directory in directories]
        failed = told[str(directories[1])]
        assert (failed.error_code, failed.topics) == (ErrorCode.KAFKA_STORAGE_ERROR, [])
        assert (failed.total_bytes, failed.usable_bytes) == (-1, -1)
        for directory in (directories[0], directories[2]):
            result = told[str(directory)]
            assert result.error_code == 0
            assert result.total_bytes >= result.usable_bytes > 0
            ((partition,),) = [topic.partitions for topic in result.topics]
            assert lies_in(directories, f"t-{partition.partition_index}") == directory
            segment = directory / f"t-{partition.partition_index}" / f"{0:020d}.log"
            assert partition.partition_size == segment.stat().st_size


# What is a mistake, and no failure


def test_directories_of_two_clusters_are_refused(directories: list[Path]) -> None:
    for directory in directories[:2]:
        with broker_on([directory]):
            pass
    with pytest.raises(SettingError, match="belongs to cluster"):
        broker_on(directories[:2]).start()


def test_directory_of_another_broker_is_refused(directories: list[Path]) -> None:
    with broker_on(directories[:1]):
        pass
    with broker_on(directories[1:2], node_id=7):
        pass
    with pytest.raises(SettingError, match="belongs to broker 7"):
        broker_on(directories[:2]).start()


def test_one_directory_named_twice_is_refused(directories: list[Path]) -> None:
    with pytest.raises(SettingError, match="Duplicate log directory"):
        broker_on([directories[0], directories[0] / "." / ".." / "a"]).start()


def test_directory_that_another_broker_has_open_is_refused(
    broker: Broker, directories: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(DirectoryInUse):
        broker_on([tmp_path / "free", directories[1]]).start()
    with broker_on([tmp_path / "free"]):  # what it had locked is free again
        pass


def test_a_partition_in_two_directories_ends_the_start(directories: list[Path]) -> None:
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 1)
    place = lies_in(directories, "t-0")
    other = next(directory for directory in directories if directory != place)
    (other / "t-0").mkdir()
    for file in (place / "t-0").iterdir():
        (other / "t-0" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(DirectoryMismatch, match="t-0 is in both"):
        broker_on(directories).start()


def test_the_store_is_not_made_anew_where_its_directory_was_left_out(
    directories: list[Path], tmp_path: Path
) -> None:
    with broker_on(directories[:2]):
        pass
    with pytest.raises(SettingError, match="is missing"):
        broker_on([tmp_path / "replacement", directories[1]]).start()
    (directories[0] / "meta.properties").write_bytes(b"\xff nonsense")
    with pytest.raises(OSError, match="is offline"):
        broker_on(directories[:2]).start()


# Moving a partition


def alter(wire: Wire, topic: str, index: int, path: Path) -> int:
    topics = [AlterReplicaLogDirTopic(name=topic, partitions=[index])]
    request = AlterReplicaLogDirsRequest(dirs=[AlterReplicaLogDir(path=str(path), topics=topics)])
    code: int = wire.ask(request, 2).results[0].partitions[0].error_code
    return code


def replicas(wire: Wire) -> dict[tuple[str, str, int, bool], Any]:
    """Every replica by directory, topic, partition and whether it is a future one."""
    answer = wire.ask(DescribeLogDirsRequest(topics=None), 4)
    return {
        (result.log_dir, topic.name, partition.partition_index, partition.is_future_key): partition
        for result in answer.results
        for topic in result.topics
        for partition in topic.partitions
    }


def is_in(wire: Wire, topic: str, index: int, path: Path) -> bool:
    here = [key for key in replicas(wire) if key[1:3] == (topic, index)]
    return here == [(str(path), topic, index, False)]


def test_a_partition_moves_while_it_is_written_and_read(
    broker: Broker, directories: list[Path]
) -> None:
    values = [b"%05d " % number + b"x" * 2000 for number in range(600)]
    with (
        ottla.Producer(broker.bootstrap, batch_size=16_384) as producer,
        Wire(broker.bootstrap) as wire,
    ):
        create_topic(wire, "t", segment_bytes=100_000)
        places, sent = [], []
        for number, value in enumerate(values):
            sent.append(producer.send("t", value, partition=0))
            if number % 200 == 100:
                producer.flush()
                target = directories[(number // 200 + 1) % 3]
                assert alter(wire, "t", 0, target) == 0
                assert alter(wire, "t", 0, target) == 0, "asking again changes nothing"
                places.append(target)
                if number < 400:
                    wait_until(lambda at=target: is_in(wire, "t", 0, at))
        assert [delivery.result(30).offset for delivery in sent] == list(range(len(values)))
        wait_until(lambda: is_in(wire, "t", 0, places[-1]))
        assert lies_in(directories, "t-0") == places[-1]
    with ottla.Consumer(bootstrap=broker.bootstrap) as consumer:
        consumer.assign([ottla.TopicPartition("t", 0)])
        consumer.seek_to_beginning()
        found = []
        while len(found) < len(values):
            found += [bytes(record.value) for record in consumer.poll(1.0)]
    assert found == values


def test_a_move_is_told_of_until_it_is_done_and_goes_on_after_a_restart(
    directories: list[Path],
) -> None:
    slow = {"replica_alter_log_dirs_io_max_bytes_per_second": 1}
    with broker_on(directories, **slow) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 1)
        source = lies_in(directories, "t-0")
        target = next(directory for directory in directories if directory != source)
        assert alter(wire, "t", 0, target) == 0
        found = replicas(wire)
        future = found[str(target), "t", 0, True]
        assert future.offset_lag == 1
        assert found[str(source), "t", 0, False].offset_lag == 0
        assert produce(wire, "t", batch(b"more")).error_code == 0
        wait_until(lambda: list(target.glob("t-0.*-future")))
    assert list(target.glob("t-0.*-future"))
    with broker_on(directories) as broker, Wire(broker.bootstrap) as wire:
        wait_until(lambda: is_in(wire, "t", 0, target))
        assert b"more" in bytes(fetched(wire, "t", 0).records)
        wait_until(lambda: not list(target.glob("t-0.*")))


def test_a_move_back_ends_it_and_a_deleted_topic_leaves_nothing(directories: list[Path]) -> None:
    slow = {"replica_alter_log_dirs_io_max_bytes_per_second": 1, "log_segment_delete_delay_ms": 0}
    with broker_on(directories, **slow) as broker, Wire(broker.bootstrap) as wire:
        spread(wire, "t", 1)
        source = lies_in(directories, "t-0")
        target = next(directory for directory in directories if directory != source)
        assert alter(wire, "t", 0, target) == 0
        assert alter(wire, "t", 0, source) == 0
        wait_until(lambda: is_in(wire, "t", 0, source))
        wait_until(lambda: not list(target.glob("t-0.*-future")))
        assert alter(wire, "t", 0, target) == 0
        wait_until(lambda: list(target.glob("t-0.*-future")))
        deleted = wire.ask(
            DeleteTopicsRequest(topics=[DeleteTopicState(name="t")], timeout_ms=5000), 6
        )
        assert deleted.responses[0].error_code == 0
        wait_until(lambda: not [p for d in directories for p in d.glob("t-0*")])


def test_a_partition_that_is_not_there_yet_is_made_where_it_was_asked_for(
    broker: Broker, directories: list[Path]
) -> None:
    with Wire(broker.bootstrap) as wire:
        for index in range(4):
            code = alter(wire, "later", index, directories[2])
            assert code == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        spread(wire, "later", 4)
        assert len(list(directories[2].glob("later-?"))) == 4


def test_moves_that_cannot_be_are_refused(
    broker: Broker, directories: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Wire(broker.bootstrap) as wire:
        spread(wire, "t", 3)
        assert alter(wire, "t", 0, Path("/nowhere")) == ErrorCode.LOG_DIR_NOT_FOUND
        assert alter(wire, "t", 9, directories[0]) == ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        long = "l" * 220
        assert alter(wire, long, 0, directories[0]) == ErrorCode.INVALID_TOPIC_EXCEPTION
        places = [lies_in(directories, f"t-{index}") for index in range(3)]
        lost, kept = places.index(directories[1]), places.index(directories[0])
        break_disk(monkeypatch, directories[1])
        assert produce(wire, "t", batch(b"lost"), partition=lost).error_code != 0
        for index, path in ((lost, directories[0]), (kept, directories[1]), (kept, directories[2])):
            assert alter(wire, "t", index, path) == ErrorCode.KAFKA_STORAGE_ERROR
        assert alter(wire, "t", kept, directories[0]) == 0, "it lies there"
