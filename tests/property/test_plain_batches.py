"""What is let through at one look is what all checks together let through."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from ottla.log.rules import LogRules
from ottla.log.validation import check_client_batch, is_plain
from ottla.records.batch import BatchHeader, CompressionType, read_header, unpack_header
from ottla.settings.definitions import TopicConfig
from tests.unit.log.samples import NOW_MS, batch, idempotent
from tests.unit.log.test_validation import changed

HOUR_MS = 3_600_000
CONFIGS = [
    TopicConfig.of(),
    TopicConfig.of(max_message_bytes=200),
    TopicConfig.of(message_timestamp_type="LogAppendTime"),
    TopicConfig.of(message_timestamp_before_max_ms=HOUR_MS, message_timestamp_after_max_ms=HOUR_MS),
]

TIMES = st.sampled_from(
    [-1, 0, NOW_MS - HOUR_MS - 1, NOW_MS - HOUR_MS, NOW_MS, NOW_MS + HOUR_MS, NOW_MS + HOUR_MS + 1]
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "base_offset": st.sampled_from([0, 1, -1, 2**62]),
        "length": st.sampled_from([-1, 0, 48, 49, 60, 200, 2**31 - 1]),
        "leader_epoch": st.integers(-1, 3),
        "magic": st.integers(-1, 3),
        "attributes": st.sampled_from([*range(9), 0x10, 0x20, 0x40, 0x80, 0x104, -1, -32768]),
        "last_offset_delta": st.integers(-2, 4),
        "base_timestamp_ms": TIMES,
        "max_timestamp_ms": TIMES,
        "producer_id": st.sampled_from([-2, -1, 0, 7]),
        "producer_epoch": st.integers(-1, 1),
        "base_sequence": st.integers(-2, 2),
        "record_count": st.integers(-2, 4),
    },
)


def plain(records: bytes | bytearray, config: TopicConfig) -> bool:
    return is_plain(unpack_header(records), len(records), LogRules(config), NOW_MS)


@given(st.sampled_from(CONFIGS), st.integers(1, 3), CHANGES, st.sampled_from([0, 0, 0, 1, 100]))
def test_what_passes_at_one_look_passes_every_check(
    config: TopicConfig, count: int, changes: dict[str, int], behind: int
) -> None:
    records = batch(count)
    header = read_header(records)._replace(**changes)
    records[:61] = packed(header)
    records += bytes(behind)
    if plain(records, config):
        checked = read_header(records)
        check_client_batch(records, checked, LogRules(config), NOW_MS)
        assert checked.size_bytes == len(records)


def packed(header: BatchHeader) -> bytes:
    """The header's bytes, its checksum as it is."""
    return struct.pack(">qiibIhiqqqhii", *header)


def test_what_most_clients_send_passes_at_one_look() -> None:
    for records in (
        batch(3),
        batch(3, compression=CompressionType.LZ4),
        idempotent(7, 3),
        changed(batch(), base_timestamp_ms=-1, max_timestamp_ms=-1),
    ):
        assert plain(records, TopicConfig.of())
