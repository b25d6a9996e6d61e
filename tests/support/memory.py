"""How much memory a process takes, as Linux tells."""

from __future__ import annotations

import re
from pathlib import Path


def peak_kib(pid: int) -> int:
    """The most that has been resident since the process began, or since ``forget_peak``."""
    return _status(pid, "VmHWM")


def resident_kib(pid: int) -> int:
    """What is resident now."""
    return _status(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    """Count the peak from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None, f"process {pid} has ended"
    return int(found[1])
