"""Records go from their file to the peer byte for byte, and every region is closed, whatever happens."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ottla.network.limits import NetworkLimits
from ottla.network.sending import PIECE_BYTES_MAX, SMALL_BYTES_MAX, THREAD_NAME, Helper

SIZES = [
    1,
    SMALL_BYTES_MAX - 1,
    SMALL_BYTES_MAX,
    PIECE_BYTES_MAX,
    2 * PIECE_BYTES_MAX + 12_345,
    6 * PIECE_BYTES_MAX,
]


@pytest.fixture(params=["by the loop", "by the thread"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of it holds whoever gives the regions to the socket; and the thread ends with the server."""
    by_thread = request.param == "by the thread"
    monkeypatch.setattr("ottla.network.sending.processors", lambda: 2)
    monkeypatch.setattr(Helper, "_is_another", lambda helper, who: by_thread)
    yield
    assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]


def records_of(response: Any) -> list[bytes]:
    return [bytes(partition.records) for partition in response.responses[0].partitions]


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_region_arrives_byte_for_byte(
    kit: Any, record_file: Path, size: int, resident: bool
) -> None:
    expected = record_file.read_bytes()[1001 : 1001 + size]

    async def main() -> None:
        async with kit.stage() as on:
            region = kit.Region(record_file, 1001, size, resident=resident)
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer(limit=2**16)
            peer.send(kit.fetch(), 4, 1)
            peer.send(kit.heartbeat(), 4, 2)
            assert records_of((await peer.response(1, 4))[1]) == [expected]
            assert (await peer.response(12, 4))[0] == 2
            assert region.closed

    kit.run(main())


def test_regions_and_bytes_alternate_in_one_answer(kit: Any, record_file: Path) -> None:
    data = record_file.read_bytes()

    async def main() -> None:
        async with kit.stage() as on:
            parts: list[Any] = [
                kit.Region(record_file, 8, 100),
                b"in memory",
                kit.Region(record_file, 0, 3_000_000),
                memoryview(b"y" * 200_000),
                kit.Region(record_file, 77, 150_000, resident=False),
                kit.Region(record_file, 4096, 2_000_000),
            ]
            on.broker.answers[1] = lambda request: kit.fetched(*parts)
            peer = await on.peer(limit=2**16)
            for number in range(2):
                peer.send(kit.fetch(), 4, number)
                if number:
                    break
                assert records_of((await peer.response(1, 4))[1]) == [
                    data[8:108],
                    b"in memory",
                    data[:3_000_000],
                    b"y" * 200_000,
                    data[77:150_077],
                    data[4096:2_004_096],
                ]
                assert [part.closed for part in parts if isinstance(part, kit.Region)] == [True] * 4
                parts[:] = [b"again"]
            assert records_of((await peer.response(1, 4))[1]) == [b"again"]

    kit.run(main())


def test_several_regions_make_up_one_partition(kit: Any, record_file: Path) -> None:
    data = record_file.read_bytes()

    async def main() -> None:
        async with kit.stage() as on:
            response = kit.fetched(b"")
            response.responses[0].partitions[0].records = [
                kit.Region(record_file, 0, 70_000),
                kit.Region(record_file, 100_000, 70_000),
            ]
            on.broker.answers[1] = lambda request: response
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            (records,) = records_of((await peer.response(1, 4))[1])
            assert records == data[:70_000] + data[100_000:170_000]

    kit.run(main())


def test_a_region_that_is_in_no_page_cache_is_read(kit: Any) -> None:
    class InMemory:
        closed = False

        def __len__(self) -> int:
            return 500_000

        def read(self, offset: int = 0, length: int | None = None) -> bytes:
            return (b"m" * 500_000)[offset:][:length]

        def read_resident(self, offset: int, buffer: memoryview) -> int:
            return 0

        def close(self) -> None:
            self.closed = True

    async def main() -> None:
        async with kit.stage() as on:
            region = InMemory()
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            assert records_of((await peer.response(1, 4))[1]) == [b"m" * 500_000]
            assert region.closed

    kit.run(main())


