"""Many requests at once, each of which may fail by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from evals.transport import Refused
from training.artifacts import progress

BATCH = 16  # texts in one request
Input = TypeVar("Input")
Output = TypeVar("Output")


async def each(
    inputs: Sequence[Input],
    measure: Callable[[Input], Awaitable[Output]],
    label: str,
    concurrency: int = 48,
) -> list[Output | Refused]:
    """Measure every input concurrently, with a progress bar. A `Refused` takes the place of what failed."""
    gate = asyncio.Semaphore(concurrency)
    with progress.bar(label, len(inputs)) as bar:

        async def one(value: Input) -> Output | Refused:
            async with gate:
                try:
                    return await measure(value)
                except Refused as refused:
                    return refused
                finally:
                    bar.advance()

        tasks = [asyncio.ensure_future(one(value)) for value in inputs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


async def in_batches(
    inputs: Sequence[Input],
    measure: Callable[[Sequence[Input]], Awaitable[Sequence[Output | Refused]]],
    label: str,
    concurrency: int = 48,
    size: int = BATCH,
) -> list[Output | Refused]:
    """Measure `size` inputs per request. Those of a request that failed are requested again alone."""
    batches = [inputs[i : i + size] for i in range(0, len(inputs), size)]

    async def whole(batch: Sequence[Input]) -> list[Output | Refused]:
        try:
            return list(await measure(batch))
        except Refused as refused:
            if len(batch) > 1:
                return [(await whole([value]))[0] for value in batch]
            return [refused] * len(batch)

    answers = await each(batches, whole, label, max(2, concurrency // size))
    results: list[Output | Refused] = []
    for batch, answer in zip(batches, answers, strict=True):
        results += [answer] * len(batch) if isinstance(answer, Refused) else answer
    return results
