"""What holds for every file that is kept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MARKS = re.compile(rb"^(<{7}|>{7}|\|{7}) ", re.MULTILINE)


def test_no_file_holds_the_marks_of_a_merge_that_was_not_finished() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    paths = [ROOT / name.decode() for name in listed.stdout.split(b"\0") if name]
    assert len(paths) > 100
    found = [path for path in paths if path.is_file() and MARKS.search(path.read_bytes())]
    assert found == []
