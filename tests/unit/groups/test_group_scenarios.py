"""Plays the transcripts in ``tests/scenarios/groups_*.txt``.

A block is commands, a line ``----``, and what happened; a blank line ends it. ``OTTLA_REWRITE_SCENARIOS=1`` puts
what happens now in the place of what is written there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ottla.errors import ErrorCode
from ottla.messages.join_group import JoinGroupResponse

SCENARIOS = sorted((Path(__file__).parents[2] / "scenarios").glob("groups_*.txt"))


class Teller:
    """Does what a line says, and tells what comes of it."""

    def __init__(self, table: Any) -> None:
        self.table = table
        self.ids: dict[str, str] = {}
        self.names: dict[Any, str] = {}
        self.told: list[str] = []
        self._stored = 0
        self._answered = 0

    def say(self, line: str) -> None:
        """Do one command."""
        word, *rest = line.split()
        options = dict(part.split("=", 1) for part in rest if "=" in part)
        names = [part for part in rest if "=" not in part]
        getattr(self, f"do_{word}")(names, options)
        self.collect()

    def collect(self) -> None:
        """Tell the records and the answers that are new."""
        for value in self.table.stored[self._stored :]:
            parts = [f"{m.member_id}={m.assignment.decode()!r}" for m in value.members]
            self.told.append(f"stored: generation {value.generation}, {' '.join(parts) or 'empty'}")
        self._stored = len(self.table.stored)
        for seat, response in self.table.answers[self._answered :]:
            code = ErrorCode(response.error_code)
            name = self.names.get(seat, "")
            if isinstance(response, JoinGroupResponse) and response.member_id and name:
                self.ids[name] = response.member_id
            line = f"{name} <- {self._answer(response, code)}"
            self.told.append(line)
        self._answered = len(self.table.answers)

    def _answer(self, response: Any, code: ErrorCode) -> str:
        if not isinstance(response, JoinGroupResponse):
            return f"synced {response.assignment.decode()!r}" if not code else f"sync {code.name}"
        if code is ErrorCode.MEMBER_ID_REQUIRED:
            return f"join MEMBER_ID_REQUIRED {response.member_id}"
        if code:
            return f"join {code.name}"
        members = ",".join(member.member_id for member in response.members)
        return (
            f"joined as {response.member_id}, generation {response.generation_id}, "
            f"{response.protocol_name}, leader {response.leader}"
            + (f", members {members}" if members else "")
            + (", skip assignment" if response.skip_assignment else "")
        )

    def _tell(self, seat: Any, name: str) -> None:
        self.names[seat] = name
        if seat.response is None:
            self.told.append(f"{name} waits")
        elif not any(seat is answered for answered, _ in self.table.answers):
            # A SyncGroup that was refused outright.
            self.told.append(f"{name} <- sync {seat.code.name}")

    def do_join(self, names: list[str], options: dict[str, str]) -> None:
        """``join NAME [instance=I] [version=V] [protocols=a,b] [session=MS] [as=ID|new]``."""
        (name,) = names
        instance = options.get("instance")
        member_id = options.get("as", self.ids.get(name, ""))
        protocols = options.get("protocols", "range").split(",")
        seat = self.table.join(
            "" if member_id == "new" else member_id,
            name=name,
            instance=instance,
            version=int(options.get("version", "9")),
            protocols=dict.fromkeys(protocols, b""),
            session_ms=int(options.get("session", "10000")),
            rebalance_ms=int(options.get("rebalance", "60000")),
        )
        self._tell(seat, name)

    def do_sync(self, names: list[str], options: dict[str, str]) -> None:
        """``sync NAME [generation=N] [instance=I] [MEMBER_ID=ASSIGNMENT …]``."""
        (name,) = names
        generation = int(options.pop("generation", str(self.table.group.generation)))
        instance = options.pop("instance", None)
        assignments = {member_id: part.encode() for member_id, part in options.items()}
        member_id = self.ids.get(name, name)
        seat = self.table.sync(member_id, generation, assignments, instance=instance)
        self._tell(seat, name)

    def do_heartbeat(self, names: list[str], options: dict[str, str]) -> None:
        """``heartbeat NAME … [generation=N]``."""
        for name in names:
            generation = int(options.get("generation", str(self.table.group.generation)))
            member_id = self.ids.get(name, name)
            code = self.table.heartbeat(member_id, generation, options.get("instance"))
            self.told.append(f"{name} <- heartbeat {code.name}")

    def do_leave(self, names: list[str], options: dict[str, str]) -> None:
        """``leave NAME …`` or ``leave instance=I``."""
        members = [(self.ids.pop(name, name), None) for name in names]
        if "instance" in options:
            members.append(("", options["instance"]))  # type: ignore[arg-type]
        codes = self.table.leave(*members)
        self.told.append("left: " + " ".join(code.name for code in codes))

    def do_commit(self, names: list[str], options: dict[str, str]) -> None:
        """``commit NAME [generation=N]``."""
        (name,) = names
        generation = int(options.get("generation", str(self.table.group.generation)))
        code = self.table.commit(self.ids.get(name, name if name != "nobody" else ""), generation)
        self.told.append(f"{name} <- commit {code.name}")

    def do_wait(self, names: list[str], options: dict[str, str]) -> None:
        """``wait MS``."""
        self.table.wait(int(names[0]))

    def do_refuse(self, names: list[str], options: dict[str, str]) -> None:
        """``refuse CODE``: the next append fails."""
        self.table.refusal = ErrorCode[names[0]]

    def do_failover(self, names: list[str], options: dict[str, str]) -> None:
        """``failover``: another coordinator loads the group from its last record."""
        group, table = self.table.group, self.table
        table.take(group.close())
        table.group = type(group).load("g", table.stored[-1], table.settings)
        table.take(table.group.activate(table.now))

    def do_show(self, names: list[str], options: dict[str, str]) -> None:
        """``show``: the group's state."""
        group = self.table.group
        members = [
            member.member_id + ("*" if member.member_id == group.members.leader_id else "")
            for member in group.members
        ]
        pending = [f"({member_id})" for member_id in group.members.pending]
        self.told.append(
            f"{group.state}, generation {group.generation}: {' '.join(members + pending) or '-'}"
        )


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_scenario_goes_as_written(path: Path, new_table: Any, quick: Any) -> None:
    teller = Teller(new_table(quick))
    played: list[str] = []
    written = path.read_text().splitlines()
    expecting = False
    for line in written:
        if line == "----":
            expecting = True
            played += ["----", *teller.told]
        elif not line or line.startswith("#"):
            played.append(line)
            expecting = False
            teller.told.clear()
        elif line.startswith("settings "):
            key, value = line.split()[1].split("=")
            teller = Teller(new_table(quick._replace(**{key: int(value)})))
            played.append(line)
        elif not expecting:
            played.append(line)
            teller.say(line)
            teller.collect()
    if os.environ.get("OTTLA_REWRITE_SCENARIOS"):
        path.write_text("\n".join(played) + "\n")
    else:
        assert played == written


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 2
