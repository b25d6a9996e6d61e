"""Programs that no one here wrote: how each is had, called and understood.

Apache Kafka's ``ProducerPerformance`` and ``ConsumerPerformance`` come from its jars, with the JVM options of its own
scripts. librdkafka's ``rdkafka_performance`` is built here, of the source in the npm package node-rdkafka and with
the library of the installed confluent-kafka; it lies in the cache under a name made of both. confluent-kafka itself is
called by ``bench.peers.confluent_process``. Records come from a file of lines that compress about as events do; only
``rdkafka_performance`` makes its own, of a text that it repeats.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bench.peers import requests
from bench.peers.load import cache_home
from bench.peers.products import KAFKA_JVM

SOURCE = "node-rdkafka@3.6.1"
MEMBERS = (
    "package/deps/librdkafka/src",
    "package/deps/librdkafka/examples/rdkafka_performance.c",
)
CONFIG = """
#define HAVE_ATOMICS_32 1
#define HAVE_ATOMICS_64 1
#define HAVE_STRNDUP 1
#define HAVE_STRCASESTR 1
#define ATOMIC_OP32(OP1,OP2,PTR,VAL) __atomic_##OP1##_##OP2(PTR, VAL, __ATOMIC_SEQ_CST)
#define ATOMIC_OP64(OP1,OP2,PTR,VAL) __atomic_##OP1##_##OP2(PTR, VAL, __ATOMIC_SEQ_CST)
"""
PREPARE_S = 120.0
JAVA_HEAP = "-Xmx512M"
"""As ``kafka-producer-perf-test.sh`` and its like have it."""
LINES = 1_000
LINGER_MS = 5
"""Java's default, and librdkafka's; ``rdkafka_performance`` alone has another."""
FETCH_QUEUE_BACKOFF_MS = 10
"""What librdkafka's consumers wait for where as much lies ready as they hold; a second by default, in which they are out of it."""


class Task(NamedTuple):
    """What a program is to do, with a topic of one partition."""

    bootstrap: str
    topic: str
    record_bytes: int
    records: int
    acks: int = 1
    codec: str = "none"

    @property
    def warm_records(self) -> int:
        """Those at the beginning that do not count, where a program can leave some out."""
        return self.records // 5


class Told(NamedTuple):
    """What a program says that it did."""

    records: int
    records_per_s: float


class Program(NamedTuple):
    """How it is called, and what its output means."""

    name: str
    command: Callable[[Task], list[str]]
    told: Callable[[str], Told]


def payload_file(record_bytes: int) -> Path:
    """Lines of so many bytes; in the cache."""
    path = cache_home() / f"lines-{LINES}-of-{record_bytes}.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = b"\n".join(requests.text(record_bytes, index) for index in range(LINES))
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(lines)
        Path(file.name).rename(path)
    return path


def _java(main: str) -> list[str]:
    from tests.support.java import LOGGING, jars, program

    return [
        program("java", "default-jdk-headless"),
        *KAFKA_JVM,
        JAVA_HEAP,
        f"-Dlog4j2.configurationFile={LOGGING}",
        *("-cp", f"{jars()}/*", f"org.apache.kafka.tools.{main}"),
    ]


def _java_producer(task: Task) -> list[str]:
    return [
        *_java("ProducerPerformance"),
        *("--bootstrap-server", task.bootstrap, "--topic", task.topic),
        *("--num-records", str(task.records), "--warmup-records", str(task.warm_records)),
        *("--payload-file", str(payload_file(task.record_bytes)), "--throughput", "-1"),
        *("--command-property", f"acks={_acks(task)}", f"compression.type={task.codec}"),
    ]


def java_producer_told(output: str) -> Told:
    """Of ``ProducerPerformance``: all records, and the rate after those that warm it up."""
    found = re.findall(r"^(\d+) (.*)records sent, ([\d.]+) records/sec", output, re.MULTILINE)
    records = sum(int(count) for count, kind, _ in found[-2:] if not kind)
    steady = [float(rate) for _, kind, rate in found if kind.strip() == "steady state"]
    if not steady:
        raise ValueError(f"not understood: {output[-500:]}")
    return Told(records, steady[-1])


def _java_consumer(task: Task) -> list[str]:
    return [
        *_java("ConsumerPerformance"),
        *("--bootstrap-server", task.bootstrap, "--topic", task.topic),
        *("--num-records", str(task.records), "--timeout", "20000", "--hide-header"),
    ]


def java_consumer_told(output: str) -> Told:
    """Of ``ConsumerPerformance``: the rate without the time that it took to join its group."""
    lines = [line.split(", ") for line in output.splitlines()]
    rows = [fields for fields in lines if len(fields) == 10]
    if not rows:
        raise ValueError(f"not understood: {output[-500:]}")
    return Told(int(rows[-1][4]), float(rows[-1][9]))


