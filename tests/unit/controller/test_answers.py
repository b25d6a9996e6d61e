"""Answers of brokers, those that never come and those of an earlier life."""

from __future__ import annotations

from typing import Any

import pytest

from ottla.controller import answers, second_look
from ottla.controller import controller as controller_module
from ottla.controller.office import ControllerMoved
from ottla.controller.topics import NewTopic
from ottla.coordination import znodes
from ottla.coordination.bootstrap import register_broker
from ottla.coordination.znodes import BrokerRegistration
from ottla.errors import ErrorCode
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionError,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicError,
)
from tests.support.waiting import become
from tests.unit.controller.conftest import RecordingBroker


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TELL_AGAIN_S", 0.001)
    monkeypatch.setattr(second_look, "RETRY_S", 0.001)
    monkeypatch.setattr(controller_module, "DELETION_RETRY_S", 0.001)


class Garbling(RecordingBroker):
    """A broker whose answers to one kind of request can't be decoded, the first times."""

    def __init__(self, broker_id: int, method: str, times: int) -> None:
        super().__init__(broker_id)
        self._method = method
        self._times = times

    def _note(self, request: Any) -> None:
        name = {"Lead": "leader_and_isr", "Upda": "update_metadata", "Stop": "stop_replica"}
        if name[type(request).__name__[:4]] == self._method and self._times:
            self._times -= 1
            raise ValueError("no answer that can be read")
        super()._note(request)


async def test_a_deletion_whose_order_could_not_be_given_is_gone_on_with(cluster: Any) -> None:
    await cluster.start(1)
    await cluster.add_broker(2)
    cluster.brokers[2] = Garbling(2, "stop_replica", 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [1, 2]})])
    (result,) = await controller.delete_topics(["orders"])
    assert result.error is ErrorCode.REQUEST_TIMED_OUT, "it halts, and is not waited for"
    await become(lambda: "orders" not in controller.state.topics)
    assert cluster.brokers[2].deleted == [("orders", 0)]


async def test_a_deletion_goes_on_where_a_broker_was_out_of_reach_for_brokers(
    cluster: Any,
) -> None:
    """It has no endpoint on the listener by which brokers reach each other; then it leaves."""
    await cluster.start(1)
    session = await cluster.keeper.connect()
    await register_broker(session, BrokerRegistration(9, ()))
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [1, 9]})])
    (result,) = await controller.delete_topics(["orders"])
    assert result.error is ErrorCode.REQUEST_TIMED_OUT


async def test_a_deletion_that_a_znode_asked_for_is_gone_on_with_too(cluster: Any) -> None:
    await cluster.start(1)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [1]})])
    cluster.brokers[1].refuse_deletions = True
    await cluster.sessions[1].create(znodes.delete_topic_path("orders"))
    await become(lambda: "orders" in controller.state.deleting)
    await controller._announcer.idle(1)
    cluster.brokers[1].refuse_deletions = False
    await become(lambda: "orders" not in controller.state.topics)


@pytest.mark.parametrize("method", ["leader_and_isr", "update_metadata"])
async def test_who_could_not_be_told_something_is_told_everything_again(
    cluster: Any, method: str
) -> None:
    """Invariant 30: nobody else would ever tell it."""
    await cluster.start(1)
    await cluster.add_broker(2)
    controller = await cluster.started(1)
    cluster.brokers[2] = Garbling(2, method, 2)
    controller._announcer._targets[2] = cluster.brokers[2]
    controller._announcer._queues[2]._target = cluster.brokers[2]
    await controller.create_topics([NewTopic("orders", assignments={0: [2, 1]})])
    await become(lambda: cluster.brokers[2].replicas.get(("orders", 0)) == (2, 0))
    await become(lambda: cluster.brokers[2].topics.get("orders") == {0: 2})


async def test_what_an_earlier_life_of_a_broker_had_lost_the_present_one_may_have(
    cluster: Any,
) -> None:
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    await controller.create_topics([NewTopic("orders", assignments={0: [2, 1]})])
    before = controller.state.brokers[2].epoch
    await cluster.keeper.expire(cluster.sessions[2].session_id)
    await become(lambda: 2 not in controller.state.brokers)
    await cluster.add_broker(2)
    await become(lambda: 2 in controller.state.brokers)
    lost = LeaderAndIsrResponse(
        topics=[
            LeaderAndIsrTopicError(
                topic_id=controller.state.topics["orders"].topic_id,
                partition_errors=[
                    LeaderAndIsrPartitionError(
                        partition_index=0, error_code=ErrorCode.KAFKA_STORAGE_ERROR
                    )
                ],
            )
        ]
    )
    controller._answered(2, LeaderAndIsrRequest(broker_epoch=before), lost)
    await controller._queue.settle()
    assert not controller.state.offline_replicas.get(2)
    now = controller.state.brokers[2].epoch
    controller._answered(2, LeaderAndIsrRequest(broker_epoch=now), lost)
    await controller._queue.settle()
    assert controller.state.offline_replicas[2]


async def test_a_controller_of_before_takes_away_no_notice_of_a_failed_disk(cluster: Any) -> None:
    """Invariant 28: who has the office now is to hear of it."""
    await cluster.start(1, 2)
    controller = await cluster.started(1)
    state = controller.state
    epoch = await cluster.sessions[2].get(znodes.CONTROLLER_EPOCH)
    await cluster.sessions[2].set(znodes.CONTROLLER_EPOCH, b"2", epoch.stat.version)
    await controller.close()
    notice = znodes.encode_log_dir_event(2)
    await cluster.sessions[2].create(znodes.LOG_DIR_EVENT_PREFIX, notice, sequential=True)
    with pytest.raises(ControllerMoved):
        await controller._offline.take_events(state, lambda event: None)
    assert len(await cluster.sessions[2].children(znodes.LOG_DIR_EVENTS)) == 1
