"""Records a second of our clients beside confluent-kafka's and aiokafka's, against the same broker process.

    python -m bench.clients [--rounds 5] [--records 100000] [--only produce]

Each measurement is a client process of its own (``client_programs`` says what they do), one after the other and all in
every round. ``peers.clients`` measures the same programs and more of them, against Apache Kafka's broker, too.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path

from bench import client_programs
from bench.broker_process import (
    Connection,
    broker,
    create_topic_frame,
    free_port,
    require_no_error,
)
from bench.client_programs import WARM
from bench.figures import Figures, Goal, table

READ_TOPIC = "read"
CLIENTS = ("ottla", "ottla.aio", "confluent-kafka", "aiokafka")
GOAL = Goal(at_least=3.0)


def measure(what: str, name: str, port: int, topic: str, count: int, figures: Figures) -> float:
    """One client's turn; returns its records a second."""
    took, cpu = client_programs.run(what, name, f"127.0.0.1:{port}", topic, count)
    figures[f"{what}|records/s|{name}"].append(count / took)
    figures[f"{what}|CPU s|{name}"].append(cpu / count * 1e6)
    return count / took


def measure_round(port: int, what: str, number: int, count: int, figures: Figures) -> None:
    """All clients, one after the other, each round beginning with another one."""
    first = number % len(CLIENTS)
    rates: dict[str, float] = {}
    for place, name in enumerate(CLIENTS[first:] + CLIENTS[:first]):
        topic = READ_TOPIC
        if what == "produce":
            topic = f"written-{number}-{place}"
            create(port, topic)
        rates[name] = measure(what, name, port, topic, count, figures)
    for ours in CLIENTS[:2]:
        for other in CLIENTS[2:]:
            figures[f"{what}|x|{ours} / {other}"].append(rates[ours] / rates[other])


def create(port: int, topic: str) -> None:
    """A topic of one partition."""
    connection = Connection(port)
    require_no_error(connection.answer(create_topic_frame(topic)).topics[0].error_code)
    connection.close()


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--only", default="", choices=("", "produce", "consume"))
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    kinds = [what for what in ("produce", "consume") if options.only in ("", what)]
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        port = free_port()
        with broker(Path(directory) / "data", port):
            if "consume" in kinds:
                create(port, READ_TOPIC)
                measure(
                    "produce", "ottla", port, READ_TOPIC, options.records + WARM, defaultdict(list)
                )
            for number in range(options.rounds):
                for what in kinds:
                    measure_round(port, what, number, options.records, figures)
    report(kinds, figures, options.records, options.rounds)


def report(kinds: list[str], figures: Figures, count: int, rounds: int) -> None:
    """Print what was measured."""
    from ottla.records.chosen_loops import choice

    print(f"our record codec: {choice}")
    goals = {f"{ours} / aiokafka": GOAL for ours in CLIENTS[:2]}
    for what in kinds:
        for unit, title, digits in (
            ("records/s", f"{what}, {count:,} records, {rounds} rounds", 0),
            ("CPU s", "  CPU seconds of the client, a million records", 2),
            ("x", "  times as many records a second, the same round", 1),
        ):
            head = f"{what}|{unit}|"
            part = {n.removeprefix(head): v for n, v in figures.items() if n.startswith(head)}
            table(title, dict(sorted(part.items())), unit, digits, goals)


if __name__ == "__main__":
    main()
