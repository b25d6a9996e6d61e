"""Every change of a store in memory, in order, and the invariants that hold at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ottla.coordination import znodes
from ottla.coordination.embedded import Keeper
from ottla.coordination.store import ANY_VERSION, Check, Create, Operation, Set
from ottla.coordination.znodes import NO_LEADER, LeaderAndIsr

CONTROLLED = ("/brokers/topics/", "/admin/")
"""What only a controller changes; marks and wishes under ``/admin`` are made by others, too."""


class History:
    """Follows a Keeper from now on, and fails at the first change that must not be.

    15: every election raises the leader epoch. 16: the leader is in the ISR, or the election was declared as
    unclean. 27: the controller epoch only rises. 28: every change of a topic is behind a check of the controller
    epoch as it is then, and conditional on the version of what it changes.
    """

    def __init__(self, keeper: Keeper, outsiders: Sequence[int] = ()) -> None:
        """``outsiders`` are sessions of people, who may write as they like."""
        self.multis = 0
        self.controller_epoch = 0
        self._outsiders = set(outsiders)
        self._states: dict[str, LeaderAndIsr] = {}
        original = keeper.write

        def write(session_id: int, operations: Sequence[Operation]) -> Any:
            future = original(session_id, operations)
            future.add_done_callback(
                lambda done: (
                    None
                    if done.cancelled() or done.exception()
                    else self._applied(session_id, operations)
                )
            )
            return future

        keeper.write = write  # type: ignore[method-assign]

    def _applied(self, session_id: int, operations: Sequence[Operation]) -> None:
        if session_id not in self._outsiders:
            self._check_condition(operations)
        for operation in operations:
            if isinstance(operation, Create | Set):
                self._check_content(operation)

    def _check_condition(self, operations: Sequence[Operation]) -> None:
        touched = [o for o in operations if o.path.startswith(CONTROLLED)]
        if not touched:
            return
        self.multis += 1
        first = operations[0]
        assert isinstance(first, Check), f"28: not behind a check: {operations}"
        assert first.path == znodes.CONTROLLER_EPOCH
        assert first.version != ANY_VERSION
        for operation in touched:
            if isinstance(operation, Set):
                assert operation.version != ANY_VERSION, f"28: not conditional: {operation}"

    def _check_content(self, operation: Create | Set) -> None:
        path = operation.path
        if path == znodes.CONTROLLER_EPOCH:
            epoch = znodes.decode_controller_epoch(operation.data)
            assert epoch > self.controller_epoch, "27: the controller epoch went back"
            self.controller_epoch = epoch
        elif path.endswith("/state") and path.startswith("/brokers/topics/"):
            now = LeaderAndIsr.decode(path, operation.data, 0)
            if isinstance(operation, Create):
                self._states.pop(path, None)
            before = self._states.get(path)
            self._states[path] = now
            assert now.leader in (*now.isr, NO_LEADER), f"16: {path}: {now}"
            if before is None:
                return
            assert now.leader_epoch >= before.leader_epoch, f"15: {path}: {before} {now}"
            if now.leader != before.leader:
                assert now.leader_epoch > before.leader_epoch, f"15: {path}: {before} {now}"
            is_clean = now.leader in (*before.isr, NO_LEADER)
            assert is_clean or now.leader_recovery_state, f"16: {path}: {before} {now}"
