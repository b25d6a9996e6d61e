"""``ottla log verify``: whether every batch is what was written."""

from __future__ import annotations

import os
import sys
import time
from typing import Annotated

import typer

from ottla.cli.common import OutputOption
from ottla.cli.manual import manual
from ottla.cli.output import Output, say
from ottla.cli.verification import Target, Targets, check, find_targets
from ottla.log.verification.directories import DirectoryState
from ottla.log.verification.findings import Finding
from ottla.log.verification.partitions import PartitionReport

QUARANTINE_TIMEOUT_S = 15.0
"""How long a running broker may take to act on a request."""

VERIFY_HELP = manual("""
Read every batch of a data directory, of a partition's directory or of a segment, and say what is damaged.

Checked are: checksums, sizes and order of all batches; that offsets have no gaps (but where a topic is
compacted), that leader epochs do not go back, that the sequences of idempotent producers continue; the
indexes against the log; producer snapshots, leader epochs, partition.metadata, meta.properties and the
checkpoints. --deep unpacks the batches, too, and looks at each record.

Nothing is changed, and a broker may be running: what it is writing at the moment is no damage. Memory stays
bounded however large a log is; much data is read by several processes (--jobs).

A finding is "damage" (bytes that were records are not what was written, or are gone), a "fault" (an index, a
snapshot, a checkpoint: the broker makes it anew from the batches when it starts) or a "note" (no harm).

--quarantine takes each partition whose batches are damaged out of service, as the broker does when it meets
damage itself: its bytes are not served again, requests are answered with KAFKA_STORAGE_ERROR; everything else
is served as before. A running broker does so within seconds, a stopped one when it starts. To bring such a
partition back, stop the broker and either put the partition's files from a backup in their place and remove
the file "quarantined" there, or keep what is whole with ottla log salvage; or delete the topic.

Exit codes: 0 all is sound, 1 damage or a fault was found (or a file can't be read), 2 asked wrongly.

Examples:

  ottla log verify data
  ottla log verify data --deep -o json
  ottla log verify data/weather.observations-0
  ottla log verify data --quarantine
""")

Paths = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATH",
        help="Data directories, partitions' directories or files of segments. (default: ./data)",
        show_default=False,
    ),
]


