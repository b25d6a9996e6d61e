"""``make bench``: figures of this machine, each benchmark in a process of its own, bounded in time.

    python -m bench [--json PATH] [--cluster] [NAME ...]

Speed varies from run to run on a shared machine: each figure is a median with its range, and what is compared
is measured alternating in one run. Nothing here fails for being slow: a goal that is not met is said to be
MISSED. ``--json`` writes every figure with the values of its rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import JSON_LINES

BENCHMARKS: dict[str, tuple[str, ...]] = {
    "first_record": ("--rounds", "5"),
    "throughput": ("--rounds", "3"),
    "recovery": ("--rounds", "3"),
    "partitions": ("--rounds", "3"),
    "clients": ("--rounds", "5"),
}
"""What runs by default, and with which arguments: five minutes in all. Others are run by name."""
CLUSTER: dict[str, tuple[str, ...]] = {
    "cluster_failover": ("--rounds", "5"),
    "cluster_partitions": ("--counts", "1000", "10000", "--rounds", "5", "2"),
    "cluster_throughput": ("--rounds", "2"),
}
"""What ``--cluster`` runs, with a ZooKeeper ensemble: six minutes in all."""
LIMIT_S = 240


def run(name: str, environment: dict[str, str]) -> bool:
    """Run one of them; whether it went well."""
    started = time.monotonic()
    print(f"\n== {name}", flush=True)
    command = [sys.executable, "-m", f"bench.{name}", *{**BENCHMARKS, **CLUSTER}.get(name, ())]
    try:
        good = (
            subprocess.run(command, env=environment, timeout=LIMIT_S, check=False).returncode == 0
        )
    except subprocess.TimeoutExpired:
        print(f"{name} was stopped after {LIMIT_S} s")
        good = False
    print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return good


def write_json(lines: Path, path: Path, started: float) -> None:
    """The figures of this run, and of which machine they are."""
    figures = [json.loads(line) for line in lines.read_text().splitlines()]
    report = {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "figures": figures,
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def main() -> int:
    """Run them one after the other; the number of those that failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"by default {' '.join(BENCHMARKS)}")
    parser.add_argument("--cluster", action="store_true", help=f"run {' '.join(CLUSTER)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    names = options.names or (CLUSTER if options.cluster else BENCHMARKS)
    started = time.time()
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    print(f"{os.cpu_count()} processors, load average {load}, Python {platform.python_version()}")
    # As an installed package has it: a start that compiles every module first is nobody's start.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="ottla-bench-") as directory:
        lines = Path(directory) / "figures"
        lines.touch()
        environment[JSON_LINES] = str(lines)
        failed = sum(not run(name, environment) for name in names)
        if options.json is not None:
            write_json(lines, options.json, started)
    print(f"\n{time.time() - started:.0f} s in all")
    return failed


if __name__ == "__main__":
    sys.exit(main())
