"""Anything that can happen, in any order: no walk breaks an invariant, and in the end everything is whole.

Each walk has its own seed. Brokers die, come back, come back unclean and stop in order; controllers are cut off in
the middle of their writes; clients ask for whatever there is. At every write 15, 16, 27 and 28 hold (``history``);
when all brokers are back and in sync, every partition is led, nothing is under way, and everybody knows it (30).
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from ottla.controller import office, second_look
from ottla.controller.cluster_state import PartitionId
from ottla.coordination import znodes
from tests.unit.controller.conftest import Cluster
from tests.unit.controller.history import History
from tests.unit.controller.telling import Teller
from tests.unit.controller.test_controller_cuts import CutStore

BROKERS = (1, 2, 3, 4)
STEPS = 40


def numbers(text: str) -> set[int]:
    return set() if text == "nobody" else {int(number) for number in text.split(",")}


class Walk:
    """One walk over a cluster of four brokers."""

    def __init__(self, seed: int, cluster: Cluster) -> None:
        self.choose = random.Random(seed)
        self.cluster = cluster
        self.teller = Teller(cluster)
        self.alive = set(BROKERS)
        self.store: CutStore
        self.done: list[str] = []
        self._topics = 0

    async def start(self) -> None:
        await self.teller.do_brokers(str(len(BROKERS)))
        self.history = History(self.cluster.keeper, [self.teller.store.session_id])
        await self.teller.controller.close()
        await self.teller.store.delete(znodes.CONTROLLER)
        await self.new_controller()
        await self.do("topic t0 1,2,3 2,3,4 3,4,1")

    async def new_controller(self) -> None:
        self.session = await self.cluster.keeper.connect()
        self.store = CutStore(self.session)
        broker_id = self.choose.choice(sorted(self.alive))
        self.teller.controller = await self.cluster.started(broker_id, store=self.store)
        await self.teller.settle()

    async def do(self, line: str) -> None:
        self.done.append(line)
        await self.teller.say(line)
        if self.store.is_cut:
            self.done.append("(cut off)")
            await self.cluster.keeper.expire(self.session.session_id)
            await self.new_controller()

    def partitions(self) -> list[str]:
        state = self.teller.controller.state
        assert state is not None, self.done
        return [f"{name}-{index}" for name, index in state.partition_ids()]

    def some(self) -> str:
        brokers = list(BROKERS)
        self.choose.shuffle(brokers)
        return ",".join(map(str, brokers[: self.choose.randint(1, 3)]))

    async def step(self) -> None:
        if self.choose.random() < 0.3:
            applied, ends = self.choose.random() < 0.5, self.choose.random() < 0.6
            self.store.arm(self.choose.randint(1, 4), applied=applied, ends=ends)
        partitions = self.partitions() or ["none-0"]
        any_of = self.choose.choice(partitions)
        broker = self.choose.choice(BROKERS)
        lines = [f"reassign {any_of} {self.some()}", f"reassign {any_of}", "elect preferred"]
        lines += [f"znode reassign {any_of}={self.some()}", f"znode prefer {any_of}"]
        lines += ["balance", f"elect unclean {any_of}", f"grow {any_of}", f"grow {any_of}"]
        if self.choose.random() < 0.1:
            lines = [f"delete {any_of.rsplit('-', 1)[0]}"]
        elif self.choose.random() < 0.15:
            self._topics += 1
            lines = [f"topic t{self._topics} {self.some()}"]
        elif self.choose.random() < 0.5:
            if broker not in self.alive:
                self.alive.add(broker)
                lines = [f"start {broker}", f"unclean {broker}"]
            elif len(self.alive) > 1:
                lines = [f"kill {broker}", f"bounce {broker}", f"stopping {broker}"]
        line = self.choose.choice(lines)
        if line.startswith("kill"):
            self.alive.discard(broker)
        if line.startswith("grow"):
            await self.grow(any_of, self.choose.randint(1, 4))
        else:
            await self.do(line)
        await self.stand_still()
        if line.startswith("unclean"):
            await self.do(f"clean {broker}")

    async def stand_still(self) -> None:
        """Nothing moves: whoever lives knows what the store has, and no state names who should not be there."""
        state = self.teller.controller.state
        assert state is not None
        for line in await self.teller.told():
            name, found, rest = line.partition(": on ")
            if not found or "; " not in rest or "being deleted" in line:
                continue
            replicas = numbers(rest.partition(";")[0].partition(" ")[0])
            leader = int(rest.partition("; ")[2].partition(" leads")[0])
            isr = numbers(rest.partition("in sync ")[2].partition(", r")[0])
            assert isr <= replicas, line
            assert leader == -1 or leader in self.alive, line
            partition = PartitionId(*name.rsplit("-", 1)[:1], int(name.rsplit("-", 1)[1]))
            trusted = {b for b in state.online(partition) if not state.is_unclean(b)}
            assert leader != -1 or isr.isdisjoint(trusted), line

    async def grow(self, partition: str, most: int) -> None:
        """The leader takes into the ISR what it may, as followers that keep up make it do."""
        state = self.teller.controller.state
        assert state is not None
        name, index = partition.rsplit("-", 1)
        if name not in state.topics or int(index) not in state.topics[name].partitions:
            return
        now = state.topics[name].partitions[int(index)]
        if now.leader not in state.brokers:
            return
        joining = [
            replica
            for replica in state.topics[name].assignment[int(index)]
            if replica not in now.isr and state.is_alive(replica) and not state.is_unclean(replica)
        ]
        isr = [*now.isr, *joining[:most]]
        await self.do(f"isr {partition} {','.join(map(str, isr))}")

    async def heal(self) -> None:
        """Everybody comes back, forgets what it lost, and catches up; nobody stops any more."""
        for broker in BROKERS:
            await self.do(f"bounce {broker}" if broker in self.alive else f"start {broker}")
        self.alive = set(BROKERS)
        for _ in range(3):
            for partition in self.partitions():
                await self.do(f"elect unclean {partition}")
                await self.grow(partition, 4)
        await self.do("elect preferred")
        controller: Any = self.teller.controller
        controller._happened(controller._resume_deletions)
        await self.teller.settle()

    async def check(self) -> None:
        told = [line for line in await self.teller.told() if ": on " in line]
        for line in told:
            assert "-1 leads" not in line, line
            assert "+" not in line, line
            assert "being deleted" not in line, line
            replicas = line.partition(": on ")[2].partition(";")[0].split(",")
            isr = line.partition("in sync ")[2].partition(", ")[0].split(",")
            assert sorted(replicas) == sorted(isr), line
        assert await self.teller.store.children(znodes.DELETE_TOPICS) == []
        state = self.teller.controller.state
        assert state is not None
        replicas_of = {
            broker_id: {
                (name, index)
                for name, topic in state.topics.items()
                for index, replicas in topic.assignment.items()
                if broker_id in replicas
            }
            for broker_id in BROKERS
        }
        for broker_id, expected in replicas_of.items():
            broker = self.cluster.brokers[broker_id]
            assert expected == set(broker.replicas), broker_id
            assert set(broker.topics) == set(state.topics), broker_id


@pytest.mark.parametrize("seed", range(20))
async def test_no_walk_breaks_an_invariant_and_in_the_end_everything_is_whole(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(office, "STATES_TOGETHER", 2)
    monkeypatch.setattr(second_look, "RETRY_S", 0.001)
    cluster = Cluster()
    walk = Walk(seed, cluster)
    try:
        await walk.start()
        for _ in range(STEPS):
            await walk.step()
        await walk.heal()
        await walk.check()
    except BaseException as error:
        raise AssertionError(f"seed {seed}: {'; '.join(walk.done)}") from error
    finally:
        await cluster.close()
