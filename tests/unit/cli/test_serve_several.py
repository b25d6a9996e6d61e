"""When ``ottla serve --brokers N`` says that it is ready; the brokers and their store are stand-ins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from ottla import capabilities
from ottla.cli import serve_several
from ottla.cli.serve_several import BrokerEnded, Several
from ottla.cli.several_places import Member
from tests.support.waiting import eventually_true

Script = Callable[[Several, list[Any]], Awaitable[None]]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the service manager was told."""
    states: list[str] = []
    monkeypatch.setattr(capabilities, "notify_service_manager", states.append)
    return states


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The stand-ins that run: each does nothing until all stop, or ends with the code that a test sets."""
    running: list[Any] = []

    class StandIn(serve_several._Broker):
        def __init__(self, several: Several, member: Member) -> None:
            super().__init__(several, member)
            self.where = f"127.0.0.1:{9091 + member.number}"
            self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            running.append(self)

        async def _run(self) -> int:
            stopped = asyncio.create_task(self._several.stop.wait())
            await asyncio.wait((stopped, self.ended), return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            return self.ended.result() if self.ended.done() else 0

    async def no_store(several: Several, exits: Any) -> None:
        """There is nobody to use it."""

    monkeypatch.setattr(serve_several, "_Broker", StandIn)
    monkeypatch.setattr(Several, "_open_store", no_store)
    return running


def _run(data: Path, script: Script, brokers: list[Any]) -> int:
    """The command's exit code, with two brokers and the script beside."""

    async def main() -> int:
        several = Several((str(data),), [Member(1, 1, []), Member(2, 2, [])])
        command = asyncio.create_task(several.run())
        await script(several, brokers)
        return await command

    return asyncio.run(main())


async def _turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_it_is_ready_when_the_last_broker_is(
    tmp_path: Path,
    told: list[str],
    brokers: list[Any],
    order: tuple[int, int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, last = order

    async def script(several: Several, brokers: list[Any]) -> None:
        brokers[first].ready.set()
        await _turns()
        assert told == []
        brokers[last].ready.set()

        async def is_told() -> bool:
            return bool(told)

        await eventually_true(is_told, "READY")
        several.stop.set()

    assert _run(tmp_path, script, brokers) == 0
    assert told == [f"READY=1\nMAINPID={os.getpid()}"]
    (line,) = capsys.readouterr().out.splitlines()
    assert "2 brokers, node 1 on 127.0.0.1:9092, node 2 on 127.0.0.1:9093" in line


def test_nobody_is_told_that_it_is_ready_where_one_of_the_brokers_does_not_start(
    tmp_path: Path, told: list[str], brokers: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(several: Several, brokers: list[Any]) -> None:
        brokers[0].ready.set()
        brokers[1].ended.set_result(3)

    with pytest.raises(BrokerEnded) as ended:
        _run(tmp_path, script, brokers)
    assert ended.value.code == 3
    assert told == []
    assert capsys.readouterr().out == ""
