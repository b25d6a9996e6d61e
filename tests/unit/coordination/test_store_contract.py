"""What every store does, in ZooKeeper's terms. Written against the interface only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.coordination.store import (
    BadArguments,
    BadVersion,
    Check,
    Create,
    Delete,
    EventType,
    NoChildrenForEphemerals,
    NodeExists,
    NoNode,
    NotEmpty,
    RequestTooLarge,
    SessionExpired,
    SessionState,
    Set,
    Stat,
    WatchEvent,
)


async def delivered(condition: Any) -> None:
    """Wait until ``condition()`` holds; the test's deadline bounds it."""
    while not condition():  # noqa: ASYNC110 - a condition of any kind, not an event
        await asyncio.sleep(0)


# Znodes


async def test_created_znode_is_read_back_with_version_zero(stores: Any) -> None:
    store = await stores.connect()
    created = await store.create("/a", b"one")
    znode = await store.get("/a")
    assert created.path == "/a"
    assert created.stat == znode.stat
    assert znode.data == b"one"
    assert (znode.stat.version, znode.stat.cversion, znode.stat.data_length) == (0, 0, 3)
    assert znode.stat.ephemeral_owner == 0
    assert znode.stat.czxid == znode.stat.mzxid == znode.stat.pzxid > 0


async def test_set_raises_the_version_and_moves_mzxid_only(stores: Any) -> None:
    store = await stores.connect()
    before = (await store.create("/a", b"one")).stat
    after = await store.set("/a", b"second")
    assert (await store.get("/a")) == (b"second", after)
    assert after.version == 1
    assert after.mzxid > before.mzxid
    assert (after.czxid, after.pzxid, after.ctime_ms) == (
        before.czxid,
        before.pzxid,
        before.ctime_ms,
    )


