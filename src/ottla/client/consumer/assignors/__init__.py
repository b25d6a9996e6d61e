"""Who reads which partition: the rules that a group's leader applies, by Kafka's names.

Members of one group may be written in any language: names, user data and the sense of each rule are
Java's, so that whoever leads, the others understand.
"""

from __future__ import annotations

from collections.abc import Iterable

from ottla.client.consumer.assignors.assignor import Assignor, MemberSubscription


def assignor_named(name: str) -> Assignor:
    """A new assignor of that name; raises ``ValueError`` for a name that nobody knows."""
    if name == "range":
        from ottla.client.consumer.assignors.range import RangeAssignor

        return RangeAssignor()
    if name == "roundrobin":
        from ottla.client.consumer.assignors.round_robin import RoundRobinAssignor

        return RoundRobinAssignor()
    if name == "sticky":
        from ottla.client.consumer.assignors.sticky import StickyAssignor

        return StickyAssignor()
    if name == "cooperative-sticky":
        from ottla.client.consumer.assignors.sticky import CooperativeStickyAssignor

        return CooperativeStickyAssignor()
    raise ValueError(
        f"unknown assignor {name!r}: range, roundrobin, sticky and cooperative-sticky are known"
    )


def assignors_of(wanted: Iterable[str | Assignor]) -> list[Assignor]:
    """The assignors of a consumer, best first; raises ``ValueError`` for none or an unknown name."""
    found = [assignor_named(each) if isinstance(each, str) else each for each in wanted]
    if not found:
        raise ValueError("a consumer needs at least one assignor")
    return found


__all__ = ["Assignor", "MemberSubscription", "assignor_named", "assignors_of"]
