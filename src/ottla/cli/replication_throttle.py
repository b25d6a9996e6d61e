"""The settings that bound what brokers copy for a reassignment: set, and taken away.

Which replicas are held back is the topics' setting, the rate every broker's. A broker that is not there is left
out: it copies nothing. Source: ``ReassignPartitionsCommand.modifyReassignmentThrottle``, ``clearAllThrottles``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.cli.reassignment_plan import (
    FOLLOWER_RATE,
    FOLLOWER_THROTTLED,
    LEADER_RATE,
    LEADER_THROTTLED,
    Assignment,
    Plan,
    moving_brokers,
    throttled_replicas,
)

if TYPE_CHECKING:
    from ottla import Admin

_RATES = (LEADER_RATE, FOLLOWER_RATE)
_REPLICAS = (LEADER_THROTTLED, FOLLOWER_THROTTLED)


def set_throttle(admin: Admin, current: Assignment, plan: Plan, bytes_per_second: int) -> None:
    """Let brokers copy at most so much for a plan; raises ``KafkaError``."""
    for topic, settings in throttled_replicas(current, plan.replicas).items():
        admin.alter_config(topic=topic, set=settings)
    rates = dict.fromkeys(_RATES, str(bytes_per_second))
    live = {node.node_id for node in admin.describe_cluster().nodes}
    for broker in moving_brokers(current, plan.replicas):
        if broker in live:
            admin.alter_config(broker=broker, set=rates)


def remove_throttle(admin: Admin, current: Assignment, plan: Plan | None) -> None:
    """Take away what ``set_throttle`` set, of these topics and all brokers; raises ``KafkaError``."""
    partitions = current if plan is None else {**current, **plan.replicas}
    for topic in sorted({topic for topic, _ in partitions}):
        found = admin.describe_config(topic=topic, names=_REPLICAS)
        set_here = [name for name, entry in found.items() if entry.source == "topic"]
        if set_here:
            admin.alter_config(topic=topic, delete=set_here)
    for node in admin.describe_cluster().nodes:
        found = admin.describe_config(broker=node.node_id, names=_RATES)
        set_there = [name for name, entry in found.items() if entry.source == "broker"]
        if set_there:
            admin.alter_config(broker=node.node_id, delete=set_there)
