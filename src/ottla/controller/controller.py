"""The controller: elected through the store, it alone changes topics, leaders and settings.

Rules: everything happens in turn, on one queue; a caller that gives up does not stop what it asked for.
Every write is conditional on the controller epoch and on the version of what it changes. Brokers are told through
queues of their own, so that a slow one holds up nobody; what they answer comes back onto the queue. Whoever is not
in office answers NOT_CONTROLLER and waits for the office to fall vacant. After a write whose outcome is unknown
the state is read again before anything else. The broker registers itself before its controller starts.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar

from ottla.clock import Clock, SystemClock
from ottla.controller.announcer import Announcer, Reach
from ottla.controller.answers import Answers
from ottla.controller.balancing import Balancing, LeaderBalance
from ottla.controller.broker_changes import BrokerChanges
from ottla.controller.cluster_state import ClusterState
from ottla.controller.config_changes import ConfigChanges
from ottla.controller.configs import ConfigAlteration, ConfigResult, read_config
from ottla.controller.control_queue import ControlRequest, ControlResponse, ControlTarget
from ottla.controller.deletions import Deletions
from ottla.controller.isr_changes import IsrChanges, IsrRequest
from ottla.controller.isr_notices import IsrNotices
from ottla.controller.later import Later
from ottla.controller.leader_changes import LeaderChanges
from ottla.controller.office import (
    ControllerMoved,
    give_up_office,
    load_cluster,
    look_at_unreadable,
    run_for_office,
)
from ottla.controller.offline_replicas import OfflineReplicas
from ottla.controller.producer_ids import ProducerIdBlocks
from ottla.controller.reassignments import Reassignments
from ottla.controller.refusals import not_controller
from ottla.controller.registrations import Registrations
from ottla.controller.remote_target import RemoteTarget
from ottla.controller.second_look import SecondLook
from ottla.controller.shutdown import ControlledShutdown
from ottla.controller.taking_office import TakingOffice
from ottla.controller.topic_changes import TopicChanges, TopicDefaults
from ottla.controller.topics import NewPartitions, NewTopic, TopicResult, TopicRules
from ottla.controller.work_queue import WorkQueue
from ottla.coordination import znodes
from ottla.coordination.store import (
    BadVersion,
    NodeExists,
    NoNode,
    SessionExpired,
    SessionState,
    Store,
    StoreError,
    Watch,
    WatchEvent,
)
from ottla.errors import ErrorCode, KafkaError
from ottla.logs import logger
from ottla.messages.allocate_producer_ids import (
    AllocateProducerIdsRequest,
    AllocateProducerIdsResponse,
)
from ottla.messages.alter_partition import AlterPartitionRequest, AlterPartitionResponse
from ottla.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)
from ottla.messages.controlled_shutdown import (
    ControlledShutdownRequest,
    ControlledShutdownResponse,
)
from ottla.messages.elect_leaders import ElectLeadersRequest, ElectLeadersResponse
from ottla.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

log = logger(__name__)

_ATTEMPTS_MAX = 5
"""How often the state is read anew against writers other than the controller before that is an error."""

DELETION_RETRY_S = 30.0
"""Pause before deletions are gone on with that a broker, or the store, could not carry out."""

BALANCE_FIRST_S = 5.0
"""When a new controller looks at the leaders' balance for the first time."""

_T = TypeVar("_T")


