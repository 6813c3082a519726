"""Batches of the server: how many calls of the encoder so many requests become, and who is in them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from serve_batches import RecordedEncoder, draw, make_batcher, run_jumping

from clipworks.errors import EncodingError
from clipworks.runtimes.protocol import Role
from clipworks.serve.batching import Batcher, Content, EmbeddedItem
from clipworks.serve.limits import RequestError


@contextlib.asynccontextmanager
async def running(batcher: Batcher) -> AsyncIterator[Batcher]:
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(batcher: Batcher, number: int, role: Role = "image", cost: int = 1) -> EmbeddedItem:
    """One request of one item."""
    with batcher.admit({role: 1}) as places:
        return await batcher.put(role, draw(number), cost, places)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 8, 9])
def test_requests_that_wait_together_become_the_fewest_calls(size: int, count: int) -> None:
    """The first goes alone, since the encoder is free; all that come meanwhile go together, up to the bound."""
    encoder = RecordedEncoder()

    async def work() -> list[EmbeddedItem]:
        async with running(make_batcher(encoder, bounds={"image": size, "text": 12})) as batcher:
            first = asyncio.create_task(ask(batcher, 0))
            await asyncio.sleep(0.5)
            return await asyncio.gather(first, *(ask(batcher, number) for number in range(1, count)))

    found = run_jumping(work())
    sizes = encoder.list_sizes("image")
    assert sizes[0] == 1
    assert len(sizes) == 1 + -(-(count - 1) // size)
    assert max(sizes) <= size
    assert [float(one.row[0]) for one in found] == [*range(count)]


def test_without_a_wait_a_request_that_is_alone_is_encoded_at_once() -> None:
    encoder = RecordedEncoder()

    async def work() -> float:
        async with running(make_batcher(encoder)) as batcher:
            begin = asyncio.get_running_loop().time()
            found = await ask(batcher, 1)
            assert found.queue_s == 0
            return asyncio.get_running_loop().time() - begin

    assert run_jumping(work()) == pytest.approx(1.0)


@pytest.mark.parametrize(("apart_s", "sizes"), [(0.1, [4, 4]), (10.0, [1] * 8)])
def test_with_a_wait_requests_that_come_one_by_one_share_a_batch_if_they_come_within_it(
    apart_s: float, sizes: list[int]
) -> None:
    encoder = RecordedEncoder(seconds=0.01)

    async def work() -> None:
        async with running(make_batcher(encoder, max_wait_s=1.0)) as batcher:
            asked = []
            for number in range(8):
                asked.append(asyncio.create_task(ask(batcher, number)))
                await asyncio.sleep(apart_s)
            await asyncio.gather(*asked)

    run_jumping(work())
    assert encoder.list_sizes("image") == sizes


def test_a_batch_that_is_full_does_not_wait_and_one_that_is_not_waits_no_longer_than_it_is_told() -> None:
    encoder = RecordedEncoder(seconds=0.0)

    async def work() -> list[float]:
        async with running(make_batcher(encoder, max_wait_s=5.0)) as batcher:
            found = await asyncio.gather(*(ask(batcher, number) for number in range(5)))
            return [one.queue_s for one in found]

    waits = run_jumping(work())
    assert encoder.list_sizes("image") == [4, 1]
    assert waits == pytest.approx([0, 0, 0, 0, 5.0])


def test_texts_are_bounded_by_their_tokens_and_one_that_is_over_the_bound_goes_alone() -> None:
    encoder = RecordedEncoder()

    async def work() -> None:
        async with running(make_batcher(encoder)) as batcher:
            costs = [1, 5, 5, 3, 20, 6, 6]
            await asyncio.gather(*(ask(batcher, place, "text", cost) for place, cost in enumerate(costs)))

    run_jumping(work())
    assert encoder.list_sizes("text") == [3, 1, 1, 2]


def test_images_and_texts_are_never_in_one_batch_and_neither_starves() -> None:
    encoder = RecordedEncoder()

    async def work() -> None:
        async with running(make_batcher(encoder)) as batcher:
            roles: list[Role] = ["image", "text"]
            asked = []
            for number in range(40):
                asked.append(asyncio.create_task(ask(batcher, number, roles[number % 2])))
                await asyncio.sleep(0.001)
            await asyncio.gather(*asked)

    run_jumping(work())
    for role, batch in encoder.batches:
        assert {int(content[0]) % 2 for content in batch} == {0 if role == "image" else 1}
    assert sum(encoder.list_sizes("image")) == sum(encoder.list_sizes("text")) == 20
    assert {role for role, _ in encoder.batches[:3]} == {"image", "text"}


def test_what_nobody_waits_for_any_more_is_never_encoded_and_leaves_the_queue() -> None:
    encoder = RecordedEncoder()

    async def work() -> None:
        async with running(make_batcher(encoder, queue=10)) as batcher:
            first = asyncio.create_task(ask(batcher, 0))
            await asyncio.sleep(0.1)
            gone = [asyncio.create_task(ask(batcher, number)) for number in range(1, 9)]
            await asyncio.sleep(0.1)
            assert batcher.waiting["image"] == 8
            for task in gone:
                task.cancel()
            await asyncio.gather(*gone, return_exceptions=True)
            assert batcher.waiting["image"] == 0
            await asyncio.gather(first, ask(batcher, 9))

    run_jumping(work())
    assert [[int(content[0]) for content in batch] for _, batch in encoder.batches] == [[0], [9]]


def test_a_full_queue_refuses_at_once_says_when_to_ask_again_and_takes_more_a_moment_later() -> None:
    encoder = RecordedEncoder(seconds=2.0)

    async def work() -> None:
        async with running(make_batcher(encoder, queue=8)) as batcher:
            await ask(batcher, 0)
            asked = [asyncio.create_task(ask(batcher, number)) for number in range(9)]
            await asyncio.sleep(0.1)  # of which the first four are with the encoder
            asked += [asyncio.create_task(ask(batcher, number)) for number in range(9, 16)]
            await asyncio.sleep(0)
            begin = asyncio.get_running_loop().time()
            refused = await asyncio.gather(*asked, return_exceptions=True)
            errors = [one for one in refused if isinstance(one, RequestError)]
            assert errors
            assert {error.status for error in errors} == {429}
            assert all(error.retry_after_s and error.retry_after_s >= 1 for error in errors)
            assert len(errors) + sum(isinstance(one, EmbeddedItem) for one in refused) == len(refused)
            assert asyncio.get_running_loop().time() > begin
            assert float((await ask(batcher, 77)).row[0]) == 77

    run_jumping(work())


def test_what_may_not_be_answered_in_time_is_refused_by_what_items_took_before_and_the_rest_is_in_time() -> None:
    """At five times the rate that the encoder keeps: whoever is accepted is answered within the longest wait."""
    encoder = RecordedEncoder(seconds=1.0)

    async def work() -> None:
        async with running(make_batcher(encoder, bounds={"image": 32, "text": 1}, longest_s=10.0)) as batcher:
            batcher.expect("image", encode_s=1.0)
            times: list[float] = []
            refused: list[RequestError] = []

            async def time_one(number: int) -> None:
                begin = asyncio.get_running_loop().time()
                try:
                    await ask(batcher, number)
                except RequestError as error:
                    refused.append(error)
                else:
                    times.append(asyncio.get_running_loop().time() - begin)

            asked = []
            for number in range(200):
                asked.append(asyncio.create_task(time_one(number)))
                await asyncio.sleep(0.2)
            await asyncio.gather(*asked)
            assert {error.status for error in refused} == {429}
            assert len(times) >= 40
            assert max(times) <= 10.0

    encoder.per_item = True
    run_jumping(work())


def test_a_batch_that_cannot_be_encoded_is_tried_one_by_one_so_that_only_what_is_bad_fails() -> None:
    def fail(batch: Sequence[Content]) -> None:
        if any(content[0] == 3 for content in batch):
            raise EncodingError("NaN")

    encoder = RecordedEncoder(fail=fail)

    async def work() -> list[EmbeddedItem | BaseException]:
        async with running(make_batcher(encoder)) as batcher:
            return await asyncio.gather(*(ask(batcher, number) for number in range(1, 5)), return_exceptions=True)

    found = run_jumping(work())
    assert [isinstance(one, EncodingError) for one in found] == [False, False, True, False]


def test_any_other_failure_is_that_batch_s_alone_and_the_next_is_well() -> None:
    def fail(batch: Sequence[Content]) -> None:
        if batch[0][0] == 0:
            raise ConnectionError("gone")

    encoder = RecordedEncoder(fail=fail)

    async def work() -> list[EmbeddedItem | BaseException]:
        async with running(make_batcher(encoder)) as batcher:
            return await asyncio.gather(*(ask(batcher, number) for number in range(6)), return_exceptions=True)

    found = run_jumping(work())
    assert [isinstance(one, ConnectionError) for one in found] == [True] * 4 + [False] * 2
    assert encoder.list_sizes("image") == [4, 2]


def test_each_answer_tells_its_batch_and_how_long_it_waited() -> None:
    encoder = RecordedEncoder(seconds=3.0)

    async def work() -> list[EmbeddedItem]:
        async with running(make_batcher(encoder)) as batcher:
            return await asyncio.gather(*(ask(batcher, number) for number in range(6)))

    found = run_jumping(work())
    assert [(one.batch.number, one.batch.items, one.batch.role) for one in found] == (
        [(0, 4, "image")] * 4 + [(1, 2, "image")] * 2
    )
    assert [one.queue_s for one in found] == pytest.approx([0] * 4 + [3.0] * 2)
    assert found[0].batch.seconds == pytest.approx(3.0)
