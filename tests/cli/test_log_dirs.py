"""``ottla log dirs`` against a broker."""

from __future__ import annotations

from tests.cli.conftest import Ottla


def test_the_log_directories_are_shown_with_what_lies_in_them(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--partitions", "3")
    (directory,) = ottla("log", "dirs", "-o", "json").json
    assert (directory["broker"], directory["offline"], directory["partitions"]) == (1, False, 3)
    assert directory["total_bytes"] >= directory["usable_bytes"] > 0
    shown = ottla("log", "dirs").lines
    assert [line.split()[0] for line in shown] == ["BROKER", "1"]
    assert shown[1].split()[1] == directory["directory"]
    replicas = ottla("log", "dirs", "--partitions", "-o", "json").json
    assert [(r["topic"], r["partition"], r["is_future"]) for r in replicas] == [
        ("t", 0, False),
        ("t", 1, False),
        ("t", 2, False),
    ]
