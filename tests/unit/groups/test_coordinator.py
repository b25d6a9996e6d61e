"""The coordinator: what is written, what waits for it, loading, losing and expiring partitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.groups.coordinator import Commit, FetchedOffsets, LoadedRecord
from ottla.groups.group import GroupState, Joining
from ottla.groups.offsets import CommittedOffset

HOUR_MS = 3_600_000
ORDERS = Commit("orders", 0, 42, 3, "note")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a scenario in a loop of its own."""

    async def main() -> None:
        await scenario()

    asyncio.run(main())


def joining(
    house: Any, member_id: str = "", instance: str | None = None, **changes: Any
) -> Joining:
    """A JoinGroup of version 3."""
    request = Joining(
        member_id=member_id,
        group_instance_id=instance,
        client_id="c",
        client_host="/127.0.0.1",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        protocol_type="consumer",
        protocols={"range": b""},
        reason="test",
        new_member_id=house.groups.new_member_id(instance or "c"),
        knows_member_ids=False,
        knows_skipping=True,
    )
    return request._replace(**changes)


def stable(house: Any, group_id: str = "g") -> str:
    """A group of one, with its assignment; the member's id."""
    joined = house.groups.join(group_id, joining(house))
    member_id: str = joined.member_id
    synced = house.groups.sync(
        group_id, member_id, None, joined.generation_id, None, None, {member_id: b"all"}
    )
    assert synced.assignment == b"all"
    return member_id


def fetched(house: Any, group_id: str = "g") -> dict[str, dict[int, CommittedOffset]]:
    """Everything that a group committed."""
    answer = house.groups.fetch_offsets(group_id, None)
    assert isinstance(answer, FetchedOffsets)
    assert answer.error is ErrorCode.NONE
    return {topic: dict(partitions) for topic, partitions in answer.topics}