class Controller:
    """Runs for the office, and answers the brokers' administrative requests while it holds it."""

    def __init__(
        self,
        store: Store,
        broker_id: int,
        targets: Mapping[int, ControlTarget],
        *,
        rules: TopicRules,
        defaults: TopicDefaults | None = None,
        listener: str = "PLAINTEXT",
        clock: Clock | None = None,
        random_index: Callable[[int], int] | None = None,
        reach: Reach = RemoteTarget,
        balance: Callable[[], LeaderBalance] = LeaderBalance,
    ) -> None:
        """``targets`` are the brokers in this process, by id; the others are reached at ``listener``.

        ``balance`` are the settings of the leaders' balance as they are now.
        """
        self._store = store
        self._broker_id = broker_id
        self._clock = clock or SystemClock()
        self._queue = WorkQueue(self._on_moved, self._on_failure)
        self._announcer = Announcer(targets, listener, self._answered, reach)
        self._leaders = LeaderChanges(store, self._announcer, rules)
        self._deletions = Deletions(store, self._announcer)
        self._brokers = BrokerChanges(store, self._announcer, self._leaders, self._deletions)
        self._taking_office = TakingOffice(
            self._announcer, self._leaders, self._brokers, self._deletions
        )
        self._offline = OfflineReplicas(store, self._announcer, self._leaders)
        self._answers = self._take_answers()
        self._topics = TopicChanges(
            store,
            self._announcer,
            rules,
            defaults or TopicDefaults(),
            random_index or _random_index,
            self._deletions,
        )
        self._isrs = IsrChanges(store, self._announcer)
        self._isr_notices = IsrNotices(store, self._announcer)
        self._isr_requests: list[IsrRequest] = []
        self._shutdown = ControlledShutdown(self._announcer, self._leaders)
        self._balancing = Balancing(store, self._announcer, self._leaders)
        self._balance = balance
        self._balance_later = Later(lambda: self._happened(self._rebalance))
        self._reassignments = Reassignments(store, self._announcer, self._leaders)
        self._configs = ConfigChanges(store)
        self._producer_ids = ProducerIdBlocks(store)
        self._state: ClusterState | None = None
        self._resumption = Later(lambda: self._happened(self._resume_deletions))
        self._second_look = SecondLook(self._look_at_office)
        self._registrations = Registrations(store, lambda: self._happened(self._check_brokers))
        self._events: set[Callable[[ClusterState], Awaitable[None]]] = set()
        self._watches: dict[Callable[[ClusterState], Awaitable[None]], Watch] = {}

    def _take_answers(self) -> Answers:
        return Answers(
            self._happened,
            announcer=self._announcer,
            deletions=self._deletions,
            offline=self._offline,
            moved=self._look_at_office,
            halted=self._resume_later,
        )

    @property
    def is_active(self) -> bool:
        """Whether this broker is the controller."""
        return self._state is not None

    @property
    def state(self) -> ClusterState | None:
        """The controller's picture of the cluster, to look at; None where it is not in office."""
        return self._state

    async def start(self) -> bool:
        """Run for the office and, if elected, bring the brokers up to date: this one itself is then, the others are told.

        Whether we were; where that can't be told now, it is looked at again in a while. Raises what keeps a broker
        from it that has its store to itself: there is nobody else.
        """
        self._store.on_state(self._on_session_state)
        try:
            await self._check_office()
        except ControllerMoved:
            self._on_moved()
        except Exception as error:
            if self._store.session_timeout_ms is None:
                raise
            self._on_failure(error)
        self._queue.start()
        for _ in range(2):  # what this broker answered, and what it was told because of that
            await self._announcer.idle(self._broker_id)
            await self._queue.settle()
        return self.is_active

    async def close(self) -> None:
        """Leave office; what is under way is dropped, to be made good by the next controller."""
        await self._queue.close()
        for later in (self._resumption, self._balance_later, self._second_look):
            later.cancel()
        self._answers.close()
        self._resign()

    # What brokers ask for

    async def create_topics(
        self, topics: Iterable[NewTopic], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Create topics, or only say whether they could be. A result each; raises NOT_CONTROLLER.

        Answered once the new leaders lead, or did not say so within some seconds.
        """
        wanted = list(topics)
        results, told = await self._in_office(
            lambda state: self._topics.create(state, wanted, validate_only)
        )
        await told.settle()
        return results

    async def delete_topics(
        self, names: Iterable[str], *, ids: Mapping[str, bytes] | None = None
    ) -> list[TopicResult]:
        """Delete topics with all their records. A result each; raises NOT_CONTROLLER.

        A topic of which ``ids`` has the id is deleted only if it still has it when its turn comes.
        REQUEST_TIMED_OUT where a replica can't be deleted now, and the deletion goes on later.
        """
        wanted, known_ids = list(names), dict(ids or {})
        refused, ended = await self._in_office(
            lambda state: self._topics.delete(state, wanted, known_ids)
        )
        results: list[TopicResult] = []
        for name in wanted:
            if name in refused:
                results.append(refused[name])
            elif await asyncio.shield(ended[name]):
                results.append(TopicResult(name))
            else:
                error = KafkaError(
                    ErrorCode.REQUEST_TIMED_OUT, f"The deletion of topic '{name}' goes on later."
                )
                results.append(TopicResult.refused(name, error))
        if self._state is not None:
            self._resume_later(self._state)
        return results

    async def create_partitions(
        self, topics: Iterable[NewPartitions], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Add partitions to topics. A result each; raises NOT_CONTROLLER."""
        wanted = list(topics)
        results, told = await self._in_office(
            lambda state: self._topics.add_partitions(state, wanted, validate_only)
        )
        await told.settle()
        return results

    async def alter_configs(
        self, alterations: Iterable[ConfigAlteration], *, validate_only: bool = False
    ) -> list[ConfigResult]:
        """Alter settings of topics, brokers and subscriptions. A result each; raises NOT_CONTROLLER."""
        wanted = list(alterations)
        return await self._in_office(
            lambda state: self._configs.alter(state, wanted, validate_only)
        )

    async def allocate_producer_id_block(self, broker_id: int | None = None) -> tuple[int, int]:
        """The first and the number of producer ids that are the broker's alone, for good."""
        owner = self._broker_id if broker_id is None else broker_id
        return await self._in_office(lambda state: self._producer_ids.allocate(state, owner))

    async def alter_partition(self, request: AlterPartitionRequest) -> AlterPartitionResponse:
        """Alter ISRs as their leader asks. Requests that wait together are written together."""
        waiting = IsrRequest(request)
        self._isr_requests.append(waiting)
        try:
            await self._in_office(self._alter_partitions)  # perhaps those before it have done it
        except KafkaError as error:
            return AlterPartitionResponse(error_code=error.code)
        finally:
            if waiting in self._isr_requests:
                self._isr_requests.remove(waiting)
        unknown = AlterPartitionResponse(error_code=ErrorCode.REQUEST_TIMED_OUT)
        return waiting.response or unknown

    async def _alter_partitions(self, state: ClusterState) -> None:
        waiting, self._isr_requests = self._isr_requests, []
        if waiting:
            responses, altered = await self._isrs.alter(state, [one.request for one in waiting])
            for one, response in zip(waiting, responses, strict=True):
                one.response = response
            await self._reassignments.complete(state, altered)

    async def controlled_shutdown(
        self, request: ControlledShutdownRequest
    ) -> ControlledShutdownResponse:
        """Move leadership off a broker that is about to stop; answered once others lead."""
        try:
            response, told = await self._in_office(
                lambda state: self._shutdown.let_go(state, request)
            )
        except KafkaError as error:
            return ControlledShutdownResponse(error_code=error.code)
        await told.settle()
        return response

    async def allocate_producer_ids(
        self, request: AllocateProducerIdsRequest
    ) -> AllocateProducerIdsResponse:
        """A block of producer ids for a broker."""
        try:
            first, count = await self._in_office(
                lambda state: self._producer_ids.allocate_for(state, request)
            )
        except KafkaError as error:
            return AllocateProducerIdsResponse(error_code=error.code)
        return AllocateProducerIdsResponse(producer_id_start=first, producer_id_len=count)

    async def elect_leaders(self, request: ElectLeadersRequest) -> ElectLeadersResponse:
        """Elect preferred leaders, or unclean ones (KIP-460)."""
        try:
            response, told = await self._in_office(
                lambda state: self._balancing.elect(state, request)
            )
        except KafkaError as error:
            return ElectLeadersResponse(error_code=error.code)
        await told.settle()
        return response

    async def alter_partition_reassignments(
        self, request: AlterPartitionReassignmentsRequest
    ) -> AlterPartitionReassignmentsResponse:
        """Move partitions to other brokers, or call that off (KIP-455)."""
        try:
            return await self._in_office(
                lambda state: self._reassignments.answer_alter(state, request)
            )
        except KafkaError as error:
            return AlterPartitionReassignmentsResponse(
                error_code=error.code, error_message=error.message
            )

    async def list_partition_reassignments(
        self, request: ListPartitionReassignmentsRequest
    ) -> ListPartitionReassignmentsResponse:
        """The partitions that are being moved."""
        try:
            return await self._in_office(
                lambda state: self._reassignments.answer_list(state, request)
            )
        except KafkaError as error:
            return ListPartitionReassignmentsResponse(
                error_code=error.code, error_message=error.message
            )

    def unclean_election_allowed(self, topic: str | None = None) -> None:
        """A topic's settings (or those of all) allow unclean elections now: hold those that wait."""
        self._happened(lambda state: self._elect_offline(state, topic))

    async def config(self, entity_type: str, entity: str) -> dict[str, str]:
        """What is stored for a topic or broker (also where this broker is not the controller)."""
        return (await read_config(self._store, entity_type, entity)).config

    # The office

    async def _check_office(self) -> None:
        """See who holds the office, and run for it if nobody does."""
        while True:
            holder = await self._store.exists(znodes.CONTROLLER, watch=self._on_office)
            if holder is None or holder.ephemeral_owner != self._store.session_id:
                self._resign()
                if holder is not None:
                    return
            if self._second_look.holds_back:
                return  # what keeps us from the office may not keep others
            if holder is None:
                state = await run_for_office(self._store, self._broker_id, self._clock.now_ms())
                if state is not None:
                    log.info("elected controller", controller_epoch=state.controller_epoch)
                    await self._take_up(state)
                continue
            if self._state is None:  # ours by an election whose answer was lost
                state = await run_for_office(self._store, self._broker_id, self._clock.now_ms())
                if state is None:
                    continue
                await self._take_up(state)
            elif self._state.stale:
                await self._take_up(self._state)
            return

    async def _take_up(self, office: ClusterState) -> None:
        """Read the cluster's state and make good what it asks for."""
        for attempt in range(_ATTEMPTS_MAX):
            state = ClusterState(
                office.controller_id, office.controller_epoch, office.epoch_version
            )
            state.shutting_down = set(office.shutting_down)
            try:
                await self._offline.take_events(  # the answers now say as much
                    state, self._watch(self._check_log_dirs)
                )
                await self._isr_notices.drop(state, self._watch(self._check_isr_notices))
                state.brokers = await self._registrations.read(self._watch(self._check_brokers))
                state.shutting_down &= state.brokers.keys()
                restarted = await load_cluster(self._store, state, office.brokers or None)
                await self._taking_office.make_good(state, restarted, self._has_session)
                await self._store.children(
                    znodes.DELETE_TOPICS, watch=self._watch(self._check_deletions)
                )
                await self._reassignments.take_up_asked(
                    state, self._watch(self._check_reassignments)
                )
                await self._reassignments.resume(state)
                await self._balancing.take_up_asked(state, self._watch(self._check_elections))
                await self._check_unreadable(state)
            except (BadVersion, NodeExists, NoNode):  # somebody else writes too
                if attempt == _ATTEMPTS_MAX - 1:
                    raise
                continue
            if not self._has_session():
                self._announcer.close()
                raise SessionExpired("the session ended while taking office")
            if self._broker_id not in state.brokers:
                log.warning("the controller's own broker is not registered")
            self._state = state
            if state.stale:
                self._second_look.soon()
            self._resume_later(state)
            self._balance_later.after(BALANCE_FIRST_S)
            return

    def _has_session(self) -> bool:
        return self._store.state is not SessionState.EXPIRED

    def _resign(self) -> None:
        self._announcer.close()
        self._deletions.drop()
        if self._state is not None:
            log.info("left the controller's office", epoch=self._state.controller_epoch)
            self._state = None

    def _on_office(self, event: WatchEvent) -> None:
        self._look_at_office()

    def _look_at_office(self) -> None:
        self._queue.put(self._check_office)

    def _on_session_state(self, session: SessionState) -> None:
        if session is SessionState.EXPIRED:
            self._resign()

    # What happens by itself

    def _happened(self, react: Callable[[ClusterState], Awaitable[None]]) -> None:
        """Have ``react`` called in its turn with the state, if we are in office then."""

        async def run() -> None:
            self._events.discard(react)
            state = self._state
            if state is None or self._second_look.holds_back:
                return
            if state.stale:
                await self._take_up(state)  # which takes in everything
                return
            await react(state)
            if state.stale:
                self._second_look.soon()

        if react not in self._events:  # one that waits will see what this one would
            self._events.add(react)
            self._queue.put(run)

    def _watch(self, react: Callable[[ClusterState], Awaitable[None]]) -> Watch:
        """A watch that has ``react`` called in its turn; one for all its uses."""
        return self._watches.setdefault(react, lambda event: self._happened(react))

    async def _check_brokers(self, state: ClusterState) -> None:
        found = await self._registrations.read(self._watch(self._check_brokers))
        come = await self._brokers.take_in(state, found)
        if come:
            await self._reassignments.resume(state, come)

    async def _check_unreadable(self, state: ClusterState) -> None:
        await look_at_unreadable(self._store, state, self._watch(self._check_unreadable))

    async def _check_deletions(self, state: ClusterState) -> None:
        marked = await self._store.children(
            znodes.DELETE_TOPICS, watch=self._watch(self._check_deletions)
        )
        await self._deletions.take_marks(state, marked)

    async def _check_reassignments(self, state: ClusterState) -> None:
        await self._reassignments.take_up_asked(state, self._watch(self._check_reassignments))

    async def _check_isr_notices(self, state: ClusterState) -> None:
        altered = await self._isr_notices.take_in(state, self._watch(self._check_isr_notices))
        await self._reassignments.complete(state, altered)

    async def _check_elections(self, state: ClusterState) -> None:
        await self._balancing.take_up_asked(state, self._watch(self._check_elections))

    async def _elect_offline(self, state: ClusterState, topic: str | None) -> None:
        if topic is None or topic in state.topics:
            topics = None if topic is None else (topic,)
            elected = await self._leaders.elect_offline(state, list(state.partition_ids(topics)))
            self._announcer.announce(state, elected)

    async def _rebalance(self, state: ClusterState) -> None:
        balance = self._balance()
        try:
            if balance.enabled:
                await self._balancing.rebalance(state, balance.percentage)
        finally:
            self._balance_later.after(balance.interval_s)

    async def _check_log_dirs(self, state: ClusterState) -> None:
        watch = self._watch(self._check_log_dirs)
        await self._offline.ask(state, await self._offline.take_events(state, watch))

    def _answered(
        self, broker_id: int, request: ControlRequest, response: ControlResponse | None
    ) -> None:
        self._answers.take(self._state, broker_id, request, response)

    def _resume_later(self, state: ClusterState) -> None:
        """See to it that deletions that are not complete go on, though nobody can ask for them again."""
        if state.deleting:
            self._resumption.after(DELETION_RETRY_S)

    async def _resume_deletions(self, state: ClusterState) -> None:
        try:
            await self._deletions.resume(state)
        finally:
            self._resume_later(state)

    # The queue

    async def _in_office(self, work: Callable[[ClusterState], Awaitable[_T]]) -> _T:
        """Do ``work`` in its turn, with a state that is up to date."""

        async def run() -> _T:
            if self._state is not None and self._state.stale:
                await self._catch_up(self._state)
            state = self._state
            if state is None:
                raise not_controller()
            try:
                return await work(state)
            except Exception as error:
                if not isinstance(error, KafkaError | StoreError):
                    state.stale = True  # nobody knows how much of it was done
                raise
            finally:
                if state.stale:  # whether anybody asks again or not
                    self._second_look.soon()

        if not self._queue.is_open:
            raise not_controller()
        return await self._queue.submit(run)

    async def _catch_up(self, state: ClusterState) -> None:
        """Take up everything again for somebody who waits for it."""
        if self._second_look.holds_back:
            raise not_controller()
        try:
            await self._take_up(state)
        except (ControllerMoved, StoreError):
            raise
        except Exception as error:
            self._on_failure(error)
            raise not_controller() from error

    def _on_moved(self) -> None:
        self._resign()
        self._look_at_office()

    def _on_failure(self, error: Exception) -> None:
        """Work of our own has failed, and what it was about is used up: everything is looked at again."""
        if self._state is not None:
            self._state.stale = True
        if self._second_look.after(error):
            self._queue.put(self._give_up_office)

    async def _give_up_office(self) -> None:
        """We have tried for long enough: another process may fare better."""
        if self._state is not None:
            log.error("the controller's office is given up", epoch=self._state.controller_epoch)
        self._resign()
        await give_up_office(self._store)


def _random_index(count: int) -> int:
    return int.from_bytes(os.urandom(4), "big") % count
