"""``ottla topic`` against a broker."""

from __future__ import annotations

from tests.cli.conftest import Ottla


def test_a_topic_is_made_listed_described_altered_and_deleted(ottla: Ottla) -> None:
    made = ottla(
        "topic", "create", "weather", "--partitions", "3", "--set", "retention.ms=86400000"
    )
    assert (made.code, made.out) == (0, "weather created\n")

    listed = ottla("topic", "list")
    assert [line.split() for line in listed.lines] == [
        ["TOPIC", "PARTITIONS", "REPLICAS"],
        ["weather", "3", "1"],
    ]

    (described,) = ottla("topic", "describe", "weather", "-o", "json").json
    assert [item["partition"] for item in described["partitions"]] == [0, 1, 2]
    assert {item["leader"] for item in described["partitions"]} == {1}
    assert {item["records"] for item in described["partitions"]} == {0}
    assert described["settings"] == [
        {"name": "retention.ms", "value": "86400000", "source": "topic"}
    ]

    altered = ottla(
        "topic", "alter", "weather", "-p", "5", "--set", "segment.bytes=1000000",
        "--unset", "retention.ms",
    )  # fmt: skip
    assert altered.code == 0
    (described,) = ottla("topic", "describe", "weather", "-o", "json").json
    assert len(described["partitions"]) == 5
    assert [item["name"] for item in described["settings"]] == ["segment.bytes"]

    gone = ottla("topic", "delete", "weather", "--yes")
    assert (gone.code, gone.out) == (0, "weather deleted\n")
    assert ottla("topic", "list", "-o", "json").json == []