def test_a_first_member_gets_its_assignment_without_a_turn_of_the_loop(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        assert len(house.shard_records()) == 1

    run(scenario)


def test_an_assignment_is_given_out_only_once_it_is_committed(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = house.groups.join("g", joining(house))
        house.log.holds = True
        member_id = joined.member_id
        leader = house.groups.sync("g", member_id, None, 1, None, None, {member_id: b"x"})
        again = house.groups.sync("g", member_id, None, 1, None, None, {})
        assert not leader.done()
        assert not again.done()
        await house.log.release()
        assert (await leader).assignment == (await again).assignment == b"x"

    run(scenario)


def test_an_offset_is_acknowledged_and_read_only_once_it_is_committed(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.log.holds = True
        commit = house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        read = house.groups.fetch_offsets("g", [("orders", [0, 1])])
        other = house.groups.fetch_offsets("another", [("orders", [0])])
        assert isinstance(other, FetchedOffsets)  # not held up by its neighbours
        later = house.groups.commit_offsets("g", "", None, -1, [ORDERS._replace(offset=43)])
        assert not commit.done()
        assert not read.done()
        await house.log.release()
        assert await commit == await later == [ErrorCode.NONE]
        now_ms = house.clock.now_ms()
        seen = (await read).topics
        assert seen == [("orders", [(0, CommittedOffset(42, 3, "note", now_ms)), (1, None)])]
        assert fetched(house)["orders"][0].offset == 43

    run(scenario)


@pytest.mark.parametrize(
    ("log", "commit", "read"),
    [
        (
            ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            "COORDINATOR_NOT_AVAILABLE",
            "NOT_COORDINATOR",
        ),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, "NOT_COORDINATOR", "NOT_COORDINATOR"),
        (ErrorCode.KAFKA_STORAGE_ERROR, "NOT_COORDINATOR", "NOT_COORDINATOR"),
    ],
)
def test_a_wait_that_fails_is_told_in_words_that_clients_know(
    new_house: Any, log: ErrorCode, commit: str, read: str
) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = house.groups.join("g", joining(house))
        house.log.holds = True
        member = (joined.member_id, None, 1)
        sync = house.groups.sync("g", *member, None, None, {})
        committing = house.groups.commit_offsets("g", *member, [ORDERS])
        reading = house.groups.fetch_offsets("g", None)
        describing = house.groups.describe("g")
        await house.log.release(log)
        assert await committing == [ErrorCode[commit]]
        assert (await reading).error is ErrorCode[read]
        assert (await sync).error_code == (await describing).error_code == ErrorCode[commit]

    run(scenario)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (ErrorCode.NOT_ENOUGH_REPLICAS, ErrorCode.COORDINATOR_NOT_AVAILABLE),
        (ErrorCode.NOT_LEADER_OR_FOLLOWER, ErrorCode.NOT_COORDINATOR),
        (ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
        (ErrorCode.RECORD_LIST_TOO_LARGE, ErrorCode.INVALID_COMMIT_OFFSET_SIZE),
    ],
)
def test_an_append_that_fails_changes_nothing(
    new_house: Any, log: ErrorCode, told: ErrorCode
) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.log.refusal = log
        assert house.groups.commit_offsets("g", "", None, -1, [ORDERS]) == [told]
        assert fetched(house) == {}
        assert house.groups.list_groups().groups == []

    run(scenario)


def test_an_assignment_that_fails_to_append_makes_the_group_rebalance(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        joined = house.groups.join("g", joining(house))
        house.log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
        sync = house.groups.sync("g", joined.member_id, None, 1, None, None, {})
        assert sync.error_code == ErrorCode.COORDINATOR_NOT_AVAILABLE
        code = house.groups.heartbeat("g", joined.member_id, None, 1)
        assert code is ErrorCode.REBALANCE_IN_PROGRESS

    run(scenario)


def test_a_wait_ends_after_the_commit_timeout(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.log.holds = True
        first = house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        house.timers.advance(3_000)
        second = house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        house.timers.advance(2_000)
        assert first.result() == [ErrorCode.COORDINATOR_NOT_AVAILABLE]
        assert not second.done()
        house.timers.advance(3_000)
        assert second.result() == [ErrorCode.COORDINATOR_NOT_AVAILABLE]

    run(scenario)


def test_losing_a_partition_answers_everyone_and_leaves_no_timer(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        newcomer = house.groups.join("g", joining(house))
        house.log.holds = True
        commit = house.groups.commit_offsets("g", member_id, None, 1, [ORDERS])
        house.groups.unload(house.groups.partition_for("g"))
        assert newcomer.result().error_code == ErrorCode.NOT_COORDINATOR
        assert commit.result() == [ErrorCode.NOT_COORDINATOR]
        assert house.timers.live == 0
        await house.log.release()
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NOT_COORDINATOR

    run(scenario)


def test_an_answer_whose_reader_is_gone_is_dropped(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.log.holds = True
        commit = house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        commit.cancel()
        await house.log.release()
        assert fetched(house)["orders"][0].offset == 42

    run(scenario)


def test_what_is_not_ours_or_is_loading_or_closed_is_told_apart(new_house: Any) -> None:
    async def scenario() -> None:
        house = new_house()
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[Sequence[LoadedRecord]]:
            await gate.wait()
            yield []

        def codes() -> list[ErrorCode]:
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
            ]

        assert codes() == [ErrorCode.NOT_COORDINATOR] * 8
        assert house.groups.list_groups().error is ErrorCode.NONE
        loading = asyncio.ensure_future(
            house.groups.load(house.groups.partition_for("g"), slowly())
        )
        await asyncio.sleep(0)
        expected = [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 8
        expected[1] = ErrorCode.REBALANCE_IN_PROGRESS  # the rebalance is lost; see the test below
        expected[2] = ErrorCode.NONE  # a heartbeat has nothing to fear meanwhile
        assert codes() == expected
        assert house.groups.list_groups().error is ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        gate.set()
        await loading
        assert house.groups.heartbeat("g", "m", None, 1) is ErrorCode.UNKNOWN_MEMBER_ID
        house.groups.close()
        assert codes() == [ErrorCode.COORDINATOR_NOT_AVAILABLE] * 8

    run(scenario)


def test_a_sync_while_the_group_is_loaded_is_told_to_join_again(new_house: Any) -> None:
    """Java's and aiokafka's consumers take COORDINATOR_LOAD_IN_PROGRESS for the end: they give up."""

    async def scenario() -> None:
        house = new_house()
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[Sequence[LoadedRecord]]:
            await gate.wait()
            yield []

        partition = house.groups.partition_for("g")
        loading = asyncio.ensure_future(house.groups.load(partition, slowly()))
        await asyncio.sleep(0)
        synced = house.groups.sync("g", "m", None, 1, None, None, {"m": b"all"})
        assert synced.error_code == ErrorCode.REBALANCE_IN_PROGRESS
        gate.set()
        await loading

    run(scenario)


def test_a_load_that_is_overtaken_ends_and_leaves_no_trace(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        stable(house)
        partition = house.groups.partition_for("g")
        gate = asyncio.Event()

        async def slowly() -> AsyncIterator[Sequence[LoadedRecord]]:
            yield [(b"\x00\x02\x00\x01x", b"\x00", 0, 0)]
            await gate.wait()
            yield [(b"\x00\x02\x00\x01x", None, 1, 0)]

        first = asyncio.ensure_future(house.groups.load(partition, slowly()))
        await asyncio.sleep(0)
        await house.groups.load(partition, house.log.chunks(partition))
        gate.set()
        await first
        assert [group.group_id for group in house.groups.list_groups().groups] == ["g"]

    run(scenario)


def test_a_load_that_fails_leaves_the_partition_not_ours(new_house: Any) -> None:
    async def scenario() -> None:
        house = new_house()

        async def broken() -> AsyncIterator[Sequence[LoadedRecord]]:
            yield []
            raise OSError("read error")

        with pytest.raises(OSError, match="read error"):
            await house.groups.load(house.groups.partition_for("g"), broken())
        assert house.groups.heartbeat("g", "m", None, 1) is ErrorCode.NOT_COORDINATOR

    run(scenario)


def test_a_failover_brings_back_members_and_offsets(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        for offset in range(20):
            commit = ORDERS._replace(offset=offset, partition=offset % 3)
            house.groups.commit_offsets("g", member_id, None, 1, [commit])
        before = fetched(house)
        heir = await new_house(log=house.log).open()
        assert fetched(heir) == before
        assert heir.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        assert heir.groups.heartbeat("g", member_id, None, 2) is ErrorCode.ILLEGAL_GENERATION
        heir.timers.advance(10_000)
        assert heir.groups.describe("g").group_state == GroupState.EMPTY

    run(scenario)


def test_sessions_of_loaded_members_do_not_run_before_the_broker_knows_the_cluster(
    new_house: Any,
) -> None:
    """With many partitions the one may be long before the other, and nobody is answered till then."""

    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        heir = new_house(log=house.log)
        gone = asyncio.get_running_loop().create_future()
        partition = heir.groups.partition_for("g")
        loading = asyncio.ensure_future(
            heir.groups.load(partition, house.log.chunks(partition), lambda _: gone)
        )
        for _ in range(10):
            await asyncio.sleep(0)
        heir.timers.advance(60_000)
        gone.set_result(frozenset())
        await loading
        heir.timers.advance(9_000)
        assert heir.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE

    run(scenario)


def test_what_was_loaded_is_shown_once_it_is_committed(new_house: Any) -> None:
    """A new leader's log may end in what its predecessor did not get committed."""

    async def scenario() -> None:
        house = await new_house().open()
        house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        heir = new_house(log=house.log)
        house.log.holds = True
        await heir.open()
        reading = heir.groups.fetch_offsets("g", None)
        listing = heir.groups.list_groups()
        assert not reading.done()
        assert not listing.done()
        await house.log.release()
        assert (await reading).topics[0][0] == "orders"
        assert len((await listing).groups) == 1
        assert fetched(heir)["orders"][0].offset == 42

    run(scenario)


def test_offsets_of_an_empty_group_are_buried_with_it_when_their_time_is_over(
    new_house: Any,
) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        house.groups.commit_offsets("g", member_id, None, 1, [ORDERS])
        for _ in range(24 * 8):
            assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
            house.timers.advance(9_000)
        house.groups.leave("g", [(member_id, None)])
        house.timers.advance(7 * 24 * HOUR_MS - 700_000)
        assert fetched(house)["orders"][0].offset == 42
        house.timers.advance(1_400_000)
        assert fetched(house) == {}
        assert house.groups.list_groups().groups == []
        assert [value for _, value, _, _ in house.shard_records()[-2:]] == [None, None]
        heir = await new_house(log=house.log).open()
        assert heir.groups.list_groups().groups == []

    run(scenario)


def test_a_simple_groups_offsets_expire_one_by_one(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        house.timers.advance(4 * 24 * HOUR_MS)
        house.groups.commit_offsets("g", "", None, -1, [ORDERS._replace(partition=1)])
        house.timers.advance(4 * 24 * HOUR_MS)
        assert list(fetched(house)["orders"]) == [1]
        house.timers.advance(4 * 24 * HOUR_MS)
        assert house.groups.list_groups().groups == []

    run(scenario)


def test_an_offset_that_is_to_be_kept_for_ever_is_taken(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        codes = house.groups.commit_offsets("g", "", None, -1, [ORDERS], retention_ms=2**63 - 1)
        assert codes == [ErrorCode.NONE]
        house.timers.advance(30 * 24 * HOUR_MS)
        assert fetched(house)["orders"][0].offset == 42

    run(scenario)


def test_nothing_is_remembered_of_groups_that_were_deleted(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        shard = house.groups._shards[house.groups.partition_for("g")]
        house.log.holds = True
        commit = house.groups.commit_offsets("g", "", None, -1, [ORDERS])
        deletion = house.groups.delete_group("g")
        await house.log.release()
        assert await commit == [ErrorCode.NONE]
        assert await deletion is ErrorCode.NONE
        assert not shard.groups
        assert not shard.appended

    run(scenario)


def test_a_sweep_that_cannot_write_forgets_nothing_and_tries_again(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.groups.commit_offsets("g", "", None, -1, [ORDERS], retention_ms=0)
        house.log.refusal = ErrorCode.NOT_ENOUGH_REPLICAS
        house.timers.advance(600_000)
        assert fetched(house)["orders"][0].expire_timestamp_ms > 0
        house.timers.advance(600_000)
        assert fetched(house) == {}

    run(scenario)


def test_offsets_of_a_deleted_topic_are_forgotten_in_every_group(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open("g", "h")
        for group_id in ("g", "h"):
            commits = [ORDERS._replace(partition=n) for n in range(3)]
            commits.append(ORDERS._replace(topic="logs"))
            house.groups.commit_offsets(group_id, "", None, -1, commits)
        house.groups.topics_deleted(["orders", "unknown"])
        for group_id in ("g", "h"):
            assert list(fetched(house, group_id)) == ["logs"]
        heir = await new_house(log=house.log).open("g", "h")
        assert list(fetched(heir, "h")) == ["logs"]

    run(scenario)


def test_offsets_of_a_topic_that_is_deleted_while_they_are_loaded_are_forgotten(
    new_house: Any,
) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        commits = [ORDERS, ORDERS._replace(topic="logs")]
        house.groups.commit_offsets("g", "", None, -1, commits)
        heir = new_house(log=house.log)
        gate = asyncio.Event()
        partition = heir.groups.partition_for("g")

        async def slowly() -> AsyncIterator[Sequence[LoadedRecord]]:
            async for chunk in house.log.chunks(partition):
                yield chunk
            await gate.wait()

        loading = asyncio.ensure_future(heir.groups.load(partition, slowly()))
        await asyncio.sleep(0)
        heir.groups.topics_deleted(["orders"])
        gate.set()
        await loading
        assert list(fetched(heir)) == ["logs"]
        last = await new_house(log=house.log).open()
        assert list(fetched(last)) == ["logs"]

    run(scenario)


def test_offsets_of_topics_that_a_crash_has_outlived_are_forgotten_once_loaded(
    new_house: Any,
) -> None:
    """A topic's deletion and the tombstones of its offsets are not one write."""

    async def scenario() -> None:
        house = await new_house().open()
        commits = [ORDERS, ORDERS._replace(topic="logs")]
        house.groups.commit_offsets("g", "", None, -1, commits)
        heir = new_house(log=house.log)
        answer = asyncio.get_running_loop().create_future()
        asked: list[frozenset[str]] = []

        async def gone(topics: frozenset[str]) -> frozenset[str]:
            asked.append(topics)
            return await answer

        partition = heir.groups.partition_for("g")
        loading = asyncio.ensure_future(
            heir.groups.load(partition, house.log.chunks(partition), gone)
        )
        await asyncio.sleep(0)
        assert heir.groups.fetch_offsets("g", None).error is (
            ErrorCode.COORDINATOR_LOAD_IN_PROGRESS
        )
        answer.set_result(frozenset(["orders"]))
        await loading
        assert asked == [{"logs", "orders"}]
        assert list(fetched(heir)) == ["logs"]
        last = await new_house(log=house.log).open()
        assert list(fetched(last)) == ["logs"]

    run(scenario)


def test_many_tombstones_go_out_in_pieces(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        commits = [ORDERS._replace(partition=n) for n in range(2_500)]
        house.groups.commit_offsets("g", "", None, -1, commits)
        sizes = []
        right = house.log.append

        def counting(partition: int, records: Any, now_ms: int) -> int:
            sizes.append(len(records))
            end: int = right(partition, records, now_ms)
            return end

        house.log.append = counting
        assert house.groups.delete_group("g") is ErrorCode.NONE
        assert sizes == [1_000, 1_000, 500]
        assert fetched(house) == {}

    run(scenario)


def test_only_an_empty_group_is_deleted(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        assert house.groups.delete_group("g") is ErrorCode.NON_EMPTY_GROUP
        assert house.groups.delete_group("other") is ErrorCode.NOT_COORDINATOR
        house.groups.leave("g", [(member_id, None)])
        assert house.groups.delete_group("g") is ErrorCode.NONE
        assert house.groups.delete_group("g") is ErrorCode.GROUP_ID_NOT_FOUND
        heir = await new_house(log=house.log).open()
        assert heir.groups.describe("g").error_code == ErrorCode.GROUP_ID_NOT_FOUND

    run(scenario)


def test_a_group_that_only_handed_out_an_id_is_forgotten_with_it(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        house.groups.join("g", joining(house, knows_member_ids=True))
        assert [g.group_state for g in house.groups.list_groups().groups] == ["Empty"]
        house.timers.advance(10_000)
        assert house.groups.list_groups().groups == []
        assert house.shard_records() == []

    run(scenario)


def test_refused_and_unknown_requests_leave_no_group_behind(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        groups = house.groups
        assert groups.join("g", joining(house, protocols={})).error_code
        assert groups.join("g", joining(house, "m")).error_code == ErrorCode.UNKNOWN_MEMBER_ID
        assert groups.sync("g", "m", None, 1, None, None, {}).error_code
        assert groups.commit_offsets("g", "m", None, 4, [ORDERS]) == [ErrorCode.ILLEGAL_GENERATION]
        too_large = [ORDERS._replace(metadata="x" * 4_097)]
        codes = groups.commit_offsets("g", "", None, -1, too_large)
        assert codes == [ErrorCode.OFFSET_METADATA_TOO_LARGE]
        assert fetched(house) == {}
        assert groups.list_groups().groups == []
        assert house.timers.live == 1  # the sweep

    run(scenario)


def test_metadata_is_measured_in_javas_characters(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()

        def commit(metadata: str) -> ErrorCode:
            commits = [ORDERS._replace(metadata=metadata), ORDERS._replace(partition=1)]
            codes: list[ErrorCode] = house.groups.commit_offsets("g", "", None, -1, commits)
            assert codes[1] is ErrorCode.NONE
            return codes[0]

        assert commit("x" * 4_096) is ErrorCode.NONE
        assert commit("é" * 4_096) is ErrorCode.NONE
        assert commit("\U0001f600" * 2_048) is ErrorCode.NONE
        assert commit("\U0001f600" * 2_049) is ErrorCode.OFFSET_METADATA_TOO_LARGE

    run(scenario)


@pytest.mark.parametrize("session_ms", [5_999, 1_800_001])
def test_session_timeouts_have_limits(new_house: Any, session_ms: int) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        answer = house.groups.join("g", joining(house, session_timeout_ms=session_ms))
        assert answer.error_code == ErrorCode.INVALID_SESSION_TIMEOUT

    run(scenario)


def test_names_that_no_record_can_hold_are_refused(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        long = "x" * 32_768
        assert house.groups.join("", joining(house)).error_code == ErrorCode.INVALID_GROUP_ID
        assert house.groups.join(long, joining(house)).error_code == ErrorCode.INVALID_GROUP_ID
        answer = house.groups.join("g", joining(house, instance=long))
        assert answer.error_code == ErrorCode.INVALID_REQUEST
        assert len(house.groups.new_member_id(long)) < 300

    run(scenario)


def test_the_members_of_all_groups_take_no_more_memory_than_is_set(
    new_house: Any, quick: Any
) -> None:
    async def scenario() -> None:
        house = await new_house(quick._replace(group_members_max_bytes=20_000)).open("g", "h")
        large = {"range": bytes(10_000)}
        refused = ErrorCode.COORDINATOR_NOT_AVAILABLE
        first = house.groups.join("g", joining(house, protocols=large))
        assert first.error_code == ErrorCode.NONE
        for request in (
            joining(house, protocols=large),
            joining(house, protocols=large, knows_member_ids=True),
            joining(house, protocols={f"{n}": b"" for n in range(100)}),
            joining(house, protocols={"range": b""}, client_id="c" * 10_000),
            joining(house, instance="i" * 10_000),
        ):
            assert house.groups.join("h", request).error_code == refused
        again = house.groups.join("g", joining(house, first.member_id, protocols=large))
        assert again.error_code == ErrorCode.NONE
        member = ("g", first.member_id, None, again.generation_id, None, None)
        assert house.groups.sync(*member, {first.member_id: bytes(10_000)}).error_code == refused
        assert house.groups.sync(*member, {first.member_id: bytes(1_000)}).error_code == 0
        house.groups.leave("g", [(first.member_id, None)])
        last = house.groups.join("h", joining(house, protocols=large))
        assert last.error_code == ErrorCode.NONE

    run(scenario)


def test_ids_that_are_out_take_no_more_memory_than_is_set(new_house: Any, quick: Any) -> None:
    async def scenario() -> None:
        settings = quick._replace(group_members_max_bytes=100_000, offsets_topic_num_partitions=1)
        house = await new_house(settings).open()
        names = [f"{number:01000}" for number in range(200)]
        request = joining(house, knows_member_ids=True)
        codes = [house.groups.join(name, request).error_code for name in names]
        assert codes.count(ErrorCode.MEMBER_ID_REQUIRED) < 50
        assert codes[-1] == ErrorCode.COORDINATOR_NOT_AVAILABLE
        house.timers.advance(10_000)  # their time is over
        assert house.groups.join("g", request).error_code == ErrorCode.MEMBER_ID_REQUIRED

    run(scenario)


def test_members_that_were_loaded_count_like_those_who_joined(new_house: Any, quick: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        large = {"range": bytes(10_000)}
        joined = house.groups.join("g", joining(house, protocols=large))
        house.groups.sync("g", joined.member_id, None, 1, None, None, {})
        settings = quick._replace(group_members_max_bytes=15_000)
        heir = await new_house(settings, house.log).open("g", "h")
        refused = ErrorCode.COORDINATOR_NOT_AVAILABLE
        assert heir.groups.join("h", joining(heir, protocols=large)).error_code == refused
        heir.groups.unload(heir.groups.partition_for("g"))
        assert heir.groups.join("h", joining(heir, protocols=large)).error_code == 0

    run(scenario)


def test_heartbeats_start_no_timers(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        live = house.timers.live
        for _ in range(1_000):
            house.groups.heartbeat("g", member_id, None, 1)
        assert house.timers.live == live == 2  # the group's and the sweep's

    run(scenario)


def test_a_broker_that_stood_still_does_not_end_the_sessions_of_all(new_house: Any) -> None:
    """Nobody could have reached it: as after a restart, everyone has a session's time to be heard."""

    async def scenario() -> None:
        house = await new_house().open()
        member_id = stable(house)
        house.clock.advance(60_000)
        house.timers.advance(0)
        assert house.groups.describe("g").group_state == GroupState.STABLE
        house.timers.advance(9_000)
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        house.clock.advance(60_000)
        house.timers.advance(0)
        house.timers.advance(9_000)
        assert house.groups.heartbeat("g", member_id, None, 1) is ErrorCode.NONE
        house.clock.advance(60_000)
        house.timers.advance(0)
        house.timers.advance(10_000)
        assert house.groups.describe("g").group_state == GroupState.EMPTY

    run(scenario)


def test_a_broker_that_is_always_late_ends_sessions_all_the_same(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        stable(house)
        for _ in range(2):
            house.clock.advance(15_000)
            house.timers.advance(0)
        assert house.groups.describe("g").group_state == GroupState.EMPTY

    run(scenario)


def test_a_group_rebalances_through_timers_when_a_member_dies(new_house: Any) -> None:
    async def scenario() -> None:
        house = await new_house().open()
        first = stable(house)
        second = house.groups.join("g", joining(house))
        leader = house.groups.join("g", joining(house, first))
        assert leader.generation_id == second.result().generation_id == 2
        for _ in range(3):
            house.timers.advance(4_000)
            code = house.groups.heartbeat("g", first, None, 2)
        assert code is ErrorCode.REBALANCE_IN_PROGRESS
        assert house.groups.join("g", joining(house, first)).generation_id == 3

    run(scenario)


def test_replaying_the_log_gives_the_state_that_wrote_it(new_house: Any) -> None:
    import random

    async def scenario() -> None:
        choose = random.Random(7)
        house = await new_house().open("g", "h")
        members: dict[str, str] = {}
        for step in range(400):
            group_id = choose.choice("gh")
            what = choose.choice(("commit", "commit", "commit", "join", "leave", "delete", "topic"))
            member_id = members.get(group_id)
            if what == "commit":
                commit = Commit(choose.choice(("a", "b")), choose.randrange(3), step, -1, "")
                generation = -1 if member_id is None else 1
                group = house.groups.describe(group_id)
                if member_id is not None:
                    generation = int(members[group_id + "#"])
                house.groups.commit_offsets(group_id, member_id or "", None, generation, [commit])
                assert group.error_code in (ErrorCode.NONE, ErrorCode.GROUP_ID_NOT_FOUND)
            elif what == "join" and member_id is None:
                joined = house.groups.join(group_id, joining(house))
                member = (joined.member_id, None, joined.generation_id)
                house.groups.sync(group_id, *member, None, None, {joined.member_id: b"1"})
                members[group_id] = joined.member_id
                members[group_id + "#"] = str(joined.generation_id)
            elif what == "leave" and member_id is not None:
                house.groups.leave(group_id, [(members.pop(group_id), None)])
            elif what == "delete":
                house.groups.delete_group(group_id)
            elif what == "topic" and choose.random() < 0.2:
                house.groups.topics_deleted([choose.choice(("a", "b"))])
            if step % 20 == 0:
                heir = await new_house(log=house.log).open("g", "h")
                for each in "gh":
                    assert fetched(heir, each) == fetched(house, each)
                    assert heir.groups.describe(each) == house.groups.describe(each)

    run(scenario)
