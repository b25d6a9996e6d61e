"""Memory for requests is bounded, given in order of arrival, and never locks up."""

from __future__ import annotations

import random

from ottla.network.budget import RequestBudget, SharedBudget, Waiter


def test_bytes_are_reserved_up_to_the_limit() -> None:
    budget = RequestBudget(100)
    assert budget.reserve(60)
    assert not budget.reserve(41)
    assert budget.reserve(40)
    budget.release(100)
    assert budget.used_bytes == 0


def test_minus_one_means_no_limit() -> None:
    budget = RequestBudget(-1)
    assert budget.reserve(2**40)
    assert budget.used_bytes == 2**40


def test_a_request_above_the_limit_proceeds_once_it_is_alone() -> None:
    budget = RequestBudget(100)
    assert budget.reserve(1)
    assert not budget.reserve(1000)
    granted: list[int] = []
    budget.wait(1000, lambda: granted.append(1000))
    assert granted == []
    budget.release(1)
    assert granted == [1000]
    assert budget.used_bytes == 1000


def test_small_requests_do_not_overtake_a_large_one_that_waits() -> None:
    budget = RequestBudget(100)
    budget.reserve(50)
    granted: list[str] = []
    budget.wait(80, lambda: granted.append("large"))
    assert not budget.reserve(10)
    budget.wait(10, lambda: granted.append("small"))
    assert granted == []
    budget.release(50)
    assert granted == ["large", "small"]
    assert not budget.contended


def test_whoever_gives_up_lets_the_next_go() -> None:
    budget = RequestBudget(100)
    budget.reserve(50)
    granted: list[str] = []
    waiter = budget.wait(80, lambda: granted.append("large"))
    budget.wait(10, lambda: granted.append("small"))
    budget.withdraw(waiter)
    assert granted == ["small"]
    budget.withdraw(waiter)
    assert budget.used_bytes == 60


def test_everybody_is_served_in_the_end() -> None:
    chance = random.Random(7)
    budget = RequestBudget(1000)
    held: list[int] = []
    waiting = served = 0
    for _ in range(2000):
        size = chance.choice((1, 10, 300, 999, 1000, 5000))

        def granted(size: int = size) -> None:
            nonlocal waiting, served
            waiting -= 1
            served += 1
            held.append(size)

        if budget.reserve(size):
            held.append(size)
            served += 1
        else:
            waiting += 1
            waiter: Waiter = budget.wait(size, granted)
            assert waiter.size == size
        assert budget.used_bytes == sum(held)
        assert budget.used_bytes <= 1000 or len(held) == 1
        while held and (chance.random() < 0.5 or waiting > 20):
            budget.release(held.pop(chance.randrange(len(held))))
    while held:
        budget.release(held.pop())
    assert served == 2000
    assert budget.used_bytes == 0


def test_small_requests_have_a_part_of_the_budget_that_large_ones_cannot_take() -> None:
    budget = SharedBudget(16 * 1024 * 1024)
    assert budget.reserve(14 * 1024 * 1024)
    granted: list[str] = []
    large = budget.wait(10 * 1024 * 1024, lambda: granted.append("large"))
    assert budget.reserve(1000)
    assert not budget.reserve(100_000)
    assert budget.contended
    assert budget.used_bytes == 14 * 1024 * 1024 + 1000
    budget.withdraw(large)
    budget.release(1000)
    budget.release(14 * 1024 * 1024)
    assert (budget.used_bytes, granted) == (0, [])


def test_a_small_budget_is_not_split() -> None:
    budget = SharedBudget(100)
    assert budget.reserve(100)
    assert not budget.reserve(1)
    assert budget.used_bytes == 100
