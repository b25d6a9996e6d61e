"""Who has left the ISR is waited for no more."""

from __future__ import annotations

from ottla.broker.fetch_sessions import FetchSession, Position
from ottla.messages.fetch import FetchPartition
from tests.unit.log.samples import TOPIC_ID
from tests.unit.replication.leaders import EPOCH, Leader


def test_who_has_left_the_isr_is_not_awaited_for_the_sake_of_its_session() -> None:
    leader = Leader([1, 2], [1, 2])
    leader.append()
    leader.fetch(2, 1)
    assert leader.high_watermark == 1
    session = FetchSession(9, True, replica_id=2)
    session.heard_ms = leader.peers.now_ms()
    session.on_change = lambda: None
    position = Position("orders", TOPIC_ID)
    position.move(FetchPartition(partition=0, fetch_offset=1, current_leader_epoch=EPOCH))
    key = (TOPIC_ID, 0)
    session.positions[key] = position
    session.attach(key, position, leader.partition)
    # Broker 2 stops: the controller's word for that is an ISR without it.
    leader.clock.advance(1)
    leader.partition.become_leader(EPOCH, 1, [1, 2], [1])
    leader.append(acks=1)
    assert leader.high_watermark == 2
