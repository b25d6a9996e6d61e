"""High watermarks that were written down are there for the next life, whatever becomes of this one."""

from __future__ import annotations

from typing import Any

from ottla.clock import ManualClock
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Flusher
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.replication.replicas import Replicas
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import NOW_MS, TOPIC_ID, append

CONFIG = TopicConfig.of()


def life(disk: Any) -> tuple[LogDirectories, Replicas]:
    """A broker's logs after a start, and its replicas, of which nobody has told it anything."""
    directories = LogDirectories(["/logs"], disk)
    directories.open()
    directories.load(lambda topic: CONFIG, NOW_MS)
    replicas = Replicas(
        directories,
        Flusher(disk),
        node_id=1,
        clock=ManualClock(NOW_MS),
        exists=lambda topic, index: True,
        config_of=lambda topic: CONFIG,
        move_bytes_per_second=lambda: 1,
    )
    return directories, replicas


def checkpoint(directories: LogDirectories, replicas: Replicas) -> None:
    (directory,) = directories.all
    directory.write_high_watermarks(replicas.high_watermarks()[directory.path])


def test_a_life_that_was_told_nothing_keeps_the_marks_of_the_one_before() -> None:
    """KAFKA-1647: what was seen would not be seen any more."""
    disk = SimulatedDisk()
    directories, _ = life(disk)
    (directory,) = directories.all
    for index in (0, 1):
        log = directory.create("orders", index, TOPIC_ID, CONFIG, NOW_MS)
        append(log, 3)
        log.flush(NOW_MS)
    directory.write_high_watermarks({("orders", 0): 2, ("orders", 1): 3})
    for _ in range(2):
        disk.restart()
        directories, replicas = life(disk)
        checkpoint(directories, replicas)
    state = LeaderAndIsrPartitionState(
        partition_index=0, leader=2, leader_epoch=4, replicas=[1, 2], isr=[1, 2]
    )
    replicas.follow("orders", TOPIC_ID, state)
    assert replicas.high_watermarks() == {"/logs": {("orders", 0): 2, ("orders", 1): 3}}
    replicas.remove("orders", 1, delete=True)
    assert replicas.high_watermarks() == {"/logs": {("orders", 0): 2}}
