"""What ``/metrics`` says: the broker's counters and gauges, taken when they are asked for.

Rules:
- What Kafka has is named as its JMX beans are named in Prometheus's world (``kafka_server_...``,
  ``kafka_consumergroup_lag``) and means the same; what is ours alone begins with ``ottla_``.
- Series with the names of topics or groups are bounded by ``metrics.series.max``, in the order of the names;
  ``ottla_metrics_left_out`` counts the others.
- Taking them yields to the loop every 2 ms.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from typing import TYPE_CHECKING

from ottla import capabilities
from ottla.broker.exposition import Exposition
from ottla.errors import ErrorCode
from ottla.messages.registry import API_NAMES

if TYPE_CHECKING:
    from ottla.broker.broker import Broker
    from ottla.network.meter import RequestMeter

SLICE_S = 0.002


class _Slices:
    """Gives the loop a turn when a slice of time is over."""

    def __init__(self) -> None:
        self._end = time.monotonic() + SLICE_S

    async def turn(self) -> None:
        if time.monotonic() >= self._end:
            await asyncio.sleep(0)
            self._end = time.monotonic() + SLICE_S


class _TopicTotals:
    """The sums over one topic's partitions here."""

    __slots__ = ("bytes_in", "messages_in", "partitions", "size_bytes")

    def __init__(self) -> None:
        self.partitions = self.size_bytes = self.bytes_in = self.messages_in = 0


async def collect(broker: Broker) -> bytes:
    """The text of ``/metrics``; while the broker starts, of the process alone."""
    out = Exposition()
    _process(out)
    out.gauge("ottla_ready", "Whether the broker answers requests.", int(broker.is_ready))
    if broker.is_ready:
        left_out = await _topics(out, broker)
        _cluster(out, broker)
        _compaction(out, broker)
        left_out += await _groups(out, broker)
        _network(out, broker)
        if broker.server.meter is not None:
            _requests(out, broker.server.meter)
        out.family("ottla_flush_seconds", "histogram", "How long syncs to disk took.")
        out.histogram(broker.flusher.latency)
        out.gauge(
            "ottla_metrics_left_out",
            "Series that metrics.series.max left out of this answer.",
            left_out,
        )
    return out.encode()


async def _topics(out: Exposition, broker: Broker) -> int:
    totals: dict[str, _TopicTotals] = {}
    under_replicated = under_minimum = leaders = quarantined = 0
    slices = _Slices()
    for partition in list(broker.replicas):
        one = totals.get(partition.topic)
        if one is None:
            one = totals[partition.topic] = _TopicTotals()
        one.partitions += 1
        one.size_bytes += partition.log.size_bytes
        one.bytes_in += partition.bytes_in
        one.messages_in += partition.messages_in
        quarantined += partition.log.is_quarantined
        if partition.is_leader:
            leaders += 1
            under_replicated += len(partition.isr) < len(partition.replicas)
            under_minimum += len(partition.isr) < partition.minimum_isr
        await slices.turn()
    gone = broker.replicas
    _total_and_by_topic(
        out, "messagesin", "Records appended by producers", totals, broker, "messages_in",
        gone.gone_messages_in,
    )  # fmt: skip
    _total_and_by_topic(
        out, "bytesin", "Bytes of records appended by producers", totals, broker, "bytes_in",
        gone.gone_bytes_in,
    )  # fmt: skip
    shown = sorted(totals)[: broker.config.metrics_series_max]
    out.family("kafka_log_size_bytes", "gauge", "Bytes of the topic's logs on this broker.")
    for name in shown:
        out.sample(totals[name].size_bytes, {"topic": name})
    out.family("kafka_topic_partitions", "gauge", "The topic's partitions on this broker.")
    for name in shown:
        out.sample(totals[name].partitions, {"topic": name})
    gauges = {
        "partitioncount": ("Partitions on this broker.", len(broker.replicas)),
        "leadercount": ("Partitions that this broker leads.", leaders),
        "underreplicatedpartitions": (
            "Led partitions with fewer in-sync replicas than replicas.", under_replicated),
        "underminisrpartitioncount": (
            "Led partitions with fewer in-sync replicas than min.insync.replicas.", under_minimum),
        "offlinereplicacount": (
            "Replicas whose log directory is offline.", broker.replicas.offline_count),
    }  # fmt: skip
    for name, (help_text, value) in gauges.items():
        out.gauge(f"kafka_server_replicamanager_{name}", help_text, value)
    quarantined += sum(len(one.quarantined) for one in broker.directories)
    out.gauge("ottla_quarantined_partitions", "Partitions not served: damaged.", quarantined)
    return 4 * (len(totals) - len(shown))


def _total_and_by_topic(
    out: Exposition,
    name: str,
    what: str,
    totals: dict[str, _TopicTotals],
    broker: Broker,
    attribute: str,
    gone: int,
) -> None:
    total = gone + sum(getattr(one, attribute) for one in totals.values())
    out.counter(f"kafka_server_brokertopicmetrics_{name}_total", f"{what}, all topics.", total)
    out.family(f"kafka_topic_{name}_total", "counter", f"{what}, by topic.")
    for topic in sorted(totals)[: broker.config.metrics_series_max]:
        out.sample(getattr(totals[topic], attribute), {"topic": topic})


