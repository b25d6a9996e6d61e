"""Kafka Connect in standalone mode: a file into a topic, the topic into a file, with our clients between."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import ottla
from tests.interop.java.adapter import JAVA
from tests.support.apache_kafka import free_ports
from tests.support.java import java
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("java")]

START_TIMEOUT_S = 90.0
LINES = [f"line {number}" for number in range(500)]


def properties(path: Path, **settings: object) -> str:
    """A file of properties; underscores are dots."""
    path.write_text("".join(f"{k.replace('_', '.')}={v}\n" for k, v in settings.items()))
    return str(path)


@contextmanager
def worker(bootstrap: str, topic: str, directory: Path) -> Iterator[None]:
    """A worker with a source that reads ``in`` and a sink that writes ``out``."""
    assert JAVA
    (port,) = free_ports(1)
    text = "org.apache.kafka.connect.storage.StringConverter"
    files = [
        properties(
            directory / "worker.properties",
            bootstrap_servers=bootstrap,
            key_converter=text,
            value_converter=text,
            offset_storage_file_filename=directory / "offsets",
            offset_flush_interval_ms=200,
            listeners=f"http://127.0.0.1:{port}",
            consumer_auto_offset_reset="earliest",
            plugin_discovery="service_load",
        ),
        properties(
            directory / "source.properties",
            name="source",
            connector_class="org.apache.kafka.connect.file.FileStreamSourceConnector",
            tasks_max=1,
            file=directory / "in",
            topic=topic,
        ),
        properties(
            directory / "sink.properties",
            name=f"sink.{topic}",
            connector_class="org.apache.kafka.connect.file.FileStreamSinkConnector",
            tasks_max=1,
            file=directory / "out",
            topics=topic,
        ),
    ]
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            java("org.apache.kafka.connect.cli.ConnectStandalone", *files),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
            assert process.poll() is None, (directory / "worker.log").read_text()
        finally:
            process.terminate()  # it writes down where the source was
            process.wait()


def lines_of(path: Path) -> list[str]:
    """The lines of a file that may not be there yet."""
    return path.read_text().splitlines() if path.exists() else []


def add(path: Path, lines: list[str]) -> None:
    """Write lines at the end of a file."""
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def test_lines_go_from_file_to_topic_to_file_and_a_restart_goes_on(
    bootstrap: str, unused: str, tmp_path: Path
) -> None:
    out, group = tmp_path / "out", f"connect-sink.{unused}"
    with ottla.Admin(bootstrap) as admin:
        admin.create_topic(unused, 1, 1)
        add(tmp_path / "in", LINES[:300])
        with worker(bootstrap, unused, tmp_path):
            eventually(lambda: len(lines_of(out)) >= 300, "the first lines", START_TIMEOUT_S)
            assert lines_of(out) == LINES[:300]
            with ottla.Producer(bootstrap) as producer:  # the sink reads what we write, too
                producer.send(unused, b"from us").result(30)
            eventually(lambda: lines_of(out)[-1] == "from us", "our line")
            found = admin.describe_group(group)
            assert (found.state, len(found.members)) == ("Stable", 1)
        partition = ottla.TopicPartition(unused, 0)
        assert admin.group_offsets(group)[partition].offset == 301
        add(tmp_path / "in", LINES[300:])
        with worker(bootstrap, unused, tmp_path):
            eventually(lambda: len(lines_of(out)) >= 501, "all lines", START_TIMEOUT_S)
        assert lines_of(out) == [*LINES[:300], "from us", *LINES[300:]]
    with ottla.Consumer(bootstrap=bootstrap, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        values: list[str] = []
        eventually(
            lambda: (
                values.extend(record.value.decode() for record in consumer.poll(0.2))
                or len(values) >= 501
            ),
            "the records",
        )
    assert values == lines_of(out)
