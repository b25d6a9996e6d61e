"""All the partitions that this broker has replicas of, and what the controller tells it of them.

Rules:
- Only the controller's LeaderAndIsr makes this broker lead or follow, and only its StopReplica takes a replica away;
  one that is older than what was last heard of the partition changes nothing (its leader epoch says so).
- A topic made again under its old name is another topic: the log that lies here under another id is set
  aside, never led and never deleted unasked (KAFKA-12257).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ottla.errors import ErrorCode, KafkaError
from ottla.log.names import DIRECTORY_NAME_MAX, future_directory_name
from ottla.logs import logger
from ottla.replication.checkpointed_starts import CheckpointedStarts
from ottla.replication.lease import Lease
from ottla.replication.moves import ReplicaMoves
from ottla.replication.partition import Partition
from ottla.replication.peers import Peers
from ottla.replication.recompression import Unpacking
from ottla.replication.replica import NO_LEADER
from ottla.topic_ids import ZERO_ID

if TYPE_CHECKING:
    from ottla.clock import Clock
    from ottla.log.directories import LogDirectories
    from ottla.log.directory import LogDirectory
    from ottla.log.flusher import Flusher
    from ottla.log.log import Log
    from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
    from ottla.replication.fetchers import Fetchers
    from ottla.settings.topic_config import TopicConfig

log = logger(__name__)

RECOVERED = 0
"""The leader recovery state of a partition whose leader was elected from its ISR (KIP-704)."""

CHECKED_AT_ONCE = 500
"""How many partitions are looked at, one by one, before others have their turn."""


class Replicas:
    """The partitions of one broker, by topic and index."""

    def __init__(
        self,
        directories: LogDirectories,
        flusher: Flusher,
        *,
        node_id: int,
        clock: Clock,
        exists: Callable[[str, int], bool],
        config_of: Callable[[str], TopicConfig],
        move_bytes_per_second: Callable[[], int],
        make_fetchers: Callable[[Replicas], Fetchers] | None = None,
        on_storage_error: Callable[[Partition], None] | None = None,
        call_soon: Callable[..., object] | None = None,
        lease: Lease | None = None,
        peers: Peers | None = None,
    ) -> None:
        """``exists`` says whether the cluster has the partition; ``config_of`` gives a topic's settings.

        ``make_fetchers`` is called once there is something to follow. ``on_storage_error`` is told of a partition
        that went out of service on its own: it was found damaged, say. Damage is met in the midst of reads, and by
        other threads: ``call_soon`` has the partition taken out of service in a turn of the loop of its own.
        ``peers`` is what leaders know of the other brokers; None: there are none.
        """
        self.peers = peers if peers is not None else Peers(clock)
        self._directories = directories
        self._flusher = flusher
        self._node_id = node_id
        self._clock = clock
        self._exists = exists
        self._config_of = config_of
        self._lease = lease if lease is not None else Lease()
        self.unpacking = Unpacking()
        self._partitions: dict[tuple[str, int], Partition] = {}
        self._starts: dict[LogDirectory, CheckpointedStarts] = {}
        self._offline: set[tuple[str, int]] = set()
        self._make_fetchers = make_fetchers
        self.is_leaving = False
        """The broker is being let go: nothing is copied for an ISR that it has left, and may not join again."""
        self._on_storage_error = on_storage_error
        self._call_soon = call_soon
        self.fetchers: Fetchers | None = None
        """What copies from leaders; None until this broker follows for the first time."""
        self.gone_bytes_in = self.gone_messages_in = 0
        """What partitions took in that are not here any more."""
        self.moves = ReplicaMoves(
            directories, flusher.flush, clock=clock, bytes_per_second=move_bytes_per_second
        )
        """The replicas that are on their way into another log directory."""

    def __iter__(self) -> Iterator[Partition]:
        return iter(tuple(self._partitions.values()))

    def __len__(self) -> int:
        return len(self._partitions)

    def get(self, topic: str, index: int) -> Partition | None:
        """The partition, if this broker has a replica of it."""
        return self._partitions.get((topic, index))

    def leader_of(self, topic: str, index: int) -> Partition:
        """The partition, if this broker leads it.

        Errors: UNKNOWN_TOPIC_OR_PARTITION, NOT_LEADER_OR_FOLLOWER (it is elsewhere), KAFKA_STORAGE_ERROR
        (its log directory is offline, or the log quarantined).
        """
        partition = self._partitions.get((topic, index))
        if partition is None or partition.leader_id != partition.node_id:
            self.replica_of(topic, index)  # says what else it may be
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)
        return partition

    def replica_of(self, topic: str, index: int) -> Partition:
        """The partition, if this broker has a replica of it that can be read. Errors: as ``leader_of``."""
        partition = self._partitions.get((topic, index))
        if partition is None:
            if (topic, index) in self._offline:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
            raise KafkaError(
                ErrorCode.NOT_LEADER_OR_FOLLOWER
                if self._exists(topic, index)
                else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
        if not partition.is_leader and (
            partition.log.health.failure is not None or partition.log.unusable is not None
        ):
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
        return partition

    def lead(self, topic: str, topic_id: bytes, state: LeaderAndIsrPartitionState) -> ErrorCode:
        """Take up (or go on with) the leadership that the controller gives.

        Returns NONE, STALE_BROKER_EPOCH for a leader epoch that is behind what was heard before, or
        KAFKA_STORAGE_ERROR.
        """
        return self._take_up(topic, topic_id, state, self._lead)

    def follow(self, topic: str, topic_id: bytes, state: LeaderAndIsrPartitionState) -> ErrorCode:
        """Copy from the leader that the controller names (or from nobody, where there is none).

        Returns as ``lead`` does.
        """
        return self._take_up(topic, topic_id, state, self._follow)

    def _take_up(
        self,
        topic: str,
        topic_id: bytes,
        state: LeaderAndIsrPartitionState,
        role: Callable[[Partition, LeaderAndIsrPartitionState], None],
    ) -> ErrorCode:
        """Have the partition's log here, and give the replica its role."""
        key = (topic, state.partition_index)
        partition = self._partitions.get(key)
        if partition is not None and partition.topic_id != topic_id:
            self._let_go(key)
            partition = None
        if partition is not None and state.leader_epoch < partition.leader_epoch:
            return ErrorCode.STALE_BROKER_EPOCH
        try:
            if partition is None:
                partition = self._partitions[key] = self._open(
                    topic, topic_id, state.partition_index, is_new=state.is_new
                )
            partition.log.check_usable()
            role(partition, state)
        except KafkaError as error:
            health = partition.log.health if partition is not None else None
            offline = self._directories.some_offline if health is None else health.failure
            tell = log.debug if offline else log.error  # of a directory's partitions one line tells
            tell(
                "cannot lead or follow a partition",
                topic=topic,
                partition=state.partition_index,
                reason=str(error),
            )
            if error.code == ErrorCode.KAFKA_STORAGE_ERROR:
                self._offline.add(key)
            return error.code
        self._offline.discard(key)
        directory = self._directories.moves_left.pop(key, None)
        if directory is not None and directory.offline is None:
            self.moves.start(partition, directory)
        return ErrorCode.NONE

    def _lead(self, partition: Partition, state: LeaderAndIsrPartitionState) -> None:
        self._heed_short(partition, state)
        if self.fetchers is not None:
            self.fetchers.stop(partition)
        if len(state.replicas) == 1 and partition.leader_epoch < 0:
            self._tell_of_loss(partition)
        partition.become_leader(
            state.leader_epoch, state.partition_epoch, state.replicas, state.isr
        )

    def _follow(self, partition: Partition, state: LeaderAndIsrPartitionState) -> None:
        self._heed_short(partition, state)
        partition.follow(
            state.leader, state.leader_epoch, state.partition_epoch, state.replicas, state.isr
        )
        some_leader = partition.leader_id != NO_LEADER
        if self.fetchers is None and self._make_fetchers is not None and some_leader:
            self.fetchers = self._make_fetchers(self)
        if self.fetchers is not None:
            if self.is_leaving and self._node_id not in state.isr:
                self.fetchers.stop(partition)
            else:
                self.fetchers.follow(partition)

    def _heed_short(self, partition: Partition, state: LeaderAndIsrPartitionState) -> None:
        """A log that lacks what was synced may lead only by a choice that knows that (INVARIANTS 1).

        It is one like others once the controller does not count on it: its ISR is without it, and it joins by what it
        copies; or it was elected uncleanly; or there is no other replica. Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) where
        it is to lead, and is counted on: by a controller that does not read what this broker's registration says.
        """
        key = (partition.topic, partition.index)
        synced_to = self._directories.short.get(key)
        if synced_to is None:
            return
        leads = state.leader == self._node_id
        is_counted_on = self._node_id in state.isr and state.leader_recovery_state == RECOVERED
        if is_counted_on and len(state.replicas) > 1:
            if leads:
                why = f"{partition!r} lacks records that were synced, up to {synced_to}"
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, why)
            return
        if leads:
            log.warning(
                "records are lost: they were synced, and are not on the disk any more",
                partition=repr(partition),
                from_offset=partition.log.log_end_offset,
                synced_to=synced_to,
            )
        self._directories.forget_short([key])

    def storage_failed(self, partition: Partition) -> None:
        """The partition's own log failed: it was found damaged, or its directory is offline."""
        key = (partition.topic, partition.index)
        if self._partitions.get(key) is not partition or key in self._offline:
            return
        log.error("partition is offline", partition=repr(partition), reason=partition.log.unusable)
        self._go_offline(partition)
        if self._on_storage_error is not None:
            self._on_storage_error(partition)

    def _quarantined(self, damaged: Log) -> None:
        partition = self._partitions.get((damaged.topic, damaged.partition))
        if partition is not None and partition.log is damaged and self._call_soon is not None:
            self._call_soon(self.storage_failed, partition)

    def _go_offline(self, partition: Partition) -> None:
        self._offline.add((partition.topic, partition.index))
        if self.fetchers is not None:
            self.fetchers.stop(partition)
        partition.storage_failed()

    async def close(self) -> None:
        """End the fetching and the moves: what is appended afterwards, nobody else did."""
        if self.fetchers is not None:
            await self.fetchers.close()
        await self.moves.close()

    async def check_isrs(self) -> None:
        """See who does not keep up with the leaders here, every half of ``replica.lag.time.max.ms``."""
        for number, partition in enumerate(self, 1):
            if partition.is_leader:
                partition.check_isr()
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def brokers_changed(self) -> None:
        """Brokers have come, or have other addresses: nobody waits any more who waited for that."""
        if self.fetchers is not None:
            self.fetchers.brokers_changed()
        for number, partition in enumerate(self, 1):
            if partition.is_leader:
                partition.brokers_changed()
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)

    @property
    def offline_count(self) -> int:
        """How many partitions are not served because their log directory failed."""
        return len(self._offline)

    def move(self, topic: str, index: int, path: str) -> None:
        """Have the replica lie in the log directory ``path`` (AlterReplicaLogDirs).

        One that is not here yet will be made there. Raises ``KafkaError``: INVALID_TOPIC_EXCEPTION (the name
        is too long for a copy's directory), LOG_DIR_NOT_FOUND, KAFKA_STORAGE_ERROR,
        UNKNOWN_TOPIC_OR_PARTITION, REPLICA_NOT_AVAILABLE.
        """
        if len(future_directory_name(topic, index)) > DIRECTORY_NAME_MAX:
            raise KafkaError(ErrorCode.INVALID_TOPIC_EXCEPTION, "The topic name is too long.")
        directory = self._directories.at(path)
        if directory is None:
            raise KafkaError(ErrorCode.LOG_DIR_NOT_FOUND, f"{path} is not in log.dirs")
        directory.health.check()
        partition = self._partitions.get((topic, index))
        if partition is None:
            if (topic, index) in self._offline:
                raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR)
            self._directories.prefer(topic, index, directory)
            raise KafkaError(
                ErrorCode.REPLICA_NOT_AVAILABLE
                if self._exists(topic, index)
                else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            )
        partition.log.check_usable()
        is_there = partition.log.health is directory.health
        if not is_there and self._directories.some_offline:
            raise KafkaError(ErrorCode.KAFKA_STORAGE_ERROR, "a log directory is offline")
        self.moves.start(partition, directory)

    def is_offline(self, topic: str, index: int) -> bool:
        """Whether the replica lies, or may lie, in a log directory that failed."""
        return (topic, index) in self._offline

    def resign(self) -> None:
        """Neither lead nor follow anything any more: what the controller said is of a session that ended."""
        for partition in self:
            if self.fetchers is not None:
                self.fetchers.stop(partition)
            partition.resign()

    def remove(self, topic: str, index: int, *, delete: bool) -> None:
        """Let go of a replica; with ``delete`` its files go too, in the background.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self._let_go((topic, index))
        if delete:
            self._directories.delete(topic, index, self._clock.now_ms())
        self._offline.discard((topic, index))

    def set_aside_stray(self, topic: str, topic_id: bytes, index: int) -> None:
        """Set aside the log that lies here under the topic's name and belongs to another one of that name.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        found = self._directories.get(topic, index)
        if found is not None and found.topic_id not in (ZERO_ID, topic_id):
            self._let_go((topic, index))
            self._directories.set_aside(topic, index)

    def held(self) -> list[tuple[str, int]]:
        """Topic and index of every log that is here, led or not."""
        return [key for directory in self._directories for key in directory.logs]

    def set_aside(self, topic: str, index: int) -> None:
        """Let go of a replica that the cluster does not know; its files are kept under another name.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR).
        """
        self._let_go((topic, index))
        self._directories.set_aside(topic, index)

    async def forget_removed(self) -> None:
        """Let no checkpoint name a replica that was removed: see ``LogDirectory.has_stale_checkpoints``.

        Raises ``KafkaError`` (KAFKA_STORAGE_ERROR) if a directory could not write it; the others have.
        """
        failure: KafkaError | None = None
        for directory in self._directories:
            if directory.has_stale_checkpoints:
                try:
                    await asyncio.to_thread(
                        directory.write_checkpoints, directory.take_checkpoints()
                    )
                except KafkaError as error:
                    failure = failure or error
        if failure is not None:
            raise failure

    async def keep_log_starts(self, starts: Mapping[Partition, int]) -> dict[Partition, KafkaError]:
        """Write down that partitions are going to start at these offsets, before they do.

        Returns those of which it failed: see ``checkpointed_starts``.
        """
        by_directory: dict[LogDirectory, dict[Partition, int]] = {}
        for number, (partition, offset) in enumerate(starts.items(), 1):
            if number % CHECKED_AT_ONCE == 0:
                await asyncio.sleep(0)
            directory = self._directories.directory_of(partition.log)
            by_directory.setdefault(directory, {})[partition] = offset
        failed: dict[Partition, KafkaError] = {}
        for directory, mine in by_directory.items():
            kept = self._starts.setdefault(directory, CheckpointedStarts(directory))
            try:
                await kept.keep({partition.log: offset for partition, offset in mine.items()})
            except KafkaError as error:
                failed.update(dict.fromkeys(mine, error))
        return failed

    async def apply_retention(self, now_ms: int) -> None:
        """Remove segments that are past their topic's retention; where their logs start then is kept first."""
        starts: dict[Partition, int] = {}
        for partition in self:
            is_served = partition.log.unusable is None and partition.log.health.failure is None
            start = partition.start_after_retention(now_ms) if is_served else None
            if start is not None:
                starts[partition] = start
            await asyncio.sleep(0)
        moving = {p: start for p, start in starts.items() if start > p.log.log_start_offset}
        failed = await self.keep_log_starts(moving)
        for partition, error in failed.items():
            log.warning("retention failed", partition=repr(partition), reason=str(error))
        for partition, start in starts.items():
            if partition not in failed:
                partition.apply_retention(now_ms, start)
                await asyncio.sleep(0)

    def high_watermarks(self) -> dict[str, dict[tuple[str, int], int]]:
        """By log directory's path, and by topic and index.

        Of a log whose role was not told in this life that is what an earlier one wrote down: it would be forgotten else.
        """
        marks = {
            directory.path: {
                key: mark
                for key, mark in directory.high_watermarks.items()
                if key in directory.logs
            }
            for directory in self._directories
        }
        for p in self:
            marks.setdefault(p.log.health.path, {})[p.topic, p.index] = p.high_watermark
        return marks

    def configure(self, topic: str, config: TopicConfig) -> None:
        """A topic's settings changed."""
        for partition in self:
            if partition.topic == topic:
                partition.log.update_config(config)

    def directory_failed(self, path: str) -> list[Partition]:
        """A log directory went offline: nobody leads from it any more. Returns who did."""
        self.moves.directory_failed(path)
        failed = [partition for partition in self if partition.log.health.path == path]
        if failed:
            log.error(
                "partitions are offline with their log directory",
                directory=path,
                partitions=len(failed),
            )
        for partition in failed:
            log.debug("partition is offline", partition=repr(partition), directory=path)
            self._go_offline(partition)
        return failed

    def _let_go(self, key: tuple[str, int]) -> None:
        partition = self._partitions.pop(key, None)
        if partition is not None:
            if self.fetchers is not None:
                self.fetchers.stop(partition)
            self.gone_bytes_in += partition.bytes_in
            self.gone_messages_in += partition.messages_in
            partition.resign(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)

    def _open(self, topic: str, topic_id: bytes, index: int, *, is_new: bool) -> Partition:
        found: Log | None = self._directories.get(topic, index)
        if found is not None and found.topic_id not in (ZERO_ID, topic_id):
            self._directories.set_aside(topic, index)
            found = None
        if found is None:
            found = self._directories.create(
                topic,
                index,
                topic_id,
                self._config_of(topic),
                self._clock.now_ms(),
                is_new=is_new,
            )
        else:
            found.assign_topic_id(topic_id)
        opened = Partition(
            topic,
            topic_id,
            index,
            found,
            node_id=self._node_id,
            flusher=self._flusher,
            unpacking=self.unpacking,
            lease=self._lease,
            peers=self.peers,
        )
        found.on_quarantined = self._quarantined
        mark = self._directories.checkpointed_high_watermark(found)
        opened.restore_high_watermark(mark)
        return opened

    def _tell_of_loss(self, only: Partition) -> None:
        """The only replica there is leads again whatever its machine lost: say what may be missing (INVARIANTS 20)."""
        found = only.log
        if found.is_on_disk and self._directories.directory_of(found).life.has_lost:
            log.warning(
                "records may be lost: they were acknowledged, and not synced when the machine went down",
                partition=repr(only),
                from_offset=found.log_end_offset,
                committed_before=self._directories.checkpointed_high_watermark(found),
            )