def verify(
    paths: Paths = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Unpack batches and look at their records.")
    ] = False,
    quarantine: Annotated[
        bool,
        typer.Option("--quarantine", help="Take partitions with damaged batches out of service."),
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            max=64,
            metavar="N",
            help="Processes that read. (default: by the size of it)",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Say what is damaged in a data directory."""
    started = time.monotonic()
    found = find_targets(paths or ["./data"], deep=deep)
    progress = Progress(sum(target.size_bytes for target in found.targets))
    reports: list[PartitionReport] = []
    failures: list[tuple[Target, OSError]] = []
    for target, report in zip(
        found.targets, check(found.targets, jobs, progress.advance), strict=True
    ):
        if isinstance(report, OSError):
            failures.append((target, report))
            continue
        reports.append(report)
        if output is Output.table and (report.findings or report.quarantined):
            progress.clear()
            show_report(report)
    progress.clear()
    taken = quarantine_all(reports) if quarantine else {}
    if output is Output.json:
        show_as_json(found, reports, failures, taken)
    else:
        show_summary(found, reports, failures, taken, time.monotonic() - started)
    unsound = sum(not report.sound for report in reports)
    directories = sum(bool(state.findings) for state in found.states)
    if unsound or failures or directories:
        raise typer.Exit(1)


class Progress:
    """How far it is, on a terminal, once it takes more than a moment."""

    def __init__(self, total_bytes: int) -> None:
        self._total = max(total_bytes, 1)
        self._done = 0
        self._shown_at = time.monotonic()
        self._shown = False
        self._on = sys.stderr.isatty()

    def advance(self, count: int) -> None:
        """So many more bytes were read."""
        self._done += count
        now = time.monotonic()
        if self._on and now - self._shown_at >= 0.5:
            self._shown_at, self._shown = now, True
            share = min(100 * self._done // self._total, 100)
            sys.stderr.write(f"\r{share:3d} % of {size_text(self._total)} ")
            sys.stderr.flush()

    def clear(self) -> None:
        """Make room for a line."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def quarantine_all(reports: list[PartitionReport]) -> dict[str, str]:
    """Take the damaged ones out of service: what became of each, by directory."""
    from ottla.log.disk import Disk
    from ottla.log.names import LOCK
    from ottla.log.quarantine import is_pending, request_quarantine

    disk = Disk()
    taken: dict[str, str] = {}
    waiting: dict[str, list[str]] = {}
    for report in reports:
        why = report.quarantining
        if why is None or report.quarantined is not None:
            continue
        reason = f"{why.path} is damaged at byte {why.position}: {why.message}"
        request_quarantine(disk, report.directory, reason)
        parent = os.path.dirname(report.directory)
        if disk.lock_holder(f"{parent}/{LOCK}") is None:
            taken[report.directory] = "quarantined; the broker leaves it out when it starts"
        else:
            waiting.setdefault(parent, []).append(report.directory)
    deadline = time.monotonic() + QUARANTINE_TIMEOUT_S
    for parent, directories in waiting.items():
        while is_pending(disk, parent) and time.monotonic() < deadline:
            time.sleep(0.05)
        for directory in directories:
            taken[directory] = (
                "marked, but the broker has not answered: stop it, it leaves it out when it starts"
                if is_pending(disk, parent)
                else "quarantined; the running broker has taken it out of service"
            )
    return taken


# Output


def show_report(report: PartitionReport) -> None:
    """A partition with what was found in it."""
    word = "sound" if report.sound else "DAMAGED" if report.damage else "faulty"
    say(f"{report.directory}: {word}, {extent(report)}")
    if report.quarantined is not None:
        say(f"  is quarantined: {report.quarantined}")
    for finding in report.findings:
        say(f"  {finding_text(finding, report.directory)}")
    hidden = report.damage + report.faults + report.notes - len(report.findings)
    if hidden:
        say(f"  ... and {hidden} more")


def finding_text(finding: Finding, directory: str) -> str:
    """A finding as one line: ``damage: FILE, byte N: what``."""
    where = finding.path.removeprefix(directory).removeprefix("/")
    place = f"{where}, byte {finding.position}" if finding.position is not None else where
    return f"{finding.severity}: {place + ': ' if place else ''}{finding.message}"


def extent(report: PartitionReport) -> str:
    """How much there was to read."""
    offsets = "no offsets"
    first, end = report.first_offset, report.next_offset
    if first is not None and end is not None and end > first:
        offsets = f"offsets {first} to {end - 1}"
    return (
        f"{plural(report.segments, 'segment')}, {plural(report.batches, 'batch', 'batches')}, "
        f"{offsets}, {size_text(report.size_bytes)}"
    )


def show_summary(
    found: Targets,
    reports: list[PartitionReport],
    failures: list[tuple[Target, OSError]],
    taken: dict[str, str],
    elapsed_s: float,
) -> None:
    """What all of it comes to."""
    for state in found.states:
        for finding in state.findings:
            say(finding_text(finding, state.path))
        say(f"{state.path}: {standing_text(state)}")
    for target, error in failures:
        say(f"{target.directory} can't be read: {error.strerror}")
    for directory, outcome in taken.items():
        say(f"{directory}: {outcome}")
    damaged = sum(bool(report.damage) for report in reports)
    faulty = sum(bool(report.faults) and not report.damage for report in reports)
    total = sum(report.size_bytes for report in reports)
    batches = sum(report.batches for report in reports)
    outcome = (
        f"{damaged} damaged, {faulty} faulty" if damaged or faulty or failures else "all sound"
    )
    say(
        f"{plural(len(reports), 'partition')}, {plural(batches, 'batch', 'batches')}, "
        f"{size_text(total)} in {elapsed_s:.1f} s: {outcome}"
    )
    if not taken and any(report.quarantining and not report.quarantined for report in reports):
        say("--quarantine takes what is damaged out of service; ottla log verify --help says more.")


def standing_text(state: DirectoryState) -> str:
    """How the broker left the directory."""
    if state.holder is not None:
        who = f" (process {state.holder.pid})" if state.holder.pid is not None else ""
        return f"a broker{who} is using it"
    return f"its broker is stopped, and the stop was {state.standing.value}"


def show_as_json(
    found: Targets,
    reports: list[PartitionReport],
    failures: list[tuple[Target, OSError]],
    taken: dict[str, str],
) -> None:
    """Everything as one JSON object."""
    from ottla.cli.output import show_json

    document = {
        "sound": all(report.sound for report in reports)
        and not failures
        and not any(state.findings for state in found.states),
        "directories": [
            {
                "directory": state.path,
                "standing": state.standing.value,
                "process": state.holder.pid if state.holder is not None else None,
                "findings": [finding.as_fields() for finding in state.findings],
            }
            for state in found.states
        ],
        "partitions": [
            {
                "directory": report.directory,
                "sound": report.sound,
                "segments": report.segments,
                "batches": report.batches,
                "size_bytes": report.size_bytes,
                "first_offset": report.first_offset,
                "next_offset": report.next_offset,
                "quarantined": report.quarantined,
                "damage": report.damage,
                "faults": report.faults,
                "notes": report.notes,
                "findings": [finding.as_fields() for finding in report.findings],
            }
            for report in reports
        ],
        "unreadable": [
            {"directory": target.directory, "reason": str(error.strerror)}
            for target, error in failures
        ],
        "quarantined": [
            {"directory": directory, "outcome": outcome} for directory, outcome in taken.items()
        ],
    }
    show_json(document)


def plural(count: int, word: str, words: str | None = None) -> str:
    """``1 batch``, ``1,234 batches``."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def size_text(count: int) -> str:
    """A number of bytes for people."""
    size = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
