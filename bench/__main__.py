"""``make bench``: figures of this machine, each benchmark in a process of its own, bounded in time.

Speed varies from run to run on a shared machine: each figure is a median with its range, and what is compared
is measured alternating in one run. Nothing here fails for being slow.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

BENCHMARKS = ("first_record", "records", "network")
LIMIT_S = 240


def main() -> int:
    """Run them one after the other; the number of those that failed."""
    # As an installed package has it: a start that compiles every module first is nobody's start.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    failed = 0
    for name in sys.argv[1:] or BENCHMARKS:
        started = time.monotonic()
        print(f"\n== {name}", flush=True)
        outcome = subprocess.run(
            [sys.executable, "-m", f"bench.{name}"], env=environment, timeout=LIMIT_S, check=False
        )
        failed += outcome.returncode != 0
        print(f"== {name}: {time.monotonic() - started:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
