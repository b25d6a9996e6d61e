"""One broker: every room wired together, started and stopped in order. The only module that knows them all.

Rules:
- The order of the start: the listeners' addresses, before anything is written; the data directories' locks;
  the coordination store; the logs, recovered; whoever connects is accepted; the registration; the controller,
  which makes this broker lead. Requests that come meanwhile wait for the end of it.
- The order of the stop is the reverse, and a clean one leaves nothing to recover. A start that failed or was
  cancelled is stopped like any other: what it had opened is closed, and where its logs were not all loaded
  nothing claims that they need no recovery.
- A log directory whose disk failed takes its partitions offline, and the controller is told of it; the others
  go on. The last one takes the broker down, and so does the coordination store, wherever it lies.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Collection, Coroutine, Generator, Iterator
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ottla.broker import listening
from ottla.broker.chores import Chores
from ottla.broker.control import Control
from ottla.broker.controller_link import ControllerLink
from ottla.broker.controlling import new_controller
from ottla.broker.fetch_sessions import FetchSessions
from ottla.broker.group_loading import GroupLoading, coordinate_groups
from ottla.broker.internal_topics import (
    CONSUMER_OFFSETS,
)
from ottla.broker.leading import peers_of
from ottla.broker.metadata_cache import MetadataCache
from ottla.broker.producer_ids import ProducerIds, allocate
from ottla.broker.store_place import check_exported, find_store, open_store
from ottla.broker.taking_part import registration_of, session_of
from ottla.clock import Clock, SystemClock
from ottla.controller.configs import ConfigListener
from ottla.coordination import znodes
from ottla.coordination.bootstrap import (
    catch_up,
    notify_log_dir_event,
    prepare_layout,
    read_cluster_id,
)
from ottla.coordination.store import Connector, Store, StoreError
from ottla.coordination.znodes import BrokerRegistration, Endpoint
from ottla.errors import ErrorCode, KafkaError
from ottla.groups.settings import GroupSettings
from ottla.log.checkpoints import MetaProperties
from ottla.log.directories import DirectoryMismatch, LogDirectories
from ottla.log.disk import Disk
from ottla.log.distrust import note_failure
from ottla.log.flusher import Durability, Flusher
from ottla.logs import logger
from ottla.messages.registry import API_NAMES, API_VERSIONS, BETWEEN_BROKERS, module_name
from ottla.network.request import Answers, Unsettled
from ottla.network.server import Listener, Server
from ottla.network.stepping import run
from ottla.replication.gathering import Gathering
from ottla.replication.lease import Lease
from ottla.replication.replicas import Replicas
from ottla.settings.setting import SettingError
from ottla.settings.topic_config import TopicConfig

if TYPE_CHECKING:
    from ottla.broker.handlers.fetch import ParkedFetch
    from ottla.broker.log_cleaner import LogCleaner
    from ottla.broker.observation import Observation
    from ottla.broker.session import Session
    from ottla.broker.telemetry import ClientTelemetry
    from ottla.broker.topic_creation import TopicCreation
    from ottla.controller.controller import Controller
    from ottla.groups.coordinator import Coordinator
    from ottla.network.request import Request
    from ottla.network.stepping import Answer
    from ottla.replication.fetchers import Fetchers
    from ottla.replication.partition import Partition
    from ottla.settings.broker_config import BrokerConfig
    from ottla.wire.schema import Message

log = logger(__name__)

STOP_GRACE_S = 5.0

FIRST_WORD_S = 10.0
"""How long a client's first request waits for the controller to tell this broker of the cluster."""

EARLY = BETWEEN_BROKERS | {API_VERSIONS}
"""What a broker of a cluster answers before it is ready: it becomes so by the controller's requests."""

SESSION_ID_BITS = 31