def test_a_table_shows_partitions_and_settings(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--set", "cleanup.policy=compact,delete")
    shown = ottla("topic", "describe", "t")
    assert shown.lines[0].startswith("t: 1 partitions, id ")
    assert shown.lines[1].split()[:2] == ["PARTITION", "LEADER"]
    assert shown.lines[2].split() == ["0", "1", "0", "1", "1", "0", "0", "0"]
    assert shown.lines[4].split() == ["cleanup.policy", "compact,delete", "topic"]


def test_every_setting_is_described_when_asked_for(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    (described,) = ottla("topic", "describe", "t", "--all-settings", "-o", "json").json
    settings = {item["name"]: item for item in described["settings"]}
    assert settings["retention.ms"]["value"] == "604800000"
    assert settings["retention.ms"]["documentation"]
    assert "DOCUMENTATION" in ottla("topic", "describe", "t", "--all-settings").out


def test_internal_topics_are_listed_when_asked_for(ottla: Ottla) -> None:
    ottla("topic", "create", "t")
    assert ottla("consume", "t", "--group", "g", "--exit-at-end").code == 0
    assert [item["topic"] for item in ottla("topic", "list", "-o", "json").json] == ["t"]
    found = ottla("topic", "list", "--internal", "-o", "json").json
    assert [item["topic"] for item in found] == ["__consumer_offsets", "t"]


def test_a_topic_that_is_there_already_is_a_failure_unless_that_is_fine(ottla: Ottla) -> None:
    assert ottla("topic", "create", "t").code == 0
    again = ottla("topic", "create", "t")
    assert again.code == 1
    assert again.err.startswith("ottla: t: TOPIC_ALREADY_EXISTS")
    assert again.err.count("\n") == 1
    fine = ottla("topic", "create", "t", "u", "--if-not-exists", "-o", "json")
    assert fine.code == 0
    assert fine.json == [{"topic": "t", "created": False}, {"topic": "u", "created": True}]


def test_what_can_not_be_done_is_one_line_that_says_why(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "-p", "2")
    for argv, message in [
        (["topic", "create", "bad name"], "INVALID_TOPIC_EXCEPTION"),
        (["topic", "create", "x", "--set", "retention.ms=soon"], "Not a number of type LONG"),
        (["topic", "create", "x", "-r", "3"], "INVALID_REPLICATION_FACTOR"),
        (["topic", "alter", "t", "--set", "retention.mss=1"], "did you mean retention.ms?"),
        (["topic", "alter", "t", "-p", "1"], "INVALID_PARTITIONS"),
        (["topic", "describe", "nowhere"], "nowhere: UNKNOWN_TOPIC_OR_PARTITION"),
        (["topic", "delete", "nowhere"], "nowhere: UNKNOWN_TOPIC_OR_PARTITION"),
    ]:
        done = ottla(*argv)
        assert done.code == 1, argv
        assert message in done.err, argv
        assert done.err.startswith("ottla: ")
        assert done.err.count("\n") == 1


def test_a_mistake_in_the_arguments_is_exit_code_2(ottla: Ottla) -> None:
    for argv, message in [
        (["topic", "create"], "Missing argument 'TOPIC"),
        (["topic", "create", "t", "-p", "0"], "--partitions"),
        (["topic", "create", "t", "--set", "x"], "--set wants NAME=VALUE, got 'x'"),
        (["topic", "alter", "t"], "say what to change"),
        (["topic", "alter", "t", "--set", "a=1", "--unset", "a"], "both name a"),
        (["topic", "list", "-o", "xml"], "xml"),
        (["topic", "list", "-b", "host:port"], "--bootstrap-server"),
    ]:
        done = ottla(*argv)
        assert done.code == 2, argv
        assert message in done.err, argv
        assert done.err.count("\n") == 1


def test_the_oldest_records_are_trimmed_away(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--partitions", "2")
    lines = b"".join(b"%d\n" % number for number in range(5))
    assert ottla("produce", "t", "--partition", "1", stdin=lines).code == 0
    before = ottla("topic", "trim", "t:1", "--before-offset", "2", "--yes", "-o", "json")
    assert before.json == [{"topic": "t", "partition": 1, "log_start": 2, "offsets_deleted": 2}]
    nothing = ottla("topic", "trim", "t", "--before-time", "1970-01-01", "-y", "-o", "json")
    assert [row["log_start"] for row in nothing.json] == [0, 2]
    refused = ottla("topic", "trim", "t", "--before-offset", "4", "--yes")
    assert refused.code == 1
    assert "t:0: OFFSET_OUT_OF_RANGE" in refused.err
    everything = ottla("topic", "trim", "t", "--all", "--yes")
    assert [line.split() for line in everything.lines[1:]] == [
        ["t", "0", "0", "0"],
        ["t", "1", "5", "1"],
    ]


def test_what_to_trim_has_to_be_said(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--set", "cleanup.policy=compact")
    for arguments, reason in (
        ([], "say which records"),
        (["--all", "--before-offset", "1"], "say which records"),
        (["--before-time", "soon"], "soon"),
    ):
        mistaken = ottla("topic", "trim", "t", *arguments, "--yes")
        assert mistaken.code == 2
        assert reason in mistaken.err
    assert "there is no topic none" in ottla("topic", "trim", "none", "--all", "-y").err


def test_a_trim_of_a_compacted_topic_says_why_not_and_what_to_do(ottla: Ottla) -> None:
    ottla("topic", "create", "t", "--set", "cleanup.policy=compact")
    refused = ottla("topic", "trim", "t", "--all", "-y")
    assert refused.code == 1
    assert "t:0: POLICY_VIOLATION: cleanup.policy is compact" in refused.err
    advice = "ottla topic alter t --set cleanup.policy=compact,delete"
    assert advice in refused.err
    assert ottla(*advice.split()[1:]).code == 0
    assert ottla("topic", "trim", "t", "--all", "-y").code == 0


def test_settings_are_taken_as_kafka_topics_takes_them(ottla: Ottla) -> None:
    made = ottla(
        "topic", "create", "t", "--config", "retention.ms=5000", "--set", "segment.ms=70000"
    )
    assert made.code == 0, made.err
    shown = ottla("topic", "describe", "t", "-o", "json").json[0]["settings"]
    values = {setting["name"]: setting["value"] for setting in shown}
    assert (values["retention.ms"], values["segment.ms"]) == ("5000", "70000")
