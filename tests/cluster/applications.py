"""Applications of clients with their defaults: a producer under acks=all, and a consumer in a group, side by side.

Each sends numbers and reads them back, and writes down what it is told: what was acknowledged, what was seen, and
every error that an application would have to handle. What a client mends by itself and only mentions is none.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

from tests.interop.requirements import leave_out, require_module
from tests.support.java import MissingTool, java
from tests.support.waiting import eventually

PAUSE_S = 0.02
"""Between two sends."""
POLL_S = 0.2
END_S = 120.0
"""How long the last acknowledgement and the last record may take: longer than any client's own time-outs."""


class Application(ABC):
    """A producer and a consumer of one topic, as long as the context lasts."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.bootstrap = bootstrap
        self.topic = topic
        self.acked: list[int] = []
        self.seen: list[int] = []
        self.faults: list[str] = []
        self._sending = True
        self._reading = True

    @property
    def group(self) -> str:
        """The group's name."""
        return self.topic

    @abstractmethod
    def begin(self) -> None:
        """Start both."""

    @abstractmethod
    def end(self) -> None:
        """Close both, and wait for that."""

    def stop_sending(self) -> None:
        """Send nothing more."""
        self._sending = False

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop_sending()
        self._reading = False
        self.end()

    def further(self, count: int) -> tuple[int, int]:
        """How many will be acknowledged and seen once it is so many more of each."""
        return len(self.acked) + count, len(self.seen) + count

    def await_progress(self, goal: tuple[int, int]) -> None:
        """Return once so many are acknowledged, and so many seen."""
        acked, seen = goal
        eventually(
            lambda: self.faults or (len(self.acked) >= acked and len(self.seen) >= seen),
            f"{self.topic}: {acked} are acknowledged and {seen} seen",
            END_S,
        )
        assert not self.faults, self.faults

    def finish(self) -> None:
        """Return once everything that was acknowledged has been seen; nothing else may have been told."""
        self.stop_sending()

        def lost() -> set[int]:
            return set(self.acked) - set(self.seen)

        def told() -> str:
            missing = sorted(lost())
            return f"{self.topic}: {len(missing)} of {len(self.acked)} not seen: {missing[:20]}"

        settled = [len(self.acked), time.monotonic()]

        def done() -> bool:
            if len(self.acked) != settled[0]:
                settled[:] = [len(self.acked), time.monotonic()]
            return bool(self.faults) or (not lost() and time.monotonic() - settled[1] > 1.0)

        try:
            eventually(done, "everything acknowledged is seen", END_S)
        except AssertionError:
            raise AssertionError(told()) from None
        assert not self.faults, self.faults


class Threads(Application):
    """An application in two threads of this process."""

    def begin(self) -> None:
        """Start the threads."""
        self._threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self.produce, self.consume)
        ]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Wait for them."""
        for thread in self._threads:
            thread.join(END_S)
            assert not thread.is_alive(), f"{self.topic}: a client does not close"

    def _guard(self, work: Any) -> None:
        try:
            work()
        except Exception as error:  # an application would have to handle it
            self.faults.append(f"{work.__name__}: {error!r}")

    @abstractmethod
    def produce(self) -> None:
        """Send until told to stop."""

    @abstractmethod
    def consume(self) -> None:
        """Read until told to stop."""


class Librdkafka(Threads):
    """confluent-kafka."""

    def produce(self) -> None:
        """Send with one producer."""
        kafka = require_module("confluent_kafka", "confluent-kafka")
        producer = kafka.Producer({"bootstrap.servers": self.bootstrap, "acks": "all"})

        def delivered(number: int, error: Any) -> None:
            if error is None:
                self.acked.append(number)
            else:
                self.faults.append(f"delivery of {number}: {error}")

        number = 0
        while self._sending:
            own = number
            producer.produce(
                self.topic,
                str(number).encode(),
                key=str(number).encode(),
                on_delivery=lambda error, _, own=own: delivered(own, error),
            )
            producer.poll(PAUSE_S)
            number += 1
        while producer.flush(POLL_S) and self._reading:
            pass

    def consume(self) -> None:
        """Read with one consumer."""
        kafka = require_module("confluent_kafka", "confluent-kafka")
        consumer = kafka.Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            consumer.subscribe([self.topic])
            while self._reading:
                message = consumer.poll(POLL_S)
                if message is None:
                    continue
                if message.error() is None:
                    self.seen.append(int(message.value()))
                else:
                    self.faults.append(f"poll: {message.error()}")
        finally:
            consumer.close()


class Ottla(Threads):
    """Ottla's own clients."""

    def produce(self) -> None:
        """Send with one producer."""
        from ottla import KafkaError, Producer, RecordMetadata

        with Producer(self.bootstrap) as producer:

            def delivered(
                number: int, metadata: RecordMetadata | None, error: KafkaError | None
            ) -> None:
                if error is None:
                    self.acked.append(number)
                else:
                    self.faults.append(f"delivery of {number}: {error}")

            number = 0
            while self._sending:
                own = number
                text = str(number).encode()
                producer.send(
                    self.topic,
                    value=text,
                    key=text,
                    on_delivery=lambda metadata, error, own=own: delivered(own, metadata, error),
                )
                time.sleep(PAUSE_S)
                number += 1

    def consume(self) -> None:
        """Read with one consumer."""
        from ottla import Consumer

        with Consumer(
            self.topic, bootstrap=self.bootstrap, group=self.group, auto_offset_reset="earliest"
        ) as consumer:
            while self._reading:
                for record in consumer.poll(POLL_S):
                    self.seen.append(int(record.value or b""))


