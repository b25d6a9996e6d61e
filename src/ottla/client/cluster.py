"""A client's view of a cluster: fresh metadata, and requests to the right broker.

The metadata are asked for again when they are old, when something turned out to be wrong
(``request_refresh``), and until what is waited for is there (``wait_for``). Attempts go to a connected
broker, then to any known one, then to the bootstrap addresses, so that a cluster whose brokers all moved
is found again. Failures are retried with a back-off for as long as anybody is interested.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from ottla.client.connections import Connections
from ottla.client.dice import dice
from ottla.client.errors import NoBrokerAvailable, RequestTimeout
from ottla.client.metadata import Metadata
from ottla.client.settings import ConnectionSettings
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.metadata import MetadataRequest, MetadataRequestTopic
from ottla.network.channel import Channel
from ottla.topic_ids import ZERO_ID
from ottla.wire.schema import Message

log = logger(__name__)

T = TypeVar("T")

FIRST_PAUSE_MS = 5
CONNECT_STAGGER_S = 0.5
"""How long an address may take to connect before the next one is tried beside it."""
MISSING_TOPIC_MS = 1_000
"""How often a topic that is not there is asked for, at least."""


def _heed(attempt: asyncio.Future[Channel]) -> None:
    if not attempt.cancelled():
        attempt.exception()


class Cluster:
    """Used by one event loop."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self.settings = settings
        self.metadata = Metadata()
        # A broker that goes may come back elsewhere, and the others after it: who is idle hears of it in time.
        self.connections = Connections(settings, self.request_refresh)
        self.all_topics = False
        """Whether the metadata of every topic are wanted (a subscription by pattern)."""
        self.on_update: list[Callable[[], None]] = []
        self._topics: dict[str, None] = {}
        self._transient: Counter[str] = Counter()
        self._wanted = asyncio.Event()
        self._waiters: list[asyncio.Future[bool]] = []
        self._task: asyncio.Task[None] | None = None
        self._last_error: KafkaError | None = None
        self._refreshed_at: float | None = None
        self._told_by: tuple[str, int] | None = None
        """Who gave the last metadata, if they turned out to be wrong at once."""
        self._closed = False

    # Lifetime

    def start(self) -> None:
        """Begin to keep the metadata fresh."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_fresh())

    async def close(self) -> None:
        """Stop, and close all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        self._closed = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(False)
        await self.connections.close()

    # Metadata

    def add_topics(self, *names: str) -> bool:
        """Take an interest in topics; whether there was one that is not known yet."""
        self._topics.update(dict.fromkeys(names))
        return any(name not in self.metadata.topics for name in names)

    def set_topics(self, names: set[str]) -> None:
        """Take an interest in just these topics."""
        self._topics = dict.fromkeys(sorted(names))

    @contextlib.contextmanager
    def interest(self, names: Iterable[str]) -> Iterator[None]:
        """Take an interest in topics for as long as the block lasts (``ConsumerMetadata.addTransientTopics``)."""
        topics = list(names)
        self._transient.update(topics)
        try:
            yield
        finally:
            self._transient -= Counter(topics)

    def request_refresh(self) -> None:
        """Something is wrong with what we know: ask again soon."""
        self._wanted.set()

    async def refresh(self) -> bool:
        """Ask again now; returns after the next attempt whether it succeeded; ``RuntimeError`` when closed."""
        if self._closed:
            raise RuntimeError("the client is closed")
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self._wanted.set()
        return await waiter

    async def wait_for(self, found: Callable[[], T | None], timeout_ms: float, what: str) -> T:
        """The first result of ``found`` that is not None, refreshing until there is one.

        Raises what ``found`` raises; ``RequestTimeout`` (or ``NoBrokerAvailable`` when nobody
        answered) after ``timeout_ms``.
        """
        result = found()
        if result is not None:
            return result
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while True:
                    await self.refresh()
                    result = found()
                    if result is not None:
                        return result
        except TimeoutError:
            if self._refreshed_at is None:
                addresses = ", ".join(f"{host}:{port}" for host, port in self.settings.bootstrap)
                reason = "no answer" if self._last_error is None else self._last_error.message
                raise NoBrokerAvailable(
                    f"{what}: no broker at {addresses} within {timeout_ms:.0f} ms: {reason}"
                ) from None
            reasons = ", ".join(f"{name}: {c.name}" for name, c in self.metadata.errors.items())
            raise RequestTimeout(
                f"{what}: not within {timeout_ms:.0f} ms" + (f" ({reasons})" if reasons else "")
            ) from None

    async def _keep_fresh(self) -> None:
        failures = rounds = without = 0
        while True:
            without = without + 1 if self._misses_a_topic() else 0
            with contextlib.suppress(TimeoutError):  # old age is a reason to ask, too
                async with asyncio.timeout(self._max_age_ms(without) / 1000):
                    if not self._wanted.is_set():
                        rounds = 0
                        self._told_by = None
                    await self._wanted.wait()
            self._wanted.clear()
            waiters, self._waiters = self._waiters, []
            answered = False
            try:
                await self._refresh_once()
                answered = True
                failures = 0
            except KafkaError as error:
                self._last_error = error
                failures += 1
                self._wanted.set()
                log.debug("no metadata", error=str(error))
            finally:  # also when all is closed meanwhile
                for waiter in waiters:
                    if not waiter.done():
                        waiter.set_result(answered)
            await asyncio.sleep(self._pause_ms(failures, rounds) * dice.uniform(0.8, 1.2) / 1000)
            rounds += 1

    def _misses_a_topic(self) -> bool:
        errors = self.metadata.errors
        return any(name in errors and errors[name].retriable for name in self._asked())

    def _max_age_ms(self, without: int) -> float:
        """For how long to go by what is known, which may have lacked a topic for some rounds.

        A broker may hear of a topic a moment after its creation was answered, and no error tells a consumer.
        """
        settings = self.settings
        if not without:
            return settings.metadata_max_age_ms
        soon = min(MISSING_TOPIC_MS, settings.retry_backoff_ms << min(without, 10))
        return min(settings.metadata_max_age_ms, soon)

    def _pause_ms(self, failures: int, rounds: int) -> float:
        """Soon again at first (a topic that is just being made), then no more often than the back-off."""
        if failures:
            return self.settings.retry_backoff_ms  # what a broken connection waits comes on top
        return min(float(self.settings.retry_backoff_ms), FIRST_PAUSE_MS * (1 << min(rounds, 10)))

    async def _refresh_once(self) -> None:
        failures: list[str] = []
        async for channel in self._candidates(failures):
            try:
                response = await channel.send(
                    self._metadata_request(channel),
                    timeout=self.settings.request_timeout_ms / 1000,
                )
            except KafkaError as failure:
                failures.append(str(failure))
                continue
            code = getattr(response, "error_code", 0)
            if code:
                failures.append(f"{channel.host}:{channel.port}: {ErrorCode(code).name}")
                continue
            self._take_over(channel, response)
            return
        raise NoBrokerAvailable("; ".join(dict.fromkeys(failures)))

    def _asked(self) -> dict[str, None]:
        return self._topics | dict.fromkeys(self._transient)

    def _metadata_request(self, channel: Channel) -> MetadataRequest:
        topics: list[MetadataRequestTopic] | None = None
        if not self.all_topics:
            topics = [MetadataRequestTopic(topic_id=ZERO_ID, name=name) for name in self._asked()]
        elif channel.version_for(3) == 0:
            topics = []  # version 0 has no null: an empty list is all
        return MetadataRequest(
            topics=topics,
            allow_auto_topic_creation=self.settings.allow_auto_create_topics,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )

    def _take_over(self, channel: Channel, response: Any) -> None:
        asked = set(self._asked())
        self.metadata.update(response)
        if self.all_topics:
            self.metadata.keep_only({t.name for t in response.topics if t.name} | asked)
        else:
            self.metadata.keep_only(asked)
        self._refreshed_at = asyncio.get_running_loop().time()
        self._told_by = (channel.host, channel.port)
        for node in self.metadata.nodes.values():
            self.connections.share(channel.host, channel.port, node)
        for listener in self.on_update:
            listener()

    async def _candidates(self, failures: list[str]) -> AsyncIterator[Channel]:
        """Whoever is connected, then whoever is known; last of all who has told us and was no help."""
        last: list[Channel] = []
        for channel in self.connections.connected():
            if (channel.host, channel.port) == self._told_by:
                last.append(channel)
            else:
                yield channel
        known = [
            (node.host, node.port, "main")
            for node in self.metadata.nodes.values()
            if (node.host, node.port) != self._told_by
        ]
        dice.shuffle(known)
        known += [
            (host, port, "bootstrap")
            for host, port in self.settings.bootstrap
            if (host, port, "main") not in known and (not last or (host, port) != self._told_by)
        ]
        attempts: set[asyncio.Future[Channel]] = set()
        for host, port, purpose in known:
            attempt = asyncio.ensure_future(self.connections.channel(host, port, purpose))
            attempt.add_done_callback(_heed)  # perhaps nobody looks at it any more
            attempts.add(attempt)
            is_last = (host, port, purpose) == known[-1]
            while attempts:
                done, attempts = await asyncio.wait(
                    attempts,
                    timeout=None if is_last else CONNECT_STAGGER_S,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for ended in done:
                    error = ended.exception()
                    if error is None:
                        yield ended.result()
                    elif isinstance(error, KafkaError):
                        self._last_error = error
                        failures.append(str(error))
                    else:
                        raise error
                if not is_last:
                    break  # the next one, too, whether or not this one still tries
        for channel in last:
            if not channel.closed:
                yield channel

    # Requests

    async def channel(self, node_id: int, purpose: str = "main") -> Channel:
        """The channel to a node; raises ``KafkaError`` (retriable) when it cannot be had."""
        node = self.metadata.nodes.get(node_id)
        if node is None:
            raise KafkaError(ErrorCode.NETWORK_EXCEPTION, f"broker {node_id} is not known")
        try:
            return await self.connections.channel(node.host, node.port, purpose)
        except KafkaError:
            self.request_refresh()
            raise

    async def send(
        self,
        node_id: int,
        message: Message,
        *,
        purpose: str = "main",
        version: int | None = None,
        timeout_ms: int | None = None,
    ) -> Any:
        """Send to a node and wait for the answer; raises ``KafkaError`` when none comes."""
        channel = await self.channel(node_id, purpose)
        timeout = (self.settings.request_timeout_ms if timeout_ms is None else timeout_ms) / 1000
        return await channel.send(message, version=version, timeout=timeout)

    async def any_node(self, timeout_ms: int | None = None, *, but: int | None = None) -> int:
        """The id of some broker: of those that are connected, if any, the least busy.

        Not the one that was no help (``but``), if there are others: it may have lost touch with its cluster.
        """

        def found() -> int | None:
            nodes = self.metadata.nodes
            ready = [
                (channel.in_flight, dice.random(), node.node_id)
                for node in nodes.values()
                if node.node_id != but
                and (channel := self.connections.ready(node, "main")) is not None
            ]
            if ready:
                return min(ready)[2]
            others = [node_id for node_id in nodes if node_id != but] or list(nodes)
            return dice.choice(others) if others else None

        wait_ms = self.settings.request_timeout_ms if timeout_ms is None else timeout_ms
        return await self.wait_for(found, wait_ms, "a broker")
