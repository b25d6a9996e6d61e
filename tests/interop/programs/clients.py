"""What the clients of Node and Go can do, and each as the tests of crossing records use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.interop.programs.program import encoded, program, sample_of
from tests.interop.samples import CODECS, SAMPLES, Sample


def _without_null_headers(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """KafkaJS's interface has no null header."""
    return tuple(
        sample._replace(headers=tuple(pair for pair in sample.headers if pair[1] is not None))
        for sample in samples
    )


def _without_empty_parts(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    return tuple(
        sample._replace(headers=tuple(pair for pair in sample.headers if pair[1] != b""))
        for sample in samples
        if b"" not in (sample.key, sample.value)
    )


def _as_it_is(sample: Sample) -> Sample:
    return sample


def _null_headers_empty(sample: Sample) -> Sample:
    return sample._replace(headers=tuple((name, value or b"") for name, value in sample.headers))


@dataclass(frozen=True)
class Client:
    """A client: what it can write, what it lacks, and its two verbs."""

    name: str
    strategies: Sequence[str]
    lacks: frozenset[str] = frozenset()
    WRITABLE: Sequence[Sample] = field(default=SAMPLES, repr=False)
    CODECS: Sequence[str] = CODECS
    seen: Callable[[Sample], Sample] = _as_it_is
    """How it shows a record, where it does not tell all that is in it."""

    def write(
        self, bootstrap: str, topic: str, partition: int, codec: str, samples: Sequence[Sample]
    ) -> None:
        """Write the samples under a codec; all are acknowledged when this returns."""
        records = [encoded(sample) for sample in samples]
        program(self.name, bootstrap).call(
            "produce", topic=topic, partition=partition, codec=codec, records=records
        )

    def read(self, bootstrap: str, topic: str, partition: int, count: int) -> list[Sample]:
        """The first ``count`` records of a partition."""
        records = program(self.name, bootstrap).call(
            "read", topic=topic, partition=partition, count=count
        )
        return [sample_of(record) for record in records]


CLIENTS = {
    client.name: client
    for client in (
        Client("kafkajs", ["roundrobin"], WRITABLE=_without_null_headers(SAMPLES)),
        Client(
            "confluent-kafka-javascript",
            ["range", "roundrobin", "cooperative-sticky"],
            frozenset(
                {
                    "create_partitions",
                    "describe_config",
                    "alter_config",
                    "reset_group_offsets",
                    "cluster",
                }
            ),
            # What is empty reaches the broker as null, and a null header the application as empty.
            _without_empty_parts(_without_null_headers(SAMPLES)),
            seen=_null_headers_empty,
        ),
        Client("franz-go", ["range", "roundrobin", "sticky", "cooperative-sticky"]),
        Client(
            "sarama", ["range", "roundrobin", "sticky", "cooperative-sticky"], frozenset({"seek"})
        ),
    )
}


def having(operation: str) -> list[str]:
    """The names of the clients that have an operation."""
    return [client.name for client in CLIENTS.values() if operation not in client.lacks]
