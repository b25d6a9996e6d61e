"""Replication through seeded schedules of messages late, lost and twice, crashes, power losses and elections."""

from __future__ import annotations

import pytest

from ottla.log.flusher import Durability
from tests.property.replication_losses import WorldWithLosses, WorldWithUncleanElections
from tests.property.replication_world import World

STEPS = 1200


@pytest.mark.parametrize("minimum_isr", [1, 2])
@pytest.mark.parametrize("durability", [Durability.DISK, Durability.OS])
@pytest.mark.parametrize("seed", [*range(10), 1155])
def test_no_schedule_loses_or_changes_what_was_committed(
    seed: int, durability: Durability, minimum_isr: int
) -> None:
    world = World(seed, durability, minimum_isr)
    for _ in range(STEPS):
        world.step()
    world.heal()
    assert world.committed_end, "something happened at all"


@pytest.mark.parametrize("durability", [Durability.DISK, Durability.OS])
@pytest.mark.parametrize("seed", range(4))
def test_neither_deletions_nor_wiped_disks_cost_anything_else(
    seed: int, durability: Durability
) -> None:
    world = WorldWithLosses(seed, durability)
    for _ in range(STEPS):
        world.step()
    world.heal()
    assert world.committed_end, "something happened at all"
    assert world.deleted_end


@pytest.mark.parametrize("durability", [Durability.DISK, Durability.OS])
@pytest.mark.parametrize("seed", [112, 124, 134, 142])
def test_unclean_elections_cost_what_the_elected_lacks_and_nothing_else(
    seed: int, durability: Durability
) -> None:
    world = WorldWithUncleanElections(seed, durability, 1 + seed % 2)
    for _ in range(STEPS):
        world.step()
    world.heal()
    assert world.unclean, "there was one"
