"""The state of one partition of ``__consumer_offsets``: its groups and their offsets, as the log tells them.

Rules: what ``replay`` makes of the log is what the live operations have made of the same records, in the same
order. A group is known while it has members, ids that are out, offsets or a record; else it takes no memory.
"""

from __future__ import annotations

from ottla.groups.group import Group
from ottla.groups.group_records import OffsetRecord, read_record
from ottla.groups.offsets import CommittedOffsets
from ottla.groups.parking import Parking, Timer
from ottla.groups.settings import GroupSettings
from ottla.logs import logger
from ottla.wire.primitives import BytesLike, DecodeError

log = logger(__name__)

_GROUP_BYTES = 1_500
"""What Python takes for a group, beside what is in it."""


class Shard:
    """One partition's groups."""

    __slots__ = (
        "_settings",
        "alarms",
        "appended",
        "end_offset",
        "floor",
        "gone",
        "groups",
        "is_loading",
        "leader_epoch",
        "members_bytes",
        "offsets",
        "parking",
        "partition",
        "rebalances_gone",
        "sweep",
    )

    def __init__(self, partition: int, parking: Parking, settings: GroupSettings) -> None:
        self.partition = partition
        self.parking = parking
        self.is_loading = True
        self.leader_epoch = 0
        """The latest epoch in which this broker was told to lead the partition."""
        self.groups: dict[str, Group] = {}
        self.offsets = CommittedOffsets()
        self.appended: dict[str, int] = {}
        """By group, the end of what was last appended for it and is not known to be committed."""
        self.end_offset = 0
        """The end of what was last loaded or appended for any group."""
        self.floor = 0
        """The end of what was loaded: a new leader's log may hold what is not committed yet."""
        self.gone: frozenset[str] = frozenset()
        """Topics that were deleted while this was being loaded."""
        self.alarms: dict[str, tuple[int, Timer]] = {}
        """By group, when (steady clock, milliseconds) it will be looked at, and the timer that does it."""
        self.sweep: Timer | None = None
        self.members_bytes = 0
        """About how much memory the groups take that have members, or ids that are out."""
        self.rebalances_gone = 0
        """The rebalances of groups that are not known any more."""
        self._settings = settings

    def replay(self, key: BytesLike | None, value: BytesLike | None, offset: int) -> None:
        """Take in a record of the log. One that cannot be read is logged and left out."""
        self.floor = self.end_offset = offset + 1
        try:
            record = read_record(key, value) if key is not None else None
        except DecodeError as error:
            log.warning(
                "a record of __consumer_offsets cannot be read",
                partition=self.partition,
                offset=offset,
                reason=str(error),
            )
            return
        if isinstance(record, OffsetRecord):
            group_id, topic, partition, committed = record
            if committed is None:
                self.offsets.remove(group_id, topic, partition)
                self.forget_if_vacant(group_id)
            else:
                self.group(group_id, committed.commit_timestamp_ms)
                self.offsets.put(group_id, topic, partition, committed)
        elif record is not None and record.value is None:
            self.groups.pop(record.group_id, None)
            if record.group_id in self.offsets:
                self.group(record.group_id, 0)
        elif record is not None and record.value is not None:
            self.groups[record.group_id] = Group.load(record.group_id, record.value, self._settings)

    def group(self, group_id: str, now_ms: int) -> Group:
        """The group; a new, empty one if there is none."""
        group = self.groups.get(group_id)
        if group is None:
            group = self.groups[group_id] = Group(group_id, self._settings, now_ms)
        return group

    def forget_if_vacant(self, group_id: str) -> None:
        """Drop a group that holds nothing and has no record that says otherwise."""
        group = self.groups.get(group_id)
        if (
            group is not None
            and group.is_empty
            and not group.persisted
            and not group.members.pending
            and group_id not in self.offsets
        ):
            self.forget(group_id)

    def forget(self, group_id: str) -> None:
        """Drop a group and its timer."""
        group = self.groups.pop(group_id, None)
        if group is not None:
            self.members_bytes -= group.kept_bytes
            self.rebalances_gone += group.rebalances
        alarm = self.alarms.pop(group_id, None)
        if alarm is not None:
            alarm[1].cancel()

    def weigh(self, group: Group) -> None:
        """Count what the members of a group of ours take now."""
        kept_bytes = group.members.kept_bytes
        if kept_bytes:
            kept_bytes += _GROUP_BYTES + len(group.group_id) + len(group.protocol_type or "")
        self.members_bytes += kept_bytes - group.kept_bytes
        group.kept_bytes = kept_bytes

    def note_append(self, group_id: str, end_offset: int) -> None:
        """Remember that something of the group was appended below ``end_offset``."""
        self.appended[group_id] = self.end_offset = end_offset

    def readable_at(self, group_id: str) -> int:
        """The offset that has to be committed before the group's present state may be shown."""
        end_offset = max(self.appended.get(group_id, 0), self.floor)
        if end_offset <= self.parking.end:
            self.appended.pop(group_id, None)
            return 0
        return end_offset
