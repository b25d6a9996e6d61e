"""The crowd's own process: ``python -m bench.peers.crowd_process PORT TOPIC MEMBERS IDLE``.

It prints ``ready`` once all members are in one generation and the idle connections are there, and ends when its input
does: 0 if every Heartbeat and every commit was answered well. Then all members leave.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct
import sys
import time
from typing import Any

from bench.broker_process import Connection, Frame, require_no_error
from ottla.errors import ErrorCode
from ottla.messages.api_versions import ApiVersionsRequest
from ottla.messages.find_coordinator import FindCoordinatorRequest
from ottla.messages.heartbeat import HeartbeatRequest
from ottla.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol
from ottla.messages.leave_group import LeaveGroupRequest, MemberIdentity
from ottla.messages.offset_commit import (
    OffsetCommitRequest,
    OffsetCommitRequestPartition,
    OffsetCommitRequestTopic,
)
from ottla.messages.registry import decode_response
from ottla.messages.sync_group import SyncGroupRequest

GROUP = "bench-crowd"
HEARTBEAT_S = 3.0
COMMIT_S = 5.0
SESSION_MS = 45_000
VERSIONS = {8: 7, 11: 3, 12: 3, 13: 3, 14: 3}
"""By key: versions without tagged fields, that every peer takes, and that let a member in with one JoinGroup."""
RETRIABLE = {ErrorCode.COORDINATOR_NOT_AVAILABLE, ErrorCode.COORDINATOR_LOAD_IN_PROGRESS}
AGAIN = {ErrorCode.REBALANCE_IN_PROGRESS, ErrorCode.ILLEGAL_GENERATION}
AGAIN_S = 0.1


class Member:
    """One member of the group, on a connection of its own."""

    def __init__(self, index: int, port: int, topic: str) -> None:
        self._port = port
        self._topic = topic
        self._index = index
        self.id = ""
        self.generation = -1
        self.errors: list[int] = []

    async def connect(self) -> None:
        """Open the connection."""
        self._in, self._out = await asyncio.open_connection("127.0.0.1", self._port)

    async def ask(self, request: Any) -> Any:
        """One request, answered."""
        frame = Frame(request, VERSIONS[type(request).__api_key__])
        self._out.write(frame.bytes)
        size = int.from_bytes(await self._in.readexactly(4), "big")
        return decode_response(frame.key, frame.version, await self._in.readexactly(size))

    async def join(self) -> None:
        """Be in a generation."""
        while True:
            joined = await self.ask(
                JoinGroupRequest(
                    group_id=GROUP,
                    session_timeout_ms=SESSION_MS,
                    rebalance_timeout_ms=60_000,
                    member_id=self.id,
                    protocol_type="consumer",
                    protocols=[JoinGroupRequestProtocol(name="range", metadata=b"")],
                )
            )
            if joined.error_code in RETRIABLE:
                await asyncio.sleep(AGAIN_S)
                continue
            require_no_error(joined.error_code)
            self.id, self.generation = joined.member_id, joined.generation_id
            synced = await self.ask(
                SyncGroupRequest(
                    group_id=GROUP, generation_id=self.generation, member_id=self.id, assignments=[]
                )
            )
            if synced.error_code not in AGAIN:
                require_no_error(synced.error_code)
                return

    async def live(self) -> None:
        """Say so, and commit, until cancelled; those of a group are spread over the interval."""
        await asyncio.gather(self._beat(), self._commit())

    async def _beat(self) -> None:
        await asyncio.sleep(HEARTBEAT_S * (self._index % 97) / 97)
        while True:
            request = HeartbeatRequest(
                group_id=GROUP, generation_id=self.generation, member_id=self.id
            )
            self._note((await self._alone(request)).error_code)
            await asyncio.sleep(HEARTBEAT_S)

    async def _commit(self) -> None:
        await asyncio.sleep(COMMIT_S * (self._index % 89) / 89)
        while True:
            offset = OffsetCommitRequestPartition(partition_index=0, committed_offset=0)
            request = OffsetCommitRequest(
                group_id=GROUP,
                generation_id_or_member_epoch=self.generation,
                member_id=self.id,
                topics=[OffsetCommitRequestTopic(name=self._topic, partitions=[offset])],
            )
            answer = await self._alone(request)
            self._note(answer.topics[0].partitions[0].error_code)
            await asyncio.sleep(COMMIT_S)

    async def _alone(self, request: Any) -> Any:
        async with self._lock:
            return await self.ask(request)

    def begin(self) -> asyncio.Task[None]:
        """Live in a task."""
        self._lock = asyncio.Lock()
        return asyncio.create_task(self.live())

    def _note(self, code: int) -> None:
        if code:
            self.errors.append(code)


def idle_connections(port: int, count: int) -> list[socket.socket]:
    """So many, each of which has been answered once. Closing them leaves nothing to wait for."""
    hello = Frame(ApiVersionsRequest(), 0)
    found = []
    for _ in range(count):
        connection = Connection(port)
        connection.ask(hello)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        found.append(connection.socket)
    return found


def await_coordinator(port: int) -> None:
    """Return once the group has one."""
    connection = Connection(port)
    frame = Frame(FindCoordinatorRequest(key=GROUP, key_type=0), 2)
    while connection.answer(frame).error_code:
        time.sleep(AGAIN_S)
    connection.close()


async def main(port: int, topic: str, count: int, idle: int) -> int:
    """Live until the input ends; 1 if there were errors among the answers, else 0."""
    os.nice(10)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    await_coordinator(port)
    kept = idle_connections(port, idle)
    members = [Member(index, port, topic) for index in range(count)]
    for member in members:
        await member.connect()
    await asyncio.gather(*(member.join() for member in members))
    while any(member.generation != members[0].generation for member in members):
        await asyncio.gather(*(member.join() for member in members))
    living = [member.begin() for member in members]
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in living:
        task.cancel()
    await asyncio.gather(*living, return_exceptions=True)
    connection = Connection(port)
    leaving = [MemberIdentity(member_id=member.id) for member in members]
    frame = Frame(LeaveGroupRequest(group_id=GROUP, members=leaving), VERSIONS[13])
    require_no_error(connection.answer(frame).error_code)
    failed = [code for member in members for code in member.errors]
    if failed:
        print(f"{len(failed)} answers with errors, first {failed[0]}", file=sys.stderr)
    del kept
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
