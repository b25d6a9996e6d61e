"""What the embedded store promises beyond the contract: durability, shared commits, clear failures."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from ottla.coordination.embedded import IN_MEMORY, EmbeddedStore, Keeper
from ottla.coordination.sqlite_file import DiskFull, SqliteFile, StoreFileError
from ottla.coordination.store import BadVersion, ConnectionLoss, Create, Set, StoreError, WatchEvent
from ottla.coordination.tree import Changes, Row, Tree


async def opened(path: Path, *initial: Create) -> tuple[Keeper, EmbeddedStore]:
    keeper = await Keeper.open(path, initial=initial)
    return keeper, await keeper.connect()


def copy_files(source: Path, target: Path) -> None:
    for file in source.glob("store.sqlite*"):
        shutil.copy(file, target / file.name)


class Commits:
    """Watches the file's commits, and may let some of them fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[Changes] = []
        self.failures: list[Exception] = []
        real = SqliteFile.commit

        def commit(file: SqliteFile, changes: Changes) -> None:
            if self.failures:
                raise self.failures.pop(0)
            real(file, changes)
            self.done.append(changes)

        monkeypatch.setattr(SqliteFile, "commit", commit)


async def test_durable_znodes_survive_a_restart_with_their_stats(tmp_path: Path) -> None:
    keeper, store = await opened(tmp_path / "store.sqlite")
    await store.create("/a", b"1")
    await store.create("/a/b", bytes(range(256)))
    await store.create("/a/c")
    await store.set("/a", b"2")
    await store.delete("/a/c")
    before = await store.get_many(["/", "/a", "/a/b"])
    await keeper.close()

    keeper, store = await opened(tmp_path / "store.sqlite")
    after = await store.get_many(["/", "/a", "/a/b"])
    pzxid = after[1].stat.pzxid if after[1] else 0  # a deletion's pzxid is kept as well
    assert after == before
    assert before[1] is not None
    assert pzxid == before[1].stat.pzxid
    assert await store.children("/a") == ["b"]
    await keeper.close()


async def test_answered_change_is_in_the_file_without_a_clean_close(tmp_path: Path) -> None:
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/initial", b"0"))
    await store.create("/a", b"1")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    copy_files(tmp_path, crashed)
    after, other = await opened(crashed / "store.sqlite")
    assert (await other.get("/initial")).data == b"0"
    assert (await other.get("/a")).data == b"1"
    await after.close()
    await keeper.close()


async def test_ephemeral_znodes_do_not_survive_and_cost_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/ids"))
    await store.create("/ids/1", ephemeral=True)
    assert commits.done == []
    await keeper.close()
    keeper, store = await opened(tmp_path / "store.sqlite")
    assert await store.children("/ids") == []
    await keeper.close()


async def test_no_zxid_is_given_out_in_two_lives(tmp_path: Path) -> None:
    czxids: list[int] = []
    for _ in range(3):
        keeper, store = await opened(tmp_path / "store.sqlite", Create("/ids"))
        created = await store.create("/ids/1", ephemeral=True)
        czxids.append(created.stat.czxid)
        await keeper.close()
    assert czxids == sorted(set(czxids))


async def test_sequence_numbers_of_ephemerals_go_on_after_a_restart(tmp_path: Path) -> None:
    paths: list[str] = []
    for _ in range(2):
        keeper, store = await opened(tmp_path / "store.sqlite", Create("/s"))
        paths.append((await store.create("/s/n_", ephemeral=True, sequential=True)).path)
        await keeper.close()
    assert paths == ["/s/n_0000000000", "/s/n_0000000001"]


async def test_durable_znode_replaced_by_an_ephemeral_one_is_gone_after_a_restart(
    tmp_path: Path,
) -> None:
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a"))
    await asyncio.gather(store.delete("/a"), store.create("/a", b"e", ephemeral=True))
    assert (await store.get("/a")).data == b"e"
    await keeper.close()
    keeper, store = await opened(tmp_path / "store.sqlite")
    assert await store.exists("/a") is None
    await keeper.close()


