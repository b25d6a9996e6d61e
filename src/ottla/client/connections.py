"""One channel a broker and purpose, made when first needed and again after a back-off when it broke.

A broker answers a connection's requests in order, so what may wait there (a Fetch) and what must not
(a Heartbeat) go over different channels: that is the purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ottla.client.dice import dice
from ottla.client.metadata import Node
from ottla.client.settings import ConnectionSettings
from ottla.errors import KafkaError
from ottla.logs import logger
from ottla.network.channel import Channel, ConnectionClosed

log = logger(__name__)

CLOSE_TIMEOUT_S = 1.0
"""How long a broker may take to read what is still on its way to it when we close."""

Key = tuple[str, int, str]
"""Host, port, purpose."""


class Connections:
    """All channels of one client."""

    def __init__(
        self, settings: ConnectionSettings, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        """``on_lost`` is called when a channel broke, whether or not it was in use."""
        self._settings = settings
        self._on_lost = on_lost
        self._watches: dict[asyncio.Task[None], Channel] = {}
        """Every channel whose socket is open, also one that is of no use any more."""
        self._channels: dict[Key, Channel] = {}
        self._connecting: dict[Key, asyncio.Task[Channel]] = {}
        self._failures: dict[Key, int] = {}
        self._closed = False

    def ready(self, node: Node, purpose: str) -> Channel | None:
        """The channel, if it is connected."""
        channel = self._channels.get((node.host, node.port, purpose))
        return channel if channel is not None and not channel.closed else None

    async def channel(self, host: str, port: int, purpose: str) -> Channel:
        """The channel, connected now if need be; raises ``KafkaError`` when that fails, or all are closed.

        A failed address is left alone for the back-off first; callers share one attempt.
        """
        key = (host, port, purpose)
        found = self._channels.get(key)
        if found is not None and not found.closed:
            return found
        return await asyncio.shield(self._attempt(key))

    def connect(self, node: Node, purpose: str, then: Callable[[], None]) -> None:
        """See that the channel gets connected; ``then`` is called once that has come out either way.

        Nothing happens once all channels are closed.
        """
        if self._closed:
            return
        task = self._attempt((node.host, node.port, purpose))
        task.add_done_callback(lambda _: then())

    def share(self, host: str, port: int, node: Node) -> None:
        """Let the node have the channel of the bootstrap address, if that is its own too."""
        if (host, port) != (node.host, node.port):
            return
        own = self._channels.get((host, port, "main"))
        if own is not None and not own.closed:
            return
        found = self._channels.pop((host, port, "bootstrap"), None)
        if found is not None:
            self._channels[host, port, "main"] = found

    def connected(self) -> list[Channel]:
        """The channels for plain requests, the least busy first; no one among several that are idle.

        A broker that has lost touch with its cluster answers as readily as the others, with old news.
        """
        found = [
            channel
            for (_, _, purpose), channel in self._channels.items()
            if purpose in ("main", "bootstrap") and not channel.closed
        ]
        dice.shuffle(found)
        return sorted(found, key=lambda channel: channel.in_flight)

    async def close(self) -> None:
        """Close all channels; requests without an answer fail."""
        self._closed = True
        tasks = list(self._connecting.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._channels.clear()
        watches = dict(self._watches)
        for channel in watches.values():
            channel.close()
        if watches:
            _, slow = await asyncio.wait(watches, timeout=CLOSE_TIMEOUT_S)
            for watch in slow:
                watches[watch].abort("the broker does not read what we send")
            await asyncio.wait(watches)

    def _attempt(self, key: Key) -> asyncio.Task[Channel]:
        task = self._connecting.get(key)
        if task is None:
            if self._closed:
                raise ConnectionClosed("the client is closed")
            task = asyncio.get_running_loop().create_task(self._connect(key))
            self._connecting[key] = task
            task.add_done_callback(lambda done: self._came_out(key, done))
        return task

    async def _connect(self, key: Key) -> Channel:
        failures = self._failures.get(key, 0)
        broken = self._channels.pop(key, None)
        if broken is not None:
            failures = max(failures, 1)
        if failures:
            settings = self._settings
            backoff_ms = min(
                settings.reconnect_backoff_ms * 2 ** min(failures - 1, 10),
                settings.reconnect_backoff_max_ms,
            )
            await asyncio.sleep(backoff_ms * dice.uniform(0.8, 1.2) / 1000)
        host, port, _ = key
        channel = await Channel.connect(
            host,
            port,
            client_id=self._settings.client_id,
            timeout=self._settings.connect_timeout_ms / 1000,
        )
        self._channels[key] = channel
        watch = asyncio.get_running_loop().create_task(self._watch(channel))
        self._watches[watch] = channel
        watch.add_done_callback(self._watches.pop)
        return channel

    async def _watch(self, channel: Channel) -> None:
        await channel.wait_closed()
        if not self._closed:
            self._on_lost()

    def _came_out(self, key: Key, task: asyncio.Task[Channel]) -> None:
        del self._connecting[key]
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failures.pop(key, None)
            return
        self._failures[key] = self._failures.get(key, 0) + 1
        if isinstance(error, KafkaError):
            # Once until it works again: it may be an address that the broker advertises to no use.
            write = log.warning if self._failures[key] == 1 else log.debug
            write(f"no connection to {key[0]}:{key[1]}", error=str(error))
        else:
            log.error("connecting failed", error=error, host=key[0], port=key[1])
