"""Settings by the legacy AlterConfigs, and subscriptions to clients' metrics, which are settings too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.alter_configs import (
    AlterableConfig,
    AlterConfigsRequest,
    AlterConfigsResource,
)
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.get_telemetry_subscriptions import GetTelemetrySubscriptionsRequest
from ottla.messages.list_config_resources import ListConfigResourcesRequest
from ottla.testing import Broker
from tests.support.requests import create_topic
from tests.support.wire import Wire

TOPIC, BROKER, LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
INVALID_REQUEST, INVALID_CONFIG = ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_CONFIG


def alter(
    wire: Wire, kind: int, name: str, validate_only: bool = False, **configs: str | None
) -> tuple[int, str | None]:
    """AlterConfigs of one resource (underscores for dots); error code and message."""
    resource = AlterConfigsResource(
        resource_type=kind,
        resource_name=name,
        configs=[
            AlterableConfig(name=key.replace("_", "."), value=value)
            for key, value in configs.items()
        ],
    )
    request = AlterConfigsRequest(resources=[resource], validate_only=validate_only)
    (answer,) = wire.ask(request, 2).responses
    return answer.error_code, answer.error_message


def described(wire: Wire, kind: int, name: str, *sources: int) -> Any:
    """The settings of a resource that come from ``sources``."""
    resource = DescribeConfigsResource(
        resource_type=kind, resource_name=name, configuration_keys=None
    )
    (result,) = wire.ask(DescribeConfigsRequest(resources=[resource]), 4).results
    assert result.error_code == 0
    return {c.name: c.value for c in result.configs if c.config_source in sources}


def subscriptions(wire: Wire) -> list[str]:
    found = wire.ask(ListConfigResourcesRequest(), 0).config_resources
    return sorted(each.resource_name for each in found)


def test_what_is_not_named_goes_back_to_its_default(wire: Wire) -> None:
    create_topic(wire, "a", retention_ms=1000, segment_bytes=2_000_000)
    assert alter(wire, TOPIC, "a", segment_bytes="3000000") == (0, None)
    assert described(wire, TOPIC, "a", 1) == {"segment.bytes": "3000000"}
    assert alter(wire, TOPIC, "a") == (0, None)
    assert described(wire, TOPIC, "a", 1) == {}


def test_a_rehearsal_and_a_refusal_change_nothing(wire: Wire) -> None:
    create_topic(wire, "a", retention_ms=1000)
    assert alter(wire, TOPIC, "a", True, retention_ms="5") == (0, None)
    assert alter(wire, TOPIC, "a", segment_bytes="2000000", retention_ms="soon")[0] == (
        INVALID_CONFIG
    )
    assert alter(wire, TOPIC, "a", retention_ms=None)[0] == INVALID_REQUEST
    assert described(wire, TOPIC, "a", 1) == {"retention.ms": "1000"}


def test_settings_of_one_broker_and_of_all_are_replaced_each_for_itself(wire: Wire) -> None:
    assert alter(wire, BROKER, "", log_retention_ms="1000")[0] == 0
    assert alter(wire, BROKER, "1", log_segment_bytes="2000000")[0] == 0
    assert described(wire, BROKER, "1", 2, 3) == {
        "log.retention.ms": "1000",
        "log.segment.bytes": "2000000",
    }
    assert alter(wire, BROKER, "1")[0] == 0
    assert described(wire, BROKER, "1", 2, 3) == {"log.retention.ms": "1000"}
    assert alter(wire, BROKER, "1", node_id="7")[0] == INVALID_REQUEST
    assert alter(wire, BROKER, "7", log_retention_ms="1000")[0] == INVALID_REQUEST


@pytest.mark.parametrize("kind", [0, LOGGER, GROUP, 77, -1])
def test_what_has_no_settings_is_refused(wire: Wire, kind: int) -> None:
    code, message = alter(wire, kind, "x", a="1")
    assert code == INVALID_REQUEST
    assert message is not None
    assert "Unsupported resource type" in message


@pytest.mark.parametrize(
    ("name", "configs", "code"),
    [
        ("", {"metrics": "m"}, INVALID_REQUEST),
        ("a/b", {"metrics": "m"}, INVALID_REQUEST),
        ("..", {"metrics": "m"}, INVALID_REQUEST),
        ("s" * 250, {"metrics": "m"}, INVALID_REQUEST),
        ("s", {"bananas": "m"}, INVALID_REQUEST),
        ("s", {"interval_ms": "99"}, INVALID_REQUEST),
        ("s", {"interval_ms": "3600001"}, INVALID_REQUEST),
        ("s", {"interval_ms": "soon"}, INVALID_CONFIG),
        ("s", {"match": "client_id"}, INVALID_CONFIG),
        ("s", {"match": "client_id=("}, INVALID_CONFIG),
        ("s", {"match": "shoe_size=4.*"}, INVALID_CONFIG),
    ],
)
def test_a_subscription_that_cannot_be_is_refused(
    wire: Wire, name: str, configs: dict[str, str], code: ErrorCode
) -> None:
    assert alter(wire, CLIENT_METRICS, name, **configs)[0] == code
    assert subscriptions(wire) == []


def test_a_subscription_is_there_while_it_has_a_setting(wire: Wire) -> None:
    assert alter(wire, CLIENT_METRICS, "s", metrics="org.", interval_ms="1000")[0] == 0
    assert alter(wire, CLIENT_METRICS, "t", metrics="*", match="client_id=other")[0] == 0
    assert subscriptions(wire) == ["s", "t"]
    assert described(wire, CLIENT_METRICS, "s", 7) == {"metrics": "org.", "interval.ms": "1000"}
    assert described(wire, CLIENT_METRICS, "none", 7) == {}
    wanted = wire.ask(GetTelemetrySubscriptionsRequest(), 0)
    assert (wanted.requested_metrics, wanted.push_interval_ms) == (["org."], 1000)
    assert alter(wire, CLIENT_METRICS, "s")[0] == 0
    assert alter(wire, CLIENT_METRICS, "never")[0] == 0
    assert subscriptions(wire) == ["t"]
    again = GetTelemetrySubscriptionsRequest(client_instance_id=wanted.client_instance_id)
    assert wire.ask(again, 0).requested_metrics == []


def test_clients_are_told_of_telemetry_while_somebody_wants_it(wire: Wire) -> None:
    def is_offered() -> bool:
        hello = ApiVersionsRequest(client_software_name="test", client_software_version="1.0")
        return {71, 72} <= {each.api_key for each in wire.ask(hello, 3).api_keys}

    assert not is_offered()
    assert alter(wire, CLIENT_METRICS, "s", metrics="org.")[0] == 0
    assert is_offered()
    assert alter(wire, CLIENT_METRICS, "s")[0] == 0
    assert not is_offered()


def test_subscriptions_survive_a_restart(tmp_path: Path) -> None:
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert alter(wire, CLIENT_METRICS, "s", metrics="org.")[0] == 0
    with Broker(data=tmp_path) as broker, Wire(broker.bootstrap) as wire:
        assert subscriptions(wire) == ["s"]
        assert wire.ask(GetTelemetrySubscriptionsRequest(), 0).requested_metrics == ["org."]
