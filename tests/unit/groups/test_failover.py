"""A coordinator among several: leaderships that come and go by epochs, and a broker that must hold its tongue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from ottla.errors import ErrorCode, KafkaError
from ottla.groups.coordinator import Commit, FetchedOffsets, LoadedRecord
from ottla.groups.group import GroupState, Joining
from ottla.groups.ledger import answer_for

ORDERS = Commit("orders", 0, 42, 3, "note")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in a loop of its own."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())


def joining(house: Any, member_id: str = "", **changes: Any) -> Joining:
    """A JoinGroup of version 3."""
    request = Joining(
        member_id=member_id,
        group_instance_id=None,
        client_id="c",
        client_host="/127.0.0.1",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols={"range": b""},
        reason="test",
        new_member_id=house.groups.new_member_id("c"),
        knows_member_ids=False,
        knows_skipping=True,
    )
    return request._replace(**changes)


def stable(house: Any) -> str:
    """The group ``g`` of one member, with its assignment; the member's id."""
    joined = house.groups.join("g", joining(house))
    member_id: str = joined.member_id
    house.groups.sync("g", member_id, None, joined.generation_id, None, None, {member_id: b"all"})
    return member_id


def committed(house: Any) -> int | None:
    """What ``g`` has committed for orders-0."""
    answer = house.groups.fetch_offsets("g", [("orders", [0])])
    assert isinstance(answer, FetchedOffsets)
    assert answer.error is ErrorCode.NONE
    ((_, ((_, found),)),) = answer.topics
    return None if found is None else found.offset


def codes(house: Any) -> list[ErrorCode]:
    """What every kind of request is told."""
    groups = house.groups
    return [
        ErrorCode(groups.join("g", joining(house)).error_code),
        ErrorCode(groups.sync("g", "m", None, 1, None, None, {}).error_code),
        groups.heartbeat("g", "m", None, 1),
        groups.leave("g", [("m", None)])[0],
        groups.commit_offsets("g", "", None, -1, [ORDERS])[0],
        groups.fetch_offsets("g", None).error,
        ErrorCode(groups.describe("g").error_code),
        groups.delete_group("g"),
        groups.delete_offsets("g", [("orders", 0)]).error,
    ]


def test_a_leader_that_goes_on_in_a_later_epoch_keeps_its_groups_and_whoever_waits(
    new_house: Any,
) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        partition = house.groups.partition_for("g")
        member_id = stable(house)
        house.log.holds = True
        commit = house.groups.commit_offsets("g", member_id, None, 1, [ORDERS])
        assert house.groups.goes_on(partition, 7)
        assert not commit.done()
        await house.log.release()
        assert await commit == [ErrorCode.NONE]
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        assert committed(house) == 42

    run(scenario)


def test_only_news_that_are_not_behind_take_the_groups_away(new_house: Any) -> None:
    async def scenario() -> None:
        house = new_house()
        partition = house.groups.partition_for("g")
        assert not house.groups.goes_on(partition, 3)
        await house.groups.load(partition, house.log.chunks(partition), leader_epoch=3)
        member_id = stable(house)
        assert not house.groups.unload(partition, 2)
        assert house.groups.goes_on(partition, 5)
        assert not house.groups.unload(partition, 4)
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        assert house.groups.unload(partition, 6)
        assert codes(house) == [ErrorCode.NOT_COORDINATOR] * 9

    run(scenario)


def test_whoever_waits_for_a_rebalance_or_a_commit_is_sent_on_and_goes_on_with_the_next_coordinator(
    new_house: Any,
) -> None:
    """Invariants 31 to 34: the generation and the offsets survive, and nobody is left without an answer."""

    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        house.groups.commit_offsets("g", member_id, None, 1, [ORDERS])
        house.log.holds = True
        lost = house.groups.commit_offsets("g", member_id, None, 1, [ORDERS._replace(offset=50)])
        newcomer = house.groups.join("g", joining(house))
        house.groups.unload(house.groups.partition_for("g"), 1)
        assert lost.result() == [ErrorCode.NOT_COORDINATOR]
        assert newcomer.result().error_code == ErrorCode.NOT_COORDINATOR
        # The next leader has all that was committed, and here not what was not.
        house.log.records[house.groups.partition_for("g")].pop()
        house.log.holds = False
        heir = await new_house(log=house.log).open()
        assert committed(heir) == 42
        assert heir.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        commit = [ORDERS._replace(offset=50)]
        stale = heir.groups.commit_offsets("g", member_id, None, 0, commit)
        assert stale == [ErrorCode.ILLEGAL_GENERATION]
        stranger = heir.groups.commit_offsets("g", "m", None, 1, commit)
        assert stranger == [ErrorCode.UNKNOWN_MEMBER_ID]
        assert heir.groups.commit_offsets("g", member_id, None, 1, commit) == [ErrorCode.NONE]
        assert committed(heir) == 50
        joined = heir.groups.join("g", joining(heir))
        assert heir.groups.heartbeat("g", member_id, None, 1) is ErrorCode.REBALANCE_IN_PROGRESS
        heir.groups.join("g", joining(heir, member_id))
        assert joined.result().generation_id == 2

    run(scenario)