@pytest.mark.parametrize("size", [60_000, 700_000, 5_000_000])
def test_a_region_that_the_page_cache_holds_in_parts_arrives_whole(
    kit: Any, record_file: Path, size: int
) -> None:
    """Every other part is there, so that reads end within the region, and begin where nothing is at hand."""
    part = 40_000

    class Patchy(kit.Region):  # type: ignore[misc,name-defined]
        def read_resident(self, offset: int, buffer: memoryview) -> int:
            position = self.position + offset
            there = 0 if position // part % 2 else part - position % part
            return int(super().read_resident(offset, buffer[:there]))

    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=100_000)
        async with kit.stage(limits=limits) as on:
            on.broker.answers[1] = lambda request: kit.fetched(Patchy(record_file, 50, size))
            peer = await on.peer(limit=2**16)
            for number in range(2):
                peer.send(kit.fetch(), 4, number)
                assert records_of((await peer.response(1, 4))[1]) == [expected]

    expected = record_file.read_bytes()[50 : 50 + size]
    kit.run(main())


def test_where_the_system_has_no_writev_the_event_loop_writes(
    kit: Any, record_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ottla.network.outbox.writev", None)

    async def main() -> None:
        async with kit.stage() as on:
            on.broker.answers[1] = lambda request: kit.fetched(kit.Region(record_file, 5, size))
            peer = await on.peer(limit=2**16)
            peer.send(kit.fetch(), 4, 1)
            assert records_of((await peer.response(1, 4))[1]) == [expected]

    size = 3 * PIECE_BYTES_MAX
    expected = record_file.read_bytes()[5 : 5 + size]
    kit.run(main())


def test_an_answer_of_one_region_is_one_write(
    kit: Any, record_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands before the region and behind it had writes of their own, and woke the peer as often."""
    writes: list[int] = []

    def counted(descriptor: int, pieces: Any) -> int:
        written = os.writev(descriptor, pieces)
        writes.append(written)
        return written

    async def main() -> None:
        async with kit.stage() as on:
            region = kit.Region(record_file, 5, 100_000)
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer()
            peer.send(kit.fetch(), 12, 1)  # one that ends with tags
            size = int.from_bytes(await peer.reader.readexactly(4), "big")
            answer = await peer.reader.readexactly(size)
            assert data[5:100_005] in answer
            assert not answer.endswith(data[100_000:100_005])
            await kit.until(lambda: writes)
            assert writes == [size + 4]

    data = record_file.read_bytes()
    monkeypatch.setattr("ottla.network.outbox.writev", counted)
    kit.run(main())


@pytest.mark.parametrize("taken", [0, 3, 70, 100_060, -3, -1])
def test_what_a_socket_leaves_of_an_answer_follows(
    kit: Any, record_file: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """Wherever it stops: in what stands before the region, in that, or behind it (counted from the end)."""

    def partly(descriptor: int, pieces: Any) -> int:
        joined = b"".join(pieces)
        end = taken if taken >= 0 else len(joined) + taken
        if not end or len(joined) < end:
            raise BlockingIOError
        return os.write(descriptor, joined[:end])

    async def main() -> None:
        async with kit.stage() as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 5, 100_000), kit.Region(record_file, 1, 100_000)
            )
            peer = await on.peer(limit=2**16)
            for number in range(2):
                peer.send(kit.fetch(), 4, number)
                assert records_of((await peer.response(1, 4))[1]) == expected

    data = record_file.read_bytes()
    expected = [data[5:100_005], data[1:100_001]]
    monkeypatch.setattr("ottla.network.outbox.writev", partly)
    kit.run(main())


def test_connections_that_share_the_memory_for_regions_get_each_its_own_records(
    kit: Any, record_file: Path
) -> None:
    data = record_file.read_bytes()
    size = 2 * PIECE_BYTES_MAX

    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(socket_send_buffer_bytes=50_000)) as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 1000 * request.correlation_id, size)
            )
            peers = [await on.peer(limit=2**16) for _ in range(5)]
            for number, peer in enumerate(peers):
                peer.send(kit.fetch(), 4, number)
            answers = await asyncio.gather(*(peer.response(1, 4) for peer in peers))
            for number, (_, response) in enumerate(answers):
                assert records_of(response) == [data[1000 * number : 1000 * number + size]]

    kit.run(main())


def test_a_region_behind_bytes_that_the_peer_has_not_read_follows_them(
    kit: Any, record_file: Path
) -> None:
    data = record_file.read_bytes()[:1_000_000]

    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=100_000, write_buffer_bytes=5_000_000)
        async with kit.stage(limits=limits) as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                b"x" * 3_000_000, kit.Region(record_file, 0, 1_000_000)
            )
            peer = await on.peer(limit=2**16)
            peer.send(kit.fetch(), 4, 1)
            assert records_of((await peer.response(1, 4))[1]) == [b"x" * 3_000_000, data]
            (connection,) = on.server.connections.values()
            assert connection._transport.get_write_buffer_limits()[1] == 5_000_000

    kit.run(main())


def test_a_peer_that_hangs_up_before_a_region_leaves_no_stray_error(
    kit: Any, record_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(socket_send_buffer_bytes=20_000)) as on:
            region = kit.Region(record_file, 0, 1_000_000)
            on.broker.answers[1] = lambda request: kit.fetched(b"x" * 10_000_000, region)
            peer = await on.peer(limit=2**14)
            peer.send(kit.fetch(), 4, 1)
            await peer.reader.readexactly(100)
            peer.writer.transport.abort()
            await kit.until(lambda: not on.server.connections)
            await kit.until(lambda: region.closed)

    kit.run(main())
    assert [record for record in caplog.records if record.exc_info] == []


def test_nothing_is_read_for_a_peer_that_has_hung_up(
    kit: Any, record_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rest of the region was read and written to the dead transport, a line in the log for each piece."""

    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(socket_send_buffer_bytes=20_000)) as on:
            region = kit.Region(record_file, 0, 8 << 20)
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer(limit=2**14)
            peer.send(kit.fetch(), 4, 1)
            await peer.reader.readexactly(100)
            peer.writer.transport.abort()
            await kit.until(lambda: not on.server.connections)
            await kit.until(lambda: region.closed)

    kit.run(main())
    said = [record.getMessage() for record in caplog.records if record.name == "asyncio"]
    # The loop's debug mode also says which callback took long: on a busy machine, any.
    assert [line for line in said if not line.startswith("Executing ")] == []


@pytest.mark.parametrize("size", [100, 100_000, 3_000_000])
@pytest.mark.parametrize("resident", [True, False])
def test_a_file_that_is_shorter_than_promised_cuts_the_connection(
    kit: Any, record_file: Path, size: int, resident: bool
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            regions = [
                kit.Region(record_file, (8 << 20) - size + 1, size, resident=resident),
                kit.Region(record_file, 0, 1_000_000),
            ]
            on.broker.answers[1] = lambda request: kit.fetched(*regions)
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            assert len(await peer.hung_up()) < size + 100
            await kit.until(lambda: all(region.closed for region in regions))
            assert not on.server.connections

    kit.run(main())


@pytest.mark.parametrize("resident", [True, False])
def test_regions_are_closed_when_the_peer_leaves_in_the_middle(
    kit: Any, record_file: Path, resident: bool
) -> None:
    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=20_000, write_buffer_bytes=20_000)
        async with kit.stage(limits=limits) as on:
            regions = [kit.Region(record_file, 0, 4 << 20, resident=resident) for _ in range(3)]
            on.broker.answers[1] = lambda request: kit.fetched(*regions)
            peer = await on.peer(limit=2**14)
            peer.send(kit.fetch(), 4, 1)
            await peer.reader.readexactly(100)
            peer.writer.transport.abort()
            await kit.until(lambda: not on.server.connections)
            await kit.until(lambda: all(region.closed for region in regions))
            assert [region.closed for region in regions] == [True] * 3

    kit.run(main())


def test_a_peer_that_stalls_in_the_middle_of_a_region_is_cut_off(
    kit: Any, record_file: Path
) -> None:
    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=20_000, write_stall_ms=100)
        async with kit.stage(limits=limits) as on:
            region = kit.Region(record_file, 0, 8 << 20)
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer(limit=2**14)
            peer.send(kit.fetch(), 4, 1)
            await kit.until(lambda: on.broker.requests)
            await kit.until(lambda: not on.server.connections)
            assert region.closed

    kit.run(main())


