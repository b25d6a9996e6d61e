"""Memory that the host of a virtual machine has handed out already, kept at hand as long as the benchmark runs.

A page that the host has to find costs its first writer ten times what it costs later, and a machine with free page
reporting gives back what it has free: whoever writes next pays for that, be it a broker or the bare write beside it.
Touching as much right before (``bench.broker_process.warm_memory``) helps or not as it happens: the system reports what
is free once a gigabyte waits, and what is freed there may just be that.

But only whole blocks of memory are reported, 2 MB by default. So a process here touches as much as will be written, and
then frees all but a page in each block: what lies between those pages is free for everybody, is taken before whole
blocks are broken, comes back when a file is deleted, and stays this machine's all the time. Nothing needs to be
privileged, nothing is set; without such a host it does no harm.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.broker_process import warm_memory

GB = 1e9
AT_FIRST = 8.0
"""Gigabytes: stocks to be read, and what a round writes, of two brokers or six."""
BLOCK_BYTES = 2 << 20
"""The least that is reported (``/sys/module/page_reporting/parameters/page_reporting_order``, 9)."""
PART_BYTES = 64 << 20
SPARE = 1.5
"""As large pieces as a file takes at once are not in all that is free in pieces."""
_keepers: list[subprocess.Popen[str]] | None = None
_at_first = 0.0


@contextmanager
def kept(gigabytes: float = AT_FIRST) -> Iterator[None]:
    """As long as the context: from when some is first wanted so much is at hand, and later what is wanted."""
    global _keepers, _at_first
    _keepers, _at_first = [], gigabytes * GB
    try:
        yield
    finally:
        for process in _keepers:
            process.kill()
            process.communicate()
        _keepers = None


def want(size: float) -> None:
    """So many bytes are going to be written: return once they are at hand, as well as that can be had here."""
    if _keepers is None:
        warm_memory(size / GB * 1.2)
        return
    wanted = size * SPARE if _keepers else max(size * SPARE, _at_first)
    if in_pieces() < wanted:
        _keep(wanted)


def _keep(size: float) -> None:
    """Start a process that keeps so much, half of what is free at the most: first what is in pieces, then whole blocks."""
    assert _keepers is not None
    parts = int(min(size, free_bytes() / 2) // PART_BYTES)
    command = [sys.executable, "-m", "bench.peers.at_hand", str(parts)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _keepers.append(process)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise RuntimeError("no memory could be kept at hand")


def free_by_order(buddyinfo: str) -> list[int]:
    """Bytes that are free in pieces of 1, 2, 4, ... pages, of all zones in ``/proc/buddyinfo`` together."""
    found: list[int] = []
    for line in buddyinfo.splitlines():
        counts = line.partition("zone")[2].split()[1:]
        found += [0] * (len(counts) - len(found))
        for order, count in enumerate(counts):
            found[order] += (int(count) << order) * mmap.PAGESIZE
    return found


def in_pieces() -> int:
    """Bytes that are free in pieces smaller than a block."""
    whole = (BLOCK_BYTES // mmap.PAGESIZE).bit_length() - 1
    return sum(free_by_order(Path("/proc/buddyinfo").read_text())[:whole])


def free_bytes() -> int:
    """All that is free."""
    return sum(free_by_order(Path("/proc/buddyinfo").read_text()))


def touched(size: int) -> mmap.mmap:
    """Memory of so many bytes, each page of it written to, and none of them a part of a larger one."""
    part = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    part.madvise(mmap.MADV_NOHUGEPAGE)
    for page in range(0, size, mmap.PAGESIZE):
        part[page] = 1
    return part


def thin_out(part: mmap.mmap) -> None:
    """Give all but a page of each block back to the system."""
    for block in range(0, len(part), BLOCK_BYTES):
        part.madvise(mmap.MADV_DONTNEED, block + mmap.PAGESIZE, BLOCK_BYTES - mmap.PAGESIZE)


def main() -> None:
    """``PARTS``: keep as many parts of ``PART_BYTES`` thinned out, until killed or left alone."""
    parts = [touched(PART_BYTES) for _ in range(int(sys.argv[1]))]
    for part in parts:
        thin_out(part)
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
