"""Three brokers' replicas of one partition, a controller and a network, without sockets or time: for schedules.

The replicas, their logs on simulated disks, the leader's Fetch handler and the follower's rules are the real ones.
Everything between them is a list of what is under way, of which a schedule delivers, loses and repeats what it
likes; and it kills brokers, cuts their power, and lets their sessions expire. The controller here keeps Kafka's rules
of one partition's state in a few lines. ``check`` holds the invariants (their numbers are those of
``docs/invariants.md``) after every step; ``heal`` ends all faults and sees that everything comes together.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ottla.broker.handlers import fetch
from ottla.clock import ManualClock
from ottla.errors import ErrorCode, KafkaError
from ottla.log.flusher import Durability
from ottla.log.log import Log
from ottla.messages.leader_and_isr import LeaderAndIsrPartitionState
from ottla.network.sending import close_regions
from ottla.records.builder import build_batch
from ottla.replication.copies import Limits
from ottla.replication.partition import Partition
from ottla.settings.definitions import TopicConfig
from tests.property.replication_nodes import LAG_MS, NOW_MS, TOPIC, Ask, Connection, Node
from tests.unit.log.samples import all_records

IDS = (1, 2, 3)
VERSION = 17
PEER = SimpleNamespace(listener_name="PLAINTEXT")
MAY_BE_TOLD = (
    ErrorCode.NOT_LEADER_OR_FOLLOWER,
    ErrorCode.NOT_ENOUGH_REPLICAS,
    ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
)
LIMITS = Limits(
    max_bytes=1 << 20, response_max_bytes=1 << 20, min_bytes=1, wait_max_ms=0, backoff_ms=1
)


def batches(log: Log, start: int) -> list[tuple[int, bytes]]:
    """The batches of a log that end behind ``start``, with their base offsets, byte by byte."""
    return [
        (header.base_offset, bytes(segment.region(position, header.size_bytes).read()))
        for segment in log.segments
        for position, header in segment.headers()
        if header.last_offset >= start
    ]


class _Acknowledged:
    """The client of one Produce with acks=all."""

    def __init__(self, world: World) -> None:
        self.world = world

    def committed(self, token: Any) -> None:
        offset, value = token
        self.world.acknowledged[offset] = value

    def failed(self, token: object, code: ErrorCode) -> None:
        pass


class World:
    """Everything, and what was ever seen of it."""

    def __init__(self, seed: int, durability: Durability, minimum_isr: int = 1) -> None:
        self.choose = random.Random(seed)
        self.storm = self.choose.choice((0.005, 0.02, 0.05, 0.1))
        self.durability = durability
        self.clock = ManualClock()
        self.config = TopicConfig.of(
            segment_bytes=400, index_interval_bytes=100, min_insync_replicas=minimum_isr
        )
        self.steps = 0
        self.transactions = 100
        self.alive: dict[int, int] = {}
        self.asks: list[Ask] = []
        self.answers: list[tuple[Ask, ErrorCode, list[int], int, int]] = []
        self.connections: list[Connection] = []
        # The controller's state of the partition, and what it has not told yet.
        self.leader, self.leader_epoch, self.partition_epoch = 1, 0, 0
        self.isr = list(IDS)
        self.orders: dict[int, deque[LeaderAndIsrPartitionState]] = {n: deque() for n in IDS}
        # What was seen.
        self.number = 0
        self.values: dict[int, bytes] = {}
        self.acknowledged: dict[int, bytes] = {}
        self.committed_end = 0
        self.deleted_end = 0
        """Up to where somebody has asked to delete records."""
        self.appenders: dict[int, int] = {}
        self.marks: dict[tuple[int, int, int], int] = {}
        self.seen: dict[int, Any] = {}
        self.nodes = {n: Node(self, n) for n in IDS}
        for n in IDS:
            self.register(self.nodes[n])

    # What may happen

    def step(self) -> None:
        self.steps += 1
        self.clock.advance(1)
        kinds = self.faults() if self.choose.random() < self.storm else self.courses()
        self.choose.choice(kinds)()
        self.check()

    def faults(self) -> list[Callable[[], None]]:
        """What happens in a storm, each as often as it is named."""
        return [
            *[self.hang_up] * 2,
            *[self.elect] * 2,
            *[self.crash_or_start] * 3,
            *[self.expire_or_register] * 6,
            *[self.lapse_or_renew] * 2,
            *[self.wait] * 2,
        ]

    def courses(self) -> list[Callable[[], None]]:
        """What happens else."""
        return [
            *[self.produce] * 3,
            *[self.send] * 9,
            *[self.arrive] * 9,
            *[self.answer] * 9,
            *[self.flush] * 9,
            *[self.order] * 6,
            *[self.alter] * 3,
            *[self.alter_answered] * 3,
            *[self.look] * 2,
            *[self.flow] * 9,
            *[self.recover] * 2,
            self.tick,
            self.checkpoint,
        ]

    def some_node(self) -> Node:
        return self.nodes[self.choose.choice(IDS)]

    def produce(self) -> None:
        """To whoever believes that it leads."""
        leaders = [n for n in self.nodes.values() if n.partition and n.partition.is_leader]
        if not leaders:
            return
        node = self.choose.choice(leaders)
        partition = node.partition
        assert partition is not None
        self.number += 1
        value = b"%d" % self.number
        records = memoryview(bytearray(build_batch([(NOW_MS, b"k", value, [])])))
        acks = self.choose.choice((-1, -1, 1))
        try:
            appended: Any = partition.append_as_leader(records, NOW_MS, required_acks=acks)
            assert self.appenders.setdefault(partition.leader_epoch, node.id) == node.id, "10"
            offset = appended.base_offset
            if acks == -1 and partition.when_committed(
                offset + 1, _Acknowledged(self), (offset, value)
            ):
                self.acknowledged[offset] = value
        except KafkaError as error:
            if error.code not in MAY_BE_TOLD:
                raise

    def send(self, node: Node | None = None) -> None:
        node = node or self.some_node()
        copying = node.copying
        if not node.is_up or copying is None:
            return
        leader = self.nodes[copying.leader_id]
        connection = node.connection
        if connection is None or not connection.is_open:
            if not leader.is_up:
                return
            copying.lost()
            connection = Connection(node, node.life, leader, leader.life, copying)
            node.connection = connection
            self.connections.append(connection)
        request = copying.next_fetch(
            LIMITS,
            self.clock.monotonic(),
            version=VERSION,
            broker_epoch=node.broker_epoch,
        )
        if request is not None:
            connection.requests.append(request)

    def arrive(self, connection: Connection | None = None) -> None:
        """A Fetch comes to a leader, perhaps long after its follower has died."""
        waiting = [c for c in self.connections if c.requests]
        if connection is None:
            if not waiting:
                return
            connection = self.choose.choice(waiting)
        request = connection.requests.popleft()
        leader = connection.leader
        if not leader.is_up or leader.life != connection.leader_life:
            self._close(connection)
            connection.requests.clear()
            return
        received: Any = SimpleNamespace(
            body=request, api_version=VERSION, received_ms=NOW_MS, connection=PEER
        )
        response: Any = fetch.handle(leader.broker, received)
        for topic in response.responses:
            for data in topic.partitions:
                regions = data.records or []
                data.records = memoryview(b"".join(region.read() for region in regions))
                close_regions(regions)
        if connection.is_open:
            connection.responses.append(response)
        elif not connection.requests:
            self.connections.remove(connection)

    def answer(self, connection: Connection | None = None) -> None:
        """A response comes to its follower."""
        if connection is None:
            waiting = [c for c in self.connections if c.responses]
            if not waiting:
                return
            connection = self.choose.choice(waiting)
        response = connection.responses.popleft()
        copying, node = connection.copying, connection.follower
        if not node.is_up or node.copying is not copying:
            return
        for _ in copying.answered(response, self.clock.monotonic, NOW_MS):
            pass
        copying.appended = {}  # flushed by a step of its own, or never
        asking, copying.asking = copying.asking, []
        for copy in asking:
            leader = self.nodes[copying.leader_id].partition
            if leader is None or leader.leader_epoch != copy.leader_epoch:
                copying.range_not_found(copy, self.clock.monotonic())
            else:
                now = self.clock.monotonic()
                log = leader.log
                copying.found_range(copy, log.log_start_offset, log.log_end_offset, now)
        cuts, copying.cuts = copying.cuts, []
        for cut in cuts:
            (directory,) = node.directories.all
            directory.lower_recovery_points({(TOPIC, 0): 0 if cut.fully else cut.offset})
            before = cut.copy.replica.high_watermark
            copying.cut(cut, self.clock.monotonic(), NOW_MS)
            assert cut.copy.replica.log.log_end_offset >= before or self.may_differ(node), "12"
        for replica, start in copying.starts_due().items():
            node.keep_start(replica.log, start)
            replica.start_at(start)
            copying.touched(replica)

    def flow(self) -> None:
        """A follower asks, is answered, and flushes."""
        node = self.some_node()
        self.send(node)
        connection = node.connection
        if connection is not None and connection.requests:
            self.arrive(connection)
        if connection is not None and connection.responses:
            self.answer(connection)
        self.flush(node)

    def flush(self, node: Node | None = None) -> None:
        node = node or self.some_node()
        partition = node.partition
        if partition is not None and partition.log.is_dirty:
            partition.log.flush(NOW_MS)
            if node.copying is not None:
                node.copying.touched(partition)

    def look(self, node: Node | None = None) -> None:
        node = node or self.some_node()
        if node.partition is not None and node.partition.is_leader:
            node.partition.check_isr()

    def tick(self) -> None:
        self.clock.advance(self.choose.choice((1, 10, 50)))

    def wait(self) -> None:
        self.clock.advance(self.choose.choice((LAG_MS // 2, LAG_MS + 1)))

    def checkpoint(self) -> None:
        node = self.some_node()
        if node.is_up:
            node.checkpoint()

    def hang_up(self) -> None:
        """A connection breaks; what was sent may still arrive."""
        if self.connections:
            self._close(self.choose.choice(self.connections))

    def _close(self, connection: Connection) -> None:
        connection.is_open = False
        connection.responses.clear()
        if not connection.requests and connection in self.connections:
            self.connections.remove(connection)

    # Lives and sessions

    def crash_or_start(self) -> None:
        node = self.some_node()
        if not node.is_up:
            node.start()
            return
        if sum(one.is_up for one in self.nodes.values()) == 1 and self.choose.random() < 0.5:
            return
        node.is_up = False
        node.copying = node.connection = None
        for connection in list(self.connections):
            if connection.follower is node or connection.leader is node:
                self._close(connection)
        if self.durability is Durability.DISK and self.choose.random() < 0.5:
            node.disk.lose_power(self.choose.randrange(1 << 20))
        else:
            node.disk.restart()

    def lapse_or_renew(self, node: Node | None = None) -> None:
        """A broker loses sight of the store, and knows that its lease is over; or it sees it again."""
        node = node or self.some_node()
        if not node.is_up or node.broker_epoch < 0:
            return
        if not node.lease.is_over():
            node.lease.revoke()
        elif self.alive.get(node.id) == node.broker_epoch:
            node.lease.renew_from(lambda: float("inf"))
            if node.partition is not None:
                node.partition.lease_renewed()

    def recover(self) -> None:
        """A broker that is not well does the next thing that it has to do to be so."""
        node = self.some_node()
        if not node.is_up:
            node.start()
        elif self.alive.get(node.id, -2) != node.broker_epoch:
            self.expire_or_register(node)
        elif node.lease.is_over():
            self.lapse_or_renew(node)

    def expire_or_register(self, node: Node | None = None) -> None:
        node = node or self.some_node()
        is_registered = self.alive.get(node.id) is not None
        lives = node.is_up and self.alive.get(node.id) == node.broker_epoch
        if is_registered:
            if not lives or node.lease.is_over():
                self.expire(node.id)
        elif node.is_up:
            if node.broker_epoch >= 0:
                node.session_ended()
            self.register(node)

    def register(self, node: Node) -> None:
        self.transactions += 1
        node.broker_epoch = self.alive[node.id] = self.transactions
        node.lease.renew_from(lambda: float("inf"))
        self.orders[node.id].clear()  # what was meant for its earlier life
        if self.leader < 0 and node.id in self.isr:
            self._elect(node.id)
        else:
            self._tell([node.id])

    # The controller

    def expire(self, node_id: int) -> None:
        del self.alive[node_id]
        if node_id not in self.isr and self.leader != node_id:
            return
        if len(self.isr) > 1:
            self.isr = [n for n in self.isr if n != node_id]
        leader = self.leader
        if leader == node_id:
            leader = next((n for n in IDS if n in self.isr and n in self.alive), -1)
        self._elect(leader)

    def elect(self) -> None:
        """A reassignment, or a preferred leader's return."""
        candidates = [n for n in self.isr if n in self.alive]
        if candidates:
            self._elect(self.choose.choice(candidates))

    def _elect(self, leader: int) -> None:
        self.leader = leader
        self.leader_epoch += 1
        self.partition_epoch += 1
        self._tell(list(self.alive))

    def _tell(self, node_ids: list[int]) -> None:
        for node_id in node_ids:
            self.orders[node_id].append(
                LeaderAndIsrPartitionState(
                    partition_index=0,
                    leader=self.leader,
                    leader_epoch=self.leader_epoch,
                    partition_epoch=self.partition_epoch,
                    replicas=list(IDS),
                    isr=list(self.isr),
                )
            )

    def order(self, node: Node | None = None) -> None:
        """LeaderAndIsr comes to a broker; sometimes it comes again."""
        node = node or self.some_node()
        queue = self.orders[node.id]
        if not queue or not node.is_up or self.alive.get(node.id) != node.broker_epoch:
            return
        node.take_orders(queue[0])
        if self.choose.random() < 0.8:
            queue.popleft()

    def alter(self) -> None:
        """An AlterPartition comes to the controller; sometimes again, or its answer is lost."""
        if not self.asks:
            return
        ask = self.choose.choice(self.asks)
        chance = self.choose.random()
        code = self._alter(ask)
        if chance < 0.7:
            self.asks.remove(ask)
            self.answers.append(
                (ask, code, list(self.isr), self.leader_epoch, self.partition_epoch)
            )
        elif ask.partition.proposal is not ask.proposal:
            self.asks.remove(ask)

    def _alter(self, ask: Ask) -> ErrorCode:
        proposal = ask.proposal
        if self.alive.get(ask.node.id) is None or ask.node.life != ask.life:
            return ErrorCode.STALE_BROKER_EPOCH
        if proposal.leader_epoch != self.leader_epoch or self.leader != ask.node.id:
            return ErrorCode.FENCED_LEADER_EPOCH
        if sorted(proposal.isr) == sorted(self.isr):
            return ErrorCode.NONE
        if proposal.partition_epoch != self.partition_epoch:
            return ErrorCode.INVALID_UPDATE_VERSION
        for member, epoch in ask.isr:
            if member not in self.alive or epoch not in (-1, self.alive[member]):
                return ErrorCode.INELIGIBLE_REPLICA
        self.isr = list(proposal.isr)
        self.partition_epoch += 1
        return ErrorCode.NONE

    def alter_answered(self) -> None:
        if not self.answers:
            return
        ask, code, isr, epoch, partition_epoch = self.answers.pop(
            self.choose.randrange(len(self.answers))
        )
        if not ask.node.is_up or ask.node.life != ask.life:
            return
        if code is ErrorCode.NONE:
            ask.partition.isr_accepted(ask.proposal, isr, epoch, partition_epoch)
        elif ask.partition.isr_refused(ask.proposal, code):
            self.asks.append(ask)

    # What must hold

    def check(self) -> None:
        for node in self.nodes.values():
            partition = node.partition
            if partition is not None:
                self._check_replica(node, partition)
        for node_id in self.isr:
            partition = self.nodes[node_id].partition
            if partition is not None:
                end = partition.acknowledged_end_offset
                assert end >= self.committed_end, f"13, 14, 19: {node_id} lacks committed records"
        if self.leader >= 0:
            assert self.leader in self.isr, "16"
        leader = self.nodes[self.leader].partition if self.leader >= 0 else None
        if leader is not None and leader.is_leader and leader.leader_epoch == self.leader_epoch:
            known = leader.knows_its_latest_offset
            assert not known or leader.high_watermark >= self.committed_end, "4"

    def _check_replica(self, node: Node, partition: Partition) -> None:
        log, mark = partition.log, partition.high_watermark
        assert log.log_start_offset <= mark <= log.log_end_offset, "6"
        if partition.is_leader:
            key = (node.id, node.life, partition.leader_epoch)
            assert mark >= self.marks.get(key, 0), "4"
            self.marks[key] = mark
        state = (node.life, log.generation, log.log_end_offset, mark)
        if self.seen.get(node.id) == state:
            return
        self.seen[node.id] = state
        epoch = -1
        for segment in log.segments:
            for _, header in segment.headers():
                assert header.leader_epoch >= epoch, "9"
                epoch = header.leader_epoch
        held = {record.offset: bytes(record.value or b"") for record in all_records(log)}
        assert sorted(held) == list(range(log.log_start_offset, log.log_end_offset)), "8"
        if self.may_differ(node):
            return
        for offset in range(log.log_start_offset, mark):
            value = self.values.setdefault(offset, held[offset])
            assert held[offset] == value, f"2, 3: offset {offset} of {node.id}"
        self.committed_end = max(self.committed_end, mark)

    def may_differ(self, node: Node) -> bool:
        """Whether what is committed in the node's log may be something else than in the others'."""
        return False

    # The end of all faults

    def heal(self) -> None:
        """Let everything come through, until nothing is left to do; then look at what is there."""
        for node in self.nodes.values():
            if not node.is_up:
                node.start()
        for node_id in list(self.alive):
            node = self.nodes[node_id]
            if self.alive[node_id] != node.broker_epoch:
                self.expire(node_id)
            else:
                node.lease.renew_from(lambda: float("inf"))
                if node.partition is not None:
                    node.partition.lease_renewed()
        for node in self.nodes.values():
            if node.id not in self.alive:
                node.session_ended()
                self.register(node)
        for _ in range(60):
            self._round()
            self.check()
            if self._is_together():
                break
        else:
            raise AssertionError(f"it does not come together: {self}")
        partitions = [self._partition_of(node) for node in self.nodes.values()]
        start = max(partition.log.log_start_offset for partition in partitions)
        logs = [batches(partition.log, start) for partition in partitions]
        assert logs[0] == logs[1] == logs[2], "3"
        assert start <= self.deleted_end, "7: nobody asked for that"
        held = {r.offset: bytes(r.value or b"") for r in all_records(partitions[0].log)}
        for offset, value in self.acknowledged.items():
            if offset >= self.deleted_end:
                assert held.get(offset) == value, f"1: offset {offset} was acknowledged"

    def _round(self) -> None:
        self.clock.advance(2)
        for node in self.nodes.values():
            while self.orders[node.id]:
                node.take_orders(self.orders[node.id].popleft())
            self.flush(node)
            self.send(node)
        for connection in list(self.connections):
            while connection.requests:
                self.arrive(connection)
            while connection.responses:
                self.answer(connection)
        for node in self.nodes.values():
            self.flush(node)
        for _ in range(len(self.asks)):
            ask = self.asks.pop(0)
            code = self._alter(ask)
            self.answers.append(
                (ask, code, list(self.isr), self.leader_epoch, self.partition_epoch)
            )
        while self.answers:
            self.alter_answered()
        leader = self.nodes[self.leader].partition if self.leader >= 0 else None
        if leader is not None and leader.proposal is not None and not self.asks:
            self._tell([self.leader])  # what overtook the proposal is told, as the controller does

    def _partition_of(self, node: Node) -> Partition:
        assert node.partition is not None
        return node.partition

    def _is_together(self) -> bool:
        partitions = [node.partition for node in self.nodes.values()]
        if any(partition is None for partition in partitions) or sorted(self.isr) != list(IDS):
            return False
        ends = {p.log.log_end_offset for p in partitions if p is not None}
        marks = {p.high_watermark for p in partitions if p is not None}
        return len(ends) == 1 and ends == marks

    def __repr__(self) -> str:
        told = [f"leader {self.leader} in epoch {self.leader_epoch}, ISR {self.isr}"]
        for node in self.nodes.values():
            partition = node.partition
            told.append(
                f"{node.id}: "
                + (
                    "down"
                    if partition is None
                    else f"{partition.log!r} leader {partition.leader_id} in {partition.leader_epoch} "
                    f"hw {partition.high_watermark} isr {partition.isr} {partition.proposal}"
                )
            )
        return "; ".join(told)
