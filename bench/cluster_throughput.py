"""What three brokers take together, and what each part of it costs: replication factor 3 beside 1, acks=all.

    python -m bench.cluster_throughput [--rounds 3] [--seconds 1.5] [--only small]

Three ZooKeeper servers, three brokers and the client share this machine: what RF 3 takes is bounded by its
processors, so the CPU seconds of the leader and of a follower (the mean of both) stand beside it, per GB that was
produced or per request. One partition, prebuilt requests on a plain socket, as in ``throughput``: 1 MB batches, 5 in flight;
one record of 100 bytes a request, 64 in flight; and one such request at a time, for its time. RF 1 and 3 alternate, and
so do the durabilities, with a new cluster for each. Before each measurement everybody is in sync, and must be after it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median

from bench.broker_process import (
    GB,
    Connection,
    await_quiet,
    cpu_seconds,
    require_no_error,
    resident_mb,
    warm_memory,
)
from bench.cluster_process import BROKER_IDS, Cluster, cluster
from bench.figures import Figures, table
from bench.throughput import DURABILITIES, WARMED_GB, large_frame, small_frame

FACTORS = (1, 3)
LEADER, *FOLLOWERS = BROKER_IDS
LONE_REQUESTS = 200
SHORT_S = 0.6
"""So long a produce to three replicas writes less than there is memory that is quick to have."""

Cpu = dict[int, tuple[float, float]]


def topic_of(factor: int) -> str:
    """One for each replication factor, led by the same broker."""
    return f"throughput-{factor}"


def cpu_of(brokers: Cluster) -> Cpu:
    """Each broker's user and system CPU seconds so far."""
    return {one: cpu_seconds(process) for one, process in brokers.processes.items()}


class Round:
    """One cluster's measurements."""

    def __init__(self, brokers: Cluster, durability: str, figures: Figures) -> None:
        self._brokers = brokers
        self._durability = durability
        self._figures = figures

    def pump(self, what: str, factor: int, seconds: float) -> None:
        """Keep the leader busy from another process for some time."""
        label = f"RF {factor}, durability={self._durability}"
        before = cpu_of(self._brokers)
        command = [sys.executable, "-m", "bench.throughput", "client", what]
        command += [str(self._brokers.ports[LEADER]), str(seconds), "-1", topic_of(factor)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = cpu_of(self._brokers)
        counted, took = done.stdout.split()
        count = int(counted)
        if what == "large":
            amount = count * len(large_frame(-1).bytes) / GB
            self._figures[f"GB/s|1 MB, {label}"].append(amount / float(took))
            unit, scale = "CPU s/GB|1 MB", 1 / amount
        else:
            self._figures[f"requests/s|small, {label}"].append(count / float(took))
            unit, scale = "us/request|small", 1e6 / count
        spent = {
            one: tuple((b - a) * scale for a, b in zip(before[one], after[one], strict=True))
            for one in BROKER_IDS
        }
        self._figures[f"{unit}: leader, {label}"].append(sum(spent[LEADER]))
        self._figures[f"{unit}: leader, system, {label}"].append(spent[LEADER][1])
        if factor > 1:
            followers = [spent[one] for one in FOLLOWERS]
            self._figures[f"{unit}: a follower, {label}"].append(fmean(map(sum, followers)))
            self._figures[f"{unit}: a follower, system, {label}"].append(
                fmean(one[1] for one in followers)
            )

    def lone_requests(self, factor: int) -> None:
        """One at a time: how long each takes."""
        frame = small_frame(-1, topic_of(factor))
        connection = Connection(self._brokers.ports[LEADER])
        times = []
        for _ in range(LONE_REQUESTS):
            begin = time.perf_counter()
            answer = connection.answer(frame)
            times.append(time.perf_counter() - begin)
            require_no_error(answer.responses[0].partition_responses[0].error_code)
        connection.close()
        label = f"RF {factor}, durability={self._durability}"
        self._figures[f"ms|one small request at a time, median, {label}"].append(
            median(times) * 1000
        )

    def check(self) -> None:
        """Everybody has kept up, and everybody rests."""
        self._brokers.await_in_sync([(topic_of(3), 0)])
        for process in self._brokers.processes.values():
            await_quiet(process)

    def memory(self) -> None:
        """After all that went through them."""
        for one, process in self._brokers.processes.items():
            role = "leader" if one == LEADER else "follower"
            self._figures[f"MB|resident, {role}, durability={self._durability}"].append(
                resident_mb(process)
            )


def measure(durability: str, seconds: float, only: str, figures: Figures) -> None:
    """One cluster's round."""
    with (
        tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory,
        cluster(Path(directory), f"durability={durability}") as brokers,
    ):
        for factor in FACTORS:
            brokers.create({topic_of(factor): [list(BROKER_IDS[:factor])]})
        one_round = Round(brokers, durability, figures)
        one_round.check()
        for factor in FACTORS:
            if only in "small":
                one_round.lone_requests(factor)
                one_round.pump("small", factor, seconds)
            if only in "large":
                one_round.check()
                warm_memory(WARMED_GB)
                one_round.pump("large", factor, SHORT_S)
            one_round.check()
        one_round.memory()


def main() -> None:
    """Measure, alternating, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--only", default="", help="large or small")
    options = parser.parse_args()
    figures: Figures = defaultdict(list)
    for _ in range(options.rounds):
        for durability in DURABILITIES:
            measure(durability, options.seconds, options.only, figures)
    by_unit: dict[str, Figures] = defaultdict(dict)
    for name, values in figures.items():
        unit, _, rest = name.partition("|")
        by_unit[unit][rest] = values
    digits = {"requests/s": 0, "MB": 0, "us/request": 1}
    for unit, part in by_unit.items():
        table(f"{unit}, {options.rounds} rounds", part, unit, digits.get(unit, 2))


if __name__ == "__main__":
    main()
