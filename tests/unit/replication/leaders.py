"""A leader with followers, for tests: its partition, the fetches that it hears, and the changes that it asks for."""

from __future__ import annotations

from typing import Any, cast

from ottla.clock import ManualClock
from ottla.log.directories import LogDirectories
from ottla.log.flusher import Durability
from ottla.log.log import Log
from ottla.replication.in_sync import Proposal
from ottla.replication.lease import Lease
from ottla.replication.partition import Partition
from ottla.replication.peers import Peers
from ottla.replication.recompression import Unpacking
from ottla.replication.replicas import Replicas
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, TOPIC_ID, batch, disk, new_log
from tests.unit.replication.test_partition import HeldFlusher

LAG_MS = 30_000
EPOCH = 5


def new_replicas(**more: Any) -> Replicas:
    """Broker 1's, on an empty disk; ``more`` of what ``Replicas`` takes."""
    on = disk()
    directories = LogDirectories(["/logs"], on)
    directories.open()
    return Replicas(
        directories,
        HeldFlusher(on, durability=Durability.OS),
        node_id=1,
        clock=ManualClock(NOW_MS),
        exists=lambda topic, index: True,
        config_of=lambda topic: TopicConfig.of(),
        **cast(Any, {"move_bytes_per_second": lambda: 0, **more}),
    )


class Asked:
    """Keeps what is proposed, for a test to answer."""

    def __init__(self) -> None:
        self.proposals: list[Proposal] = []

    def submit(self, partition: Partition, proposal: Proposal) -> None:
        self.proposals.append(proposal)

    async def close(self) -> None:
        pass

    @property
    def last(self) -> list[int]:
        return self.proposals[-1].isr


class Leader:
    """Broker 1, leading in epoch 5. Its log is flushed when a test says so, or, with ``durability=os``, need not be."""

    def __init__(
        self,
        replicas: list[int],
        isr: list[int],
        *,
        log: Log | None = None,
        durability: Durability = Durability.OS,
        lease: Lease | None = None,
        leader_epoch: int = EPOCH,
        **config: Any,
    ) -> None:
        self.clock = ManualClock()
        self.dead: set[int] = set()
        self.asked = Asked()
        self.peers = Peers(
            self.clock,
            lag_max_ms=lambda: LAG_MS,
            is_alive=lambda broker: broker not in self.dead,
            changes=self.asked,
        )
        self.partition = Partition(
            "orders",
            TOPIC_ID,
            0,
            log if log is not None else new_log(disk(), **config),
            node_id=1,
            flusher=HeldFlusher(disk(), durability=durability),
            unpacking=Unpacking(),
            lease=lease,
            peers=self.peers,
        )
        self.partition.become_leader(leader_epoch, 0, replicas, isr)

    def lead(self, leader_epoch: int) -> None:
        """Lead in another epoch, with the same replicas."""
        partition = self.partition
        partition.become_leader(leader_epoch, 1, partition.replicas, partition.isr)

    @property
    def high_watermark(self) -> int:
        return self.partition.high_watermark

    def append(self, count: int = 1, *, acks: int = -1) -> None:
        self.partition.append_as_leader(memoryview(batch(count)), NOW_MS, required_acks=acks)

    def fetch(self, replica: int, offset: int, *, epoch: int = 7, start: int = 0) -> None:
        self.partition.record_follower_fetch(replica, epoch, offset, start, self.peers.now_ms())

    def answer(self, isr: list[int] | None = None) -> None:
        """The controller accepts the last proposal, or has another ISR in its place."""
        proposal = self.asked.proposals[-1]
        epoch = proposal.partition_epoch + 1
        self.partition.isr_accepted(proposal, isr or proposal.isr, proposal.leader_epoch, epoch)
