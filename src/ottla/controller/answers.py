"""What brokers answer to the controller's requests, and what follows from it, in its turn.

Rules: a request that ends without an answer, because it can't be carried out whoever sends it how often, is not
forgotten: replicas that were to be deleted count as not deleted, for the deletion's next attempt; whoever was to lead,
follow or know something is told everything again after a pause (invariant 30). Source:
``KafkaController.processLeaderAndIsrResponseReceived``, ``TopicDeletionStopReplicaResponseReceived``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ottla.controller.announcer import Announcer
from ottla.controller.cluster_state import ClusterState
from ottla.controller.control_queue import ControlRequest, ControlResponse
from ottla.controller.deletions import Deletions
from ottla.controller.later import Later
from ottla.controller.offline_replicas import OfflineReplicas
from ottla.errors import ErrorCode
from ottla.logs import logger
from ottla.messages.leader_and_isr import LeaderAndIsrRequest, LeaderAndIsrResponse
from ottla.messages.stop_replica import StopReplicaRequest, StopReplicaResponse

log = logger(__name__)

TELL_AGAIN_S = 5.0
"""Pause before a broker is told everything again that could not be told something."""

_STALE = (ErrorCode.STALE_CONTROLLER_EPOCH, ErrorCode.STALE_BROKER_EPOCH)

Happened = Callable[[Callable[[ClusterState], Awaitable[None]]], None]


class Answers:
    """Takes in what brokers answer, for whoever holds the controller's office."""

    def __init__(
        self,
        happened: Happened,
        *,
        announcer: Announcer,
        deletions: Deletions,
        offline: OfflineReplicas,
        moved: Callable[[], None],
        halted: Callable[[ClusterState], None],
    ) -> None:
        """``happened`` has something done in its turn. ``moved``: there may be another controller.

        ``halted`` sees to it that deletions go on that were not complete.
        """
        self._happened = happened
        self._announcer = announcer
        self._deletions = deletions
        self._offline = offline
        self._moved = moved
        self._halted = halted
        self._untold: set[int] = set()
        self._telling = Later(lambda: self._happened(self._tell_again))

    def take(
        self,
        state: ClusterState | None,
        broker_id: int,
        request: ControlRequest,
        response: ControlResponse | None,
    ) -> None:
        """A broker has answered, or (None) never will; ``state`` is the controller's, None out of office."""
        code = ErrorCode.NONE if response is None else ErrorCode(response.error_code)
        if code is ErrorCode.STALE_CONTROLLER_EPOCH:
            self._moved()  # somebody else holds it, and we have not heard
        if isinstance(request, StopReplicaRequest):
            assert response is None or isinstance(response, StopReplicaResponse)
            stop, answer = request, response
            self._happened(lambda now: self._stopped(now, broker_id, stop, answer))
            return
        if response is None or (code and code not in _STALE):
            self._untold.add(broker_id)
            self._telling.after(TELL_AGAIN_S)
        if isinstance(response, LeaderAndIsrResponse):
            assert isinstance(request, LeaderAndIsrRequest)
            epoch, heard = request.broker_epoch, response
            if state is None or self._offline.says_something(state, broker_id, heard):
                self._happened(lambda now: self._offline.answered(now, broker_id, epoch, heard))
        elif code:
            log.error("broker refused to know the cluster", broker=broker_id, code=code.name)

    def close(self) -> None:
        """Tell nobody anything again."""
        self._telling.cancel()

    async def _stopped(
        self,
        state: ClusterState,
        broker_id: int,
        request: StopReplicaRequest,
        response: StopReplicaResponse | None,
    ) -> None:
        await self._deletions.answered(state, broker_id, request, response)
        self._halted(state)

    async def _tell_again(self, state: ClusterState) -> None:
        untold = self._untold & state.brokers.keys()
        self._untold.clear()
        if untold:
            log.warning("brokers are told everything again", brokers=sorted(untold))
            self._announcer.meet(state)
            self._announcer.introduce(state, untold)
