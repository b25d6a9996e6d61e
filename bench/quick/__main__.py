"""``make bench-quick``: count what fixed works cost, and say what is worse than in the last release.

    python -m bench.quick [--keep] [--against REVISION] [--only PATTERN] [--reference PATH] [--json PATH]

Ends with 1 where something is worse by more than the threshold, and with 2 where nothing can be compared: the figures that
are kept (``reference.json``) are of another Python or library. ``--against`` measures a revision here first, in their
place. ``--keep`` keeps this run's figures, at a release. What is worse is measured once more, and the lesser counts: one in
ten processes takes some percent more for one of the works, from its start to its end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.revision import revision
from bench.quick import broker, clients, comparing, counting

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = Path(__file__).with_name("reference.json")
WORSE, NOTHING_TO_COMPARE = 1, 2


def measure(pattern: str, sources: Path | None = None) -> dict[str, float]:
    """All figures; of ``sources`` in the place of those that are installed."""
    found = broker.measure(pattern, sources)
    if pattern == "*":
        found |= clients.measure(sources)
        found[broker.MEMORY] = broker.idle_bytes(sources)
    return found


def least(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    """The lesser of each figure."""
    return {name: min(value, other.get(name, value)) for name, value in one.items()}


@contextmanager
def sources_of(wanted: str) -> Iterator[Path]:
    """A revision's, in a directory of their own, with the compiled record loops, which run where they are of that source."""
    with tempfile.TemporaryDirectory(prefix="ottla-quick-sources-") as directory:
        archive = subprocess.run(
            ["git", "archive", wanted, "src"], cwd=ROOT, check=True, capture_output=True
        )
        subprocess.run(["tar", "-x", "-C", directory], input=archive.stdout, check=True)
        sources = Path(directory) / "src"
        for compiled in (ROOT / "src" / "ottla" / "records").glob("*.so"):
            shutil.copy(compiled, sources / "ottla" / "records")
        yield sources


def compared(kept: dict[str, float], now: dict[str, float], of: str) -> int:
    """Print both beside each other; ``WORSE`` where something is."""
    found = comparing.changes(kept, now)
    print(f"{'':<52}{of[:14]:>15}{'now':>15}")
    for change in found:
        print(change)
    worse = [change.name for change in found if change.worse]
    better = [change.name for change in found if change.better]
    print(f"\nbetter: {', '.join(better) or 'nothing'}\nworse: {', '.join(worse) or 'nothing'}")
    gone = [name for name in kept if name not in now]
    if gone:
        print(f"not measured: {', '.join(gone)}")
    return WORSE if worse else 0


def main() -> int:
    """Measure, and compare or keep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep this run's figures: a release's")
    parser.add_argument("--against", metavar="REVISION", help="measure that one first, here")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="works of the broker")
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    if missing := counting.missing():
        print(f"not to be had here, install: {' '.join(missing)}", file=sys.stderr)
        return NOTHING_TO_COMPARE
    started = time.monotonic()
    kept, of = {}, options.against
    if options.against:
        with sources_of(options.against) as sources:
            kept = measure(options.only, sources)
    elif options.reference.exists():
        kept = comparing.read(options.reference)["figures"]
    now = measure(options.only)
    if options.keep or any(change.worse for change in comparing.changes(kept, now)):
        now = least(now, measure(options.only))
    print(f"instructions of one of each, counted in {time.monotonic() - started:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(now, indent=1) + "\n")
    if options.keep:
        comparing.keep(options.reference, now, revision())
        print(f"kept in {options.reference}")
        return 0
    if options.against:
        return compared(kept, now, of)
    return compared_with_kept(options.reference, now)


def compared_with_kept(path: Path, now: dict[str, float]) -> int:
    """With those in the file, where they are of such an environment as this."""
    if not path.exists():
        print(f"{path} is not there: --keep makes it")
        return NOTHING_TO_COMPARE
    kept = comparing.read(path)
    result = compared(kept["figures"], now, kept["of"])
    different = comparing.differences(kept["environment"], comparing.environment())
    if different:
        print(
            "\nThis says nothing: the figures were kept elsewhere. --against REVISION measures one here."
        )
        print(*different, sep="\n")
        return NOTHING_TO_COMPARE
    return result


if __name__ == "__main__":
    sys.exit(main())
