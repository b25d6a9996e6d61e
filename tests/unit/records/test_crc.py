"""The checksum is Castagnoli's, whatever the bytes lie in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import crc32c as package
import pytest

import ottla
from ottla.records.crc import crc32c


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_check_value_is_right_for_every_kind_of_buffer(wrap: type) -> None:
    assert crc32c(wrap(b"123456789")) == 0xE3069283


def test_checksum_of_pieces_is_the_checksum_of_the_whole() -> None:
    data = bytes(range(256)) * 300
    assert crc32c(data[1000:], crc32c(data[:1000])) == crc32c(data) == package.crc32c(data)


def test_loading_the_checksum_loads_none_of_what_its_package_would() -> None:
    code = (
        "import sys; before = set(sys.modules); import ottla.records.batch; "
        "print(sorted({'argparse', 'email', 'importlib.metadata', 'cramjam', 'zlib'} "
        "& (set(sys.modules) - before)))"
    )
    source = str(Path(ottla.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": source},
    )
    assert found.stdout.strip() == "[]"
