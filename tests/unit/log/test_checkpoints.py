"""The small text files, byte for byte, and whatever else may lie there."""

from __future__ import annotations

import pytest

from ottla.log import names
from ottla.log.checkpoints import (
    CorruptCheckpoint,
    MetaProperties,
    decode_clean_shutdown,
    decode_epochs,
    decode_meta_properties,
    decode_offsets,
    decode_partition_metadata,
    encode_clean_shutdown,
    encode_epochs,
    encode_meta_properties,
    encode_offsets,
    encode_partition_metadata,
)
from ottla.log.leader_epochs import EpochStart


def test_offset_checkpoint_is_kafkas_to_the_byte() -> None:
    offsets = {("orders", 1): 7, ("orders", 0): 123456789012, ("a.b_c-d", 3): 0}
    content = b"0\n3\na.b_c-d 3 0\norders 0 123456789012\norders 1 7\n"
    assert encode_offsets(offsets) == content
    assert decode_offsets(content) == offsets
    assert encode_offsets({}) == b"0\n0\n"
    assert decode_offsets(b"0\n0\n") == {}
    assert decode_offsets(b"") == {}


def test_epoch_checkpoint_is_kafkas_to_the_byte() -> None:
    entries = [EpochStart(0, 0), EpochStart(4, 100)]
    assert encode_epochs(entries) == b"0\n2\n0 0\n4 100\n"
    assert decode_epochs(b"0\n2\n0 0\n4 100\n") == entries


@pytest.mark.parametrize(
    "content",
    [
        b"1\n0\n",
        b"x",
        b"0\nx\n",
        b"0\n2\na 0 1\n",
        b"0\n1\na 0\n",
        b"0\n1\na 0 1 2\n",
        b"0\n1\na b 1\n",
        b"0\n1\na 0 b\n",
        b"\xff\xfe",
        b"0\n1\n\xff 0 1\n",
    ],
)
def test_damaged_checkpoint_says_so(content: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode_offsets(content)


@pytest.mark.parametrize("content", [b"0\n1\n1 2 3\n", b"0\n1\n-1 2\n", b"0\n1\n1 x\n"])
def test_damaged_epochs_say_so(content: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode_epochs(content)


def test_partition_metadata_is_kafkas_to_the_byte() -> None:
    topic_id = bytes(range(16))
    content = b"version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw"
    assert encode_partition_metadata(topic_id) == content
    assert decode_partition_metadata(content) == topic_id
    assert decode_partition_metadata(content + b"\n") == topic_id


@pytest.mark.parametrize(
    "content", [b"", b"version: 1\ntopic_id: AAECAwQFBgcICQoLDA0ODw", b"version: 0\ntopic_id: x"]
)
def test_damaged_partition_metadata_says_so(content: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode_partition_metadata(content)


def test_meta_properties_are_read_as_java_writes_them() -> None:
    meta = MetaProperties(3, "vPqjdwOHTIqGr5HcqdyvLw")
    content = encode_meta_properties(meta, "Fri Jan 02 03:04:05 UTC 2026")
    assert content == (
        b"#\n#Fri Jan 02 03:04:05 UTC 2026\n"
        b"broker.id=3\ncluster.id=vPqjdwOHTIqGr5HcqdyvLw\nversion=0\n"
    )
    assert decode_meta_properties(content) == meta
    assert decode_meta_properties(b"version=1\nnode.id=3\ncluster.id=x\\=y\n") == (3, "x=y")


@pytest.mark.parametrize(
    "content",
    [b"", b"version=2\nbroker.id=1\ncluster.id=x", b"broker.id=1", b"broker.id=x\ncluster.id=y"],
)
def test_meta_properties_of_nobody_say_so(content: bytes) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode_meta_properties(content)


def test_clean_shutdown_is_kafkas_to_the_byte() -> None:
    assert encode_clean_shutdown(25) == b'{"version":0,"brokerEpoch":25}'
    assert decode_clean_shutdown(b'{"version":0,"brokerEpoch":25}') == 25
    for content in (b"", b"[]", b"{}", b'{"brokerEpoch":null}', b"\xff", b"[" * 100_000):
        assert decode_clean_shutdown(content) is None


def test_names_are_kafkas() -> None:
    assert names.file_name(1234, ".log") == "00000000000000001234.log"
    assert names.offset_of("00000000000000001234.timeindex") == 1234
    for name in ("1234.log", "0000000000000000123x.log", "leader-epoch-checkpoint"):
        assert names.offset_of(name) is None
    assert names.parse_directory_name("a-b.c-12") == ("a-b.c", 12, "")
    assert names.parse_directory_name("a-b-3.0123-delete") == ("a-b", 3, "-delete")
    assert names.parse_directory_name("a-3.0123-future") == ("a", 3, "-future")
    for name in ("a", "-1", "a-", "a-x", "a-1x", "lost+found", ".x", "a-b-delete"):
        assert names.parse_directory_name(name) is None, name


def test_name_of_a_retired_directory_fits_the_file_system() -> None:
    name = names.retired_directory_name("t" * 249, 12345, "0" * 32, "-delete")
    assert len(name) == 255
    parsed = names.parse_directory_name(name)
    assert parsed is not None
    assert (parsed.partition, parsed.suffix) == (12345, "-delete")