def test_a_log_that_is_taken_away_while_it_is_loaded_is_no_failure(new_house: Any) -> None:
    async def scenario() -> None:
        house = new_house()
        partition = house.groups.partition_for("g")
        gate = asyncio.Event()

        async def cut_off() -> AsyncIterator[Sequence[LoadedRecord]]:
            yield []
            await gate.wait()
            raise KafkaError(ErrorCode.NOT_LEADER_OR_FOLLOWER)

        loading = asyncio.ensure_future(house.groups.load(partition, cut_off(), leader_epoch=1))
        await asyncio.sleep(0)
        assert house.groups.unload(partition, 2)
        gate.set()
        await loading
        assert house.groups.heartbeat("g", "m", None, 1) is ErrorCode.NOT_COORDINATOR

    run(scenario)


def test_a_fenced_broker_answers_for_no_group(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        stable(house)
        house.groups.commit_offsets("h", "", None, -1, [ORDERS])
        before = len(house.shard_records())
        house.is_fenced = True
        assert codes(house) == [ErrorCode.NOT_COORDINATOR] * 9
        assert house.groups.list_groups().error is ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert len(house.shard_records()) == before

    run(scenario)


def test_nothing_ends_by_time_while_the_broker_is_fenced(new_house: Any, quick: Any) -> None:
    async def scenario() -> None:
        settings = quick._replace(
            offsets_retention_minutes=1, offsets_retention_check_interval_ms=1000
        )
        house = await new_house(settings).open()
        house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        house.is_fenced = True
        house.timers.advance(600_000)
        assert house.shard_records()[-1][1] is not None
        house.is_fenced = False
        assert committed(house) == 42
        house.timers.advance(2_000)
        assert house.shard_records()[-1][1] is None

    run(scenario)


def test_who_was_not_listened_to_has_a_whole_session_left_afterwards(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        house.timers.advance(3_000)
        house.is_fenced = True
        house.timers.advance(6_500)
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NOT_COORDINATOR
        house.is_fenced = False
        house.timers.advance(9_000)  # its session was to end after half a second of these
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        house.timers.advance(10_000)
        assert house.groups.describe("g").group_state == GroupState.EMPTY

    run(scenario)


def test_a_long_fence_ends_no_session_and_no_rebalance(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        newcomer = house.groups.join("g", joining(house))
        house.is_fenced = True
        house.timers.advance(300_000)
        assert not newcomer.done()
        house.is_fenced = False
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.REBALANCE_IN_PROGRESS
        rejoined = house.groups.join("g", joining(house, member_id))
        assert {newcomer.result().generation_id, rejoined.generation_id} == {2}

    run(scenario)


@pytest.mark.parametrize(
    ("met", "told"),
    [
        (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.REQUEST_TIMED_OUT, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.KAFKA_STORAGE_ERROR, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
        (ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.UNKNOWN_SERVER_ERROR),
        (ErrorCode.INVALID_FETCH_SIZE, ErrorCode.UNKNOWN_SERVER_ERROR),
        (ErrorCode.CORRUPT_MESSAGE, ErrorCode.CORRUPT_MESSAGE),
    ],
)
def test_what_the_log_says_is_told_in_words_that_clients_act_on(
    met: ErrorCode, told: ErrorCode, new_house: Any
) -> None:
    """``GroupMetadataManager.storeGroup``'s own table; for an append that fails and for one not committed."""
    assert answer_for(met) is told
    told_of_commit = ErrorCode.INVALID_COMMIT_OFFSET_SIZE if told < 0 else told

    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        house.log.refusal = met
        assert house.groups.commit_offsets("g", member_id, None, 1, [ORDERS]) == [told_of_commit]
        assert committed(house) is None
        house.log.holds = True
        commit = house.groups.commit_offsets("g", member_id, None, 1, [ORDERS])
        await house.log.release(met)
        assert await commit == [told_of_commit]

    run(scenario)
