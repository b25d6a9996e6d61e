"""Files: whole log directories in which one file is the input, and every reader of a small file.

An input's first byte says which reader or which file; the second, for a log directory, how it was left and
whether the checksums of the batches in it are made right, so that what lies behind them is reached, too.
Recovery, reads, searches, verification, dump, compaction and salvage are run over a directory.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ottla.coordination import znodes
from ottla.errors import KafkaError
from ottla.log import checkpoints
from ottla.log.checkpoints import CorruptCheckpoint, MetaProperties
from ottla.log.compaction.job import SourceSegment
from ottla.log.compaction.sources import aborted_transactions, read_source
from ottla.log.compaction.transactions import AbortedTransaction, encode_aborted
from ottla.log.directory import LogDirectory
from ottla.log.disk import Disk
from ottla.log.dump import dump, to_line
from ottla.log.log import Log
from ottla.log.producer_snapshot import CorruptSnapshot, decode_snapshot
from ottla.log.salvage import read_lost, salvage
from ottla.log.verification.directories import read_directory
from ottla.log.verification.partitions import Expected, PartitionCheck
from ottla.log.verification.segments import Rules, Standing
from ottla.records import batch as batches
from ottla.records.batch import CompressionType, iter_batches
from ottla.records.builder import build_batch
from ottla.records.codec import decode_batch
from ottla.records.crc import crc32c
from ottla.settings import properties
from ottla.settings.definitions import TopicConfig
from ottla.simulation.disk import SimulatedDisk

NOW_MS = 1_700_000_000_000
PATH = "/logs"
LOG = f"{PATH}/t-0"
CONFIG = TopicConfig.of(segment_bytes=450, index_interval_bytes=100)
META = MetaProperties(1, "a-cluster-of-22-letters")
SMALL = 0xFF
READ_BYTES = 4096


def _written(*, clean: bool) -> dict[str, bytes]:
    """A log of some segments, checkpointed on the way; stopped, or synced and killed."""
    disk = SimulatedDisk()
    directory = LogDirectory(PATH, disk)
    directory.open()
    directory.write_meta_properties(META)
    directory.load(lambda topic: CONFIG, NOW_MS)
    log = directory.create("t", 0, bytes(range(16)), CONFIG, NOW_MS)
    for number in range(8):
        records = [
            (NOW_MS + 10 * number + n, b"k%d" % n, b"v-%d" % number, [])
            for n in range(1 + number % 3)
        ]
        kind = list(CompressionType)[number % 5]
        batch = build_batch(
            records,
            producer_id=5,
            producer_epoch=0,
            base_sequence=log.log_end_offset,
            compression=kind,
        )
        log.append_as_leader(bytearray(batch), number // 4, NOW_MS)
        if number == 4:
            log.flush(NOW_MS)
            directory.write_checkpoints(directory.take_checkpoints())
            directory.write_high_watermarks({("t", 0): log.log_end_offset})
    log.flush(NOW_MS)
    directory.close(NOW_MS, clean=clean)
    disk.lose_power()
    return disk.tree()


LEFT = (_written(clean=True), _written(clean=False))
EXTRA = {
    f"{LOG}/00000000000000000000.txnindex": encode_aborted(
        [AbortedTransaction(0, 3, 5, 4), AbortedTransaction(4, 6, 7, 6)]
    ),
    f"{LOG}/salvaged": b"3 4\n9 9\n",
    f"{LOG}/quarantined": b"a reason\n",
}
NAMES = sorted({*LEFT[0], *LEFT[1], *EXTRA})

Reader = Callable[[bytes], object]

SMALL_READERS: list[tuple[Reader, list[bytes]]] = [
    (checkpoints.decode_offsets, [b"0\n2\nt 0 5\nu 1 7\n"]),
    (checkpoints.decode_epochs, [b"0\n2\n0 0\n3 7\n"]),
    (checkpoints.decode_partition_metadata, [b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"]),
    (checkpoints.decode_meta_properties, [b"#\n#x\nbroker.id=1\ncluster.id=abc\nversion=0\n"]),
    (checkpoints.decode_clean_shutdown, [b'{"version":0,"brokerEpoch":5}', b"[" * 2000]),
    (checkpoints.decode_not_closed, [b'{"version":0,"notClosed":["t-0"]}', b""]),
    (lambda data: decode_snapshot(_sealed_snapshot(data)), []),
    (
        lambda data: properties.parse(data.decode("utf-8", "replace")),
        [b"a=b\nc : d \\\n  e\n#x\n\\u00e9=\\ud83d\\ude00\n"],
    ),
    (znodes.ControllerZnode.decode, [znodes.ControllerZnode(1, 5).encode()]),
    (znodes.decode_controller_epoch, [b"17"]),
    (
        lambda data: znodes.BrokerRegistration.decode(1, data),
        [
            znodes.BrokerRegistration(
                1, (znodes.Endpoint("PLAINTEXT", "PLAINTEXT", "::1", 9092),)
            ).encode()
        ],
    ),
    (
        lambda data: znodes.TopicAssignment.decode("t", data),
        [znodes.TopicAssignment(bytes(range(16)), {0: (1, 2)}, {0: (2,)}, {0: (1,)}).encode()],
    ),
    (
        lambda data: znodes.LeaderAndIsr.decode("/x", data, 0),
        [
            b'{"version":1,"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[1],"leader_recovery_state":1}'
        ],
    ),
    (lambda data: znodes.decode_config("/x", data), [znodes.encode_config({"a": "b"})]),
    (
        lambda data: znodes.decode_config_change("/x", data),
        [
            znodes.encode_config_change("topics", "t"),
            b'{"version":1,"entity_type":"topics","entity_name":"t"}',
        ],
    ),
    (lambda data: znodes.decode_log_dir_event("/x", data), [znodes.encode_log_dir_event(1)]),
    (znodes.ProducerIdBlock.decode, [znodes.ProducerIdBlock(1, 0, 999).encode()]),
    (znodes.decode_cluster_id, [znodes.encode_cluster_id("abc")]),
]

REFUSALS = (
    KafkaError,
    CorruptCheckpoint,
    CorruptSnapshot,
    properties.PropertiesError,
    znodes.MalformedZnode,
)


def seeds() -> Iterator[bytes]:
    """Every file as it was written, and something for each small reader."""
    for left, files in enumerate(LEFT):
        for number, name in enumerate(NAMES):
            content = files.get(name, EXTRA.get(name))
            if content is not None:
                yield bytes((number, left)) + content
                yield bytes((number, left | 2)) + content
    for number, (_, samples) in enumerate(SMALL_READERS):
        for content in samples or [b""]:
            yield bytes((SMALL, number)) + content


def one(data: bytes) -> None:
    """Read ``data`` with a small reader, or open a directory with it."""
    if len(data) < 2:
        return
    which, how, content = data[0], data[1], data[2:]
    if which >= 0x80:
        read, _ = SMALL_READERS[how % len(SMALL_READERS)]
        with contextlib.suppress(REFUSALS):
            read(content)
        return
    name = NAMES[which % len(NAMES)]
    if how & 2:
        content = _sealed(name, content)
    files = {**LEFT[how & 1], name: content}
    _open(files)
    _look_at(files, deep=bool(how & 4))


def _sealed_snapshot(content: bytes) -> bytes:
    """With the right checksum."""
    return content[:2] + crc32c(memoryview(content)[6:]).to_bytes(4, "big") + content[6:]


def _sealed(name: str, content: bytes) -> bytes:
    """A segment or a snapshot with right checksums, so far as it can be walked."""
    if name.endswith(".snapshot"):
        return _sealed_snapshot(content)
    if not name.endswith(".log"):
        return content
    sealed, at = bytearray(content), 0
    while len(sealed) - at >= batches.HEADER_BYTES:
        try:
            header = batches.read_header(sealed, at)
        except KafkaError:
            break
        if at + header.size_bytes > len(sealed):
            break
        batches.pack_header(sealed, header, at)
        at += header.size_bytes
    return bytes(sealed)


def _open(files: dict[str, bytes]) -> None:
    """As a broker does at its start; read all, search, append, close, and open once more."""
    disk = SimulatedDisk()
    for path, content in files.items():
        disk.make_directories(path.rpartition("/")[0])
        disk.write_file(path, content, sync=True)
    for _ in range(2):
        directory = LogDirectory(PATH, disk)
        directory.open()
        try:
            directory.read_meta_properties()
            directory.load(lambda topic: CONFIG, NOW_MS)
        except CorruptCheckpoint:
            directory.close(NOW_MS, clean=False)
            return
        for log in list(directory.logs.values()):
            _use(log)
        directory.write_checkpoints(directory.take_checkpoints())
        directory.close(NOW_MS, clean=True)


def _use(log: Log) -> None:
    offset = log.log_start_offset
    for _ in range(100):
        if offset >= log.log_end_offset:
            break
        before = offset
        try:
            regions = log.read(offset, READ_BYTES, log.log_end_offset).regions
            content = b"".join(region.read() for region in regions)
            for region in regions:
                region.close()
            for position, header in iter_batches(content):
                offset = max(offset, header.next_offset)
                decode_batch(content, position=position, max_decompressed_bytes=1 << 20)
        except KafkaError:
            pass
        offset = max(offset, before + 1)
    asks: list[Callable[[], Any]] = [
        lambda: log.offset_for_timestamp(NOW_MS + 20),
        log.max_timestamp_offset,
        lambda: log.end_offset_for_epoch(0),
        lambda: log.append_as_leader(bytearray(build_batch([(NOW_MS, b"k", b"v", [])])), 9, NOW_MS),
    ]
    for ask in asks:
        try:
            ask()
        except KafkaError:
            continue


def _look_at(files: dict[str, bytes], *, deep: bool) -> None:
    """With the tools that read a stopped broker's files."""
    with tempfile.TemporaryDirectory(prefix="ottla-fuzz-", dir=_memory()) as root:
        for path, content in files.items():
            place = Path(root + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        disk = Disk()
        directory = root + LOG
        read_directory(root + PATH)
        for standing in (Standing.CLEAN, Standing.UNCLEAN):
            rules = Rules(standing, dense=True, deep=deep)
            PartitionCheck(directory, Expected(rules, 0, 4, 8, bytes(range(16)))).run()
        for path in files:
            if path.startswith(LOG) and not path.endswith(("quarantined", "salvaged")):
                for line in dump(root + path, deep=True, contents=True):
                    to_line(line)
        for path in files:
            if path.endswith(".log"):
                base = int(path.rpartition("/")[2][:20])
                segment = SourceSegment(base, len(files[path]), base + 100, 0, 0)
                try:
                    for _ in read_source(disk, directory, segment, 4096, lambda size: None):
                        pass
                except KafkaError:
                    pass
        aborted_transactions(disk, directory, 0, 100)
        read_lost(disk, directory)
        with contextlib.suppress(KafkaError):
            salvage(disk, directory)
        shutil.rmtree(root + PATH)


@functools.cache
def _memory() -> str | None:
    """A file system in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
