"""A cluster that does what a line says, and tells how things stand: for transcripts and cuts."""

from __future__ import annotations

import asyncio
from typing import Any

from ottla.controller.controller import Controller
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.store import NodeExists
from ottla.coordination.znodes import (
    BrokerRegistration,
    Endpoint,
    LeaderAndIsr,
    TopicAssignment,
)
from ottla.errors import ErrorCode
from ottla.messages.alter_partition import (
    AlterPartitionPartitionData,
    AlterPartitionRequest,
    AlterPartitionTopicData,
)
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    ReassignablePartition,
    ReassignableTopic,
)
from ottla.messages.controlled_shutdown import ControlledShutdownRequest
from ottla.messages.elect_leaders import ElectLeadersRequest, TopicPartitions
from ottla.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from tests.support.waiting import become


def ids(text: str) -> list[int]:
    return [int(number) for number in text.split(",")] if text else []


class Teller:
    """Does what a line says, and tells how things stand after a block."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.answers: list[str] = []
        self.controller: Controller
        self.store: Any

    async def say(self, line: str) -> None:
        """Do one command, and everything that follows from it."""
        word, *rest = line.split()
        await getattr(self, f"do_{word}")(*rest)
        await self.settle()

    async def settle(self) -> None:
        """Until nothing moves any more: the controller's queue and those of the brokers are empty."""
        controller = self.controller
        for _ in range(4):
            await self.store.exists("/")  # watches of what was written have fired
            await controller._queue.settle()
            if controller.state is None or controller.state.stale:
                await asyncio.sleep(0.003)  # it looks again in its own time
            for broker_id, broker in self.cluster.brokers.items():
                if not broker.unreachable:
                    await controller._announcer.idle(broker_id)

    async def do_brokers(self, count: str) -> None:
        await self.cluster.start(*range(1, int(count) + 1))
        self.store = await self.cluster.keeper.connect()
        self.controller = await self.cluster.started(1)

    async def do_topic(self, name: str, *assigned: str) -> None:
        assignments = {n: ids(text) for n, text in enumerate(a for a in assigned if "=" not in a)}
        configs: dict[str, str | None] = {
            a.split("=")[0]: a.split("=")[1] for a in assigned if "=" in a
        }
        topic = NewTopic(name, assignments=assignments, configs=configs)
        for result in await self.controller.create_topics([topic]):
            self.answer(result.error, result.message)

    async def do_kill(self, *brokers: str) -> None:
        for broker in brokers:
            await self.cluster.keeper.expire(self.cluster.sessions[int(broker)].session_id)

    async def do_start(self, *brokers: str) -> None:
        for broker in brokers:
            await self.cluster.add_broker(int(broker))

    async def do_bounce(self, broker: str) -> None:
        """The broker's session ends and it registers anew at once."""
        await self.cluster.keeper.expire(self.cluster.sessions[int(broker)].session_id)
        await self.cluster.add_broker(int(broker))

    async def do_unclean(self, broker: str) -> None:
        """The broker comes back, and may have lost what it acknowledged."""
        session = self.cluster.sessions[int(broker)] = await self.cluster.keeper.connect()
        endpoint = Endpoint("PLAINTEXT", "PLAINTEXT", f"host-{broker}", 9092)
        registration = BrokerRegistration(int(broker), (endpoint,), unclean=True)
        await register_broker(session, registration)

    async def do_clean(self, broker: str) -> None:
        """The broker has heard that it may have lost something, and says no more of it."""
        session = self.cluster.sessions[int(broker)]
        znode = await session.get(znodes.broker_path(int(broker)))
        registration = BrokerRegistration.decode(int(broker), znode.data)._replace(unclean=False)
        await session.set(znodes.broker_path(int(broker)), registration.encode())

    async def do_controller(self, broker: str) -> None:
        """The controller is cut off; another one takes office."""
        await self.controller.close()
        holder = await self.store.exists(znodes.CONTROLLER)
        if holder is not None:
            await self.store.delete(znodes.CONTROLLER)
        self.controller = await self.cluster.started(int(broker))

    async def do_stopping(self, broker: str) -> None:
        """``stopping N``: ControlledShutdown."""
        state = self.controller.state
        assert state is not None
        request = ControlledShutdownRequest(
            broker_id=int(broker), broker_epoch=state.brokers[int(broker)].epoch
        )
        response = await self.controller.controlled_shutdown(request)
        left = [f"{p.topic_name}-{p.partition_index}" for p in response.remaining_partitions]
        self.answer(ErrorCode(response.error_code), f"remaining: {' '.join(left) or 'none'}")

    async def do_isr(self, partition: str, members: str) -> None:
        """The leader asks for this ISR."""
        name, index = partition.rsplit("-", 1)
        state = self.controller.state
        assert state is not None
        now = state.topics[name].partitions[int(index)]
        response = await self.controller.alter_partition(
            AlterPartitionRequest(
                broker_id=now.leader,
                broker_epoch=state.brokers[now.leader].epoch,
                topics=[
                    AlterPartitionTopicData(
                        topic_name=name,
                        partitions=[
                            AlterPartitionPartitionData(
                                partition_index=int(index),
                                leader_epoch=now.leader_epoch,
                                partition_epoch=now.partition_epoch,
                                new_isr=ids(members),
                            )
                        ],
                    )
                ],
            )
        )
        codes = [p.error_code for topic in response.topics for p in topic.partitions]
        for code in (response.error_code, *codes):
            if code:
                self.answer(ErrorCode(code), None)

    async def do_elect(self, kind: str, *partitions: str) -> None:
        """``elect preferred|unclean [T-P...]``: of all partitions, if none is named."""
        named = [p.rsplit("-", 1) for p in partitions]
        response = await self.controller.elect_leaders(
            ElectLeadersRequest(
                election_type=["preferred", "unclean"].index(kind),
                topic_partitions=[
                    TopicPartitions(topic=name, partitions=[int(index)]) for name, index in named
                ]
                if named
                else None,
            )
        )
        for topic in response.replica_election_results:
            for result in topic.partition_result:
                code = ErrorCode(result.error_code)
                self.answers.append(f"{topic.topic}-{result.partition_id}: {code.name}")

    async def do_reassign(self, partition: str, replicas: str = "") -> None:
        """``reassign T-P [1,2,3]``: without replicas it is called off."""
        name, index = partition.rsplit("-", 1)
        wanted = ReassignablePartition(
            partition_index=int(index), replicas=ids(replicas) if replicas else None
        )
        response = await self.controller.alter_partition_reassignments(
            AlterPartitionReassignmentsRequest(
                topics=[ReassignableTopic(name=name, partitions=[wanted])]
            )
        )
        if response.error_code:
            self.answer(ErrorCode(response.error_code), response.error_message)
        for topic in response.responses:
            for answer in topic.partitions:
                self.answer(ErrorCode(answer.error_code), answer.error_message)

    async def do_reassignments(self) -> None:
        response = await self.controller.list_partition_reassignments(
            ListPartitionReassignmentsRequest()
        )
        for topic in response.topics:
            for p in topic.partitions:
                self.answers.append(
                    f"{topic.name}-{p.partition_index}: {p.replicas} +{p.adding_replicas} "
                    f"-{p.removing_replicas}"
                )

    async def do_znode(self, kind: str, *partitions: str) -> None:
        """An old tool writes ``/admin/...``: ``znode reassign T-P=1,2`` or ``znode prefer T-P``."""
        if kind == "reassign":
            wanted = {}
            for item in partitions:
                partition, replicas = item.split("=")
                name, index = partition.rsplit("-", 1)
                wanted[name, int(index)] = ids(replicas)
            path, data = znodes.REASSIGN_PARTITIONS, znodes.encode_reassignments(wanted)
        else:
            named = [item.rsplit("-", 1) for item in partitions]
            path = znodes.PREFERRED_REPLICA_ELECTION
            data = znodes.encode_preferred_election([(name, int(index)) for name, index in named])
        try:
            await self.store.create(path, data)
        except NodeExists:  # what was asked for before is not done yet
            self.answers.append("is there already")

    async def do_delete(self, name: str) -> None:
        for result in await self.controller.delete_topics([name]):
            self.answer(result.error, None)

    async def do_refuse(self, broker: str) -> None:
        """The broker's disk fails whatever is to be deleted."""
        self.cluster.brokers[int(broker)].refuse_deletions = True

    async def do_obey(self, broker: str) -> None:
        self.cluster.brokers[int(broker)].refuse_deletions = False

    async def do_allow(self, name: str) -> None:
        """The topic allows unclean elections from now on."""
        data = znodes.encode_config({"unclean.leader.election.enable": "true"})
        await self.store.set(znodes.config_path("topics", name), data)
        self.controller.unclean_election_allowed(name)

    async def do_balance(self) -> None:
        self.controller._happened(self.controller._rebalance)

    def answer(self, code: ErrorCode, message: str | None) -> None:
        self.answers.append(code.name + (f": {message}" if message else ""))

    async def told(self) -> list[str]:
        """How things stand; and every broker knows it."""
        lines, self.answers = self.answers, []
        for name in sorted(await self.store.children(znodes.TOPICS)):
            topic = TopicAssignment.decode(
                name, (await self.store.get(znodes.topic_path(name))).data
            )
            deleting = await self.store.exists(znodes.delete_topic_path(name)) is not None
            for index, replicas in sorted(topic.partitions.items()):
                line = f"{name}-{index}: on {','.join(map(str, replicas))}"
                for sign, table in (("+", topic.adding), ("-", topic.removing)):
                    if table.get(index):
                        line += f" {sign}{','.join(map(str, table[index]))}"
                path = znodes.partition_state_path(name, index)
                if await self.store.exists(path) is not None:
                    znode = await self.store.get(path)
                    now = LeaderAndIsr.decode(path, znode.data, znode.stat.version)
                    isr = ",".join(map(str, now.isr)) or "nobody"
                    line += f"; {now.leader} leads in epoch {now.leader_epoch}, in sync {isr}"
                    line += ", recovering" if now.leader_recovery_state else ""
                    if not deleting:
                        await self.check(name, index, replicas, now)
                lines.append(line + (", being deleted" if deleting else ""))
        for path in (znodes.REASSIGN_PARTITIONS, znodes.PREFERRED_REPLICA_ELECTION):
            if await self.store.exists(path) is not None:
                lines.append(f"{path}: {(await self.store.get(path)).data.decode()}")
        for broker_id, broker in self.cluster.brokers.items():
            for what in ("stopped", "deleted"):
                replicas_told = [f"{topic}-{index}" for topic, index in getattr(broker, what)]
                if replicas_told:
                    lines.append(f"{broker_id} {what} {' '.join(dict.fromkeys(replicas_told))}")
                getattr(broker, what).clear()
        return lines

    async def check(
        self, name: str, index: int, replicas: tuple[int, ...], now: LeaderAndIsr
    ) -> None:
        """Invariant 30: every live broker knows who leads, and every replica its leader's epoch."""
        state = self.controller.state
        assert state is not None
        assert state.topics[name].partitions[index] == now
        for broker_id in state.brokers:
            broker = self.cluster.brokers[broker_id]
            await become(
                lambda broker=broker: broker.topics.get(name, {}).get(index) == now.leader,
                lambda broker=broker: (broker.broker_id, broker.topics),
            )
            if broker_id in replicas and broker_id not in state.shutting_down:
                assert broker.replicas.get((name, index)) == (now.leader, now.leader_epoch)
