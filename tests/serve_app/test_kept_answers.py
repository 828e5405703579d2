"""Answers that are kept: for how long, how many, and what becomes of a holder that dies."""

from __future__ import annotations

import asyncio

from serve_app.ingress.kept_answers import ENTRY_BYTES, Claimed, Kept, KeptAnswers

ANSWER = Kept("application/json", b"{}" * 500)
SIZE = len(ANSWER.body) + ENTRY_BYTES


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


async def kept(store: KeptAnswers, name: str, for_s: float = 100) -> None:
    await store.claim(name, "edit", "holder", 10)
    await store.keep(name, "holder", ANSWER, for_s)


def test_an_answer_is_kept_for_its_time_and_no_longer() -> None:
    async def check() -> None:
        clock = Clock()
        store = KeptAnswers(10 * SIZE, clock)
        await kept(store, "a", for_s=100)
        clock.now_s = 99
        assert await store.claim("a", "edit", "other", 10) == Claimed("edit", ANSWER)
        assert await store.claim("a", "another edit", "other", 10) == Claimed("edit", ANSWER)
        clock.now_s = 100
        assert await store.claim("a", "another edit", "other", 10) == Claimed("another edit")
        assert store.size_bytes == 0

    asyncio.run(check())


def test_the_oldest_answers_go_first_and_memory_stays_bounded() -> None:
    async def check() -> None:
        store = KeptAnswers(3 * SIZE)
        for number in range(50):
            await kept(store, f"name {number}")
            assert store.size_bytes == min(number + 1, 3) * SIZE
        known = [await store.claim(f"name {number}", "edit", "other", 10) for number in range(50)]
        assert [number for number, claimed in enumerate(known) if claimed.answer] == [47, 48, 49]
        await kept(small := KeptAnswers(SIZE - 1), "a")
        assert small.size_bytes == 0  # it has no room for one

    asyncio.run(check())


def test_a_holder_that_never_answers_holds_a_name_as_long_as_its_lease() -> None:
    async def check() -> None:
        clock = Clock()
        store = KeptAnswers(10 * SIZE, clock)
        await store.claim("a", "edit", "dead", 10)
        clock.now_s = 10
        assert await store.claim("a", "edit", "next", 10) == Claimed("edit")
        await store.keep("a", "dead", Kept("text/plain", b"too late"), 100)
        await store.release("a", "dead")
        await store.keep("a", "next", ANSWER, 100)
        assert await store.claim("a", "edit", "last", 10) == Claimed("edit", ANSWER)

    asyncio.run(check())


def test_of_those_who_wait_for_a_name_that_is_released_one_has_it() -> None:
    async def check() -> None:
        store = KeptAnswers(10 * SIZE)
        await store.claim("a", "edit", "first", 10)
        waiting = {
            asyncio.create_task(store.claim("a", "edit", holder, 10)): holder
            for holder in ("second", "third")
        }
        await asyncio.sleep(0)
        await store.release("a", "first")
        (done,), _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert done.result() == Claimed("edit")
        await store.keep("a", waiting.pop(done), ANSWER, 100)
        (last,) = waiting
        assert await last == Claimed("edit", ANSWER)

    asyncio.run(check())
