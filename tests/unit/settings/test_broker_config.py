"""A broker's settings: where they come from, which one wins, what is refused."""

from __future__ import annotations

import pytest

from ottla.settings.definitions import BrokerConfig, Listener, SettingError
from ottla.settings.sources import (
    from_assignments,
    from_environment,
    from_file,
    from_options,
)

# What the files that come with Kafka hold, by their names and our values.
ZOOKEEPER_ERA = """
# the broker
broker.id=7
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
#listeners=PLAINTEXT://:9092
log.dirs=/var/lib/events
num.partitions=2
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=48
log.retention.check.interval.ms=300000
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
"""

COMBINED = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
log.dirs=/tmp/combined
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.segment.bytes=1073741824
"""

BROKER_ONLY = """
process.roles=broker
node.id=2
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://localhost:9092
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=/tmp/broker
"""


def _of_file(text: str) -> BrokerConfig:
    return BrokerConfig.build(from_file(text, "server.properties"))


def _refusal(**options: object) -> str:
    values = {name.replace("_", "."): value for name, value in options.items()}
    with pytest.raises(SettingError) as caught:
        BrokerConfig.of(values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_broker_without_settings_listens_locally_and_keeps_its_data_in_data() -> None:
    config = BrokerConfig.of()
    assert config.node_id == config.broker_id == 1
    assert config.data_directories == ("./data",)
    assert config.endpoints == (Listener("PLAINTEXT", "127.0.0.1", 9092),)
    assert config.advertised_endpoints == config.endpoints
    assert config.durable_on_disk
    assert config.group_initial_rebalance_delay_ms == 0
    assert config.queued_max_request_bytes == 256 * 1024 * 1024
    assert config.ignored == ()


def test_a_stock_file_of_the_zookeeper_era_is_taken() -> None:
    config = _of_file(ZOOKEEPER_ERA)
    assert (config.node_id, config.broker_id) == (7, 7)
    assert config.num_partitions == 2
    assert config.log_retention_ms == 48 * 3_600_000
    assert config.data_directories == ("/var/lib/events",)
    assert config.ignored == (
        "num.network.threads",
        "num.io.threads",
        "num.recovery.threads.per.data.dir",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
    )
    assert config.zookeeper_connect == "localhost:2181"
    assert config.zookeeper_connection_timeout_ms == 18000
    assert config.zookeeper_session_timeout_ms == 18000


def test_a_stock_file_of_a_combined_server_opens_the_clients_listener_only() -> None:
    config = _of_file(COMBINED)
    assert config.endpoints == (Listener("PLAINTEXT", "", 9092),)
    assert config.advertised_endpoints == (Listener("PLAINTEXT", "localhost", 9092),)
    assert "controller.quorum.voters" in config.ignored


def test_a_stock_file_of_a_broker_is_taken() -> None:
    assert _of_file(BROKER_ONLY).node_id == 2


def test_the_stronger_source_wins() -> None:
    file = from_file(
        "num.partitions=2\nlog.retention.ms=2\nbroker.rack=file\nfetch.max.bytes=2000", "f"
    )
    environment = from_environment(
        {
            "KAFKA_NUM_PARTITIONS": "3",
            "KAFKA_LOG_RETENTION_MS": "3",
            "KAFKA_BROKER_RACK": "kafka",
            "OTTLA_NUM_PARTITIONS": "4",
            "OTTLA_LOG_RETENTION_MS": "4",
        }
    )
    assignments = from_assignments(["num.partitions=5"])
    config = BrokerConfig.build(file, environment, assignments)
    assert config.num_partitions == 5
    assert config.log_retention_ms == 4
    assert config.broker_rack == "kafka"
    assert config.fetch_max_bytes == 2000
    options = from_options({"num.partitions": 6})
    assert BrokerConfig.build(file, environment, assignments, options).num_partitions == 6


def test_a_family_in_a_stronger_source_hides_it_in_the_weaker_ones() -> None:
    file = from_file("log.retention.ms=5000\nlog.dirs=/a,/b\nbroker.id=3", "f")
    assert (
        BrokerConfig.build(file, from_assignments(["log.retention.hours=1"])).log_retention_ms
        == 3_600_000
    )
    assert BrokerConfig.build(file, from_options({"log.dir": "/c"})).data_directories == ("/c",)
    assert BrokerConfig.build(file, from_options({"node.id": 9})).broker_id == 9


def test_within_one_source_the_finer_unit_wins() -> None:
    hours = "log.retention.hours=5\nlog.roll.hours=5\nlog.roll.jitter.hours=1\nlog.flush.scheduler.interval.ms=9\n"
    config = _of_file(hours)
    assert config.log_retention_ms == config.log_roll_ms == 5 * 3_600_000
    assert config.log_roll_jitter_ms == 3_600_000
    assert config.log_flush_interval_ms == 9
    config = _of_file(hours + "log.retention.minutes=2\nlog.roll.ms=3\nlog.flush.interval.ms=4")
    assert (config.log_retention_ms, config.log_roll_ms) == (120_000, 3)
    assert config.log_flush_interval_ms == 4
    assert _of_file("log.retention.hours=-1").log_retention_ms == -1
    assert _of_file("log.retention.minutes=-7").log_retention_ms == -1


def test_the_last_of_a_repeated_name_wins() -> None:
    assert _of_file("num.partitions=2\nnum.partitions=3").num_partitions == 3


def test_variables_that_are_no_settings_are_passed_over() -> None:
    environment = {
        "OTTLA_BOOTSTRAP": "elsewhere:9092",
        "OTTLA_TEST_SEED": "1",
        "KAFKA_HEAP_OPTS": "-Xmx1G",
        "KAFKA_ZOOKEEPER_CONNECT": "z:2181",
        "PATH": "/bin",
    }
    assert BrokerConfig.build(from_environment(environment)).zookeeper_connect == "z:2181"


def test_an_unknown_name_is_one_line_with_what_was_perhaps_meant() -> None:
    assert _refusal(log_retention_mss=1) == (
        "Unknown setting log.retention.mss; did you mean log.retention.ms? (option)"
    )
    assert "the broker's default for it is log.retention.ms" in _refusal(retention_ms=1)
    assert "no broker setting gives its default" in _refusal(remote_storage_enable=False)
    with pytest.raises(SettingError, match=r"Unknown setting bananas \(OTTLA_BANANAS\)"):
        BrokerConfig.build(from_environment({"OTTLA_BANANAS": "1"}))


def test_a_bad_value_says_where_it_was_written() -> None:
    with pytest.raises(SettingError) as caught:
        _of_file("num.partitions=2\nlog.retention.ms=soon")
    assert str(caught.value) == (
        "Invalid value soon for configuration log.retention.ms: Not a number of type LONG "
        "(server.properties, line 2)"
    )
    with pytest.raises(SettingError, match=r"\(--set\)"):
        BrokerConfig.build(from_assignments(["num.partitions=0"]))
    with pytest.raises(SettingError, match=r"--set wants NAME=VALUE, got 'num\.partitions'"):
        from_assignments(["num.partitions"])
    with pytest.raises(SettingError, match="x is no properties file: line 1"):
        from_file("a=\\uX", "x")


def test_values_that_contradict_each_other_are_refused() -> None:
    assert "broker.id is 2" in _refusal(node_id=1, broker_id=2)
    assert "must include broker" in _refusal(process_roles="controller")
    assert "log.dirs" in _refusal(log_dirs=" , ")
    assert "log.retention.ms" in _refusal(log_retention_ms=0)
    assert "log.roll.ms" in _refusal(log_roll_ms=0)
    assert "log.roll.jitter.ms" in _refusal(log_roll_jitter_ms=-1)
    assert "log.flush.interval.ms" in _refusal(log_flush_interval_ms=-1)
    assert "socket.request.max.bytes" in _refusal(queued_max_request_bytes=1000)
    assert "group.max.session.timeout.ms" in _refusal(group_min_session_timeout_ms=2_000_000)
    assert "max.connections.per.ip.overrides" in _refusal(max_connections_per_ip=0)
    assert "zookeeper.digest.auth" in _refusal(zookeeper_set_acl=True)
    assert "s3cret" not in _refusal(zookeeper_digest_auth="s3cret")
    assert "HTTPS" in _refusal(**{"zookeeper.ssl.endpoint.identification.algorithm": "LDAPS"})
    assert "true" in _refusal(zookeeper_ssl_ocsp_enable=True)
    assert "PEM" in _refusal(zookeeper_ssl_keystore_type="JKS")
    assert "max.compaction" in _refusal(
        **{"log.cleaner.min.compaction.lag.ms": 5, "log.cleaner.max.compaction.lag.ms": 4}
    )


def test_the_bound_of_held_requests_grows_with_the_largest_request() -> None:
    config = BrokerConfig.of({"socket.request.max.bytes": 500_000_000})
    assert config.queued_max_request_bytes == 500_000_000
    assert BrokerConfig.of({"queued.max.request.bytes": -1}).queued_max_request_bytes == -1


def test_broker_id_minus_one_is_node_one() -> None:
    assert BrokerConfig.of({"broker.id": -1}).node_id == 1


def test_what_was_altered_while_running_is_strongest() -> None:
    config = BrokerConfig.of({"message.max.bytes": 1000, "log.retention.hours": 1})
    altered = config.with_dynamic({"message.max.bytes": "2000"}, {})
    assert altered.message_max_bytes == 2000
    altered = config.with_dynamic(
        {"message.max.bytes": "2000", "log.retention.ms": "5"}, {"message.max.bytes": "3000"}
    )
    assert altered.message_max_bytes == 3000
    assert altered.log_retention_ms == 5
    assert altered.with_dynamic({}, {}).message_max_bytes == 1000
    assert config.message_max_bytes == 1000


def test_stored_settings_of_another_version_do_not_stop_a_broker() -> None:
    config = BrokerConfig.of()
    stored = {"message.max.bytes": "2000", "shiny.new.setting": "1", "min.insync.replicas": "many"}
    with pytest.raises(SettingError):
        config.with_dynamic(stored, {})
    altered = config.with_dynamic(stored, {}, lenient=True)
    assert altered.message_max_bytes == 2000
    assert altered.dynamic_default == {"message.max.bytes": "2000"}
    assert altered.ignored == ("shiny.new.setting", "min.insync.replicas")
