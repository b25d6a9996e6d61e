"""The first record reaches a new group at once: nothing waits for members that may yet come.

How long that takes is printed by ``bench/first_record.py``; here stands that no step of it waits for a timer.
"""

from __future__ import annotations

from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.consumer_protocol import ConsumerProtocolSubscription
from ottla.messages.describe_cluster import DescribeClusterRequest
from ottla.messages.describe_configs import DescribeConfigsRequest, DescribeConfigsResource
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.wire.compiler import encode_bytes
from tests.interop.raw import RawClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

BROKER_RESOURCE = 4


def test_a_new_group_waits_for_nobody_by_default(raw: RawClient) -> None:
    (broker,) = raw.call(DescribeClusterRequest()).brokers
    resource = DescribeConfigsResource(
        resource_type=BROKER_RESOURCE,
        resource_name=str(broker.broker_id),
        configuration_keys=["group.initial.rebalance.delay.ms"],
    )
    (result,) = raw.call(DescribeConfigsRequest(resources=[resource])).results
    assert [(config.name, config.value) for config in result.configs] == [
        ("group.initial.rebalance.delay.ms", "0")
    ]


def is_introduced(answer: Any) -> Any:
    """The answer, once the coordinator has loaded the group."""
    return answer if answer.error_code == ErrorCode.MEMBER_ID_REQUIRED else None


def test_the_first_member_leads_its_group_as_soon_as_it_joins(raw: RawClient, unused: str) -> None:
    """Both its time-outs are five minutes: an answer that waited for one would miss the deadline."""
    subscription = ConsumerProtocolSubscription(topics=[unused])
    metadata = b"\0\0" + encode_bytes(subscription, 0)

    def join(member_id: str) -> JoinGroupRequest:
        return JoinGroupRequest(
            group_id=unused,
            session_timeout_ms=300_000,
            rebalance_timeout_ms=300_000,
            member_id=member_id,
            protocol_type="consumer",
            protocols=[JoinGroupRequestProtocol(name="range", metadata=metadata)],
        )

    find = FindCoordinatorRequest(key_type=0, coordinator_keys=[unused])
    eventually(lambda: raw.call(find).coordinators[0].error_code == 0, "a coordinator")
    introduced = eventually(lambda: is_introduced(raw.call(join(""))), "a member id")
    joined = raw.call(join(introduced.member_id))
    assert joined.error_code == 0
    assert joined.generation_id == 1
    assert joined.leader == joined.member_id == introduced.member_id
