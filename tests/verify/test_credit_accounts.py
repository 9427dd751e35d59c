"""What a worker takes of credits, borrows and gives back; the database is a hand-written one that counts."""

import asyncio
import gc
from collections.abc import Sequence
from itertools import accumulate
from math import inf

import pytest

from authsvc.model.credit_account import CreditLoan
from authsvc.model.errors import Overloaded, Unavailable
from authsvc.model.rate_limit import RateLimits
from authsvc.verify.credit_accounts import CreditAccounts
from tests.verify.parts import Pause


class FakeCreditStore:
    """Accounts of 1000 credits without a refill. A paused loan is answered when the test lets it."""

    def __init__(self) -> None:
        self.remaining: dict[str, int] = {}
        self.loans: list[list[int]] = []
        self.pause: Pause | None = None
        self.fault: Exception | None = None
        self.now = 100.0

    def stopwatch(self) -> float:
        return self.now

    async def borrow(self, loan: CreditLoan) -> bool:
        if self.pause is not None:
            await self.pause.here()
        held, costs = loan.need()
        self.loans.append(costs)
        if self.fault is not None:
            raise self.fault
        name = loan.account.account_id
        remaining = self.remaining.get(name, 1000)
        possible = max([total for total in accumulate(costs) if total <= held + remaining], default=0)
        lent = max(0, possible - held)
        if lent and possible == sum(costs):
            lent = max(lent, min(1000, remaining // 100))
        self.remaining[name] = remaining - lent
        loan.account.learn(
            epoch=1,
            lent=lent,
            left=remaining - lent,
            asked_time=self.now,
            answer_time=self.now,
            refill_amount=None,
            refill_seconds=None,
        )
        return lent > 0 or sum(costs) <= held

    async def give_back(self, held: Sequence[tuple[str, int, int]]) -> None:
        if self.fault is not None:
            raise self.fault
        for account_id, _, units in held:
            self.remaining[account_id] += units


@pytest.fixture
def store() -> FakeCreditStore:
    return FakeCreditStore()


@pytest.fixture
def accounts(store: FakeCreditStore) -> CreditAccounts:
    return CreditAccounts(store, store.stopwatch, max_per_owner=2)


def limits(number: int = 1, owner_id: str = "acme") -> RateLimits:
    return RateLimits(
        f"key_{number}", owner_id, [], [], account_id=f"acc_{owner_id}_{number}", account_epoch=1
    )


async def taken(accounts: CreditAccounts, one: RateLimits, cost: int = 1) -> float:
    """Take credits as a verification does; return how long to wait."""
    while (wait := accounts.wait(one, cost)) is None:
        await accounts.borrow(one, cost)
    if not wait:
        accounts.take(one, cost)
    return wait


async def test_a_slice_is_used_from_memory(accounts: CreditAccounts, store: FakeCreditStore) -> None:
    one = limits()
    assert [await taken(accounts, one) for _ in range(10)] == [0.0] * 10
    assert (store.loans, accounts.held) == ([[1]], 0)
    assert store.remaining == {"acc_acme_1": 990}
    assert accounts.of(one).remaining == 990


async def test_near_the_end_credits_are_borrowed_one_by_one(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    """So the last one can be used, and what is too much is refused without a question for a second."""
    one = limits()
    store.remaining["acc_acme_1"] = 2
    assert [await taken(accounts, one) for _ in range(3)] == [0.0, 0.0, inf]
    asked = len(store.loans)
    assert await taken(accounts, one) == inf
    assert len(store.loans) == asked
    store.now += 1.0
    assert await taken(accounts, one) == inf
    assert len(store.loans) == asked + 1
    assert store.remaining == {"acc_acme_1": 0}


async def test_those_who_wait_share_a_loan(accounts: CreditAccounts, store: FakeCreditStore) -> None:
    store.pause, one = Pause(), limits()
    waiting = [asyncio.create_task(taken(accounts, one, 5)) for _ in range(20)]
    await store.pause.reached()
    assert len(accounts.loans) == 1
    store.pause.open()
    assert await asyncio.gather(*waiting) == [0.0] * 20
    assert store.loans == [[5] * 20]


async def test_who_leaves_does_not_end_the_loan_of_others(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    store.pause, one = Pause(), limits()
    first, second = (asyncio.create_task(taken(accounts, one)) for _ in range(2))
    await store.pause.reached()
    first.cancel()
    store.pause.open()
    assert await second == 0.0
    assert first.cancelled()
    assert len(accounts.loans) == 0


async def test_the_keys_of_one_owner_have_a_share_of_the_queue(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    """Beyond it they are refused at once, and those of others are not."""
    store.pause = Pause()
    waiting = [asyncio.create_task(taken(accounts, limits(number))) for number in range(2)]
    await store.pause.reached()
    with pytest.raises(Overloaded) as caught:
        await taken(accounts, limits(3))
    assert caught.value.reason == "CREDIT_QUEUE_FULL"
    other = asyncio.create_task(taken(accounts, limits(9, "globex")))
    await asyncio.sleep(0)
    assert len(accounts.loans) == 3
    store.pause.open()
    assert [await each for each in (*waiting, other)] == [0.0] * 3
    assert await taken(accounts, limits(3)) == 0.0
    assert (len(accounts.loans), len(accounts.loans._per_owner)) == (0, 0)


async def test_a_failed_loan_fails_all_who_wait_and_is_tried_again(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    one, store.fault = limits(), Unavailable("x", reason="DATABASE_UNAVAILABLE", retry_after=1)
    results = await asyncio.gather(*(taken(accounts, one) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(each, Unavailable) for each in results)
    assert accounts.loans.outcomes["failed"] == 1
    store.fault = None
    assert await taken(accounts, one) == 0.0


async def test_what_is_not_used_for_a_second_is_given_back(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    one = limits()
    await taken(accounts, one)
    store.now += 0.9
    await accounts.give_back()
    assert accounts.held == 9
    store.now += 0.1
    await accounts.give_back()
    assert (accounts.held, accounts.given_back, store.remaining) == (0, 9, {"acc_acme_1": 999})


async def test_what_cannot_be_given_back_is_lost(accounts: CreditAccounts, store: FakeCreditStore) -> None:
    """It may have been carried out, so that to repeat it would give more back than was borrowed."""
    one = limits()
    await taken(accounts, one)
    store.fault = Unavailable("x", reason="DATABASE_UNAVAILABLE", retry_after=1)
    with pytest.raises(Unavailable):
        await accounts.give_back(everything=True)
    store.fault = None
    await accounts.give_back(everything=True)
    assert (accounts.held, accounts.lost, accounts.given_back) == (0, 9, 0)
    assert store.remaining == {"acc_acme_1": 990}


async def test_credits_that_were_set_anew_replace_what_was_borrowed(
    accounts: CreditAccounts, store: FakeCreditStore
) -> None:
    """The credential in memory is a new one then, with the next epoch."""
    await taken(accounts, limits())
    assert accounts.held == 9
    changed = RateLimits("key_1", "acme", [], [], account_id="acc_acme_1", account_epoch=2)
    assert accounts.wait(changed, 1) is None
    assert accounts.held == 0
    await accounts.give_back(everything=True)
    assert store.remaining == {"acc_acme_1": 990}


async def test_memory_has_an_account_for_as_long_as_it_is_referred_to(accounts: CreditAccounts) -> None:
    """By a credential in memory, or because credits of it are held. Neither grows with the keys seen."""
    for number in range(100):
        await taken(accounts, limits(number))
    gc.collect()
    assert len(accounts._known) == len(accounts._holding) == 100
    await accounts.give_back(everything=True)
    gc.collect()
    assert len(accounts._known) == len(accounts._holding) == 0


async def test_a_batch_borrows_for_all_of_its_keys(accounts: CreditAccounts, store: FakeCreditStore) -> None:
    wanted = [(limits(number % 2), 30) for number in range(6)]
    assert await accounts.prepare(wanted)
    assert store.loans == [[30] * 3] * 2
    assert not await accounts.prepare(wanted)
    assert [await taken(accounts, one, cost) for one, cost in wanted] == [0.0] * 6
    assert len(store.loans) == 2
