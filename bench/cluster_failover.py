"""How long nobody acknowledges when a leader goes: SIGTERM and SIGKILL of one of three brokers.

    python -m bench.cluster_failover [--rounds 5] [--clients raw librdkafka Java]

Three ZooKeeper servers and three brokers on this machine, a topic with a partition for each broker (replication
factor 3, min.insync.replicas 2), and three producers with acks=all and a record every 5 ms beside each other: see
``cluster_producers``. In each round the preferred leaders lead and everybody is in sync; then one broker gets the signal,
which leads the partition that is written to: in turn the one that is the controller, too, and one that is not.

- SIGTERM: the longest time between two acknowledgements that follow each other, from the signal on until a second
  after the process has ended.
- SIGKILL: from the deletion of the broker's ``/brokers/ids`` znode, when an independent watcher is told of it, to the
  first acknowledgement after it, which is another broker's. Before the deletion nobody but ZooKeeper knows: that is
  the session's time-out, which stands beside it.

What the longest such time is without any signal, in the second before it, stands beside them, too.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from bench.cluster_process import BROKER_IDS, SESSION_TIMEOUT_MS, Cluster, cluster
from bench.cluster_producers import KINDS, Acknowledged, Producer, longest_gap
from bench.figures import Figures, Goal, table

TOPIC = "failover"
PARTITIONS = [(TOPIC, index) for index in range(len(BROKER_IDS))]
SIGTERM_GOAL = Goal(at_most=200)
SIGKILL_GOAL = Goal(at_most=300)
CALM_S = 1.0
AFTER_TERM_S = 1.0


def assignment() -> list[list[int]]:
    """Each broker is the first replica of one partition."""
    return [[*BROKER_IDS[index:], *BROKER_IDS[:index]] for index in range(len(BROKER_IDS))]


class Rounds:
    """What is done again and again."""

    def __init__(self, brokers: Cluster, producers: list[Producer], figures: Figures) -> None:
        self._brokers = brokers
        self._producers = producers
        self._figures = figures

    def terminate(self, *, controller: bool) -> None:
        """SIGTERM of the broker in office, or of one that is not."""
        victim, who = self._prepare(controller=controller)
        signalled = self._brokers.signal(victim, signal.SIGTERM)
        ended = self._brokers.await_end(victim)
        self._figures[f"stop|SIGTERM to the end of the process, {who}"].append(
            (ended - signalled) * 1000
        )
        for producer in self._producers:
            found = producer.await_since(ended + AFTER_TERM_S)
            last, first = longest_gap(found, signalled, ended + AFTER_TERM_S)
            self._figures[f"term|{producer.kind}, {who}"].append((first.at - last.at) * 1000)
            self._calm(producer, found, signalled)
        self._restore(victim)

    def kill(self, *, controller: bool) -> None:
        """SIGKILL of the broker in office, or of one that is not."""
        victim, who = self._prepare(controller=controller)
        gone = self._brokers.observer.deletion(victim)
        signalled = self._brokers.signal(victim, signal.SIGKILL)
        self._brokers.await_end(victim)
        deleted = gone.wait()
        self._figures["session|SIGKILL to the deletion of the znode"].append(
            (deleted - signalled) * 1000
        )
        for producer in self._producers:
            found = producer.await_since(deleted)
            last, first = longest_gap(found, signalled, deleted)
            if first.broker_id == victim or first.at < signalled:
                raise RuntimeError(f"{producer.kind}: no acknowledgement by another broker")
            self._figures[f"kill|{producer.kind}, {who}"].append((first.at - deleted) * 1000)
            self._figures[f"whole|{producer.kind}, {who}"].append((first.at - last.at) * 1000)
            self._calm(producer, found, signalled)
        self._restore(victim)

    def _prepare(self, *, controller: bool) -> tuple[int, str]:
        """Choose who is going to go, and have the producers write to what it leads."""
        office = self._brokers.controller_id()
        victim = office if controller else next(one for one in BROKER_IDS if one != office)
        for producer in self._producers:
            producer.go(BROKER_IDS.index(victim))
        for producer in self._producers:
            producer.await_since(0)
        time.sleep(CALM_S)
        return victim, "leader and controller" if controller else "leader"

    def _restore(self, victim: int) -> None:
        self._brokers.start(victim)
        self._brokers.await_registered()
        self._brokers.await_in_sync(PARTITIONS)
        self._brokers.elect_preferred()

    def _calm(self, producer: Producer, found: list[Acknowledged], signalled: float) -> None:
        last, first = longest_gap(found, signalled - CALM_S + 0.1, signalled - 0.1)
        self._figures[f"calm|{producer.kind}"].append((first.at - last.at) * 1000)


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", nargs="*", default=KINDS, choices=KINDS)
    parser.add_argument("--set", nargs="*", default=[], help="settings of the brokers")
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="ottla-bench-"))
        brokers = stack.enter_context(cluster(Path(directory), *options.set))
        brokers.create({TOPIC: assignment()}, {"min.insync.replicas": "2"})
        brokers.await_in_sync(PARTITIONS)
        producers = [
            stack.enter_context(Producer(kind, TOPIC, brokers.ports)) for kind in options.clients
        ]
        rounds = Rounds(brokers, producers, figures)
        for _ in range(options.rounds):
            for controller in (False, True):
                rounds.terminate(controller=controller)
                rounds.kill(controller=controller)
    report(figures, options.rounds)


def report(figures: Figures, rounds: int) -> None:
    """Print what was measured."""
    blocks = {
        "term": ("SIGTERM: longest time without an acknowledgement", SIGTERM_GOAL),
        "kill": ("SIGKILL: znode deleted to the first acknowledgement", SIGKILL_GOAL),
        "whole": ("  the whole time without one, with the session's time-out", None),
        "session": (f"  the session's time-out is {SESSION_TIMEOUT_MS:,} ms", None),
        "stop": ("A stop", None),
        "calm": ("Longest time without one in the second before a signal", None),
    }
    for key, (title, goal) in blocks.items():
        part = {
            name.partition("|")[2]: values
            for name, values in sorted(figures.items(), reverse=True)
            if name.startswith(f"{key}|")
        }
        goals = {name: goal for name in part if goal is not None and name.startswith("raw")}
        table(f"{title}, {rounds} rounds", part, "ms", goals=goals)


if __name__ == "__main__":
    main()
