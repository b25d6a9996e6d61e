"""The controller: elected through the store, it alone changes topics, leaders and settings.

Rules: everything happens in turn, on one queue; a caller that gives up does not stop what it asked for.
Every write is conditional on the controller epoch and on the version of what it changes. Whoever is not in
office answers NOT_CONTROLLER and waits for the office to fall vacant. After a write whose outcome is unknown
the state is read again before anything else. The broker registers itself before its controller starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from ottla.clock import Clock, SystemClock
from ottla.controller.announcer import Announcer, ControlTarget
from ottla.controller.cluster_state import ClusterState
from ottla.controller.configs import (
    CLIENT_METRICS,
    TOPICS,
    ConfigAlteration,
    ConfigResult,
    read_config,
    write_config,
)
from ottla.controller.office import ControllerMoved, load_cluster, run_for_office, write
from ottla.controller.topic_changes import (
    TopicChanges,
    TopicDefaults,
    answer_for,
    not_controller,
)
from ottla.controller.topics import (
    NewPartitions,
    NewTopic,
    TopicResult,
    TopicRules,
    unknown_topic,
)
from ottla.coordination import znodes
from ottla.coordination.store import (
    BadVersion,
    Create,
    NodeExists,
    NoNode,
    Operation,
    SessionExpired,
    SessionState,
    Set,
    Store,
    StoreError,
    WatchEvent,
)
from ottla.coordination.znodes import MalformedZnode, ProducerIdBlock
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger

log = logger(__name__)

PRODUCER_ID_BLOCK_SIZE = 1000
_PRODUCER_ID_MAX = 2**63 - 1
_ATTEMPTS_MAX = 5
"""How often a change is tried against writers other than the controller before it is refused."""

DELETION_RETRY_S = 30.0
"""Pause before deletions are gone on with that a broker, or the store, could not carry out."""

OFFICE_RETRY_S = 0.5
"""Pause before the office is looked at again after the store gave no answer."""

_T = TypeVar("_T")


class _Work(NamedTuple):
    run: Callable[[], Awaitable[Any]]
    future: asyncio.Future[Any] | None  # None: for the controller itself


class Controller:
    """Runs for the office, and answers the brokers' administrative requests while it holds it."""

    def __init__(
        self,
        store: Store,
        broker_id: int,
        targets: Mapping[int, ControlTarget],
        *,
        rules: TopicRules,
        defaults: TopicDefaults | None = None,
        listener: str = "PLAINTEXT",
        clock: Clock | None = None,
        random_index: Callable[[int], int] | None = None,
    ) -> None:
        """``targets`` reach the brokers by id; ``listener`` is the one by which brokers do."""
        self._store = store
        self._broker_id = broker_id
        self._clock = clock or SystemClock()
        self._topics = TopicChanges(
            store,
            Announcer(targets, listener),
            rules,
            defaults or TopicDefaults(),
            random_index or _random_index,
        )
        self._state: ClusterState | None = None
        self._queue: asyncio.Queue[_Work] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._resumption: asyncio.TimerHandle | None = None

    @property
    def is_active(self) -> bool:
        """Whether this broker is the controller."""
        return self._state is not None

    @property
    def state(self) -> ClusterState | None:
        """The controller's picture of the cluster, to look at; None where it is not in office."""
        return self._state

    async def start(self) -> bool:
        """Run for the office and, if elected, bring the brokers up to date. Whether we were.

        Raises MalformedZnode if the store holds what can't be read, and what the store raises.
        """
        self._store.on_state(self._on_session_state)
        await self._check_office()
        self._task = asyncio.create_task(self._serve(), name="controller")
        return self.is_active

    async def close(self) -> None:
        """Leave office; what is under way is dropped, to be made good by the next controller."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        if self._resumption is not None:
            self._resumption.cancel()
        self._resign()
        while not self._queue.empty():
            self._refuse(self._queue.get_nowait().future, not_controller())

    # What brokers ask for

    async def create_topics(
        self, topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Create topics, or only say whether they could be. A result each; raises NOT_CONTROLLER."""
        wanted = list(topics)
        return await self._in_office(
            lambda state: self._topics.create(state, wanted, validate_only)
        )

    async def delete_topics(
        self, names: Iterable[str], *, ids: Mapping[str, bytes] | None = None
    ) -> list[TopicResult]:
        """Delete topics with all their records. A result each; raises NOT_CONTROLLER.

        A topic of which ``ids`` has the id is deleted only if it still has it when its turn comes.
        """
        wanted, known_ids = list(names), dict(ids or {})

        async def delete_all(state: ClusterState) -> list[TopicResult]:
            results = await self._topics.delete(state, wanted, known_ids)
            self._resume_later(state)
            return results

        return await self._in_office(delete_all)

    async def create_partitions(
        self, topics: Iterable[NewPartitions], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Add partitions to topics. A result each; raises NOT_CONTROLLER."""
        wanted = list(topics)
        return await self._in_office(
            lambda state: self._topics.add_partitions(state, wanted, validate_only)
        )

    async def alter_configs(
        self, alterations: Iterable[ConfigAlteration], *, validate_only: bool = False
    ) -> list[ConfigResult]:
        """Alter settings of topics, brokers and subscriptions. A result each; raises NOT_CONTROLLER."""
        wanted = list(alterations)

        async def alter_all(state: ClusterState) -> list[ConfigResult]:
            return [await self._alter(state, item, validate_only) for item in wanted]

        return await self._in_office(alter_all)

    async def allocate_producer_id_block(self, broker_id: int | None = None) -> tuple[int, int]:
        """The first and the number of producer ids that are the broker's alone, for good."""
        owner = self._broker_id if broker_id is None else broker_id
        return await self._in_office(lambda state: self._allocate(state, owner))

    async def config(self, entity_type: str, entity: str) -> dict[str, str]:
        """What is stored for a topic or broker (also where this broker is not the controller)."""
        return (await read_config(self._store, entity_type, entity)).config

    # Settings and producer ids

    async def _alter(
        self, state: ClusterState, item: ConfigAlteration, validate_only: bool
    ) -> ConfigResult:
        try:
            is_topic = item.entity_type == TOPICS
            if is_topic and (item.entity not in state.topics or item.entity in state.deleting):
                raise unknown_topic(item.entity)
            await self._try_again(lambda: self._alter_once(state, item, validate_only))
        except KafkaError as error:
            return ConfigResult(item.entity_type, item.entity, error.code, error.message)
        except StoreError as error:
            answer = answer_for(error)
            return ConfigResult(item.entity_type, item.entity, answer.code, answer.message)
        return ConfigResult(item.entity_type, item.entity)

    async def _alter_once(
        self, state: ClusterState, item: ConfigAlteration, validate_only: bool
    ) -> None:
        stored = await read_config(self._store, item.entity_type, item.entity)
        altered = item.alter(dict(stored.config))
        if validate_only:
            return
        operations = write_config(item.entity_type, item.entity, altered, stored.version)
        if not operations:
            return
        parent = znodes.CLIENT_METRICS_CONFIG
        if item.entity_type == CLIENT_METRICS and await self._store.exists(parent) is None:
            operations.insert(0, Create(parent))
        await write(self._store, state, [operations])
        log.info("settings altered", entity=f"{item.entity_type}/{item.entity}")

    async def _allocate(self, state: ClusterState, owner: int) -> tuple[int, int]:
        try:
            return await self._try_again(lambda: self._allocate_once(state, owner))
        except StoreError as error:
            raise answer_for(error) from error

    async def _allocate_once(self, state: ClusterState, owner: int) -> tuple[int, int]:
        (znode,) = await self._store.get_many([znodes.PRODUCER_ID_BLOCK])
        latest = ProducerIdBlock.decode(znode.data) if znode is not None else None
        first = latest.last + 1 if latest is not None else 0
        if first > _PRODUCER_ID_MAX - PRODUCER_ID_BLOCK_SIZE:
            raise KafkaError(ErrorCode.UNKNOWN_SERVER_ERROR, "Exhausted all producer ids.")
        block = ProducerIdBlock(owner, first, first + PRODUCER_ID_BLOCK_SIZE - 1)
        operation: Operation = (
            Create(znodes.PRODUCER_ID_BLOCK, block.encode())
            if znode is None
            else Set(znodes.PRODUCER_ID_BLOCK, block.encode(), znode.stat.version)
        )
        await write(self._store, state, [[operation]])
        return first, PRODUCER_ID_BLOCK_SIZE

    async def _try_again(self, change: Callable[[], Awaitable[_T]]) -> _T:
        """Repeat a read-and-write that lost to another writer."""
        for _ in range(_ATTEMPTS_MAX - 1):
            try:
                return await change()
            except (BadVersion, NodeExists, NoNode):
                continue
        return await change()

    # The office

    async def _check_office(self) -> None:
        """See who holds the office, and run for it if nobody does."""
        while True:
            holder = await self._store.exists(znodes.CONTROLLER, watch=self._on_office)
            if holder is None:
                self._resign()
                state = await run_for_office(self._store, self._broker_id, self._clock.now_ms())
                if state is not None:
                    log.info("elected controller", controller_epoch=state.controller_epoch)
                    await self._take_up(state)
                continue
            if holder.ephemeral_owner != self._store.session_id:
                self._resign()
            elif self._state is None:  # ours by an election whose answer was lost
                state = await run_for_office(self._store, self._broker_id, self._clock.now_ms())
                if state is None:
                    continue
                await self._take_up(state)
            return

    async def _take_up(self, office: ClusterState) -> None:
        """Read the cluster's state and make good what it asks for."""
        for attempt in range(_ATTEMPTS_MAX):
            state = ClusterState(
                office.controller_id, office.controller_epoch, office.epoch_version
            )
            try:
                await (
                    self._take_log_dir_events()
                )  # those of before say no more than the answers now
                await load_cluster(self._store, state)
                await self._topics.make_good(state)
            except (BadVersion, NodeExists, NoNode):  # somebody else writes too
                if attempt == _ATTEMPTS_MAX - 1:
                    raise
                continue
            if self._store.state is SessionState.EXPIRED:  # while the brokers were told
                raise SessionExpired("the session ended while taking office")
            if self._broker_id not in state.brokers:
                log.warning("the controller's own broker is not registered")
            self._state = state
            self._resume_later(state)
            return

    # Log directories that fail

    async def _take_log_dir_events(self) -> set[int]:
        """The brokers that gave notice of a failed log directory; the notices go, the next one is seen."""
        names = await self._store.children(znodes.LOG_DIR_EVENTS, watch=self._on_log_dir_event)
        paths = [f"{znodes.LOG_DIR_EVENTS}/{name}" for name in names]
        broker_ids = set()
        for path, znode in zip(paths, await self._store.get_many(paths), strict=True):
            if znode is None:
                continue
            try:
                broker_ids.add(znodes.decode_log_dir_event(path, znode.data))
            except MalformedZnode as error:
                log.error("a notice of a failed log directory can't be read", reason=str(error))
            await self._store.delete(path)
        return broker_ids

    async def _check_log_dirs(self) -> None:
        broker_ids = await self._take_log_dir_events()
        state = self._state
        if state is not None and broker_ids:
            log.warning("brokers have lost log directories", brokers=sorted(broker_ids))
            await self._topics.check_replicas(state, broker_ids)

    def _on_log_dir_event(self, event: WatchEvent) -> None:
        self._queue.put_nowait(_Work(self._check_log_dirs, None))

    def _resume_later(self, state: ClusterState) -> None:
        """See to it that deletions that are not complete go on, though nobody can ask for them again."""
        if state.deleting and self._resumption is None:
            loop = asyncio.get_running_loop()
            self._resumption = loop.call_later(DELETION_RETRY_S, self._resume)

    def _resume(self) -> None:
        self._resumption = None
        self._queue.put_nowait(_Work(self._resume_deletions, None))

    async def _resume_deletions(self) -> None:
        state = self._state
        if state is None:
            return
        try:
            if state.stale:
                await self._take_up(state)
            elif state.deleting:
                await self._topics.resume_deletions(state)
        finally:
            self._resume_later(self._state or state)

    def _resign(self) -> None:
        if self._state is not None:
            log.info("left the controller's office", epoch=self._state.controller_epoch)
            self._state = None

    def _on_office(self, event: WatchEvent) -> None:
        self._look_at_office()

    def _look_at_office(self) -> None:
        self._queue.put_nowait(_Work(self._check_office, None))

    def _on_session_state(self, session: SessionState) -> None:
        if session is SessionState.EXPIRED:
            self._resign()

    # The queue

    async def _in_office(self, work: Callable[[ClusterState], Awaitable[_T]]) -> _T:
        """Do ``work`` in its turn, with a state that is up to date."""

        async def run() -> _T:
            if self._state is not None and self._state.stale:
                await self._take_up(self._state)
            if self._state is None:
                raise not_controller()
            return await work(self._state)

        if self._task is None:
            raise not_controller()
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Work(run, future))
        return await future

    async def _serve(self) -> None:
        while True:
            run, future = await self._queue.get()
            try:
                result = await run()
            except ControllerMoved:
                self._resign()
                self._look_at_office()
                self._refuse(future, not_controller())
            except StoreError as error:
                if future is None and not isinstance(error, SessionExpired):
                    loop = asyncio.get_running_loop()
                    loop.call_later(OFFICE_RETRY_S, self._look_at_office)
                self._refuse(future, answer_for(error))
            except Exception as error:
                if not isinstance(error, KafkaError):
                    log.error("controller could not do its work", error=error)
                self._refuse(future, error)
            except asyncio.CancelledError:
                self._refuse(future, not_controller())
                raise
            else:
                if future is not None and not future.done():
                    future.set_result(result)

    def _refuse(self, future: asyncio.Future[Any] | None, error: Exception) -> None:
        if future is not None and not future.done():
            future.set_exception(error)


def _random_index(count: int) -> int:
    return int.from_bytes(os.urandom(4), "big") % count
