"""On a real engine at temperature 0.8, with the prompts fixed: intervals over seeds hold as often as they say."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from evals.bench import Bench
from evals.client import Client
from evals.generation import Answer
from evals.options import Config
from evals.sources import Sources
from evals.statistics.draws import draws_interval
from evals.subjects import Subject
from tests.support.live_service import running_service
from training.stages.adopt import Config as AdoptConfig
from training.stages.adopt import adopt

pytestmark = pytest.mark.slow
SEEDS, DRAWS = 20, 4
THINGS = (
    "a cup", "the sea", "an old book", "rain", "a train", "bread", "a dog", "the moon", "paper", "a garden",
    "winter", "a clock", "music", "a bridge", "salt", "a letter", "the wind", "a lamp", "stone", "a river",
)  # fmt: skip
PROMPTS = [f"{verb} {thing}." for verb in ("Describe", "Write one sentence about") for thing in THINGS]


@pytest.mark.timeout(3600)
def test_twenty_seeds(smollm2: Path, tmp_path: Path) -> None:
    """The interval over seeds holds the mean in 17 to 20 of 20, and is neither far too wide nor too narrow."""
    model = adopt(AdoptConfig(str(smollm2), home=tmp_path))
    rows = [{"id": str(n), "messages": [{"role": "user", "content": text}]} for n, text in enumerate(PROMPTS)]

    async def shares(url: str, key: str, seed: int) -> list[list[float]]:
        options = Config(temperature=0.8, max_tokens=24, seed=seed)
        async with Client(url, key) as client:
            bench = Bench(client, Subject(model.id, "chat", "policy"), Sources(), options)
            answers = await bench.answers("seeds", rows, f"seed {seed}", samples=DRAWS)
        texts = [[answer.text if isinstance(answer, Answer) else "" for answer in of_row] for of_row in answers]
        assert all(text for of_row in texts for text in of_row)
        return [[float(" is " in text) for text in of_row] for of_row in texts]

    with running_service(tmp_path, ("--with-engines", model.id)) as service:
        with service.client() as client:
            service.wait_for(lambda: model.id in client.get("/v1/models").text)
        key = service.add_key("eval")
        estimates = [draws_interval(asyncio.run(shares(service.url, key, seed))) for seed in range(SEEDS)]
    means = np.array([estimate.numbers()[0] for estimate in estimates])
    held = sum(low <= means.mean() <= high for _, low, high in (e.numbers() for e in estimates))
    width = float(np.mean([high - low for _, low, high in (e.numbers() for e in estimates)]))
    ratio = width / (3.92 * means.std(ddof=1))
    print(f"held {held} of {SEEDS}, mean width {width:.4f}, ratio to 3.92 SD between seeds {ratio:.2f}")
    assert 17 <= held <= 20
    # 3.92 SD is itself known to a sixth from 20 seeds: 1.3 either way.
    assert 1 / 1.3 <= ratio <= 1.3
