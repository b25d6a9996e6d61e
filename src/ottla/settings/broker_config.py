"""The settings of one broker, typed and checked together.

A broker's value is, first to last: what was altered on this broker while it ran, what was altered for
all brokers, what it was started with (see ``sources`` for their order), the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ottla.settings.broker_settings import BROKER_SETTINGS, FAMILIES
from ottla.settings.listeners import (
    Listener,
    advertised_listeners,
    check_control_plane,
    inter_broker_listener,
    opened_listeners,
    parse_ip_limits,
    split_address,
)
from ottla.settings.setting import SettingError, Value, invalid
from ottla.settings.sources import Given, from_options, unknown_setting
from ottla.settings.topic_settings import HOUR_MS, MINUTE_MS
from ottla.settings.zookeeper_settings import ZooKeeperConfig, check_zookeeper

DEDUPE_BUFFER_BYTES_MIN = 1 << 20

_FAMILY_OF = {name: family for family in FAMILIES for name in family}


class BrokerConfig(ZooKeeperConfig):
    """Every broker setting as an attribute, dots as underscores; treat it as read-only.

    ``log_retention_ms``, ``log_roll_ms``, ``log_roll_jitter_ms`` and ``log_flush_interval_ms`` hold the
    outcome of their families (minutes, hours, the scheduler's interval), ``node_id`` and ``broker_id``
    agree, ``queued_max_request_bytes`` is never below ``socket_request_max_bytes``.

    ``endpoints`` are the listeners to open, ``advertised_endpoints`` what clients are told of them,
    ``inter_broker_listener`` the name of the one that brokers use, ``http_endpoint`` host and port of
    ``http.listener``, ``ip_limits`` the parsed ``max.connections.per.ip.overrides``.

    ``static``, ``dynamic_default`` and ``dynamic_broker`` hold what was set, as text; ``ignored`` the names
    that Kafka knows and Ottla does not implement, in the order in which they came.
    """

    __slots__ = (
        "advertised_endpoints",
        "dynamic_broker",
        "dynamic_default",
        "endpoints",
        "http_endpoint",
        "ignored",
        "inter_broker_listener",
        "ip_limits",
        "static",
        *(setting.attribute for setting in BROKER_SETTINGS.values()),
    )

    static: dict[str, str]
    dynamic_default: dict[str, str]
    dynamic_broker: dict[str, str]
    ignored: tuple[str, ...]
    endpoints: tuple[Listener, ...]
    advertised_endpoints: tuple[Listener, ...]
    http_endpoint: tuple[str, int] | None
    inter_broker_listener: str
    ip_limits: dict[str, int]

    node_id: int
    broker_id: int
    broker_id_generation_enable: bool
    reserved_broker_max_id: int
    broker_rack: str | None
    process_roles: tuple[str, ...]
    log_dir: str
    log_dirs: str | None
    replica_alter_log_dirs_io_max_bytes_per_second: int
    replica_lag_time_max_ms: int
    replica_selector_class: str | None
    leader_replication_throttled_rate: int
    follower_replication_throttled_rate: int
    replication_quota_window_num: int
    replication_quota_window_size_seconds: int
    durability: str
    auto_leader_rebalance_enable: bool
    leader_imbalance_check_interval_seconds: int
    leader_imbalance_per_broker_percentage: int
    controlled_shutdown_enable: bool
    controlled_shutdown_max_retries: int
    controlled_shutdown_retry_backoff_ms: int
    listeners: str
    advertised_listeners: str | None
    listener_security_protocol_map: str
    controller_listener_names: str | None
    inter_broker_listener_name: str | None
    inter_broker_protocol_version: str
    security_inter_broker_protocol: str
    control_plane_listener_name: str | None
    socket_send_buffer_bytes: int
    socket_receive_buffer_bytes: int
    socket_request_max_bytes: int
    socket_listen_backlog_size: int
    queued_max_request_bytes: int
    max_connections: int
    max_connections_per_ip: int
    max_connections_per_ip_overrides: str
    connections_max_idle_ms: int
    requests_in_flight_max: int
    write_buffer_bytes: int
    write_stall_ms: int
    http_listener: str | None
    metrics_series_max: int
    fetch_max_bytes: int
    max_incremental_fetch_session_cache_slots: int
    max_request_partition_size_limit: int
    telemetry_max_bytes: int
    num_partitions: int
    default_replication_factor: int
    auto_create_topics_enable: bool
    delete_topic_enable: bool
    log_retention_check_interval_ms: int
    log_initial_task_delay_ms: int
    log_flush_offset_checkpoint_interval_ms: int
    replica_high_watermark_checkpoint_interval_ms: int
    replica_fetch_max_bytes: int
    replica_fetch_response_max_bytes: int
    replica_fetch_min_bytes: int
    replica_fetch_wait_max_ms: int
    replica_fetch_backoff_ms: int
    replica_socket_timeout_ms: int
    replica_socket_receive_buffer_bytes: int
    num_replica_fetchers: int
    log_flush_scheduler_interval_ms: int
    log_flush_interval_ms: int
    log_flush_interval_messages: int
    log_retention_bytes: int
    log_retention_ms: int
    log_retention_minutes: int | None
    log_retention_hours: int
    log_roll_ms: int
    log_roll_hours: int
    log_roll_jitter_ms: int
    log_roll_jitter_hours: int
    log_segment_bytes: int
    log_segment_delete_delay_ms: int
    log_index_interval_bytes: int
    log_index_size_max_bytes: int
    log_cleanup_policy: tuple[str, ...]
    log_cleaner_delete_retention_ms: int
    log_cleaner_min_cleanable_ratio: float
    log_cleaner_min_compaction_lag_ms: int
    log_cleaner_max_compaction_lag_ms: int
    log_cleaner_enable: bool
    log_cleaner_threads: int
    log_cleaner_dedupe_buffer_size: int
    log_cleaner_io_buffer_load_factor: float
    log_cleaner_io_buffer_size: int
    log_cleaner_io_max_bytes_per_second: float
    log_cleaner_backoff_ms: int
    log_message_timestamp_type: str
    log_message_timestamp_difference_max_ms: int
    log_message_timestamp_before_max_ms: int
    log_message_timestamp_after_max_ms: int
    message_max_bytes: int
    min_insync_replicas: int
    unclean_leader_election_enable: bool
    compression_type: str
    compression_gzip_level: int
    compression_lz4_level: int
    compression_zstd_level: int
    producer_id_expiration_ms: int
    producer_id_expiration_check_interval_ms: int
    group_min_session_timeout_ms: int
    group_max_session_timeout_ms: int
    group_initial_rebalance_delay_ms: int
    group_max_size: int
    group_max_pending_members: int
    group_members_max_bytes: int
    group_new_member_join_timeout_ms: int
    offset_metadata_max_bytes: int
    offsets_retention_minutes: int
    offsets_retention_check_interval_ms: int
    offsets_topic_num_partitions: int
    offsets_topic_replication_factor: int
    offsets_topic_segment_bytes: int
    offsets_commit_timeout_ms: int

    @classmethod
    def build(cls, *sources: Iterable[Given]) -> BrokerConfig:
        """The settings of a broker that is started with ``sources``, the later ones stronger.

        Raises SettingError for a name that nobody knows, a bad value, or values that contradict each
        other.
        """
        static: dict[str, Given] = {}
        ignored: dict[str, None] = {}
        for source in sources:
            latest = _latest(source, ignored)
            for name in latest:
                for relative in _FAMILY_OF.get(name, (name,)):
                    static.pop(relative, None)
            static.update(latest)
        return cls._of(static, {}, {}, tuple(ignored))

    @classmethod
    def of(cls, options: Mapping[str, object] | None = None) -> BrokerConfig:
        """The defaults with some settings changed, by name: ``BrokerConfig.of({"num.partitions": 3})``."""
        return cls.build(from_options(options or {}))

    def with_dynamic(
        self, default: Mapping[str, str], broker: Mapping[str, str], *, lenient: bool = False
    ) -> BrokerConfig:
        """The same broker with other settings altered while it runs: for all brokers, and for it alone.

        Raises SettingError; ``lenient`` leaves out what can't be taken instead, and puts its names in
        ``ignored``: a broker must start with what another version stored.
        """
        ignored = dict.fromkeys(self.ignored)
        layers: list[dict[str, Given]] = []
        for layer in (default, broker):
            taken: dict[str, Given] = {}
            for name, text in layer.items():
                try:
                    if name not in BROKER_SETTINGS:
                        raise unknown_setting(name)
                    BROKER_SETTINGS[name].parse(text)
                    taken[name] = Given(name, text, "altered")
                except SettingError:
                    if not lenient:
                        raise
                    ignored[name] = None
            layers.append(taken)
        static = {name: Given(name, text, "start") for name, text in self.static.items()}
        return self._of(static, layers[0], layers[1], tuple(ignored))

    @classmethod
    def _of(
        cls,
        static: dict[str, Given],
        default: dict[str, Given],
        broker: dict[str, Given],
        ignored: tuple[str, ...],
    ) -> BrokerConfig:
        config = cls.__new__(cls)
        config.ignored = ignored
        config.static = {name: given.text for name, given in static.items()}
        config.dynamic_default = {name: given.text for name, given in default.items()}
        config.dynamic_broker = {name: given.text for name, given in broker.items()}
        given_by_name = {**static, **default, **broker}
        for name, setting in BROKER_SETTINGS.items():
            given = given_by_name.get(name)
            value = setting.default if given is None else _parse(given)
            setattr(config, setting.attribute, value)
        config._settle_families(given_by_name)
        config._check()
        return config

    def value(self, name: str) -> Value:
        """The value of a broker setting by its name."""
        value: Value = getattr(self, BROKER_SETTINGS[name].attribute)
        return value

    @property
    def data_directories(self) -> tuple[str, ...]:
        """Where the logs lie: ``log.dirs``, or ``log.dir`` where that is not set."""
        text = self.log_dirs if self.log_dirs is not None else self.log_dir
        return tuple(filter(None, (part.strip() for part in text.split(","))))

    @property
    def durable_on_disk(self) -> bool:
        """Whether a record counts as written only once it is synced (``durability=disk``)."""
        return self.durability == "disk"

    def __repr__(self) -> str:
        changed = {**self.static, **self.dynamic_default, **self.dynamic_broker}
        return f"BrokerConfig({changed})"

    @property
    def wants_id(self) -> bool:
        """Whether the broker of a cluster is to get its id from there."""
        given = self.static.get("node.id") or self.static.get("broker.id", "-1")
        return self.broker_id_generation_enable and given == "-1"

    def with_node_id(self, node_id: int) -> BrokerConfig:
        """The same settings with the id that was generated."""
        static = {name: Given(name, text, "start") for name, text in self.static.items()}
        static.pop("broker.id", None)
        static["node.id"] = Given("node.id", str(node_id), "generated")
        return self._of(static, {}, {}, self.ignored)

    def _settle_families(self, given: Mapping[str, Given]) -> None:
        """Fill the members of families from each other."""
        if "log.retention.ms" not in given:
            minutes = self.log_retention_minutes
            self.log_retention_ms = (
                self.log_retention_hours * HOUR_MS if minutes is None else minutes * MINUTE_MS
            )
        self.log_retention_ms = max(self.log_retention_ms, -1)
        if "log.roll.ms" not in given:
            self.log_roll_ms = self.log_roll_hours * HOUR_MS
        if "log.roll.jitter.ms" not in given:
            self.log_roll_jitter_ms = self.log_roll_jitter_hours * HOUR_MS
        if "log.flush.interval.ms" not in given:
            self.log_flush_interval_ms = self.log_flush_scheduler_interval_ms
        if "broker.id" in given and self.broker_id < 0:
            self.broker_id = BROKER_SETTINGS["node.id"].default  # type: ignore[assignment]
        if "node.id" not in given:
            self.node_id = self.broker_id
        elif "broker.id" not in given:
            self.broker_id = self.node_id
        if "queued.max.request.bytes" not in given:
            self.queued_max_request_bytes = max(
                self.queued_max_request_bytes, self.socket_request_max_bytes
            )

    def _check(self) -> None:
        """Raise SettingError where values contradict each other (``KafkaConfig.validateValues``)."""
        if self.node_id != self.broker_id:
            reason = f"broker.id is {self.broker_id}; they must be the same when both are set"
            raise invalid("node.id", self.node_id, reason)
        if self.process_roles and "broker" not in self.process_roles:
            reason = "A broker holds its controller here; the roles must include broker"
            raise invalid("process.roles", ",".join(self.process_roles), reason)
        if not self.data_directories:
            raise invalid("log.dirs", self.log_dirs, "At least one directory is needed")
        if self.log_retention_ms == 0:
            raise invalid("log.retention.ms", 0, "Value must be -1 (no limit) or at least 1")
        if self.log_roll_ms < 1:
            raise invalid("log.roll.ms", self.log_roll_ms, "Value must be at least 1")
        if self.log_roll_jitter_ms < 0:
            raise invalid("log.roll.jitter.ms", self.log_roll_jitter_ms, "Value must be at least 0")
        if self.log_flush_interval_ms < 0:
            reason = "Value must be at least 0"
            raise invalid("log.flush.interval.ms", self.log_flush_interval_ms, reason)
        if 0 < self.queued_max_request_bytes < self.socket_request_max_bytes:
            reason = f"Value must be -1 or at least socket.request.max.bytes ({self.socket_request_max_bytes})"
            raise invalid("queued.max.request.bytes", self.queued_max_request_bytes, reason)
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms:
            reason = f"Value must be no more than group.max.session.timeout.ms ({self.group_max_session_timeout_ms})"
            raise invalid("group.min.session.timeout.ms", self.group_min_session_timeout_ms, reason)
        self._check_compaction_lags()
        self._check_cleaner()
        self._check_listeners()
        check_zookeeper(self)

    def _check_compaction_lags(self) -> None:
        low = self.log_cleaner_min_compaction_lag_ms
        high = self.log_cleaner_max_compaction_lag_ms
        if low > high:
            reason = f"Value must be no more than log.cleaner.max.compaction.lag.ms ({high})"
            raise invalid("log.cleaner.min.compaction.lag.ms", low, reason)

    def _check_cleaner(self) -> None:
        share = self.log_cleaner_dedupe_buffer_size // max(self.log_cleaner_threads, 1)
        if share <= DEDUPE_BUFFER_BYTES_MIN:
            reason = "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread."
            raise invalid(
                "log.cleaner.dedupe.buffer.size", self.log_cleaner_dedupe_buffer_size, reason
            )

    def _check_listeners(self) -> None:
        controllers = self.controller_listener_names
        self.endpoints = opened_listeners(
            self.listeners, self.listener_security_protocol_map, controllers
        )
        self.advertised_endpoints = advertised_listeners(
            self.endpoints, self.advertised_listeners or None, controllers
        )
        self.inter_broker_listener = inter_broker_listener(
            self.inter_broker_listener_name,
            self.static.get("security.inter.broker.protocol"),
            self.advertised_endpoints,
        )
        check_control_plane(
            self.control_plane_listener_name,
            self.advertised_endpoints,
            self.inter_broker_listener,
            self.process_roles,
        )
        http = self.http_listener
        self.http_endpoint = split_address("http.listener", http) if http else None
        self.ip_limits = parse_ip_limits(self.max_connections_per_ip_overrides)
        if self.max_connections_per_ip == 0 and not self.ip_limits:
            reason = "It can be 0 only if max.connections.per.ip.overrides is set"
            raise invalid("max.connections.per.ip", 0, reason)


def _latest(source: Iterable[Given], ignored: dict[str, None]) -> dict[str, Given]:
    """The last value of each implemented setting in one source; others go to ``ignored``."""
    result: dict[str, Given] = {}
    for given in source:
        if given.name in BROKER_SETTINGS:
            result[given.name] = given
            continue
        from ottla.settings.known import is_known_to_kafka

        if not is_known_to_kafka(given.name):
            raise unknown_setting(given.name, given.origin)
        ignored[given.name] = None
    return result


def _parse(given: Given) -> Value:
    """The typed value of a setting, its refusal naming where it was written."""
    try:
        return BROKER_SETTINGS[given.name].parse(given.text)
    except SettingError as error:
        raise SettingError(error.text, given.origin) from None