class Broker:
    """A broker in this event loop. ``start`` it, use ``address``, ``stop`` it."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        clock: Clock | None = None,
        connector: Connector | None = None,
    ) -> None:
        """``connector`` opens sessions with the cluster's store; None: the store is this broker's own."""
        self.config = config
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.node_id = config.node_id
        self.cluster_id = ""
        self.lease = Lease()
        self.session: Session
        self.metadata = MetadataCache()
        self.fetch_sessions = FetchSessions(
            config.max_incremental_fetch_session_cache_slots, _random_session_id
        )
        self.gathering = Gathering()
        self.parked_fetches: set[ParkedFetch] = set()
        self.loop: asyncio.AbstractEventLoop
        self.replicas: Replicas
        self.groups: Coordinator
        self.group_loading: GroupLoading
        self.controller: Controller
        self.config_listener: ConfigListener
        self.producer_ids: ProducerIds
        self._disk = Disk()
        self.directories: LogDirectories
        self.flusher: Flusher
        self._loading: asyncio.Future[None] | None = None
        self._connector = connector
        self.in_cluster = connector is not None or bool(config.zookeeper_connect)
        """Whether other brokers may share the store."""
        self.control: Control
        self.controller_link = ControllerLink(self)
        self._topic_creation: TopicCreation | None = None
        self._server: Server | None = None
        self.observation: Observation | None = None
        self._listeners: list[Listener] = []
        self._endpoints: tuple[Endpoint, ...] = ()
        self._chores = Chores(self, self._disk)
        self._handlers: dict[int, Any] = {}
        self._topic_configs: dict[str, TopicConfig] = {}
        self._telemetry: ClientTelemetry | None = None
        self.may_have_lost = False
        """Whether records may be lost that were acknowledged, and the controller does not know that it knows."""
        self.short: Collection[tuple[str, int]] = ()
        """The replicas that lack what was synced, while it does not know that: see ``log.short_logs``."""
        self._exits = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self.has_rooms = False
        """Whether ``controller``, ``groups`` and the others are there that need a session to be made."""
        self._takes_part = False
        self._stopping = False
        self._ready: asyncio.Event
        self._failed: asyncio.Future[None]

    # -- life

    async def start(self) -> None:
        """Come up, or raise (``OSError``, ``KafkaError``) and leave nothing behind but what ``stop`` ends."""
        self.loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self._failed = self.loop.create_future()
        await self._take_addresses()
        connector = self._connector
        if self.in_cluster:
            connector = await self._find_cluster(connector)
        await self._open_store_and_logs(connector)
        self._make_rooms(await self.session.ask(self._group_settings))
        await self.session.ask(self.config_listener.go_on)
        await self._load_logs()
        self._endpoints = await self._listen()
        await self.session.register()
        self._takes_part = self.in_cluster
        await self.controller.start()
        self._chores.begin(self._exits)
        await self._know_the_cluster()
        self._ready.set()
        if self.directories.some_offline:  # perhaps since the controller has told us what to lead
            self.background(self._tell_controller())

    async def _know_the_cluster(self) -> None:
        """Wait for the controller's first word; a cluster may be without one for a while."""
        try:
            async with asyncio.timeout(FIRST_WORD_S):
                await self.control.metadata_known.wait()
        except TimeoutError:
            log.warning("the controller has told nothing of the cluster yet")

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Return when ``stop`` is set; raise ``OSError`` if the last log directory, or the store, fails first."""
        stopping = self.loop.create_task(stop.wait())
        try:
            await asyncio.wait((stopping, self._failed), return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
        finally:
            stopping.cancel()

    async def stop(self, *, in_turn: bool = True) -> None:
        """Answer what is owed, make everything durable, and let go of it; a second call does nothing.

        To be called after a start that failed or was cancelled, too. ``in_turn`` False: the others of the cluster
        stop as well, so that nothing is handed over to them.
        """
        in_turn = in_turn and self.config.controlled_shutdown_enable
        if self._takes_part and not self._stopping and in_turn:
            from ottla.broker.shutdown import hand_over

            await hand_over(self)
        await self._exits.pop_all().aclose()

    @property
    def address(self) -> tuple[str, int]:
        """Where the first listener really listens."""
        assert self._listeners, "the broker is not started"
        _, host, port = self.addresses[0]
        return host, port

    @property
    def addresses(self) -> list[tuple[str, str, int]]:
        """Name, host and port of every listener as it really is."""
        return [(one.name, one.host or "0.0.0.0", one.port) for one in self._listeners]

    async def _find_cluster(self, connector: Connector | None) -> Connector:
        """The way to the store that others share, and the id that they know this broker by."""
        if connector is None:
            from ottla.coordination.zookeeper_access import ensemble_of

            connector = ensemble_of(self.config)
            self._exits.push_async_callback(connector.close)
        if self.config.wants_id:
            from ottla.broker.generated_id import with_id

            self.config = await with_id(self.config, connector)
            self.node_id = self.config.node_id
        return connector

    async def _open_store_and_logs(self, connector: Connector | None) -> None:
        self.flusher = Flusher(
            self._disk,
            durability=Durability(self.config.durability),
            clock=self.clock,
        )
        try:
            self.directories = LogDirectories(
                self.config.data_directories,
                self._disk,
                flusher=self.flusher,
                on_offline=self._directory_failed,
            )
            self.replicas = Replicas(
                self.directories,
                self.flusher,
                node_id=self.node_id,
                clock=self.clock,
                exists=self.metadata.has_partition,
                config_of=self.topic_config,
                move_bytes_per_second=lambda: (
                    self.config.replica_alter_log_dirs_io_max_bytes_per_second
                ),
                make_fetchers=self._make_fetchers,
                on_storage_error=self._partition_failed,
                call_soon=self.loop.call_soon_threadsafe,
                lease=self.lease,
                peers=peers_of(self),
            )
            self._exits.push_async_callback(self._close_directories)
            self.directories.open()
            self._exits.push_async_callback(self.flusher.close)
            known_id = self.directories.identify(self.node_id)
        except DirectoryMismatch as error:
            raise SettingError(f"log.dirs: {error}") from error
        check_exported(self.directories, in_cluster=self.in_cluster)
        if connector is None:
            path = find_store(self.directories, is_new=known_id is None)
            connector = await open_store(
                path, known_id, self.clock, self._exits, partial(self._store_failed, path)
            )
        else:
            self.directories.suspect_new()
        self.session = session_of(self)
        await self.session.open(connector)
        self._exits.push_async_callback(self.session.close)
        ask = self.session.ask
        if self.in_cluster and known_id is not None and await ask(read_cluster_id) is None:
            raise KafkaError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"the log directories belong to cluster {known_id}, and in this store there is none: "
                "is zookeeper.connect right, its path included?",
            )
        self.cluster_id = await ask(lambda store: prepare_layout(store, known_id))
        if known_id is not None and known_id != self.cluster_id:
            raise KafkaError(
                ErrorCode.INCONSISTENT_CLUSTER_ID,
                f"the log directories belong to cluster {known_id}, the store to {self.cluster_id}",
            )
        self.directories.sign(MetaProperties(self.node_id, self.cluster_id))

    async def _group_settings(self, store: Store) -> GroupSettings:
        """As set; but where groups have a topic already, it says how many partitions they hash to."""
        settings = GroupSettings.of(self.config)
        (znode,) = await store.get_many([znodes.topic_path(CONSUMER_OFFSETS)])
        if znode is None:
            return settings
        try:
            topic = znodes.TopicAssignment.decode(CONSUMER_OFFSETS, znode.data)
        except znodes.MalformedZnode as error:  # nobody leads it before the controller can read it
            log.error("how many partitions groups hash to can't be read", reason=str(error))
            return settings
        return settings._replace(offsets_topic_num_partitions=len(topic.partitions))

    def _make_rooms(self, group_settings: GroupSettings) -> None:
        self.config_listener = ConfigListener(
            self.session.store,
            self.node_id,
            on_topic_config=self._on_topic_config,
            on_broker_config=self._on_broker_config,
            clock=self.clock,
        )
        self._exits.push_async_callback(self.config_listener.close)
        self._exits.push_async_callback(self.replicas.close)
        self.group_loading = coordinate_groups(self, group_settings, lambda: self.session.store)
        self.groups = self.group_loading.groups
        self._exits.push_async_callback(self.group_loading.close)
        self.control = Control(self)
        self.controller = new_controller(self)
        self._exits.push_async_callback(self._close_controller)
        self._exits.callback(self.controller_link.close)
        if self.replicas.peers.changes is not None:
            self._exits.push_async_callback(self.replicas.peers.changes.close)
        self._exits.push_async_callback(self._end_tasks)
        self.producer_ids = ProducerIds(partial(allocate, self))
        self.has_rooms = True

    async def _close_controller(self) -> None:
        await self.controller.close()

    def registration(self) -> BrokerRegistration:
        """What the others are told of this broker."""
        return registration_of(self, self._endpoints)

    @property
    def broker_epoch(self) -> int:
        """The transaction that made this broker's registration; -1 before it has one."""
        return self.session.broker_epoch

    def endpoint_of(self, broker_id: int) -> tuple[str, int] | None:
        """Where this broker reaches another one, as last heard."""
        return self.control.peers.get(broker_id)

    def _make_fetchers(self, replicas: Replicas) -> Fetchers:
        from ottla.broker.following import fetchers_of

        return fetchers_of(self, replicas)

    async def _load_logs(self) -> None:
        await self.session.ask(self._load_topic_settings)
        self._loading = asyncio.ensure_future(
            asyncio.to_thread(self.directories.load, self.topic_config, self.clock.now_ms())
        )
        # A thread goes on, cancelled or not: the stop waits for it.
        await asyncio.shield(self._loading)
        self.may_have_lost = self.directories.may_have_lost
        self.short = tuple(self.directories.short)

    async def _load_topic_settings(self, store: Store) -> None:
        if self.in_cluster:  # retention by settings of before would delete what was to be kept
            await catch_up(store)
        await self.config_listener.load_topics(await store.children(znodes.TOPICS))

    async def _close_directories(self) -> None:
        loaded = False
        if self._loading is not None:
            await asyncio.wait((self._loading,))
            loaded = self._loading.exception() is None
        if loaded:
            try:
                await self._chores.checkpoint_marks()
            except KafkaError as error:
                log.warning("high watermarks not written", reason=str(error))
        close = self.directories.close
        epoch = self.session.broker_epoch if loaded else -1
        unclean = await asyncio.to_thread(
            close, self.clock.now_ms(), clean=loaded, broker_epoch=epoch
        )
        if not unclean:
            log.info("stopped cleanly")
        elif loaded:
            log.warning("stopped, and the next start has to recover", directories=unclean)

    async def _take_addresses(self) -> None:
        self._server = await listening.new_server(
            self.dispatch, self.config, self.clock, self._settle, in_cluster=self.in_cluster
        )
        self._listeners = await listening.take_listeners(self._server, self.config)
        self._exits.callback(listening.let_go, self._listeners)
        if self.config.http_endpoint is not None:
            from ottla.broker.observation import observe

            self.observation = await observe(self, self._exits)

    async def _listen(self) -> tuple[Endpoint, ...]:
        assert self._server is not None
        self._exits.push_async_callback(self._stop_serving, self._server)
        self.replicas.unpacking.budget = self._server.budget
        for listener in self._listeners:
            self._server.accept(listener)
        listening.warn_of_open_listeners(self.config, self._listeners)
        return await listening.advertised(self.config, self._listeners)

    async def _stop_serving(self, server: Server) -> None:
        self._stopping = True
        self._ready.set()
        self.groups.close()
        for fetch in tuple(self.parked_fetches):
            fetch.end()
        await server.stop(STOP_GRACE_S)
        self._server = None

    def _directory_failed(self, directory: str, error: OSError) -> None:
        """Called once for each directory, perhaps on another thread."""
        self.loop.call_soon_threadsafe(self._go_on_without, directory, error)

    def _store_failed(self, path: str, error: BaseException) -> None:
        """Called once, perhaps on another thread."""
        note_failure(self._disk, os.path.dirname(path), error)
        self.loop.call_soon_threadsafe(self._give_up, f"coordination store {path}", error)

    def _go_on_without(self, directory: str, error: OSError) -> None:
        """A log directory is offline: so are the partitions in it, and the groups in those of its topic."""
        for partition in self.replicas.directory_failed(directory):
            if partition.topic == CONSUMER_OFFSETS:
                self.group_loading.resign(partition.index)
        if self.directories.is_gone:
            self._give_up(f"log directory {directory}", error)
        elif self._ready.is_set():
            self.background(self._tell_controller())

    def _partition_failed(self, partition: Partition) -> None:
        """A partition's own log failed: another replica is to lead, and no group is answered for from it."""
        if partition.topic == CONSUMER_OFFSETS:
            self.group_loading.resign(partition.index)
        if self.in_cluster:
            self.background(self._tell_controller())

    async def _tell_controller(self) -> None:
        try:
            await notify_log_dir_event(self.session.store, self.node_id)
        except StoreError as error:
            log.error("the controller was not told of a failed log directory", reason=str(error))

    def _give_up(self, what: str, error: BaseException) -> None:
        log.error(f"the {what} failed; the broker stops", reason=str(error))
        for partition in self.replicas:
            partition.storage_failed()
        if not self._failed.done():
            self._failed.set_exception(OSError(f"{what} failed: {error}"))
            self._failed.exception()  # whoever waits raises it; nobody need wait

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something done beside everything else; it is cancelled when the broker stops."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- requests

    def dispatch(self, request: Request) -> Answer:
        """A request's answer: the handler of its API."""
        if not self._ready.is_set() and not (self.in_cluster and request.api_key in EARLY):
            return self._dispatch_when_ready(request)
        handler = self._handlers.get(request.api_key)
        if handler is None:
            module = import_module(
                f"ottla.broker.handlers.{module_name(API_NAMES[request.api_key])}"
            )
            handler = self._handlers[request.api_key] = module.handle
        answer: Answer = handler(self, request)
        return answer

    async def _dispatch_when_ready(self, request: Request) -> Message | Answers | None:
        await self._ready.wait()
        if self._stopping:
            request.connection.close("the broker stops before it was ready")
            return None
        answer = self.dispatch(request)
        if isinstance(answer, Unsettled):
            self._settle()
            settled = answer.settle()
            return await settled if isinstance(settled, Awaitable) else settled
        if isinstance(answer, Generator):
            answer = run(answer)
        return await answer if isinstance(answer, Awaitable) else answer

    def _settle(self) -> None:
        self.gathering.settle(self.clock.now_ms())

    # -- what handlers ask

    @property
    def telemetry(self) -> ClientTelemetry:
        """What clients push of their metrics; made when the first one asks."""
        if self._telemetry is None:
            from ottla.broker.telemetry import ClientTelemetry

            listener = self.config_listener
            self._telemetry = ClientTelemetry(
                lambda: (listener.client_metrics_version, listener.client_metrics)
            )
        return self._telemetry

    @property
    def topic_creation(self) -> TopicCreation:
        """Topics that come into being because somebody asks for them; loaded when the first one does."""
        if self._topic_creation is None:
            from ottla.broker.topic_creation import TopicCreation

            self._topic_creation = TopicCreation(self)
        return self._topic_creation

    @property
    def cleaner(self) -> LogCleaner | None:
        """Who has logs compacted; None until there was something to compact."""
        return self._chores.cleaner

    @property
    def is_stopping(self) -> bool:
        """Whether nothing should be waited for any more."""
        return self._stopping

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self._ready.is_set() and not self._stopping

    @property
    def server(self) -> Server:
        """The network side."""
        assert self._server is not None
        return self._server

    def endpoints(self, listener: str) -> Iterator[tuple[int, str, int, str | None]]:
        """Node id, host, port and rack of every live broker that has this listener."""
        for broker in self.metadata.brokers.values():
            endpoint = broker.endpoints.get(listener)
            if endpoint is not None:
                yield broker.node_id, endpoint.host, endpoint.port, broker.rack

    # -- settings

    def topic_overrides(self, name: str) -> dict[str, str]:
        """A topic's own settings."""
        return self.config_listener.topic_config(name)

    def topic_config(self, name: str) -> TopicConfig:
        """A topic's settings as they are now."""
        found = self._topic_configs.get(name)
        if found is None:
            overrides = self.topic_overrides(name)
            key = name if overrides else ""  # topics without their own settings share one object
            found = self._topic_configs.get(key)
            if found is None:
                found = TopicConfig.from_overrides(self.config, overrides, lenient=True)
                self._topic_configs[key] = found
        return found

    def topic_deleted(self, name: str) -> None:
        """Forget what is known of a topic that is gone, and the offsets that groups committed in it."""
        self._topic_configs.pop(name, None)
        self.config_listener.forget_topic(name)
        self.groups.topics_deleted([name])

    def _on_topic_config(self, name: str, overrides: dict[str, str]) -> None:
        self._topic_configs.pop(name, None)
        config = self.topic_config(name)
        self.replicas.configure(name, config)
        if config.unclean_leader_election_enable:
            self.controller.unclean_election_allowed(name)

    def _on_broker_config(self, default: dict[str, str], own: dict[str, str]) -> None:
        was_careful = not self.config.unclean_leader_election_enable
        self.config = self.config.with_dynamic(default, own, lenient=True)
        if was_careful and self.config.unclean_leader_election_enable and self.is_ready:
            self.controller.unclean_election_allowed()
        self._topic_configs.clear()
        for partition in self.replicas:
            partition.log.update_config(self.topic_config(partition.topic))
        self._chores.compact()  # the cleaner's rate is heeded at once


def _random_session_id() -> int:
    return int.from_bytes(os.urandom(4), "big") >> (32 - SESSION_ID_BITS)
