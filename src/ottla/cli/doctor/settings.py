"""What is wrong with settings: each one for itself, and all of them together.

Rules: what a broker would refuse is an error; what it takes and does not do is a warning, or an error where
somebody would rely on it (who may connect, who may do what); secrets are never shown.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence

from ottla.cli.doctor.diagnosis import Diagnoses
from ottla.settings.broker_config import BrokerConfig
from ottla.settings.broker_settings import BROKER_SETTINGS
from ottla.settings.known import is_known_to_kafka
from ottla.settings.listeners import format_address
from ottla.settings.setting import SettingError
from ottla.settings.sources import Given, unknown_setting

ANY_HOST = ("", "0.0.0.0", "::")
BATCH_ROOM_BYTES = 4096
"""What a Produce request has beside its batch."""

RELIED_ON = (
    ("authorizer.class.name", "who may do what"),
    ("super.users", "who may do what"),
    ("allow.everyone.if.no.acl.found", "who may do what"),
    ("sasl.", "who is asked for a password"),
    ("ssl.", "encryption and certificates"),
    ("security.inter.broker.protocol", "how brokers talk to each other"),
    ("principal.builder.class", "who is who"),
    ("listener.name.", "security of one listener"),
    ("delegation.token.", "delegation tokens"),
)
"""Prefixes of settings that guard something, and what."""

DOES_NOTHING = (
    ("zookeeper.metadata.migration.", "there is no KRaft to migrate to"),
    (
        "zookeeper.client",
        "zookeeper.ssl.client.enable says whether TLS is spoken; there are no Java classes",
    ),
    ("controller.", "the controller is in the broker, and has no quorum"),
    ("metadata.", "there is no KRaft metadata log"),
    ("password.encoder.", "there are no stored passwords"),
    ("remote.log.", "there is no tiered storage"),
    ("rlmm.", "there is no tiered storage"),
    ("rsm.", "there is no tiered storage"),
    ("log.local.", "there is no tiered storage"),
    ("group.consumer.", "only the classic group protocol is spoken, not KIP-848's"),
    ("group.share.", "there are no share groups"),
    ("share.", "there are no share groups"),
    ("group.streams.", "there are no streams groups"),
    ("group.coordinator.", "the coordinator runs on the broker's one loop"),
    ("transaction", "there are no transactions"),
    ("quota.", "there are no quotas"),
    ("client.quota.", "there are no quotas"),
    ("num.replica.alter.log.dirs", "moves between log directories run on the broker's one loop"),
    ("num.network.threads", "one event loop does all the work"),
    ("num.io.threads", "one event loop does all the work"),
    ("num.recovery.threads", "recovery reads one log after the other"),
    ("background.threads", "one event loop does all the work"),
    ("queued.max.requests", "queued.max.request.bytes bounds what waits"),
    ("metric", "there are no JMX reporters"),
    ("kafka.metrics.", "there are no JMX reporters"),
    ("auto.include.jmx", "there is no JMX"),
    ("inter.broker.protocol.version", "there is one version"),
    ("log.message.format.version", "batches are always of format 2"),
)

OLD_NAMES = {
    "broker.id": "node.id",
    "log.message.timestamp.difference.max.ms": "log.message.timestamp.before.max.ms and .after.max.ms",
    "log.flush.scheduler.interval.ms": "log.flush.interval.ms",
}


class SettingsDoctor:
    """Looks at settings from several sources, the later ones stronger."""

    def __init__(
        self, found: Diagnoses, *, brokers_on: Callable[[Sequence[str]], int] = lambda paths: 1
    ) -> None:
        """``brokers_on``: how many brokers have their data in the directories."""
        self._found = found
        self._brokers_on = brokers_on

    def look_at(self, sources: Sequence[Iterable[Given]]) -> BrokerConfig | None:
        """Look at each setting, then at all together; the configuration, None where it is refused."""
        good: list[list[Given]] = []
        for source in sources:
            taken = list(source)
            self._look_for_doubles(taken)
            good.append([given for given in taken if self._can_be_taken(given)])
        try:
            config = BrokerConfig.build(*good)
        except SettingError as error:
            self._found.error(
                "contradiction",
                "settings",
                str(error),
                "The broker refuses to start with it.",
                "Change one of them.",
            )
            return None
        self._look_at_sizes(config)
        self._look_at_time(config)
        self._look_at_replication(config)
        self._look_at_listeners(config)
        self._look_at_directories(config)
        return config

    # Each for itself

    def _look_for_doubles(self, source: list[Given]) -> None:
        seen: dict[str, Given] = {}
        for given in source:
            before = seen.get(given.name)
            if before is not None and before.text != given.text:
                self._found.warn(
                    "twice",
                    given.name,
                    f"it is set twice: {before.origin} and {given.origin}",
                    "The last one holds.",
                    "Remove one of them.",
                )
            seen[given.name] = given

    def _can_be_taken(self, given: Given) -> bool:
        name, found = given.name, self._found
        setting = BROKER_SETTINGS.get(name)
        if setting is None:
            self._not_ours(given)
            return False
        try:
            setting.parse(given.text)
        except SettingError as error:
            if not (
                given.text == "" and name in ("advertised.listeners", "inter.broker.listener.name")
            ):
                found.error(
                    "value",
                    name,
                    f"{error.text} ({given.origin})",
                    "The broker refuses to start with it.",
                )
                return False
        if name in OLD_NAMES:
            found.info(
                "old-name", name, f"an older name ({given.origin})", fix=f"Use {OLD_NAMES[name]}."
            )
        return True

    def _not_ours(self, given: Given) -> None:
        name, found = given.name, self._found
        if not is_known_to_kafka(name):
            text = unknown_setting(name, given.origin)
            found.error("unknown", name, str(text), "The broker refuses to start with it.")
            return
        for prefix, guarded in RELIED_ON:
            if name.startswith(prefix):
                found.error(
                    "security",
                    name,
                    f"it does nothing here ({given.origin})",
                    f"In Kafka it settles {guarded}. Here everybody who reaches the port may do "
                    "everything, and nothing is encrypted.",
                    "Let only those reach the port whom you trust, or put a TLS proxy before it.",
                )
                return
        reason = next((text for prefix, text in DOES_NOTHING if name.startswith(prefix)), None)
        why = f"In Ottla {reason}." if reason else "It is taken, and changes nothing."
        found.warn(
            "no-effect", name, f"a setting of Kafka's that does nothing here ({given.origin})", why
        )

    # All together

    def _look_at_sizes(self, config: BrokerConfig) -> None:
        found, largest = self._found, config.message_max_bytes
        if largest + BATCH_ROOM_BYTES > config.socket_request_max_bytes:
            found.error(
                "sizes",
                "message.max.bytes",
                f"{largest} does not fit into socket.request.max.bytes ({config.socket_request_max_bytes})",
                "A connection that announces a larger request is closed: such batches never arrive.",
                "Raise socket.request.max.bytes, or lower message.max.bytes.",
            )
        if largest > config.log_segment_bytes:
            found.warn(
                "sizes",
                "message.max.bytes",
                f"{largest} is more than log.segment.bytes ({config.log_segment_bytes})",
                "A batch larger than a segment is refused.",
                "Raise log.segment.bytes.",
            )
        if largest > config.fetch_max_bytes:
            found.warn(
                "sizes",
                "message.max.bytes",
                f"{largest} is more than fetch.max.bytes ({config.fetch_max_bytes})",
                "Such a batch is still sent, alone, and the answer is larger than the bound says.",
                "Raise fetch.max.bytes.",
            )
        if 0 <= config.log_retention_bytes < config.log_segment_bytes:
            found.warn(
                "retention",
                "log.retention.bytes",
                f"{config.log_retention_bytes} is less than log.segment.bytes ({config.log_segment_bytes})",
                "Whole segments are removed, and never the active one: a partition keeps more.",
                "Lower log.segment.bytes.",
            )

    def _look_at_time(self, config: BrokerConfig) -> None:
        found = self._found
        if 0 <= config.log_retention_ms < config.log_roll_ms and "log.retention.ms" in _set(config):
            found.warn(
                "retention",
                "log.retention.ms",
                f"{config.log_retention_ms} is less than log.roll.ms ({config.log_roll_ms})",
                "A segment goes when its newest record is old enough, and takes records for as long as "
                "log.roll.ms: the oldest stay for both times together.",
                "Set log.roll.ms to log.retention.ms or less.",
            )
        if config.log_retention_ms < 0 and config.log_retention_bytes < 0:
            found.info(
                "retention",
                "log.retention.ms",
                "neither time nor size bounds what is kept",
                "Topics without settings of their own grow until the disk is full.",
            )

    def _look_at_replication(self, config: BrokerConfig) -> None:
        found, replicas = self._found, config.default_replication_factor
        brokers = self._brokers_on(config.data_directories)
        is_alone = config.zookeeper_connect is None and brokers == 1
        if replicas > brokers and config.zookeeper_connect is None:
            found.error(
                "replication",
                "default.replication.factor",
                f"it is {replicas}, and there {'is one broker' if is_alone else f'are {brokers} brokers'}",
                "Topics that are created without a replication factor are refused.",
                "Set it to 1, or zookeeper.connect, which makes brokers a cluster."
                if is_alone
                else f"Set it to {brokers} or less, or start more brokers.",
            )
        if config.min_insync_replicas > replicas:
            found.warn(
                "replication",
                "min.insync.replicas",
                f"{config.min_insync_replicas} is more than default.replication.factor ({replicas})",
                "No more replicas than there are can be in sync: all of a partition's are enough, as in Kafka.",
                "Set it to 1 as long as there is one broker."
                if is_alone
                else "Set it to less than default.replication.factor.",
            )
        if not config.durable_on_disk:
            found.info(
                "durability",
                "durability",
                "os: a record is acknowledged before it is on the disk",
                "A power cut of all brokers that have replicas of it may lose an acknowledged record.",
                "durability=disk, the default, waits for the disk.",
            )

    def _look_at_listeners(self, config: BrokerConfig) -> None:
        advertised = {listener.name: listener for listener in config.advertised_endpoints}
        for listener in config.endpoints:
            told = advertised.get(listener.name, listener)
            address = format_address(listener.host, listener.port)
            if listener.host in ANY_HOST:
                self._found.warn(
                    "open",
                    "listeners",
                    f"{listener.name} listens on every interface ({address})",
                    "Nobody is asked who they are: whoever reaches the port may read, write and delete.",
                    "Listen on one address, or let a firewall choose who reaches it.",
                )
            elif not _is_here(listener.host):
                self._found.error(
                    "listen",
                    "listeners",
                    f"{listener.host} is not an address of this machine",
                    "The broker can't listen there. What clients should use stands in "
                    "advertised.listeners.",
                    "Listen on 0.0.0.0 or an address of this machine, and advertise the other one.",
                )
            self._look_at_advertised(listener.host, told.host)

    def _look_at_advertised(self, host: str, told: str) -> None:
        found = self._found
        if told in ANY_HOST:
            told = socket.getfqdn()
            if not _resolves(told):
                found.error(
                    "advertised",
                    "advertised.listeners",
                    f"clients are told this machine's name, {told}, which can't be resolved",
                    "They reach the broker once, and then never again.",
                    "Set advertised.listeners (or --advertise HOST:PORT) to what they can reach.",
                )
            else:
                found.warn(
                    "advertised",
                    "advertised.listeners",
                    f"it is not set: clients are told this machine's name, {told}",
                    "They must be able to resolve and reach it.",
                    "Set it (or --advertise HOST:PORT), if they can't.",
                )
        elif not _resolves(told):
            found.error(
                "advertised",
                "advertised.listeners",
                f"{told} can't be resolved here",
                "Clients are told to go on to that address.",
                "Correct the name, or make it known to everybody who is to connect.",
            )
        elif _is_loopback(told) and not _is_loopback(host or "0.0.0.0"):
            found.warn(
                "advertised",
                "advertised.listeners",
                f"clients are told {told}, which means their own machine to them",
                "A client on another machine reaches the broker once, and then looks for it at home.",
                "Set it (or --advertise HOST:PORT) to an address that others reach.",
            )

    def _look_at_directories(self, config: BrokerConfig) -> None:
        paths = [os.path.realpath(path) for path in config.data_directories]
        for path in paths:
            if paths.count(path) > 1:
                self._found.error("directories", "log.dirs", f"{path} stands in it twice")
            if path == "/tmp" or path.startswith(("/tmp/", "/var/tmp/")):
                self._found.warn(
                    "directories",
                    "log.dirs",
                    f"{path} is a place for temporary files",
                    "Many systems empty it at every start, or remove what is old.",
                    "Choose a directory of its own, as /var/lib/ottla.",
                )


def _set(config: BrokerConfig) -> set[str]:
    """``log.retention.ms`` and ``log.roll.ms``, where they or a relative of theirs was set."""
    names = config.static
    result = set()
    for family in ("log.retention", "log.roll"):
        if any(f"{family}.{unit}" in names for unit in ("ms", "minutes", "hours")):
            result.add(f"{family}.ms")
    return result


def _resolves(host: str) -> bool:
    try:
        return bool(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    except (OSError, UnicodeError):
        return False


def _is_here(host: str) -> bool:
    """Whether a socket can be bound to ``host``."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.bind(address)
            return True
        except OSError:
            continue
    return False


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host.startswith("127.") or host == "::1"
