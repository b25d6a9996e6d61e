"""The small text files of a log directory, to and from their bytes. Sans-IO.

- offset checkpoints (recovery points, log starts, high watermarks): ``0``, the number of entries, then
  ``topic partition offset`` lines;
- ``leader-epoch-checkpoint``: the same with ``epoch startOffset`` lines;
- ``partition.metadata``: two lines, without a newline at the end;
- ``meta.properties``: Java properties;
- ``.kafka_cleanshutdown``: JSON.

Whatever the bytes are, a reader returns or raises ``CorruptCheckpoint``; what to do then is the
caller's choice, and there is always a safe one. Sources: ``CheckpointFile``, ``OffsetCheckpointFile``,
``LeaderEpochCheckpointFile``, ``PartitionMetadata``, ``MetaProperties``, ``CleanShutdownFileHandler``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ottla.log.leader_epochs import EpochStart
from ottla.topic_ids import from_text, to_text

_VERSION = "0"


class CorruptCheckpoint(ValueError):
    """The file is not what its name says; the message tells why."""


class MetaProperties(NamedTuple):
    """Whom a log directory belongs to."""

    broker_id: int
    cluster_id: str


def encode_offsets(offsets: Mapping[tuple[str, int], int]) -> bytes:
    """An offset checkpoint, in order of topic and partition."""
    lines = [
        f"{topic} {partition} {offset}" for (topic, partition), offset in sorted(offsets.items())
    ]
    return _encode_lines(lines)


def decode_offsets(content: bytes) -> dict[tuple[str, int], int]:
    """The offsets of ``encode_offsets``; an empty file holds none. Raises ``CorruptCheckpoint``."""
    offsets = {}
    for line in _decode_lines(content):
        fields = line.split()
        if len(fields) != 3:
            raise CorruptCheckpoint(f"malformed line {line!r}")
        offsets[fields[0], _number(fields[1], line)] = _number(fields[2], line)
    return offsets


def encode_epochs(entries: Iterable[EpochStart]) -> bytes:
    """A ``leader-epoch-checkpoint``."""
    return _encode_lines([f"{epoch} {start_offset}" for epoch, start_offset in entries])


def decode_epochs(content: bytes) -> list[EpochStart]:
    """The epochs of ``encode_epochs``. Raises ``CorruptCheckpoint``."""
    entries = []
    for line in _decode_lines(content):
        fields = line.split()
        if len(fields) != 2:
            raise CorruptCheckpoint(f"malformed line {line!r}")
        entry = EpochStart(_number(fields[0], line), _number(fields[1], line))
        if min(entry) < 0:
            raise CorruptCheckpoint(f"malformed line {line!r}")
        entries.append(entry)
    return entries


def encode_partition_metadata(topic_id: bytes) -> bytes:
    """A ``partition.metadata``: the topic's 16-byte id."""
    return f"version: 0\ntopic_id: {to_text(topic_id)}".encode()


def decode_partition_metadata(content: bytes) -> bytes:
    """The topic id in a ``partition.metadata``. Raises ``CorruptCheckpoint``."""
    fields: dict[str, str] = {}
    for line in _text(content).splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    if fields.get("version") != _VERSION:
        raise CorruptCheckpoint(f"version {fields.get('version')!r}")
    try:
        return from_text(fields.get("topic_id", ""))
    except ValueError as error:
        raise CorruptCheckpoint(str(error)) from error


def encode_meta_properties(meta: MetaProperties, written: str) -> bytes:
    """A ``meta.properties`` of version 0; ``written`` is the date for its comment, as Java puts one."""
    return (
        f"#\n#{written}\nbroker.id={meta.broker_id}\ncluster.id={meta.cluster_id}\nversion=0\n"
    ).encode()


def decode_meta_properties(content: bytes) -> MetaProperties:
    """Whom the directory belongs to, from version 0 (``broker.id``) or 1 (``node.id``).

    Raises ``CorruptCheckpoint``, also where the file names no broker or no cluster.
    """
    fields = {}
    for line in _text(content).splitlines():
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith(("#", "!")):
            fields[name.strip()] = value.strip().replace("\\", "")
    version = fields.get("version", "0")
    if version not in ("0", "1"):
        raise CorruptCheckpoint(f"version {version!r}")
    broker = fields.get("broker.id" if version == "0" else "node.id")
    cluster = fields.get("cluster.id")
    if broker is None or cluster is None:
        raise CorruptCheckpoint("it names no broker or no cluster")
    return MetaProperties(_number(broker, f"broker.id={broker}"), cluster)


def encode_clean_shutdown(broker_epoch: int, not_closed: Iterable[str] = ()) -> bytes:
    """A ``.kafka_cleanshutdown``; the epoch is -1 where there is none.

    ``not_closed``: the directories of logs that were out of service at the stop. (Ours: Kafka ignores it.)
    """
    import json

    content: dict[str, object] = {"version": 0, "brokerEpoch": broker_epoch}
    left = sorted(not_closed)
    if left:
        content["notClosed"] = left
    return json.dumps(content, separators=(",", ":")).encode()


def decode_clean_shutdown(content: bytes) -> int | None:
    """The broker epoch of a ``.kafka_cleanshutdown``; None if it tells none (Kafka's before 3.8)."""
    found = _json_object(content).get("brokerEpoch")
    return found if isinstance(found, int) else None


def decode_not_closed(content: bytes) -> frozenset[str] | None:
    """The directories of logs that the stop does not speak for; None where it is unknown which."""
    if not content.strip():
        return frozenset()  # Kafka's before 3.8
    fields = _json_object(content)
    found = fields.get("notClosed", [])
    if not fields or not isinstance(found, list):
        return None
    return frozenset(name for name in found if isinstance(name, str))


def _json_object(content: bytes) -> dict[str, object]:
    """The fields of a JSON object; none if it is no such thing."""
    import json

    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _encode_lines(lines: list[str]) -> bytes:
    return "\n".join((_VERSION, str(len(lines)), *lines, "")).encode()


def _decode_lines(content: bytes) -> list[str]:
    lines = _text(content).splitlines()
    if not lines:
        return []
    if lines[0] != _VERSION:
        raise CorruptCheckpoint(f"version {lines[0]!r}")
    if len(lines) < 2:
        return []
    count = _number(lines[1], lines[1])
    if count != len(lines) - 2:
        raise CorruptCheckpoint(f"{len(lines) - 2} entries where {count} are announced")
    return lines[2:]


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorruptCheckpoint(str(error)) from error


def _number(text: str, line: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise CorruptCheckpoint(f"malformed line {line!r}") from error