class Aiokafka(Threads):
    """aiokafka, with an event loop a thread."""

    def begin(self) -> None:
        """Start the threads. The hundreds of lines that it logs while a broker is away would hide why a test failed."""
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        super().begin()

    def produce(self) -> None:
        """Send with one producer."""
        asyncio.run(self._produce())

    async def _produce(self) -> None:
        aiokafka = require_module("aiokafka", "aiokafka")
        async with aiokafka.AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all"
        ) as producer:
            number = 0
            waiting: set[asyncio.Task[None]] = set()

            async def delivered(number: int, future: Any) -> None:
                try:
                    await future
                except Exception as error:
                    self.faults.append(f"delivery of {number}: {error!r}")
                else:
                    self.acked.append(number)

            while self._sending:
                text = str(number).encode()
                future = await producer.send(self.topic, text, key=text)
                task = asyncio.create_task(delivered(number, future))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                await asyncio.sleep(PAUSE_S)
                number += 1
            await asyncio.gather(*waiting)

    def consume(self) -> None:
        """Read with one consumer."""
        asyncio.run(self._consume())

    async def _consume(self) -> None:
        aiokafka = require_module("aiokafka", "aiokafka")
        async with aiokafka.AIOKafkaConsumer(
            self.topic,
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            auto_offset_reset="earliest",
        ) as consumer:
            while self._reading:
                found = await consumer.getmany(timeout_ms=int(POLL_S * 1000))
                for records in found.values():
                    self.seen.extend(int(record.value) for record in records)


class Java(Application):
    """Apache Kafka's Java clients, in a process of their own."""

    def begin(self) -> None:
        """Start the process, and read what it tells."""
        self._process = subprocess.Popen(
            java("Riding", self.bootstrap, self.topic, str(int(PAUSE_S * 1000))),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            ((what, value),) = json.loads(line).items()
            if what == "fault":
                self.faults.append(value)
            else:
                (self.acked if what == "acked" else self.seen).append(value)

    def stop_sending(self) -> None:
        """Tell it so."""
        if self._sending:
            assert self._process.stdin is not None
            self._process.stdin.write(b".")
            self._process.stdin.flush()
        super().stop_sending()

    def end(self) -> None:
        """Close its input, and wait for its end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        finally:
            self._process.kill()
            self._process.wait()
            self._reader.join(END_S)
            assert self._process.stdout is not None
            self._process.stdout.close()


APPLICATIONS: dict[str, type[Application]] = {
    "librdkafka": Librdkafka,
    "java": Java,
    "aiokafka": Aiokafka,
    "ottla": Ottla,
}


def check_installed(name: str) -> None:
    """Leave the test out where a client is not there."""
    if name == "librdkafka":
        require_module("confluent_kafka", "confluent-kafka")
    elif name == "aiokafka":
        require_module("aiokafka", "aiokafka")
    elif name == "java":
        try:
            java("Riding")
        except MissingTool as missing:
            leave_out(str(missing))
