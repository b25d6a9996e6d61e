"""Files that are open are renamed and removed only after they were closed: Windows allows nothing else."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from ottla import Admin, Consumer, Producer
from ottla.errors import ErrorCode
from ottla.log.health import DirectoryHealth
from ottla.testing import Broker
from tests.capabilities.windows_disk import WindowsDisk
from tests.support.waiting import eventually


def test_topics_are_written_cleaned_deleted_and_loaded_where_open_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks: list[WindowsDisk] = []

    def disk() -> WindowsDisk:
        disks.append(WindowsDisk())
        return disks[-1]

    monkeypatch.setattr("ottla.broker.broker.Disk", disk)
    settings = {
        "log.retention.check.interval.ms": 20,
        "log.initial.task.delay.ms": 0,
        "log.segment.delete.delay.ms": 0,
        "log.flush.offset.checkpoint.interval.ms": 20,
        "durability": "disk",
    }
    short = {"segment.bytes": "1048576", "retention.bytes": "2000000", "file.delete.delay.ms": "0"}
    with Broker(settings, data=tmp_path) as broker:
        with Admin(broker.bootstrap) as admin, Producer(broker.bootstrap) as producer:
            admin.create_topic("short", config=short)
            admin.create_topic("gone", config={"file.delete.delay.ms": "0"})
            for _ in range(40):
                assert [path for one in disks for path in one.refused] == []
                producer.send("short", value=b"x" * 300_000).result()
                producer.send("gone", value=b"y").result()
            kept = tmp_path / "short-0"
            eventually(lambda: len(list(kept.glob("*.log"))) <= 4, "retention")
            eventually(lambda: not list(kept.glob("*.deleted")), "removed segments")
            admin.delete_topics(["gone"])
            eventually(lambda: not list(tmp_path.glob("gone*")), "the deleted topic's files")
        broker.restart()
        with Consumer(
            "short", bootstrap=broker.bootstrap, auto_offset_reset="earliest"
        ) as consumer:
            assert next(iter(consumer)).value == b"x" * 300_000
        assert broker.server is not None
        assert not broker.server.directories.some_offline
    assert [path for one in disks for path in one.refused] == []


def test_a_partition_moves_between_log_directories_where_open_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks: list[WindowsDisk] = []

    def disk() -> WindowsDisk:
        disks.append(WindowsDisk())
        return disks[-1]

    monkeypatch.setattr("ottla.broker.broker.Disk", disk)
    paths = [tmp_path / name for name in "ab"]
    settings = {
        "log.dirs": ",".join(map(str, paths)),
        "log.segment.delete.delay.ms": 0,
        "durability": "disk",
    }
    with Broker(settings, data=paths[0]) as broker:
        with Admin(broker.bootstrap) as admin, Producer(broker.bootstrap) as producer:
            admin.create_topic("t", config={"segment.bytes": "1048576"})
            for number in range(12):
                producer.send("t", value=b"%d " % number + b"x" * 300_000).result()
                if number % 4 == 3:
                    (here,) = [path for path in paths if (path / "t-0").is_dir()]
                    (there,) = set(paths) - {here}
                    assert admin.alter_replica_log_dirs({("t", 0, 1): str(there)}) == {
                        ("t", 0, 1): None
                    }
                    eventually(
                        lambda at=there: (
                            [  # type: ignore[misc]
                                directory.path
                                for directory in admin.describe_log_dirs()
                                if directory.replicas
                            ]
                            == [str(at)]
                        ),
                        "the end of the move",
                    )
        with Consumer("t", bootstrap=broker.bootstrap, auto_offset_reset="earliest") as consumer:
            for number in range(12):
                assert next(iter(consumer)).value.startswith(b"%d " % number)
        eventually(lambda: not list(tmp_path.glob("*/t-0.*")), "what the moves left")
        assert broker.server is not None
        assert not broker.server.directories.some_offline
    assert [path for one in disks for path in one.refused] == []


def test_a_file_that_somebody_holds_fails_the_operation_and_not_the_directory() -> None:
    health = DirectoryHealth("/d")
    held = PermissionError(errno.EACCES, "used by another process")
    held.winerror = 32  # type: ignore[attr-defined, unused-ignore]
    assert health.failed_operation("renaming", held).code == ErrorCode.KAFKA_STORAGE_ERROR
    assert health.failure is None
    health.failed_operation("renaming", PermissionError(errno.EACCES, "Permission denied"))
    assert health.failure is not None