def _rdkafka_producer(task: Task) -> list[str]:
    return [
        *(str(rdkafka_performance()), "-P", "-b", task.bootstrap, "-t", task.topic, "-p", "0"),
        *("-s", str(task.record_bytes), "-c", str(task.records), "-a", str(task.acks)),
        *("-z", task.codec, "-X", f"linger.ms={LINGER_MS}", "-i", "60000"),
        *("-X", "message.timeout.ms=60000"),
    ]


def rdkafka_producer_told(output: str) -> Told:
    """Of ``rdkafka_performance -P``: those delivered."""
    found = re.findall(r"messages produced .*?, (\d+) delivered .*? in \d+ms: (\d+) msgs/s", output)
    if not found:
        raise ValueError(f"not understood: {output[-500:]}")
    return Told(int(found[-1][0]), float(found[-1][1]))


def _rdkafka_consumer(task: Task) -> list[str]:
    return [
        *(str(rdkafka_performance()), "-C", "-b", task.bootstrap, "-t", task.topic, "-p", "0"),
        *("-o", "beginning", "-c", str(task.records), "-i", "60000"),
        *("-X", f"fetch.queue.backoff.ms={FETCH_QUEUE_BACKOFF_MS}"),
    ]


def rdkafka_consumer_told(output: str) -> Told:
    """Of ``rdkafka_performance -C``: from its first message on."""
    found = re.findall(r"(\d+) messages \(\d+ bytes\) consumed in \d+ms: (\d+) msgs/s", output)
    if not found:
        raise ValueError(f"not understood: {output[-500:]}")
    return Told(int(found[-1][0]), float(found[-1][1]))


def _confluent(task: Task, what: str) -> list[str]:
    told = task._asdict() | {"what": what, "lines": str(payload_file(task.record_bytes))}
    told |= {
        "warm_records": task.warm_records,
        "fetch_queue_backoff_ms": FETCH_QUEUE_BACKOFF_MS,
    }
    return [sys.executable, "-m", "bench.peers.confluent_process", json.dumps(told)]


def confluent_told(output: str) -> Told:
    """Of ``bench.peers.confluent_process``."""
    return Told(**json.loads(output.splitlines()[-1]))


def _acks(task: Task) -> str:
    return "all" if task.acks == -1 else str(task.acks)


JAVA_PRODUCER = Program("ProducerPerformance", _java_producer, java_producer_told)
JAVA_CONSUMER = Program("ConsumerPerformance", _java_consumer, java_consumer_told)
RDKAFKA_PRODUCER = Program("rdkafka_performance -P", _rdkafka_producer, rdkafka_producer_told)
RDKAFKA_CONSUMER = Program("rdkafka_performance -C", _rdkafka_consumer, rdkafka_consumer_told)
CONFLUENT_PRODUCER = Program(
    "confluent-kafka, producer", lambda task: _confluent(task, "produce"), confluent_told
)
CONFLUENT_CONSUMER = Program(
    "confluent-kafka, consumer", lambda task: _confluent(task, "consume"), confluent_told
)


@cache
def rdkafka_performance() -> Path:
    """The program, built when first wanted. Raises ``RuntimeError`` where npm, gcc or confluent-kafka are missing."""
    library = _librdkafka()
    digest = hashlib.sha256(f"{SOURCE} {library} {library.stat().st_size} {CONFIG}".encode())
    path = cache_home() / f"rdkafka_performance-{digest.hexdigest()[:16]}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".rdkafka-", dir=path.parent) as making:
            _build(Path(making), library).rename(path)
    return path


def _build(directory: Path, library: Path) -> Path:
    """Fetch the source, and link its program with the library."""
    for needed in ("npm", "gcc"):
        if shutil.which(needed) is None:
            raise RuntimeError(f"{needed} is not here")
    _run(["npm", "pack", "--silent", SOURCE], directory)
    (package,) = directory.glob("*.tgz")
    _run(["tar", "xzf", package.name, "--strip-components=3", *MEMBERS], directory)
    (directory / "config.h").write_text(CONFIG)
    # its warnings are its own
    compiler = ["gcc", "-O2", "-w", "-D_GNU_SOURCE", "-I", "src"]
    source = "examples/rdkafka_performance.c"
    linking = [str(library), f"-Wl,-rpath,{library.parent}", "-lpthread", "-lm"]
    _run([*compiler, source, "-o", "program", *linking], directory)
    return directory / "program"


def _librdkafka() -> Path:
    """The library in confluent-kafka's wheel."""
    import confluent_kafka

    room = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    found = sorted(room.glob("librdkafka-*.so*"))
    if not found:
        raise RuntimeError("this confluent-kafka has no librdkafka of its own")
    return found[0]


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=PREPARE_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-500:]}")