async def test_changes_that_wait_together_share_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a", b"0"))
    outcomes = await asyncio.gather(
        *(store.create(f"/{index}") for index in range(50)),
        store.set("/a", b"1", 0),
        store.set("/a", b"2", 0),
        return_exceptions=True,
    )
    assert isinstance(outcomes[-1], BadVersion)
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 1
    assert len(commits.done) == 1
    await keeper.close()


async def test_nothing_of_a_batch_is_answered_before_it_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a", b"0"))
    answered: list[str] = []

    async def note(name: str, call: object) -> None:
        await call  # type: ignore[misc]
        answered.append(f"{name} after {len(commits.done)} commits")

    await store.get("/a", watch=lambda event: answered.append("event"))
    await asyncio.gather(
        note("early read", store.get("/a")),
        note("set", store.set("/a", b"1")),
        note("late read", store.get("/a")),
    )
    assert answered == [
        "early read after 1 commits",
        "event",
        "set after 1 commits",
        "late read after 1 commits",
    ]
    await keeper.close()


async def test_full_disk_fails_the_batch_and_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    failed: list[BaseException] = []
    keeper = await Keeper.open(
        tmp_path / "store.sqlite", initial=[Create("/a", b"0")], on_failure=failed.append
    )
    store = await keeper.connect()
    events: list[WatchEvent] = []
    await store.get("/a", watch=events.append)
    before = await store.get_many(["/", "/a"])
    commits.failures.append(DiskFull("no room"))
    outcomes = await asyncio.gather(
        store.set("/a", b"1"),
        store.create("/b"),
        store.create("/e", ephemeral=True),
        return_exceptions=True,
    )
    assert {type(outcome) for outcome in outcomes} == {ConnectionLoss}
    assert await store.get_many(["/", "/a", "/b", "/e"]) == [*before, None, None]
    assert events == []
    assert failed == []

    await store.set("/a", b"2")  # there is room again
    assert len(events) == 1
    await keeper.close()
    keeper, store = await opened(tmp_path / "store.sqlite")
    assert (await store.get("/a")).data == b"2"
    await keeper.close()


async def test_session_that_ends_during_a_failing_commit_still_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    keeper, store = await opened(tmp_path / "store.sqlite")
    other = await keeper.connect()
    await store.create("/e", ephemeral=True)
    commits.failures.append(DiskFull("no room"))
    outcomes = await asyncio.gather(
        other.create("/a"), store.close(), other.exists("/e"), return_exceptions=True
    )
    assert isinstance(outcomes[0], ConnectionLoss)
    assert outcomes[1:] == [None, None]
    await keeper.close()


async def test_failed_commit_ends_the_store_and_tells_the_broker_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = Commits(monkeypatch)
    failed: list[BaseException] = []
    keeper = await Keeper.open(tmp_path / "store.sqlite", on_failure=failed.append)
    store = await keeper.connect()
    commits.failures.append(sqlite3.OperationalError("disk I/O error"))
    with pytest.raises(ConnectionLoss):
        await store.create("/a")
    for call in (store.create("/a"), store.get("/")):
        with pytest.raises(ConnectionLoss):
            await call
    with pytest.raises(ConnectionLoss):
        await keeper.connect()
    assert len(failed) == 1
    assert commits.done == []
    await keeper.close()


async def test_file_without_room_is_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    keeper, store = await opened(path)
    file = keeper._file
    assert file is not None
    file._connection.execute("PRAGMA max_page_count = 8")
    with pytest.raises(ConnectionLoss):
        await store.create("/big", bytes(100_000))
    file._connection.execute("PRAGMA max_page_count = 1000")
    await store.create("/big", bytes(100_000))
    await keeper.close()


async def test_second_opener_learns_that_the_file_is_in_use(tmp_path: Path) -> None:
    keeper, _ = await opened(tmp_path / "store.sqlite")
    with pytest.raises(StoreFileError, match="in use by another process"):
        await Keeper.open(tmp_path / "store.sqlite")
    await keeper.close()


@pytest.mark.parametrize(
    ("contents", "message"), [(b"garbage" * 1000, "is damaged"), (b"", "no store of ours")]
)
async def test_file_that_is_no_store_is_refused(
    tmp_path: Path, contents: bytes, message: str
) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(contents)
    with pytest.raises(StoreFileError, match=message):
        await Keeper.open(path)
    assert path.read_bytes() == contents