async def test_set_and_delete_want_the_expected_version_unless_it_is_any(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a")
    await store.set("/a", b"1", 0)
    with pytest.raises(BadVersion):
        await store.set("/a", b"2", 0)
    with pytest.raises(BadVersion):
        await store.delete("/a", 0)
    assert (await store.set("/a", b"3")).version == 2
    await store.delete("/a", 2)
    assert await store.exists("/a") is None


async def test_what_is_not_there_is_no_node(stores: Any) -> None:
    store = await stores.connect()
    with pytest.raises(NoNode):
        await store.get("/a")
    with pytest.raises(NoNode):
        await store.children("/a")
    with pytest.raises(NoNode):
        await store.set("/a", b"")
    with pytest.raises(NoNode):
        await store.delete("/a")
    with pytest.raises(NoNode):
        await store.create("/a/b")
    assert await store.exists("/a") is None


async def test_creating_twice_is_node_exists(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a")
    with pytest.raises(NodeExists):
        await store.create("/a")
    with pytest.raises(NodeExists):
        await store.create("/")


async def test_znode_with_children_is_not_deleted(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a")
    await store.create("/a/b")
    with pytest.raises(NotEmpty):
        await store.delete("/a")
    with pytest.raises(BadVersion):  # ZooKeeper looks at the version first
        await store.delete("/a", 7)
    await store.delete("/a/b")
    await store.delete("/a")


async def test_children_are_counted_and_named(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a")
    await store.create("/a/y")
    await store.create("/a/x")
    await store.create("/a/x/deeper")
    assert sorted(await store.children("/a")) == ["x", "y"]
    stat = await store.exists("/a")
    assert stat is not None
    assert (stat.num_children, stat.cversion) == (2, 2)
    await store.delete("/a/y")
    stat = await store.exists("/a")
    assert stat is not None
    assert (stat.num_children, stat.cversion, stat.version) == (1, 3, 0)


async def test_parents_pzxid_is_the_last_change_of_its_children(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a")
    child = await store.create("/a/b")
    stat = await store.exists("/a")
    assert stat is not None
    assert stat.pzxid == child.stat.czxid
    await store.set("/a/b", b"data")
    assert (await store.exists("/a")) == stat


async def test_czxids_rise_over_sessions(stores: Any) -> None:
    first, second = await stores.connect(), await stores.connect()
    zxids = [
        (await store.create(f"/{index}")).stat.czxid
        for index, store in enumerate((first, second, second, first))
    ]
    assert zxids == sorted(set(zxids))


async def test_many_reads_answer_in_order_with_none_for_the_missing(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/a", b"1")
    await store.create("/b", b"2")
    znodes = await store.get_many(["/b", "/missing", "/a", "/b"])
    assert [znode and znode.data for znode in znodes] == [b"2", None, b"1", b"2"]
    assert await store.get_many([]) == []


@pytest.mark.parametrize(
    "path", ["", "a", "/a/", "//a", "/a//b", "/a/./b", "/..", "/a\0b", "/\x7f"]
)
async def test_paths_that_zookeeper_refuses_are_bad_arguments(stores: Any, path: str) -> None:
    store = await stores.connect()
    with pytest.raises(BadArguments):
        await store.create(path)


async def test_request_beyond_a_megabyte_is_refused_before_it_is_sent(stores: Any) -> None:
    store = await stores.connect()
    with pytest.raises(RequestTooLarge):
        await store.create("/a", bytes(1_000_001))
    assert await store.exists("/a") is None


# Sequential


async def test_sequential_names_count_creations_not_deletions(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/s")
    first = await store.create("/s/n_", sequential=True)
    await store.create("/s/other")
    await store.delete(first.path)
    second = await store.create("/s/n_", sequential=True)
    assert first.path == "/s/n_0000000000"
    assert second.path == "/s/n_0000000002"


async def test_sequential_in_a_multi_answers_the_full_path(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/s")
    paths = await store.multi(
        [Create("/s/n_", b"1", sequential=True), Create("/s/n_", b"2", sequential=True)]
    )
    assert paths == ["/s/n_0000000000", "/s/n_0000000001"]
    assert (await store.get("/s/n_0000000001")).data == b"2"


async def test_sequential_name_may_be_the_digits_alone(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/s")
    assert (await store.create("/s/", sequential=True)).path == "/s/0000000000"


# Sessions


async def test_ephemeral_znode_goes_when_its_session_closes(stores: Any) -> None:
    mine, other = await stores.connect(), await stores.connect()
    created = await mine.create("/e", b"data", ephemeral=True)
    assert created.stat.ephemeral_owner == mine.session_id != other.session_id
    assert (await other.get("/e")).stat == created.stat
    await mine.close()
    assert await other.exists("/e") is None


async def test_ephemeral_znode_goes_when_its_session_expires(stores: Any) -> None:
    mine, other = await stores.connect(), await stores.connect()
    states: list[SessionState] = []
    mine.on_state(states.append)
    await mine.create("/e", ephemeral=True)
    await other.create("/e2", ephemeral=True)
    await stores.expire(mine)
    await delivered(lambda: states[-1:] == [SessionState.EXPIRED])
    assert set(states) <= {SessionState.SUSPENDED, SessionState.EXPIRED}
    assert mine.state is SessionState.EXPIRED
    assert other.state is SessionState.CONNECTED
    assert await other.exists("/e") is None
    assert await other.exists("/e2") is not None


async def test_expired_session_does_nothing_any_more(stores: Any) -> None:
    mine, other = await stores.connect(), await stores.connect()
    await stores.expire(mine)
    for operation in (
        mine.create("/a"),
        mine.get("/"),
        mine.exists("/"),
        mine.children("/"),
        mine.get_many(["/"]),
        mine.set("/", b""),
        mine.delete("/a"),
        mine.multi([Create("/a")]),
    ):
        with pytest.raises(SessionExpired):
            await operation
    assert await other.exists("/a") is None


async def test_another_session_may_delete_an_ephemeral_znode(stores: Any) -> None:
    mine, other = await stores.connect(), await stores.connect()
    await mine.create("/e", ephemeral=True)
    await other.delete("/e")
    await other.create("/e", b"durable now")
    await mine.close()
    assert (await other.get("/e")).data == b"durable now"


async def test_ephemeral_znode_has_no_children(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/e", ephemeral=True)
    with pytest.raises(NoChildrenForEphemerals):
        await store.create("/e/child")


# Multi


async def test_multi_applies_in_order_and_each_sees_those_before(stores: Any) -> None:
    store = await stores.connect()
    results = await store.multi(
        [
            Create("/a", b"1"),
            Check("/a", 0),
            Set("/a", b"2", 0),
            Check("/a", 1),
            Create("/a/b"),
            Delete("/a/b"),
        ]
    )
    assert results[0] == "/a"
    assert isinstance(results[2], Stat)
    assert results[2].version == 1
    assert [results[index] for index in (1, 3, 5)] == [None, None, None]
    assert (await store.get("/a")).data == b"2"
    assert await store.children("/a") == []


async def test_multi_is_one_transaction_id(stores: Any) -> None:
    store = await stores.connect()
    await store.multi([Create("/a"), Create("/b")])
    first, second = await store.get_many(["/a", "/b"])
    assert first.stat.czxid == second.stat.czxid


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (Check("/a", 5), BadVersion),
        (Check("/missing"), NoNode),
        (Set("/a", b"", 5), BadVersion),
        (Delete("/a", 5), BadVersion),
        (Delete("/missing"), NoNode),
        (Delete("/parent"), NotEmpty),
        (Create("/a"), NodeExists),
        (Create("/e/child"), NoChildrenForEphemerals),
    ],
)
async def test_failing_operation_undoes_the_whole_multi(
    stores: Any, failing: Any, error: type[Exception]
) -> None:
    store = await stores.connect()
    await store.create("/a", b"before")
    await store.create("/parent")
    await store.create("/parent/child", b"kept")
    await store.create("/e", ephemeral=True)
    before = await store.get_many(["/", "/a", "/parent", "/parent/child", "/e"])
    with pytest.raises(error) as raised:
        await store.multi(
            [
                Set("/a", b"after"),
                Create("/new", ephemeral=True),
                Create("/new2"),
                Delete("/parent/child"),
                Create("/parent/child2"),
                failing,
                Create("/never"),
            ]
        )
    assert raised.value.operation_index == 5  # type: ignore[attr-defined]
    assert await store.get_many(["/", "/a", "/parent", "/parent/child", "/e"]) == before
    assert await store.get_many(["/new", "/new2", "/never", "/parent/child2"]) == [None] * 4
    assert await store.children("/parent") == ["child"]


async def test_failed_multi_gives_its_sequence_number_to_the_next(stores: Any) -> None:
    store = await stores.connect()
    await store.create("/s")
    with pytest.raises(NoNode):
        await store.multi([Create("/s/n_", sequential=True), Check("/missing")])
    assert (await store.create("/s/n_", sequential=True)).path == "/s/n_0000000000"


async def test_two_conditional_writers_never_both_win(stores: Any) -> None:
    first, second = await stores.connect(), await stores.connect()
    await first.create("/a", b"0")
    outcomes = await asyncio.gather(
        first.set("/a", b"first", 0), second.set("/a", b"second", 0), return_exceptions=True
    )
    assert {type(outcome) for outcome in outcomes} == {Stat, BadVersion}
    winner = b"first" if isinstance(outcomes[0], Stat) else b"second"
    assert (await second.get("/a")).data == winner


# Watches


async def test_data_watch_fires_once_with_the_change(stores: Any) -> None:
    store, other = await stores.connect(), await stores.connect()
    events: list[WatchEvent] = []
    await store.create("/a")
    await store.get("/a", watch=events.append)
    await other.set("/a", b"1")
    await other.set("/a", b"2")
    await other.delete("/a")
    assert await store.exists("/a") is None
    assert events == [WatchEvent(EventType.DATA_CHANGED, "/a")]


async def test_exists_watch_sees_creation_deletion_and_change(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    await store.exists("/a", watch=events.append)
    await store.create("/a")
    await store.exists("/a", watch=events.append)
    await store.set("/a", b"1")
    await store.exists("/a", watch=events.append)
    await store.delete("/a")
    await store.exists("/a")
    assert [event.type for event in events] == [
        EventType.CREATED,
        EventType.DATA_CHANGED,
        EventType.DELETED,
    ]


async def test_children_watch_sees_creation_and_deletion_but_no_data(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    await store.create("/a")
    await store.children("/a", watch=events.append)
    await store.set("/a", b"data")
    assert events == []
    await store.create("/a/b")
    await store.children("/a", watch=events.append)
    await store.set("/a/b", b"data")
    await store.delete("/a/b")
    await store.children("/a", watch=events.append)
    await store.delete("/a")
    await store.exists("/a")
    assert events == [
        WatchEvent(EventType.CHILDREN_CHANGED, "/a"),
        WatchEvent(EventType.CHILDREN_CHANGED, "/a"),
        WatchEvent(EventType.DELETED, "/a"),
    ]


async def test_read_that_fails_leaves_no_watch(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    with pytest.raises(NoNode):
        await store.get("/a", watch=events.append)
    with pytest.raises(NoNode):
        await store.children("/a", watch=events.append)
    await store.create("/a")
    await store.create("/a/b")
    await store.exists("/a")
    assert events == []


async def test_same_watch_set_twice_fires_once(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    await store.create("/a")
    await store.get("/a", watch=events.append)
    await store.exists("/a", watch=events.append)
    await store.set("/a", b"1")
    await store.exists("/a")
    assert len(events) == 1


async def test_failed_multi_fires_no_watch_and_leaves_it_standing(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    await store.create("/a")
    await store.get("/a", watch=events.append)
    with pytest.raises(NoNode):
        await store.multi([Set("/a", b"1"), Check("/missing")])
    await store.exists("/a")
    assert events == []
    await store.set("/a", b"1")
    await store.exists("/a")
    assert len(events) == 1


async def test_event_comes_before_any_read_of_the_new_data(stores: Any) -> None:
    store, other = await stores.connect(), await stores.connect()
    await store.create("/a", b"0")
    seen: list[str] = []
    stop = False

    async def read_on() -> None:
        while not stop:
            seen.append((await store.get("/a")).data.decode())

    await store.get("/a", watch=lambda event: seen.append("event"))
    reader = asyncio.create_task(read_on())
    await delivered(lambda: len(seen) > 3)
    await other.set("/a", b"1")
    await delivered(lambda: "1" in seen)
    stop = True
    await reader
    assert set(seen[: seen.index("event")]) <= {"0"}
    assert "0" not in seen[seen.index("1") :]
    assert seen.index("event") < seen.index("1")


async def test_event_comes_before_the_writer_learns_of_its_change(stores: Any) -> None:
    store = await stores.connect()
    events: list[WatchEvent] = []
    await store.create("/a")
    await store.exists("/a", watch=events.append)
    await store.set("/a", b"1")
    assert len(events) == 1


async def test_expiry_fires_the_other_sessions_watches_only(stores: Any) -> None:
    mine, other = await stores.connect(), await stores.connect()
    my_events: list[WatchEvent] = []
    events: list[WatchEvent] = []
    await mine.create("/e", ephemeral=True)
    await mine.exists("/e", watch=my_events.append)
    await other.exists("/e", watch=events.append)
    await other.children("/", watch=events.append)
    await stores.expire(mine)
    assert await other.exists("/e") is None
    assert sorted(event.type.name for event in events) == ["CHILDREN_CHANGED", "DELETED"]
    assert my_events == []


async def test_calls_of_one_session_are_done_in_order(stores: Any) -> None:
    store = await stores.connect()
    results = await asyncio.gather(
        store.create("/a", b"0"),
        store.get("/a"),
        store.set("/a", b"1", 0),
        store.get("/a"),
        store.delete("/a", 1),
        store.exists("/a"),
    )
    assert results[1].data == b"0"
    assert results[3].data == b"1"
    assert results[5] is None


async def test_znode_times_are_the_stores_clocks(stores: Any) -> None:
    store = await stores.connect()
    created = (await store.create("/a")).stat
    if stores.clock is not None:  # else it is the servers' own, which goes on by itself
        stores.clock.advance(250)
    changed = await store.set("/a", b"1")
    assert changed.ctime_ms == created.ctime_ms == created.mtime_ms
    if stores.clock is not None:
        assert changed.mtime_ms == created.mtime_ms + 250
    assert changed.mtime_ms >= created.mtime_ms
