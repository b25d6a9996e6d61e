"""What ``ottla log dump`` shows of each file."""

from __future__ import annotations

import pytest

from ottla.log.dump import UnknownFile, dump, to_line
from ottla.records.batch import CompressionType
from ottla.simulation.disk import SimulatedDisk
from tests.unit.log.samples import (
    DIRECTORY,
    NOW_MS,
    batch,
    disk,
    header_of,
    idempotent,
    new_log,
)

LOG = f"{DIRECTORY}/00000000000000000000.log"


def written() -> SimulatedDisk:
    on = disk()
    log = new_log(on, index_interval_bytes=100)
    log.append_as_leader(batch(2), 3, NOW_MS)
    log.append_as_leader(batch(1, compression=CompressionType.GZIP), 3, NOW_MS)
    log.append_as_leader(idempotent(9, 0), 4, NOW_MS)
    log.close(NOW_MS)
    return on


def lines(on: SimulatedDisk, path: str, **options: bool) -> list[str]:
    return [to_line(fields) for fields in dump(path, disk=on, **options)]


def test_batches_are_told_in_kafkas_words() -> None:
    on = written()
    first, second, third = lines(on, LOG)
    header = header_of(on.tree()[LOG])
    assert first == (
        "baseOffset: 0 lastOffset: 1 count: 2 baseSequence: -1 lastSequence: -1 producerId: -1 "
        "producerEpoch: -1 partitionLeaderEpoch: 3 isTransactional: false isControl: false "
        f"position: 0 CreateTime: {NOW_MS + 1} size: {header.size_bytes} magic: 2 "
        f"compresscodec: none crc: {header.crc} isvalid: true"
    )
    assert "compresscodec: gzip" in second
    assert "producerId: 9 producerEpoch: 0 partitionLeaderEpoch: 4" in third


def test_records_show_sizes_and_contents_only_on_request() -> None:
    on = written()
    deep = lines(on, LOG, deep=True)
    assert deep[1] == (
        f"| offset: 0 CreateTime: {NOW_MS} keySize: 2 valueSize: 10 sequence: -1 headerKeys: []"
    )
    assert not any("vvv" in line for line in deep)
    full = lines(on, LOG, contents=True)
    assert full[2].endswith("key: k1 payload: vvvvvvvvvv")


def test_damage_is_told_of() -> None:
    on = written()
    content = bytearray(on.tree()[LOG])
    size = len(content)
    content[70] ^= 1
    on.write_file(LOG, bytes(content) + b"\x01" * 100)
    shown = list(dump(LOG, disk=on))
    assert shown[0]["isvalid"] is False
    assert [line.get("isvalid") for line in shown[1:3]] == [True, True]
    assert (shown[3]["position"], shown[3]["size"]) == (size, 100)
    on.write_file(LOG, bytes(content[:-5]))
    assert "error" in list(dump(LOG, disk=on))[-1]


def test_indexes_snapshots_and_checkpoints_are_told() -> None:
    on = written()
    positions = [line["position"] for line in dump(LOG, disk=on)]
    assert lines(on, LOG.replace(".log", ".index"))[-1] == f"offset: 3 position: {positions[2]}"
    assert lines(on, LOG.replace(".log", ".timeindex"))[-1] == (
        f"timestamp: {NOW_MS + 1} offset: 1"
    )
    assert lines(on, f"{DIRECTORY}/00000000000000000004.snapshot") == [
        "producerId: 9 producerEpoch: 0 coordinatorEpoch: -1 currentTxnFirstOffset: -1 "
        f"lastTimestamp: {NOW_MS} lastSequence: 0 lastOffset: 3 offsetDelta: 0"
    ]
    assert lines(on, f"{DIRECTORY}/leader-epoch-checkpoint") == [
        "epoch: 3 startOffset: 0",
        "epoch: 4 startOffset: 3",
    ]
    assert lines(on, f"{DIRECTORY}/partition.metadata") == ["topicId: AAECAwQFBgcICQoLDA0ODw"]
    on.write_file("/logs/recovery-point-offset-checkpoint", b"0\n1\norders 0 4\n")
    assert lines(on, "/logs/recovery-point-offset-checkpoint") == [
        "topic: orders partition: 0 offset: 4"
    ]
    on.write_file("/logs/meta.properties", b"broker.id=1\ncluster.id=c\nversion=0\n")
    assert lines(on, "/logs/meta.properties") == ["brokerId: 1 clusterId: c"]
    on.write_file("/logs/.kafka_cleanshutdown", b'{"version":0,"brokerEpoch":5}')
    assert lines(on, "/logs/.kafka_cleanshutdown") == ["brokerEpoch: 5"]


def test_preallocated_index_is_told_up_to_its_zeros() -> None:
    on = disk()
    on.write_file("/logs/00000000000000000100.index", b"\0\0\0\5\0\0\0\7" + bytes(80))
    assert lines(on, "/logs/00000000000000000100.index") == ["offset: 105 position: 7"]


def test_damaged_small_files_are_told() -> None:
    on = disk()
    for name in ("00000000000000000100.snapshot", "leader-epoch-checkpoint", "meta.properties"):
        on.write_file(f"/logs/{name}", b"\xff\xff garbage")
        assert "error" in next(iter(dump(f"/logs/{name}", disk=on)))


def test_segment_on_its_way_out_is_still_told() -> None:
    on = written()
    on.rename(LOG, f"{LOG}.deleted")
    assert len(lines(on, f"{LOG}.deleted")) == 3


def test_other_files_are_refused() -> None:
    on = disk()
    on.write_file("/logs/notes.txt", b"x")
    with pytest.raises(UnknownFile):
        list(dump("/logs/notes.txt", disk=on))
