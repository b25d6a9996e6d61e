"""The brokers of ``replication_world``: a disk each, and what they are in each of their lives."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ottla.broker.fetch_sessions import FetchSessions
from ottla.errors import ErrorCode
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Flusher
from ottla.log.log import Log
from ottla.messages.fetch import FetchRequest, FetchResponse
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.replication.copying import Copying
from ottla.replication.in_sync import Proposal
from ottla.replication.lease import Lease
from ottla.replication.partition import Partition
from ottla.replication.peers import Peers
from ottla.replication.replicas import Replicas
from ottla.simulation.disk import SimulatedDisk

if TYPE_CHECKING:
    from tests.property.replication_world import World

NOW_MS = 1_700_000_000_000
TOPIC, TOPIC_ID = "orders", bytes(range(16))
LAG_MS = 1000


class HeldFlusher(Flusher):
    """Syncs nothing by itself."""

    def request(self, log: Log, *, alone: bool = False) -> None:
        pass


@dataclass
class Ask:
    """An AlterPartition of one partition, on its way."""

    node: Node
    life: int
    partition: Partition
    proposal: Proposal
    isr: list[tuple[int, int]]


@dataclass
class Connection:
    """A follower's to a leader: what is on its way there, and back."""

    follower: Node
    life: int
    leader: Node
    leader_life: int
    copying: Copying
    requests: deque[FetchRequest] = field(default_factory=deque)
    responses: deque[FetchResponse] = field(default_factory=deque)
    is_open: bool = True


class Node:
    """A broker: its disk, and what it is in this life, if it lives."""

    def __init__(self, world: World, node_id: int) -> None:
        self.world = world
        self.id = node_id
        self.disk = SimulatedDisk()
        self.life = 0
        self.is_up = False
        self.broker_epoch = -1
        self.lease = Lease()
        self.start()

    def start(self) -> None:
        self.life += 1
        self.is_up = True
        self.broker_epoch = -1
        self.lease = Lease()
        self.lease.revoke()
        world = self.world
        self.directories = LogDirectories(["/logs"], self.disk)
        self.directories.open()
        self.directories.load(lambda topic: world.config, NOW_MS)
        assert not self.directories.all[0].quarantined
        flusher = HeldFlusher(self.disk, durability=world.durability)
        self.replicas = Replicas(
            self.directories,
            flusher,
            node_id=self.id,
            clock=world.clock,
            exists=lambda topic, index: True,
            config_of=lambda topic: world.config,
            move_bytes_per_second=lambda: 1,
            lease=self.lease,
            peers=Peers(
                world.clock,
                lag_max_ms=lambda: LAG_MS,
                is_alive=lambda broker: broker in world.alive,
                changes=Changes(self),
            ),
        )
        numbers = iter(range(self.life * 1000 + 1, self.life * 1000 + 1000))
        self.broker: Any = SimpleNamespace(
            config=SimpleNamespace(fetch_max_bytes=1 << 20),
            fetch_sessions=FetchSessions(100, lambda: next(numbers)),
            replicas=self.replicas,
            metadata=SimpleNamespace(topic_name=lambda topic_id: TOPIC, topics={}),
            parked_fetches=set(),
            endpoints=lambda listener: [],
            is_stopping=True,  # no Fetch waits
        )
        self.copying: Copying | None = None
        self.connection: Connection | None = None

    @property
    def partition(self) -> Partition | None:
        return self.replicas.get(TOPIC, 0) if self.is_up else None

    def checkpoint(self) -> None:
        (directory,) = self.directories.all
        directory.write_checkpoints(directory.take_checkpoints())
        directory.write_high_watermarks(self.replicas.high_watermarks().get(directory.path, {}))

    def keep_start(self, log: Log, start: int) -> None:
        """Write down where the log is going to start."""
        (directory,) = self.directories.all
        directory.promise_log_start(log, start)
        directory.write_log_starts(directory.log_starts())

    def take_orders(self, state: LeaderAndIsrPartitionState) -> None:
        """LeaderAndIsr."""
        before = self.partition.leader_epoch if self.partition is not None else -1
        if state.leader == self.id:
            code = self.replicas.lead(TOPIC, TOPIC_ID, state)
        else:
            code = self.replicas.follow(TOPIC, TOPIC_ID, state)
        partition = self.partition
        assert partition is not None
        assert (code == ErrorCode.STALE_BROKER_EPOCH) == (state.leader_epoch < before)
        if code:
            return
        leader = partition.leader_id
        if partition.is_leader or leader < 0:
            self.copying = self.connection = None
        elif self.copying is None or self.copying.leader_id != leader:
            self.copying, self.connection = Copying(leader, node_id=self.id), None
            self.copying.add(partition)
        else:
            self.copying.add(partition)

    def session_ended(self) -> None:
        """It learns that its session has expired: it resigns from everything."""
        self.lease.revoke()
        self.broker_epoch = -1
        self.copying = self.connection = None
        if self.partition is not None:
            self.partition.resign()


class Changes:
    """Puts a leader's proposals on their way to the controller."""

    def __init__(self, node: Node) -> None:
        self._node, self._life = node, node.life

    def submit(self, partition: Partition, proposal: Proposal) -> None:
        node = self._node
        in_sync = partition.in_sync
        assert in_sync is not None
        told = in_sync.epochs_of(proposal.isr, node.broker_epoch)
        node.world.asks.append(Ask(node, self._life, partition, proposal, told))

    async def close(self) -> None:
        pass
