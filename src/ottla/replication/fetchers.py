"""All the fetching of a broker: which replica is copied from whom. Loaded once this broker follows at all.

Rules: a replica is copied from one leader at a time, in the leader epoch that it was told last; a leader has
``num.replica.fetchers`` connections at most, and none once nothing is copied from it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from ottla.records.crc import crc32c
from ottla.replication.copies import Copy
from ottla.replication.copying import Copying
from ottla.replication.fetcher import Fetcher, Surroundings
from ottla.replication.replica import NO_LEADER

if TYPE_CHECKING:
    from ottla.replication.replica import Replica


class Fetchers:
    """The fetchers of a broker, by leader."""

    def __init__(self, around: Surroundings, *, per_leader: Callable[[], int] = lambda: 1) -> None:
        """``per_leader`` is asked when a partition gets its leader."""
        self._around = around
        self._per_leader = per_leader
        self._fetchers: dict[tuple[int, int], Fetcher] = {}
        self._fetcher_of: dict[tuple[str, int], Fetcher] = {}
        self._replicas: dict[tuple[str, int], Replica] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    def __len__(self) -> int:
        return len(self._fetcher_of)

    def __iter__(self) -> Iterator[Copy]:
        for fetcher in tuple(self._fetchers.values()):
            yield from fetcher.copying

    @property
    def leaders(self) -> set[int]:
        """Whom this broker copies from."""
        return {leader for leader, _ in self._fetchers}

    def is_connected(self, leader_id: int) -> bool:
        """Whether a leader is reached at this time."""
        return any(
            fetcher.is_connected
            for (leader, _), fetcher in self._fetchers.items()
            if leader == leader_id
        )

    def copy_of(self, topic: str, index: int) -> Copy | None:
        """How far the copying of a partition is; None if it is not copied."""
        fetcher = self._fetcher_of.get((topic, index))
        return None if fetcher is None else fetcher.copying.get(topic, index)

    def follow(self, replica: Replica) -> None:
        """Copy ``replica`` from the leader that it has, in its epoch; from nobody where it has none."""
        name = (replica.topic, replica.index)
        leader_id = replica.leader_id
        before = self._fetcher_of.get(name)
        if self._closed or leader_id in (NO_LEADER, replica.node_id):
            self.stop(replica)
            return
        key = (leader_id, crc32c(f"{name[0]} {name[1]}".encode()) % max(1, self._per_leader()))
        fetcher = self._fetchers.get(key)
        if before is not None and (before is not fetcher or self._replicas[name] is not replica):
            self.stop(self._replicas[name])
            fetcher = self._fetchers.get(key)
        if fetcher is None:
            copying = Copying(
                leader_id, node_id=self._around.node_id, throttle=self._around.throttle
            )
            fetcher = self._fetchers[key] = Fetcher(copying, self._around)
        self._fetcher_of[name] = fetcher
        self._replicas[name] = replica
        fetcher.add(replica)

    def stop(self, replica: Replica) -> None:
        """Copy ``replica`` no more. An answer that is under way is not applied."""
        name = (replica.topic, replica.index)
        fetcher = self._fetcher_of.get(name)
        if fetcher is None or self._replicas[name] is not replica:
            return
        del self._fetcher_of[name], self._replicas[name]
        fetcher.remove(replica)
        if not len(fetcher.copying):
            self._fetchers = {key: one for key, one in self._fetchers.items() if one is not fetcher}
            self._end(fetcher)

    def _end(self, fetcher: Fetcher) -> None:
        task = asyncio.get_running_loop().create_task(fetcher.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def brokers_changed(self) -> None:
        """Brokers have come, or have other addresses: whoever waits for one need not."""
        for fetcher in self._fetchers.values():
            fetcher.try_again()

    async def close(self) -> None:
        """End all of it. Nothing is appended by a fetcher once this was called."""
        self._closed = True
        for fetcher in self._fetchers.values():
            self._end(fetcher)
        self._fetchers, self._fetcher_of, self._replicas = {}, {}, {}
        if self._closing:
            await asyncio.wait(tuple(self._closing))
