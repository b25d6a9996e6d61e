"""``ottla log dump`` on the files that a broker wrote."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ottla.testing import Broker
from tests.cli.conftest import Ottla

SEGMENT = "t-0/00000000000000000000.log"


def _write(ottla: Ottla) -> None:
    assert ottla("produce", "t", "-K", ":", "-H", "h=1", stdin=b"a:1\nb:\xff\n").code == 0


def test_batches_and_records_of_a_segment_are_shown(ottla: Ottla, ottla_broker: Broker) -> None:
    _write(ottla)
    path = str(ottla_broker.data / SEGMENT)
    done = ottla("log", "dump", path)
    assert done.code == 0
    assert len(done.lines) == 1
    assert done.lines[0].startswith("baseOffset: 0 lastOffset: 1 count: 2 ")
    assert "isvalid: true" in done.lines[0]
    done = ottla("log", "dump", path, "--records")
    assert len(done.lines) == 3
    assert "keySize: 1 valueSize: 1" in done.lines[1]
    assert "headerKeys: [h]" in done.lines[1]
    assert "payload" not in done.out

    done = ottla("log", "dump", path, "--contents", "-o", "json")
    batch, first, second = [json.loads(line) for line in done.lines]
    assert (batch["count"], batch["isvalid"]) == (2, True)
    assert (first["key"], first["payload"]) == ("a", "1")
    assert (second["key"], second["payload_base64"]) == ("b", "/w==")


def test_other_files_are_shown(ottla: Ottla, ottla_broker: Broker) -> None:
    _write(ottla)
    done = ottla("log", "dump", str(ottla_broker.data / "meta.properties"), "-o", "json")
    assert json.loads(done.out)["brokerId"] == 1
    names = ["t-0/partition.metadata", "t-0/00000000000000000000.index"]
    done = ottla("log", "dump", *(str(ottla_broker.data / name) for name in names))
    assert done.code == 0
    assert done.lines[0] == f"{ottla_broker.data / names[0]}:"
    assert done.lines[1].startswith("topicId: ")
    assert done.lines[2] == f"{ottla_broker.data / names[1]}:"


def test_a_damaged_segment_is_shown_as_far_as_it_goes(
    ottla: Ottla, ottla_broker: Broker, tmp_path: Path
) -> None:
    _write(ottla)
    content = bytearray((ottla_broker.data / SEGMENT).read_bytes())
    path = tmp_path / "00000000000000000000.log"
    content[-1] ^= 1
    path.write_bytes(content + b"torn")
    done = ottla("log", "dump", str(path))
    assert done.code == 1
    assert "isvalid: false" in done.lines[0]
    assert "error" in done.lines[1]
    assert done.err == f"ottla: damaged: {path}\n"


def test_what_can_not_be_shown_is_one_line(ottla: Ottla, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader")
    for path, message in [
        (letter, f"{letter} is no file of a log, by its name"),
        (tmp_path / "00000000000000000000.log", "No such file or directory"),
    ]:
        done = ottla("log", "dump", str(path))
        assert done.code == 1
        assert message in done.err
        assert done.err.count("\n") == 1
    assert ottla("log", "dump").code == 2


def test_a_reader_that_has_seen_enough_is_no_fault_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "recovery-point-offset-checkpoint"
    entries = "".join(f"t {number} 0\n" for number in range(20_000))
    path.write_text(f"0\n20000\n{entries}")
    arguments = [sys.executable, "-m", "ottla", "log", "dump", str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as dumping:
        assert dumping.stdout is not None
        assert dumping.stderr is not None
        assert dumping.stdout.readline()
        dumping.stdout.close()
        assert dumping.stderr.read() == b""
        assert dumping.wait() == 0