def test_stopping_the_server_closes_the_regions_that_are_on_their_way(
    kit: Any, record_file: Path
) -> None:
    async def main() -> None:
        region = kit.Region(record_file, 0, 8 << 20)
        async with kit.stage(limits=NetworkLimits(socket_send_buffer_bytes=20_000)) as on:
            on.broker.answers[1] = lambda request: kit.fetched(region)
            peer = await on.peer(limit=2**14)
            peer.send(kit.fetch(), 4, 1)
            await kit.until(lambda: on.broker.requests)
        assert region.closed

    kit.run(main())


def test_regions_of_an_answer_that_comes_after_the_end_are_closed(
    kit: Any, record_file: Path
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            gate = asyncio.Event()
            regions = []

            async def late(request: Any) -> Any:
                await gate.wait()
                regions.append(kit.Region(record_file, 0, 1_000_000))
                return kit.fetched(regions[0])

            on.broker.answers[1] = late
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            await kit.until(lambda: on.broker.requests)
            await peer.close()
            await kit.until(lambda: not on.server.connections)
            gate.set()
            await kit.until(lambda: regions and regions[0].closed)
            assert len(regions) == 1

    kit.run(main())


def test_regions_of_an_answer_that_is_ready_when_the_peer_leaves_are_closed(
    kit: Any, record_file: Path
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            future = asyncio.get_running_loop().create_future()
            on.broker.answers[1] = lambda request: future
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 1)
            await kit.until(lambda: on.broker.requests)
            region = kit.Region(record_file, 0, 1_000_000)
            (connection,) = on.server.connections.values()
            future.set_result(kit.fetched(region))
            connection.abort("the test says so")
            await kit.until(lambda: not on.server.connections)
            await kit.until(lambda: region.closed)
            assert region.closed

    kit.run(main())


def test_a_slow_reader_of_a_large_region_costs_no_memory(kit: Any, record_file: Path) -> None:
    size = 3 * PIECE_BYTES_MAX
    expected = record_file.read_bytes()[:size]

    async def main() -> None:
        limits = NetworkLimits(socket_send_buffer_bytes=100_000, write_buffer_bytes=20_000)
        async with kit.stage(limits=limits) as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 0, size, resident=request.correlation_id == 1)
            )
            peer = await on.peer(limit=2**16)
            await kit.until(lambda: on.server.connections)
            (connection,) = on.server.connections.values()
            for number in (1, 2):
                peer.send(kit.fetch(), 4, number)
                left = int.from_bytes(await peer.reader.readexactly(4), "big")
                received = bytearray()
                while len(received) < left:
                    received += await peer.reader.read(left - len(received))
                    assert connection._transport.get_write_buffer_size() <= PIECE_BYTES_MAX + 20_000
                assert received[-len(expected) :] == expected

    kit.run(main())


