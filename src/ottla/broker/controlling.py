"""This broker as a candidate for the controller's office: the controller with the broker's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ottla.broker.topic_rules import BrokersTopicRules
from ottla.controller.balancing import LeaderBalance
from ottla.controller.controller import Controller
from ottla.controller.topic_changes import TopicDefaults

if TYPE_CHECKING:
    from ottla.broker.broker import Broker


def new_controller(broker: Broker) -> Controller:
    """One for the session of the moment."""
    config = broker.config

    def balance() -> LeaderBalance:
        now = broker.config
        return LeaderBalance(
            now.auto_leader_rebalance_enable,
            now.leader_imbalance_check_interval_seconds,
            now.leader_imbalance_per_broker_percentage,
        )

    return Controller(
        broker.session.store,
        broker.node_id,
        {broker.node_id: broker.control},
        rules=BrokersTopicRules(lambda: broker.config),
        defaults=TopicDefaults(config.num_partitions, config.default_replication_factor),
        listener=config.inter_broker_listener,
        clock=broker.clock,
        balance=balance,
    )
