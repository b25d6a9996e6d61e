"""A client of Node or Go, and members of groups that leave when their test ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.interop.programs.clients import CLIENTS
from tests.interop.programs.program import Program, program
from tests.interop.samples import Sample


class Member:
    """A consumer in a group."""

    _numbers = iter(range(1 << 30))

    def __init__(self, run: Program, group: str, **options: object) -> None:
        self.name = f"m{next(self._numbers)}"
        self._run = run
        self._left = False
        run.call("join", member=self.name, group=group, **options)

    def state(self) -> dict[str, Any]:
        """What it has and has read so far."""
        state: dict[str, Any] = self._run.call("state", member=self.name)
        return state

    @property
    def partitions(self) -> set[tuple[str, int]]:
        """What it owns."""
        return {(topic, partition) for topic, partition in self.state()["partitions"]}

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Partition and offset of each record that it has read, in its order."""
        return [(record["partition"], record["offset"]) for record in self.state()["records"]]

    @property
    def topics(self) -> set[str]:
        """The topics that it has read from."""
        return {record["topic"] for record in self.state()["records"]}

    def do(self, op: str, **args: object) -> None:
        """Have it commit or seek."""
        self._run.call(op, member=self.name, **args)

    def leave(self) -> None:
        """Leave the group; a second call does nothing."""
        if not self._left:
            self._left = True
            self._run.call("leave", member=self.name)


Join = Callable[..., Member]


@pytest.fixture
def client(request: pytest.FixtureRequest, bootstrap: str) -> Program:
    """The client that the test's parameter names."""
    return program(request.param, bootstrap)


@pytest.fixture
def join(bootstrap: str) -> Iterator[Join]:
    """Have a client join a group: ``join(client, group, topics=[...], strategy=...)``."""
    members: list[Member] = []

    def start(client: str, group: str, **options: object) -> Member:
        members.append(Member(program(client, bootstrap), group, **options))
        return members[-1]

    yield start
    for member in members:
        member.leave()


@pytest.fixture
def write(bootstrap: str) -> Callable[..., None]:
    """Write values to a partition, by a client."""

    def produce(client: str, topic: str, values: list[bytes], partition: int = 0) -> None:
        samples = [Sample(None, value) for value in values]
        CLIENTS[client].write(bootstrap, topic, partition, "none", samples)

    return produce