def test_requests_that_come_while_a_region_is_on_its_way_wait(kit: Any, record_file: Path) -> None:
    async def main() -> None:
        async with kit.stage(limits=NetworkLimits(socket_send_buffer_bytes=100_000)) as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 0, 4 * PIECE_BYTES_MAX)
            )
            peer = await on.peer(limit=2**16)
            peer.send(kit.fetch(), 4, 0)
            await kit.until(lambda: on.broker.requests)
            for number in range(1, 41):
                peer.send(kit.produce(size=30_000), 9, number)
            await kit.until(lambda: len(on.broker.requests) == 1)
            assert (await peer.response(1, 4))[0] == 0
            for number in range(1, 41):
                assert (await peer.response(0, 9))[0] == number

    kit.run(main())


def test_regions_of_an_answer_are_closed_when_the_handler_hangs_up(
    kit: Any, record_file: Path
) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            region = kit.Region(record_file, 0, 1_000_000)

            def hang_up(request: Any) -> Any:
                request.connection.close("the test says so")
                return kit.fetched(region)

            on.broker.answers[1] = hang_up
            peer = await on.peer()
            peer.send(kit.fetch(), 4, 0)
            assert await peer.hung_up() == b""
            assert region.closed

    kit.run(main())


def test_no_descriptor_is_left_open(kit: Any, record_file: Path) -> None:
    async def main() -> None:
        async with kit.stage() as on:
            on.broker.answers[1] = lambda request: kit.fetched(
                kit.Region(record_file, 0, 500_000), kit.Region(record_file, 9, 50)
            )
            peer = await on.peer(limit=2**16)
            await kit.until(lambda: on.server.connections)
            before = len(os.listdir("/proc/self/fd"))
            for number in range(30):
                peer.send(kit.fetch(), 4, number)
                await peer.response(1, 4)
            assert len(os.listdir("/proc/self/fd")) == before

    kit.run(main())