def _cluster(out: Exposition, broker: Broker) -> None:
    leaderless = sum(
        partition.leader < 0
        for topic in broker.metadata.topics.values()
        for partition in topic.partitions.values()
    )
    active = broker.controller.is_active
    prefix = "kafka_controller_kafkacontroller"
    out.gauge(f"{prefix}_activecontrollercount", "1 where this broker is the controller.", active)
    out.gauge(f"{prefix}_offlinepartitionscount", "Partitions without a leader.", leaderless)
    out.gauge(f"{prefix}_globaltopiccount", "Topics.", len(broker.metadata.topics))
    out.family("kafka_log_logmanager_logdirectoryoffline", "gauge", "1 where it is offline.")
    for directory in broker.directories.all:
        out.sample(directory.offline is not None, {"logdirectory": directory.path})
    offline = sum(directory.offline is not None for directory in broker.directories.all)
    out.gauge("kafka_log_logmanager_offlinelogdirectorycount", "Log directories offline.", offline)


def _compaction(out: Exposition, broker: Broker) -> None:
    figures = None if broker.cleaner is None else broker.cleaner.figures
    out.gauge(
        "kafka_log_logcleanermanager_uncleanable_partitions_count",
        "Compacted partitions that the cleaner has given up.",
        figures.uncleanable_partitions if figures else 0,
    )
    out.counter(
        "ottla_compactions_total",
        "Logs compacted since the start.",
        figures.cleanings if figures else 0,
    )
    out.gauge(
        "kafka_log_logcleanermanager_max_dirty_percent",
        "The dirtiest compacted log's share that is not compacted yet.",
        int(100 * figures.dirtiest_ratio) if figures else 0,
    )


async def _groups(out: Exposition, broker: Broker) -> int:
    states: Counter[str] = Counter()
    lags: list[tuple[str, str, int, int]] = []
    members = 0
    slices = _Slices()
    for group, offsets in broker.groups.survey():
        states[group.state.value] += 1
        members += len(group.members)
        for topic, partitions in offsets.items():
            for index, committed in partitions.items():
                partition = broker.replicas.get(topic, index)
                if partition is not None:
                    lag = max(0, partition.high_watermark - committed.offset)
                    lags.append((group.group_id, topic, index, lag))
        await slices.turn()
    out.family("kafka_coordinator_group_numgroups", "gauge", "Consumer groups, by state.")
    for state in ("PreparingRebalance", "CompletingRebalance", "Stable", "Dead", "Empty"):
        out.sample(states[state], {"state": state})
    out.gauge("ottla_group_members", "Members of all groups.", members)
    out.counter(
        "kafka_coordinator_group_rebalances_total", "Rebalances begun.", broker.groups.rebalances
    )
    lags.sort()
    shown = lags[: broker.config.metrics_series_max]
    out.family("kafka_consumergroup_lag", "gauge", "Committed records behind the high watermark.")
    for group_id, topic, index, lag in shown:
        out.sample(lag, {"consumergroup": group_id, "topic": topic, "partition": index})
    return len(lags) - len(shown)


def _network(out: Exposition, broker: Broker) -> None:
    server = broker.server
    connections = Counter(one.listener_name for one in server.connections.values())
    out.family("kafka_server_socketserver_connections", "gauge", "Connections, by listener.")
    for listener in server.listeners:
        out.sample(connections[listener.name], {"listener": listener.name})
    out.family("ottla_connections_refused_total", "counter", "Closed: too many from their address.")
    for listener in server.listeners:
        out.sample(server.refused[listener.name], {"listener": listener.name})
    budget = server.budget
    limit = broker.config.queued_max_request_bytes
    out.gauge("ottla_request_memory_bytes", "Bytes of requests that are held.", budget.used_bytes)
    out.gauge("ottla_request_memory_limit_bytes", "queued.max.request.bytes; -1: no limit.", limit)
    out.gauge(
        "kafka_server_fetchsessioncache_numfetchsessions",
        "Fetch sessions.",
        len(broker.fetch_sessions),
    )
    out.gauge("ottla_parked_fetches", "Fetches that wait for records.", len(broker.parked_fetches))


def _requests(out: Exposition, meter: RequestMeter) -> None:
    apis = [(API_NAMES[key], one) for key, one in sorted(meter.apis.items())]
    prefix = "kafka_network_requestmetrics"
    out.family(f"{prefix}_requests_total", "counter", "Requests answered, by API.")
    for name, one in apis:
        out.sample(one.count, {"request": name})
    out.family(f"{prefix}_errors_total", "counter", "Error codes answered, by API.")
    for name, one in apis:
        for code, count in sorted(one.errors.items()):
            out.sample(count, {"request": name, "error": _error_name(code)})
    out.family(f"{prefix}_requestbytes_total", "counter", "Bytes of requests, by API.")
    for name, one in apis:
        out.sample(one.request_bytes, {"request": name})
    out.counter(
        "kafka_server_brokertopicmetrics_bytesout_total",
        "Bytes of the answers to Fetch.",
        sum(one.response_bytes for one in meter.apis.values()),
    )
    out.family(f"{prefix}_totaltime_seconds", "histogram", "From a request to its answer, by API.")
    for name, one in apis:
        out.histogram(one, {"request": name})


def _error_name(code: int) -> str:
    return ErrorCode(code).name


def _process(out: Exposition) -> None:
    out.counter("process_cpu_seconds_total", "Processor time used.", time.process_time())
    out.gauge(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        capabilities.PROCESS_STARTED_S,
    )
    out.gauge(
        "process_resident_memory_bytes", "Memory in use.", capabilities.resident_memory_bytes()
    )
    out.gauge("process_open_fds", "Open descriptors.", capabilities.open_files())
    out.gauge("process_max_fds", "Descriptors allowed.", capabilities.open_files_max())
    generations = gc.get_stats()
    out.family("python_gc_collections_total", "counter", "Collections, by generation.")
    for number, generation in enumerate(generations):
        out.sample(generation["collections"], {"generation": number})
    out.family("python_gc_objects_collected_total", "counter", "Objects found to be garbage.")
    for number, generation in enumerate(generations):
        out.sample(generation["collected"], {"generation": number})
