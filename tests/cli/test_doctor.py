"""``ottla doctor``: each fault that it knows, planted."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ottla import Producer
from ottla.cli.doctor import address
from ottla.cli.doctor.data import DataDoctor, Surroundings
from ottla.cli.doctor.diagnosis import Diagnoses
from ottla.cli.doctor.file_systems import Mount, Room, mount_of
from ottla.testing import Broker
from tests.cli.conftest import Done, plant_other_topic_id
from tests.cli.conftest import Ottla as Run


def _codes(done: Done) -> dict[str, str]:
    """Severity by code."""
    return {item["code"]: item["severity"] for item in done.json}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What a broker leaves after a clean stop."""
    path = tmp_path / "data"
    with Broker(data=path) as broker, Producer(broker.bootstrap) as producer:
        producer.send("t", "one").result()
    return path


# Data directories


def _doctor(run: Run, data: Path, *argv: str) -> Done:
    return run("doctor", "--data", str(data), *argv, "-o", "json")


def _without_surroundings(codes: dict[str, str]) -> dict[str, str]:
    """The findings that the planted fault is the cause of, not the machine of the test."""
    machine = ("file-system", "room", "inodes", "directories", "descriptors")
    return {code: severity for code, severity in codes.items() if code not in machine}


def test_nothing_is_wrong_with_what_a_broker_leaves(run: Run, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*")}
    done = _doctor(run, data)
    assert done.code == 0, done.out
    assert _without_surroundings(_codes(done)) == {}
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*")} == before
    done = run("doctor", "--data", str(data))
    assert re.fullmatch(r"Nothing is wrong\.|0 errors, \d+ warnings", done.lines[-1])


def test_a_running_broker_is_named(run: Run, ottla_broker: Broker) -> None:
    done = _doctor(run, ottla_broker.data)
    assert done.code == 0, done.out
    assert _without_surroundings(_codes(done)) == {"in-use": "info"}
    assert f"process {os.getpid()}" in done.out
    with Producer(ottla_broker.bootstrap) as producer:
        producer.send("t", "the lock was left alone").result()


def _plant_no_clean_stop(data: Path) -> None:
    (data / ".kafka_cleanshutdown").unlink()


def _plant_no_meta(data: Path) -> None:
    (data / "meta.properties").unlink()


def _plant_bad_meta(data: Path) -> None:
    (data / "meta.properties").write_text("version=7\n")


def _plant_other_node(data: Path) -> None:
    path = data / "meta.properties"
    path.write_text(path.read_text().replace("broker.id=1", "broker.id=5"))


def _plant_other_cluster(data: Path) -> None:
    path = data / "meta.properties"
    path.write_text(re.sub("cluster.id=.*", "cluster.id=AAAAAAAAAAAAAAAAAAAAAA", path.read_text()))


def _plant_no_store(data: Path) -> None:
    (data / "ottla-store.sqlite").unlink()


def _plant_bad_store(data: Path) -> None:
    path = data / "ottla-store.sqlite"
    content = bytearray(path.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    path.write_bytes(content)


def _plant_quarantine(data: Path) -> None:
    (data / "t-0" / "quarantined").write_text("seen by somebody\n")


def _plant_unknown_topic(data: Path) -> None:
    (data / "gone-3").mkdir()


def _plant_stray(data: Path) -> None:
    (data / f"t-0.{'0' * 32}-stray").mkdir()


def _plant_future(data: Path) -> None:
    (data / f"t-0.{'0' * 32}-future").mkdir()


def _plant_deleted(data: Path) -> None:
    (data / f"t-0.{'0' * 32}-delete").mkdir()


def _plant_unknown_directory(data: Path) -> None:
    (data / "photos").mkdir()


def _plant_missing_log(data: Path) -> None:
    (data / "t-0").rename(data.parent / "elsewhere")


def _plant_bad_checkpoint(data: Path) -> None:
    (data / "log-start-offset-checkpoint").write_text("nonsense\n")


def _plant_failed_disk(data: Path) -> None:
    (data / "sync-failed").write_text("Input/output error\n")


@pytest.mark.parametrize(
    ("plant", "code", "severity"),
    [
        (_plant_failed_disk, "disk-failed", "error"),
        (_plant_no_clean_stop, "unclean", "info"),
        (_plant_no_meta, "no-meta", "warning"),
        (_plant_bad_meta, "small-file", "error"),
        (_plant_other_node, "node-id", "error"),
        (_plant_other_cluster, "cluster-id", "error"),
        (_plant_no_store, "no-store", "error"),
        (_plant_bad_store, "store", "error"),
        (_plant_quarantine, "quarantined", "error"),
        (_plant_unknown_topic, "unknown-topic", "warning"),
        (_plant_stray, "stray", "warning"),
        (_plant_future, "future", "warning"),
        (_plant_deleted, "deleted", "info"),
        (_plant_unknown_directory, "unknown", "info"),
        (plant_other_topic_id, "topic-id", "warning"),
        (_plant_missing_log, "missing-log", "error"),
        (_plant_bad_checkpoint, "small-file", "warning"),
    ],
)
def test_a_fault_in_a_data_directory_is_found(
    run: Run, data: Path, plant: Callable[[Path], None], code: str, severity: str
) -> None:
    plant(data)
    done = _doctor(run, data)
    assert _without_surroundings(_codes(done)) == {code: severity}, done.out
    assert done.code == (1 if severity == "error" else 0)


def test_a_directory_that_can_not_be_one_is_found(run: Run, tmp_path: Path, data: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    assert _codes(_doctor(run, file))["not-a-directory"] == "error"
    assert _codes(_doctor(run, tmp_path / "new"))["new"] == "info"


@pytest.mark.parametrize("closed", ["data", "data/t-0", "data/new/place"])
def test_what_can_not_be_written_is_found(
    run: Run, data: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    path = (
        data.parent / closed
    )  # root may write everywhere: the system's answer is another one here
    refused = path if path.exists() else data
    allowed = os.access
    monkeypatch.setattr(
        os,
        "access",
        lambda name, mode: allowed(name, mode) and not (Path(name) == refused and mode & os.W_OK),
    )
    done = _doctor(run, data if path.exists() else path)
    assert _codes(done)["permissions"] == "error"
    assert done.code == 1


def test_directories_of_two_clusters_are_found(run: Run, tmp_path: Path, data: Path) -> None:
    other = tmp_path / "other"
    with Broker(data=other):
        pass
    done = run("doctor", "--data", str(data), "--data", str(other), "-o", "json")
    assert done.code == 1
    assert "belong to several clusters" in done.out


class _Machine(Surroundings):
    """A machine that says what a test wants."""

    def __init__(self, mount: Mount, room: Room, descriptors: tuple[int, int]) -> None:
        self.mount_of = lambda path: mount
        self.room_of = lambda path: room
        self.descriptors_max = lambda: descriptors


PLENTY = Room(1 << 40, 1 << 41, 1 << 20)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (_Machine(Mount("/", "ext4", False), PLENTY, (65536, 65536)), {}),
        (_Machine(Mount("/", "xfs", True), PLENTY, (65536, 65536)), {"read-only": "error"}),
        (_Machine(Mount("/", "nfs4", False), PLENTY, (65536, 65536)), {"file-system": "warning"}),
        (_Machine(Mount("/", "tmpfs", False), PLENTY, (65536, 65536)), {"file-system": "warning"}),
        (
            _Machine(Mount("/", "overlay", False), PLENTY, (65536, 65536)),
            {"file-system": "warning"},
        ),
        (
            _Machine(Mount("/", "ext4", False), Room(1 << 20, 1 << 40, -1), (65536, 65536)),
            {"room": "warning"},
        ),
        (
            _Machine(Mount("/", "ext4", False), Room(1 << 40, 1 << 41, 5), (65536, 65536)),
            {"inodes": "warning"},
        ),
        (_Machine(Mount("/", "ext4", False), PLENTY, (256, 4096)), {"descriptors": "warning"}),
    ],
)
def test_what_a_directory_lies_on_is_looked_at(
    data: Path, machine: Surroundings, expected: dict[str, str]
) -> None:
    found = Diagnoses()
    DataDoctor(found, surroundings=machine).look_at([str(data)])
    assert {item.code: item.severity for item in found.all} == expected


def test_the_innermost_mount_counts() -> None:
    table = (
        "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /srv rw - nfs4 server:/ rw\n"
        "31 30 8:2 / /srv/a\\040b ro,noatime shared:1 - xfs /dev/sdb rw\n"
    )
    assert mount_of("/srv/data", table) == Mount("/srv", "nfs4", False)
    assert mount_of("/srv/a b/c", table) == Mount("/srv/a b", "xfs", True)
    assert mount_of("/srvx", table) == Mount("/", "ext4", False)


# Settings


@pytest.mark.parametrize(
    ("settings", "code", "severity", "text"),
    [
        ("log.retention.mss=1", "unknown", "error", "did you mean log.retention.ms?"),
        ("retention.ms=1", "unknown", "error", "the broker's default for it is log.retention.ms"),
        ("num.partitions=many", "value", "error", "Not a number"),
        ("num.io.threads=8", "no-effect", "warning", "one event loop"),
        ("zookeeper.clientCnxnSocket=x", "no-effect", "warning", "there are no Java classes"),
        ("authorizer.class.name=x", "security", "error", "who may do what"),
        ("ssl.keystore.location=/k", "security", "error", "nothing is encrypted"),
        ("broker.id=1", "old-name", "info", "node.id"),
        ("num.partitions=1\nnum.partitions=2", "twice", "warning", "The last one holds."),
        ("node.id=1\nbroker.id=2", "contradiction", "error", "must be the same"),
        ("message.max.bytes=200000000\nlog.segment.bytes=300000000", "sizes", "error", "does not"),
        ("log.segment.bytes=1000", "sizes", "warning", "log.segment.bytes"),
        ("message.max.bytes=60000000", "sizes", "warning", "fetch.max.bytes"),
        ("log.retention.bytes=1000", "retention", "warning", "never the active one"),
        ("log.retention.hours=1", "retention", "warning", "log.roll.ms"),
        ("log.retention.ms=-1", "retention", "info", "until the disk is full"),
        ("default.replication.factor=3", "replication", "error", "there is one broker"),
        (
            "zookeeper.connect=z:2181\ndefault.replication.factor=2\nmin.insync.replicas=3",
            "replication",
            "warning",
            "less than default.replication.factor",
        ),
        ("min.insync.replicas=2", "replication", "warning", "as in Kafka"),
        ("durability=os", "durability", "info", "power cut"),
        ("listeners=PLAINTEXT://:9092", "open", "warning", "Nobody is asked"),
        ("listeners=PLAINTEXT://192.0.2.1:9092", "listen", "error", "not an address of this"),
        (
            "listeners=PLAINTEXT://127.0.0.1:9092\nadvertised.listeners=PLAINTEXT://no.invalid:9092",
            "advertised",
            "error",
            "can't be resolved",
        ),
        (
            "listeners=PLAINTEXT://0.0.0.0:9092\nadvertised.listeners=PLAINTEXT://localhost:9092",
            "advertised",
            "warning",
            "looks for it at home",
        ),
        ("log.dirs=a,./a", "directories", "error", "stands in it twice"),
        ("log.dirs=/tmp/somewhere/not/there", "directories", "warning", "temporary files"),
    ],
)
def test_a_fault_in_settings_is_found(
    run: Run, tmp_path: Path, settings: str, code: str, severity: str, text: str
) -> None:
    file = tmp_path / "server.properties"
    file.write_text(settings + "\n")
    done = run("doctor", "--config", str(file), "-o", "json")
    found = [item for item in done.json if (item["code"], item["severity"]) == (code, severity)]
    assert found, done.out
    assert any(text in " ".join(item.values()) for item in found), found
    assert done.code == (1 if any(item["severity"] == "error" for item in done.json) else 0)


def test_every_interface_without_an_advertised_address_is_found(run: Run) -> None:
    done = run("doctor", "--set", "listeners=PLAINTEXT://:9092", "-o", "json")
    assert _codes(done)["advertised"] in ("warning", "error")


def test_the_defaults_are_fine_and_an_environment_is_looked_at(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("doctor", "-o", "json")
    assert done.code == 0
    assert _without_surroundings(_codes(done)) == {"new": "info"}
    monkeypatch.setenv("OTTLA_NUM_PARTITONS", "3")
    done = run("doctor")
    assert done.code == 1
    assert "did you mean num.partitions?" in done.out


def test_a_question_that_makes_no_sense_is_refused(run: Run, tmp_path: Path) -> None:
    for argv in (
        ("--config", "nowhere.properties"),
        ("--set", "nonsense"),
        ("-b", "host:many"),
        ("-b", ""),
    ):
        done = run("doctor", *argv)
        assert done.code == 2, argv
        assert done.err.count("\n") == 1


# Addresses


def _at(run: Run, address: str) -> Done:
    return run("doctor", "-b", address, "-o", "json")


def test_an_address_where_all_is_well_is_said_to_be(run: Run, ottla_broker: Broker) -> None:
    done = _at(run, ottla_broker.bootstrap)
    assert done.code == 0, done.out
    assert _codes(done) == {"ok": "info"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("advertised", "text"),
    [
        ("127.0.0.1:{port}", "Connection refused"),
        ("nowhere.invalid:{port}", "can't be resolved"),
    ],
)
def test_an_advertised_address_that_leads_nowhere_is_explained(
    run: Run, advertised: str, text: str
) -> None:
    told = advertised.format(port=_free_port())
    with Broker({"advertised.listeners": f"PLAINTEXT://{told}"}) as broker:
        done = _at(run, broker.bootstrap)
    assert done.code == 1
    (item,) = done.json
    assert item["code"] == "advertised"
    assert f"tells clients to go on to {told}" in item["what"]
    assert text in item["what"]
    assert "advertised.listeners" in item["fix"]


def test_an_advertised_address_of_another_cluster_is_found(run: Run, ottla_broker: Broker) -> None:
    with Broker({"advertised.listeners": f"PLAINTEXT://{ottla_broker.bootstrap}"}) as broker:
        done = _at(run, broker.bootstrap)
    assert _codes(done) == {"advertised-other": "error"}


def test_a_name_that_nobody_knows_and_a_port_where_nothing_listens_are_found(run: Run) -> None:
    assert _codes(_at(run, "nowhere.invalid:9092")) == {"bootstrap-unresolved": "error"}
    done = _at(run, f"127.0.0.1:{_free_port()}")
    assert done.code == 1
    assert _codes(done) == {"bootstrap-unreachable": "error"}
    assert "nothing listens on that port" in done.out


@contextmanager
def _server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something that listens and is no broker: its address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=_serve_one, args=(serve, connection), daemon=True).start()

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _serve_one(serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection:
        try:
            serve(connection)
        except OSError:
            return  # whoever asked has gone


def _http(connection: socket.socket) -> None:
    content = b""
    while b"\r\n\r\n" not in content:
        part = connection.recv(1000)
        if not part:
            return
        content += part
        if not content.startswith(b"GET"):
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            return
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nhello")


def _ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
    connection.recv(1000)


def _close(connection: socket.socket) -> None:
    connection.recv(10)


def _alert(connection: socket.socket) -> None:
    """A TLS server that likes nobody: an alert record to whatever comes."""
    connection.recv(1000)
    connection.sendall(b"\x15\x03\x03\x00\x02\x02\x28")


@pytest.mark.parametrize(
    ("serve", "code", "text"),
    [
        (_http, "bootstrap-http", "an HTTP server"),
        (_ssh, "bootstrap-not-kafka", "SSH-2.0-OpenSSH_9.9"),
        (_close, "bootstrap-closed", "closes the connection"),
        (_alert, "bootstrap-tls", "it speaks TLS"),
    ],
)
def test_what_is_no_broker_is_named(
    run: Run, serve: Callable[[socket.socket], None], code: str, text: str
) -> None:
    with _server(serve) as place:
        done = _at(run, place)
    assert done.code == 1
    assert _codes(done) == {code: "error"}, done.out
    assert text in done.out


def test_a_server_that_says_nothing_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "ANSWER_TIMEOUT_S", 0.2)

    def serve(connection: socket.socket) -> None:
        while connection.recv(1000):
            pass

    with _server(serve) as place:
        assert _codes(_at(run, place)) == {"bootstrap-silent": "error"}


def test_a_name_of_which_one_address_leads_nowhere_is_found(
    run: Run, ottla_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def both(host: str, *args: object, **kwargs: object) -> object:
        found = known("127.0.0.1" if host == "both.invalid" else host, *args, **kwargs)  # type: ignore[arg-type]
        if host != "both.invalid":
            return found
        dead = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", _free_port()))
        return [dead, *found]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    done = _at(run, f"both.invalid:{ottla_broker.port}")
    assert _codes(done) == {"one-address": "warning"}
    assert done.code == 0


def test_a_broker_of_other_versions_is_found(
    run: Run, ottla_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(address._CLIENTS, "New", {0: (99, 100)})
    done = _at(run, ottla_broker.bootstrap)
    assert _codes(done)["versions"] == "warning"
    assert "New find no common version of Produce" in done.out
