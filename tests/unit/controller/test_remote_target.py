"""A broker in another process: what goes over the wire to it, and what becomes of a connection that breaks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ottla.controller import control_queue, remote_target
from ottla.controller.control_queue import ControlQueue
from ottla.controller.remote_target import RemoteTarget
from ottla.messages.leader_and_isr import (
    LeaderAndIsrPartitionState,
    LeaderAndIsrRequest,
    LeaderAndIsrResponse,
    LeaderAndIsrTopicState,
)
from ottla.messages.registry import api, decode_request_header, encode_response
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse
from ottla.messages.update_metadata import UpdateMetadataRequest, UpdateMetadataResponse
from ottla.wire.compiler import decode
from tests.support.waiting import become

RESPONSES: dict[int, Any] = {
    4: LeaderAndIsrResponse(),
    5: StopReplicaResponse(),
    6: UpdateMetadataResponse(),
}


class Peer:
    """A broker's listener: answers, hangs up or says nothing, as it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, Any]] = []
        self.moods: list[str] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server

    async def __aenter__(self) -> Peer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                frame = memoryview(await reader.readexactly(size))
                header, position = decode_request_header(frame)
                kind = api(header.api_key).request
                body, _ = decode(kind, header.api_version, frame, position)
                self.asked.append((header.api_key, header.api_version, body))
                mood = self.moods.pop(0) if self.moods else "answers"
                if mood == "hangs up":
                    return
                if mood == "says nothing":
                    await reader.read()
                    return
                response = encode_response(
                    header.api_key,
                    header.api_version,
                    header.correlation_id,
                    RESPONSES[header.api_key],
                )
                data = b"".join(bytes(chunk) for chunk in response)
                writer.write(len(data).to_bytes(4, "big") + data)
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()


def lead(epoch: int) -> LeaderAndIsrRequest:
    state = LeaderAndIsrPartitionState(partition_index=3, leader=7, leader_epoch=epoch)
    return LeaderAndIsrRequest(
        controller_epoch=5,
        topic_states=[
            LeaderAndIsrTopicState(
                topic_name="t", topic_id=bytes(range(16)), partition_states=[state]
            )
        ],
    )


async def test_requests_are_of_the_versions_that_kafka_3_9_sends() -> None:
    async with Peer() as peer:
        target = RemoteTarget("127.0.0.1", peer.port)
        assert isinstance(await target.leader_and_isr(lead(1)), LeaderAndIsrResponse)
        assert isinstance(await target.stop_replica(StopReplicaRequest()), StopReplicaResponse)
        update = UpdateMetadataRequest(type=2)
        assert isinstance(await target.update_metadata(update), UpdateMetadataResponse)
        target.close()
    assert [(key, version) for key, version, _ in peer.asked] == [(4, 7), (5, 4), (6, 8)]
    assert peer.asked[0][2] == lead(1)
    assert peer.asked[2][2].type == 2
    assert peer.connections == 1


async def test_request_without_an_answer_is_sent_again_over_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(control_queue, "RETRY_DELAY_S", 0.001)
    monkeypatch.setattr(remote_target, "REQUEST_TIMEOUT_S", 0.05)
    async with Peer() as peer:
        peer.moods = ["hangs up", "says nothing", "answers"]
        target = RemoteTarget("127.0.0.1", peer.port)
        queue = ControlQueue(7, 1, target, lambda *_: None, release=target.close)
        answer = queue.put(lead(1))
        queue.put(StopReplicaRequest())
        assert isinstance(await answer, LeaderAndIsrResponse)
        await queue.idle()
        queue.close()
    assert [key for key, _, _ in peer.asked] == [4, 4, 4, 5]
    assert [body for _, _, body in peer.asked][:3] == [lead(1)] * 3
    assert peer.connections == 3


async def test_broker_that_listens_later_is_told_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_queue, "RETRY_DELAY_S", 0.001)
    tries: list[int] = []

    async def connect(host: str, port: int) -> Any:
        tries.append(port)
        if len(tries) < 3:
            raise ConnectionRefusedError("nobody there yet")
        return await remote_target.connect_plainly(host, port)

    async with Peer() as peer:
        target = RemoteTarget("127.0.0.1", peer.port, connect)
        queue = ControlQueue(7, 1, target, lambda *_: None, release=target.close)
        assert await queue.put(lead(1)) is not None
        queue.close()
    assert len(tries) == 3


async def test_closed_queue_lets_go_of_a_broker_that_says_nothing() -> None:
    async with Peer() as peer:
        peer.moods = ["says nothing"]
        target = RemoteTarget("127.0.0.1", peer.port)
        queue = ControlQueue(7, 1, target, lambda *_: None, release=target.close)
        answer = queue.put(lead(1))
        await become(lambda: len(peer.asked) == 1)
        queue.close()
        assert await answer is None
        await queue.idle()