async def test_damaged_pages_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    keeper, _ = await opened(path, *(Create(f"/{n}", bytes(2000)) for n in range(50)))
    await keeper.close()
    contents = bytearray(path.read_bytes())
    contents[4096:] = b"\xa5" * (len(contents) - 4096)
    path.write_bytes(contents)
    with pytest.raises(StoreFileError, match="is damaged"):
        await Keeper.open(path)


async def test_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    keeper, _ = await opened(path)
    await keeper.close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()
    with pytest.raises(StoreFileError, match="has format 2"):
        await Keeper.open(path)


async def test_directory_that_is_missing_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StoreFileError, match="can't be opened"):
        await Keeper.open(tmp_path / "missing" / "store.sqlite")


async def test_write_ahead_log_without_its_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite-wal").write_bytes(b"left over")
    with pytest.raises(StoreFileError, match="itself is missing"):
        await Keeper.open(tmp_path / "store.sqlite")


def test_write_ahead_log_does_not_grow_from_crash_to_crash(tmp_path: Path) -> None:
    path = tmp_path / "0" / "store.sqlite"
    path.parent.mkdir()
    SqliteFile.create(path, [], 1).close()
    sizes = []
    for life in range(1, 13):
        file, rows, _ = SqliteFile.open(path)
        assert len(rows) == 4 * (life - 1)
        for number in range(4):
            row = Row(f"/{life}-{number}", bytes(200_000), 1, 1, 1, 1, 1, 1, 1)
            file.commit(Changes([row], []))
        crashed = tmp_path / str(life)
        crashed.mkdir()
        copy_files(path.parent, crashed)
        file.close()
        path = crashed / "store.sqlite"
        sizes.append(Path(f"{path}-wal").stat().st_size)
    assert max(sizes) < 6_000_000
    assert sizes[-1] == sizes[-2]  # what is there is used again


async def test_creation_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite.new").write_bytes(b"half a file")
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a", b"1"))
    assert (await store.get("/a")).data == b"1"
    await keeper.close()
    assert os.listdir(tmp_path) == ["store.sqlite"]


async def test_initial_znodes_are_for_a_new_store_only(tmp_path: Path) -> None:
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a", b"first"))
    await store.set("/a", b"changed")
    await keeper.close()
    keeper, store = await opened(tmp_path / "store.sqlite", Create("/a", b"second"))
    assert (await store.get("/a")).data == b"changed"
    await keeper.close()


async def test_many_changes_fold_the_write_ahead_log_into_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    keeper, store = await opened(path, Create("/a"))
    for _ in range(3):
        await store.multi([Set("/a", bytes(100)), *(Create("/a/n", b"x", False, True),) * 2000])
    assert path.stat().st_size > 100_000  # before the close
    await keeper.close()
    keeper, store = await opened(path)
    assert len(await store.children("/a")) == 6000
    await keeper.close()


async def test_close_fails_what_waits_and_may_be_repeated(tmp_path: Path) -> None:
    keeper, store = await opened(tmp_path / "store.sqlite")
    waiting = asyncio.gather(store.create("/a"), store.create("/b"), return_exceptions=True)
    await keeper.close()
    await keeper.close()
    assert all(outcome is None or isinstance(outcome, StoreError) for outcome in await waiting)
    with pytest.raises(StoreError):
        await store.create("/c")


async def test_cancelled_caller_does_not_disturb_the_others() -> None:
    keeper = await Keeper.open(IN_MEMORY)
    store = await keeper.connect()
    first = asyncio.ensure_future(store.create("/a"))
    second = asyncio.ensure_future(store.create("/b"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).path == "/b"
    assert (await store.exists("/a")) is not None  # it was on its way
    await keeper.close()


def test_orphan_rows_are_refused() -> None:
    tree = Tree()
    session_id = tree.open_session()
    tree.write(session_id, [Create("/a"), Create("/a/b")], 0)
    changes = tree.changes()
    assert changes is not None
    orphans = [row for row in changes.upserts if row.path != "/a"]
    with pytest.raises(ValueError, match="no parent"):
        Tree(orphans)
