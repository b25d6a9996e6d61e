"""confluent-kafka as its users call it, in a process of its own; its last line says what it did.

    python -m bench.peers.confluent_process '{"what": "produce", "bootstrap": ..., ...}'

A record each ``produce`` with ``poll(0)``, then ``flush``; or ``consume(500)`` of an assigned partition in a loop that
looks at each value's length. The library's defaults, but for acks, the codec and how long a consumer waits that has
enough (``bench.peers.tools``). The clock starts after the records that warm it up.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

AT_ONCE = 500
WAIT_S = 20.0


def produce(
    bootstrap: str, topic: str, lines: list[bytes], warm: int, records: int, acks: int, codec: str
) -> float:
    """Seconds that the records after the first ``warm`` took."""
    producer = Producer({"bootstrap.servers": bootstrap, "acks": acks, "compression.type": codec})
    failed: list[Any] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failed.append(error)

    values = cycle(lines)
    begin = 0.0
    for count in (warm, records - warm):
        begin = time.perf_counter()
        for value in islice(values, count):
            while True:
                try:
                    producer.produce(topic, value, partition=0, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
    producer.flush()
    seconds = time.perf_counter() - begin
    if failed:
        raise RuntimeError(failed[0])
    return seconds


def consume(
    bootstrap: str, topic: str, warm: int, records: int, backoff_ms: int
) -> tuple[int, float]:
    """How many records came after the first ``warm``, and the seconds that took."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "confluent",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": backoff_ms,
        }
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    seen, size, begin, before = 0, 0, 0.0, 0
    while seen < records:
        found = consumer.consume(AT_ONCE, WAIT_S)
        if not found:
            raise TimeoutError(f"{seen} of {records} records came")
        for message in found:
            if message.error() is not None:
                raise RuntimeError(message.error())
            size += len(message.value() or b"")
        seen += len(found)
        if not begin and seen >= warm:
            begin, before = time.perf_counter(), seen
    seconds = time.perf_counter() - begin
    consumer.close()
    return seen - before, seconds


def main() -> None:
    """Do what the only argument says."""
    job = json.loads(sys.argv[1])
    warm, records = job["warm_records"], job["records"]
    if job["what"] == "produce":
        lines = Path(job["lines"]).read_bytes().split(b"\n")
        seconds = produce(
            job["bootstrap"], job["topic"], lines, warm, records, job["acks"], job["codec"]
        )
        counted = records - warm
    else:
        backoff_ms = job["fetch_queue_backoff_ms"]
        counted, seconds = consume(job["bootstrap"], job["topic"], warm, records, backoff_ms)
    print(json.dumps({"records": records, "records_per_s": counted / seconds}))


if __name__ == "__main__":
    main()
