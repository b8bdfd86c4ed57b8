"""How much is sent at most: exactly as much, whoever sends it, and over restarts. By ratelock's own stores, and by its
service over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from jfe_cni.errors import RequestError
from jfe_cni.overflowd.delivery.budgets import EmbeddedBudgets, HeldBudgets, Wanted, read_budget
from jfe_cni.overflowd.delivery.outcomes import Spared
from jfe_cni.ratelock.budgets import Budget, Limit, Meter
from jfe_cni.ratelock.client import AsyncClient, ServiceUnreachable
from jfe_cni.ratelock.stores import open_store
from tests.ratelock.hands import Hands
from tests.ratelock.served import served

ADDRESS = ip_address("203.0.113.9")
DAY = 86_400 * 1_000_000
WANTED = Wanted(
    address=read_budget("3/10s"), prefix=read_budget("5/10s,50/1d"), contact=read_budget("1/1h"),
    total=read_budget("8/10s"),
)  # fmt: skip


@contextlib.asynccontextmanager
async def embedded(url: str, hands: Hands, wanted: Wanted = WANTED) -> AsyncIterator[EmbeddedBudgets]:
    budgets = EmbeddedBudgets(await open_store(url, hands.clock()), wanted, "collector")
    try:
        await budgets.start()
        yield budgets
    finally:
        await budgets.close()


async def asked(budgets: EmbeddedBudgets | HeldBudgets, address: str, count: int, mark: str = "") -> list[str]:
    """What comes of so many notices."""
    found = [await budgets.admit(f"{mark}{number}", ip_address(address)) for number in range(count)]
    return [each or "sent" for each in found]


async def test_each_address_each_network_and_all_have_their_budget_and_no_more(state_url: str) -> None:
    hands = Hands()
    async with embedded(state_url, hands) as budgets:
        assert await asked(budgets, "203.0.113.9", 5) == ["sent"] * 3 + [Spared.ADDRESS_BUDGET] * 2
        assert await asked(budgets, "203.0.113.10", 4, "b") == ["sent"] * 2 + [Spared.PREFIX_BUDGET] * 2
        assert await asked(budgets, "198.51.100.1", 3, "c") == ["sent"] * 3
        assert await asked(budgets, "2001:db8::1", 1, "d") == [Spared.TOTAL_BUDGET]
        hands.go_on(10)
        assert await asked(budgets, "203.0.113.9", 4, "e") == ["sent"] * 3 + [Spared.ADDRESS_BUDGET]


async def test_a_network_of_ipv6_is_a_48(state_url: str) -> None:
    async with embedded(state_url, Hands()) as budgets:
        assert await asked(budgets, "2001:db8:1:1::1", 3) == ["sent"] * 3
        assert await asked(budgets, "2001:db8:1:2::1", 3, "b") == ["sent"] * 2 + [Spared.PREFIX_BUDGET]
        assert await asked(budgets, "2001:db8:2::1", 3, "c") == ["sent"] * 3


async def test_what_was_counted_is_counted_after_a_restart(state_url: str) -> None:
    hands = Hands()
    async with embedded(state_url, hands) as budgets:
        assert await asked(budgets, "203.0.113.9", 3) == ["sent"] * 3
    async with embedded(state_url, hands) as budgets:
        assert await asked(budgets, "203.0.113.9", 1, "b") == [Spared.ADDRESS_BUDGET]


async def test_what_is_asked_again_for_the_same_notice_is_counted_once(state_url: str) -> None:
    async with embedded(state_url, Hands()) as budgets:
        assert [await budgets.admit("same", ADDRESS) for _ in range(5)] == [None] * 5
        assert await asked(budgets, str(ADDRESS), 3, "b") == ["sent", "sent", Spared.ADDRESS_BUDGET]


async def test_collectors_on_one_database_have_one_budget_among_them(postgresql_url: str) -> None:
    hands = Hands()
    async with embedded(postgresql_url, hands) as one, embedded(postgresql_url, hands) as two:
        many = [
            each.admit(f"{name}{number}", ADDRESS) for name, each in (("a", one), ("b", two)) for number in range(9)
        ]
        assert (await asyncio.gather(*many)).count(None) == 3


async def test_an_abuse_desk_has_its_own(state_url: str) -> None:
    async with embedded(state_url, Hands()) as budgets:
        assert await budgets.admit_contact("a", "abuse@one.example") is None
        assert await budgets.admit_contact("b", "abuse@one.example") is Spared.CONTACT_BUDGET
        assert await budgets.admit_contact("b", "abuse@two.example") is None


async def test_a_name_out_of_use_leaves_nothing_and_one_in_use_its_whole_history(
    sqlite_url: str,
) -> None:
    hands = Hands()
    wanted = Wanted(read_budget("2/1h"), read_budget("9/1h"), read_budget("9/1h"), read_budget("99/1h"))

    def clock() -> float:
        return hands.boottime / 1e6

    store = await open_store(sqlite_url, hands.clock())
    one, other = (EmbeddedBudgets(store, wanted, name, clock) for name in ("one", "other"))
    await one.admit("a", ADDRESS)
    for number in range(6):
        # `other` knows nothing of this use, and says each time that the name is idle.
        hands.go_on(1_700)
        await other.keep_up()
        assert await one.admit(f"b{number}", ADDRESS) in {None, Spared.ADDRESS_BUDGET}
    assert await one.admit("c", ADDRESS) is Spared.ADDRESS_BUDGET, "what was counted within the hour still counts"
    for _ in range(4):
        hands.go_on(3 * 3_600)
        await one.keep_up()
        await other.keep_up()
    assert await store.budgets() == []
    await one.close()


async def test_flows_that_are_forged_make_no_more_budgets_than_notices_are_sent(state_url: str) -> None:
    hands = Hands()
    store = await open_store(state_url, hands.clock())
    budgets = EmbeddedBudgets(store, WANTED, "collector")
    await budgets.start()
    try:
        found = [await budgets.admit(f"{number}", ip_address(f"8.8.{number}.1")) for number in range(60)]
        assert found == [None] * 8 + [Spared.TOTAL_BUDGET] * 52
        assert len(await store.budgets()) == 2 * 8 + 1
        written = sum([1 async for _ in store.entries()])
        assert written <= 1 + 60 + 3 * 8
    finally:
        await budgets.close()


async def test_who_has_spent_its_own_budget_spends_nothing_of_what_all_share(state_url: str) -> None:
    async with embedded(state_url, Hands()) as budgets:
        assert await asked(budgets, "203.0.113.9", 50) == ["sent"] * 3 + [Spared.ADDRESS_BUDGET] * 47
        for number in range(5):
            assert await asked(budgets, f"198.51.{number}.1", 1, f"b{number}") == ["sent"]
        assert await asked(budgets, "198.51.9.1", 1, "c") == [Spared.TOTAL_BUDGET]


async def test_all_names_out_of_use_lose_their_budgets_however_many_they_are(sqlite_url: str) -> None:
    hands = Hands()
    wanted = Wanted(read_budget("2/1h"), read_budget("9/1h"), read_budget("9/1h"), read_budget("9999/1h"))
    store = await open_store(sqlite_url, hands.clock())
    budgets = EmbeddedBudgets(store, wanted, "one", lambda: hands.boottime / 1e6)
    await asyncio.gather(
        *(budgets.admit(f"{number}", ip_address(f"8.{number // 250}.{number % 250}.1")) for number in range(600))
    )
    assert len(await store.budgets()) == 1_200
    for _ in range(2):
        hands.go_on(4 * 3_600)
        await budgets.keep_up()
    assert await store.budgets() == []
    await budgets.close()


async def test_a_service_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    budgets = HeldBudgets(AsyncClient(f"unix:{tmp_path}/nobody.sock", token="none"))
    with pytest.raises(ServiceUnreachable):
        await budgets.admit("a", ADDRESS)
    await budgets.close()


async def test_the_service_holds_them_as_well_and_its_owner_sets_them(tmp_path: Path) -> None:
    async with served(tmp_path) as service:
        async with service.as_owner() as owner:
            await owner.set_budget(Meter("caller", "shop"), Budget((Limit(13, DAY),)))
            await owner.set_budget(Meter("secret", "overflowd/prefix/203.0.113.0/24"), Budget((Limit(4, DAY),)))
        budgets = HeldBudgets(service.as_caller())
        try:
            assert await asked(budgets, "203.0.113.9", 4) == ["sent"] * 3 + [Spared.ADDRESS_BUDGET]
            assert await asked(budgets, "203.0.113.10", 2, "b") == ["sent", Spared.PREFIX_BUDGET]
            assert await asked(budgets, "203.0.113.9", 3) == ["sent"] * 3, "the same notices again"
            assert await budgets.admit_contact("a", "abuse@one.example") is None
            assert await asked(budgets, "2001:db8::1", 2, "c") == ["sent", Spared.TOTAL_BUDGET]
        finally:
            await budgets.close()


@pytest.mark.parametrize("text", ["", "3", "3/10", "3/10y", "0/10s", "3/0s", "-1/1s", "3/10s;", "1/9999d"])
def test_what_is_no_budget_is_said_to_be(text: str) -> None:
    with pytest.raises(RequestError):
        read_budget(text)


def test_limits_are_read_as_they_are_written() -> None:
    assert read_budget("3/10s, 1000/1d") == Budget((Limit(3, 10_000_000), Limit(1_000, DAY)))
