"""Producers that say when each of their records was acknowledged: a raw one, librdkafka's, and Java's.

    python -m bench.cluster_producers raw|librdkafka TOPIC 1=PORT,2=PORT,3=PORT

Each is a process that sends one record after the other, a pause apart, with acks=all, to one partition; it is told
by lines of its input which (``go N``) and asked for its acknowledgements since then (``report``: a line of
``NANOSECONDS:BROKER``, by ``CLOCK_MONOTONIC``, which System.nanoTime is, too). The clients of others have their
defaults: nothing but the bootstrap servers is set, and the record does not wait for the one before.

The raw one has one request on its way. After an error or a hang-up it waits 10 ms, asks the next broker in turn
who leads, and sends there; nothing is kept from one attempt to the next.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import NamedTuple, Self

from bench.broker_process import Connection, Frame
from bench.cluster_process import metadata_frame, wait_for
from ottla.errors import ErrorCode
from ottla.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from ottla.records.builder import build_batch

PAUSE_S = 0.005
BACK_OFF_S = 0.010
KINDS = ("raw", "librdkafka", "Java")


class Acknowledged(NamedTuple):
    """A record's acknowledgement: when (``time.monotonic()``), and by whom, where that is known (else -1)."""

    at: float
    broker_id: int


class Producer:
    """One of them, as the process that it is."""

    def __init__(self, kind: str, topic: str, ports: dict[int, int]) -> None:
        addresses = ",".join(f"{broker_id}={port}" for broker_id, port in ports.items())
        if kind == "Java":
            from tests.support.java import java

            bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports.values())
            command = java("PacedProducer", topic, bootstrap, str(int(PAUSE_S * 1000)))
        else:
            command = [sys.executable, "-m", "bench.cluster_producers", kind, topic, addresses]
        self.kind = kind
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def go(self, partition: int) -> None:
        """Begin (or go on) with this partition; what was acknowledged before is forgotten."""
        self._tell(f"go {partition}")

    def await_since(self, moment: float) -> list[Acknowledged]:
        """What was acknowledged since ``go``, once there is something from that moment on."""

        def found() -> list[Acknowledged] | None:
            acknowledged = self.report()
            return acknowledged if acknowledged and acknowledged[-1].at >= moment else None

        return wait_for(found, f"{self.kind} is at work", every_s=0.1)

    def report(self) -> list[Acknowledged]:
        """What was acknowledged since ``go``."""
        self._tell("report")
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the {self.kind} producer has ended")
        pairs = (one.split(":") for one in line.split())
        return [Acknowledged(int(at) / 1e9, int(broker_id)) for at, broker_id in pairs]

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


def longest_gap(
    acknowledged: list[Acknowledged], since: float, until: float
) -> tuple[Acknowledged, Acknowledged]:
    """The two acknowledgements with the longest time between them that has a part in this span."""
    if not acknowledged or acknowledged[0].at > since or acknowledged[-1].at < until:
        raise RuntimeError("the producer was not at work before and after")
    return max(
        (
            (earlier, later)
            for earlier, later in itertools.pairwise(acknowledged)
            if later.at >= since and earlier.at <= until
        ),
        key=lambda pair: pair[1].at - pair[0].at,
    )


class _Told:
    """What the process's input says."""

    def __init__(self) -> None:
        self.partition = 0
        self.acknowledged: list[str] = []
        self.changed = threading.Event()

    def listen(self) -> None:
        """Follow the input to its end, and the process with it."""
        for line in sys.stdin:
            verb, *rest = line.split()
            if verb == "go":
                self.acknowledged = []
                self.partition = int(rest[0])
                self.changed.set()
            else:
                print(*self.acknowledged, flush=True)

    def note(self, broker_id: int) -> None:
        """A record was acknowledged now."""
        self.acknowledged.append(f"{time.monotonic_ns()}:{broker_id}")


class _Raw:
    """The raw producer."""

    def __init__(self, topic: str, ports: dict[int, int], told: _Told) -> None:
        self._topic = topic
        self._ports = ports
        self._told = told
        self._turn = itertools.cycle(ports)
        self._connections: dict[int, Connection] = {}
        self._batch = bytes(build_batch([(1_700_000_000_000, None, bytes(100), ())]))
        self._metadata = metadata_frame([topic])

    def run(self) -> None:
        """Send for ever."""
        partition, leader = self._told.partition, -1
        frame = self._produce_frame(partition)
        while True:
            if self._told.partition != partition:
                partition, leader = self._told.partition, -1
                frame = self._produce_frame(partition)
            try:
                if leader < 0:
                    leader = self._find_leader(partition)
                if leader >= 0 and self._send(leader, frame):
                    self._told.note(leader)
                    time.sleep(PAUSE_S)
                    continue
            except OSError:
                self._hang_up(leader)
            leader = -1
            time.sleep(BACK_OFF_S)

    def _send(self, leader: int, frame: Frame) -> bool:
        answer = self._connection(leader).answer(frame)
        code: int = answer.responses[0].partition_responses[0].error_code
        if code:
            print(f"{time.monotonic():.4f} {leader} {ErrorCode(code).name}", file=sys.stderr)
        return not code

    def _find_leader(self, partition: int) -> int:
        """By the next broker that answers at all; -1 where it does not know."""
        for broker_id in itertools.islice(self._turn, len(self._ports)):
            try:
                answer = self._connection(broker_id).answer(self._metadata)
            except OSError:
                self._hang_up(broker_id)
                continue
            for found in answer.topics[0].partitions:
                if found.partition_index == partition:
                    leader: int = found.leader_id
                    return leader
            return -1
        return -1

    def _produce_frame(self, partition: int) -> Frame:
        data = PartitionProduceData(index=partition, records=self._batch)
        topic = TopicProduceData(name=self._topic, partition_data=[data])
        return Frame(ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=[topic]), 9)

    def _connection(self, broker_id: int) -> Connection:
        connection = self._connections.get(broker_id)
        if connection is None:
            connection = Connection(self._ports[broker_id], wait=False)
            self._connections[broker_id] = connection
        return connection

    def _hang_up(self, broker_id: int) -> None:
        connection = self._connections.pop(broker_id, None)
        if connection is not None:
            connection.close()


def _run_librdkafka(topic: str, ports: dict[int, int], told: _Told) -> None:
    from confluent_kafka import Producer as Confluent

    bootstrap = ",".join(f"127.0.0.1:{port}" for port in ports.values())
    producer = Confluent({"bootstrap.servers": bootstrap})

    def delivered(error: object, _: object) -> None:
        if error is None:
            told.note(-1)

    value = bytes(100)
    due = time.monotonic()
    while True:
        with suppress(BufferError):  # it holds as much as it may, until a leader is found
            producer.produce(topic, value, partition=told.partition, on_delivery=delivered)
        due = max(due + PAUSE_S, time.monotonic())
        while (left := due - time.monotonic()) > 0:
            producer.poll(left)


def main() -> None:
    """Be the raw or the librdkafka producer."""
    kind, topic, addresses = sys.argv[1:]
    ports = {int(k): int(v) for k, _, v in (one.partition("=") for one in addresses.split(","))}
    told = _Told()

    def work() -> None:
        told.changed.wait()
        if kind == "raw":
            _Raw(topic, ports, told).run()
        else:
            _run_librdkafka(topic, ports, told)

    threading.Thread(target=work, daemon=True).start()
    told.listen()


if __name__ == "__main__":
    sys.setswitchinterval(0.0005)
    main()
