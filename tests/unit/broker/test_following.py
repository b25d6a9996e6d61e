"""What a follower's connections are set to."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from ottla.broker import following
from ottla.settings.broker_config import BrokerConfig


class Line:
    """A connection that keeps what it is set to."""

    def __init__(self) -> None:
        self.options: list[tuple[int, int, int]] = []

    def set_option(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))


@pytest.mark.parametrize(("given", "size"), [(None, None), (-1, None), (65_536, 65_536)])
def test_the_kernel_fits_the_receive_buffer_unless_a_size_is_given(
    given: int | None, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size that is set switches off the kernel's own fitting, even one that is its first guess, too."""
    line = Line()

    async def connect(*_: object, **__: object) -> Line:
        return line

    monkeypatch.setattr(following.Channel, "connect", connect)
    settings = {} if given is None else {"replica.socket.receive.buffer.bytes": given}
    broker: Any = SimpleNamespace(node_id=1, config=BrokerConfig.of(settings))
    asyncio.run(following._connect(broker, "leader", 9092))
    expected = [] if size is None else [(socket.SOL_SOCKET, socket.SO_RCVBUF, size)]
    assert line.options == expected
