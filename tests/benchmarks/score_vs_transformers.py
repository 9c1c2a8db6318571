"""`/score` against transformers' batched forward: `python -m tests.benchmarks.score_vs_transformers`.

A reward model under a random head, in float32 on CPU: engine and gateway started as the product starts them, and
`AutoModelForSequenceClassification` in this process, each with all cores while the other rests. Both are given
conversations as text, 32 responses to a prompt at a time; ours over HTTP, four requests open together; transformers
rendered by its own chat template, the responses of a prompt ordered by length and padded, at the best of several batch
sizes, found in the first round. Texts are new in each round: nothing is cached. The scores must agree to 1e-4, or the
benchmark ends with status 1. Aim: at least 1.0 times its responses per second. Beside it stand responses per second of
CPU time of all processes, which a busy machine changes less.

`smollm2` is SmolLM2-135M-Instruct's body, `miniature` a random model of the demo's sizes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import torch

from tests.support.live_service import Running, running_service
from tests.support.load import show
from tests.support.speed_models import documents, publish

PROMPTS = {"smollm2": 2, "miniature": 64}
RESPONSES = 32  # to a prompt, in one request
BATCHES = (1, 2, 4, 8, 16, 32)
IN_FLIGHT = 4  # requests
TOLERANCE = 1e-4
AIM = 1.0
Group = tuple[str, list[str]]  # a prompt and its responses


@dataclass(frozen=True)
class Rates:
    """Responses per second, and per second of CPU time."""

    wall: float
    cpu: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["smollm2", "miniature"], default="miniature")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--prompts", type=int, help="of a round")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.prompts = options.prompts or PROMPTS[options.model]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        checkpoint = publish(options.model, home, reward=True)
        threads = {"ALIGNLOOP_ENGINE_THREADS": str(options.threads)}
        with running_service(home, ("--with-engines", checkpoint.id), environment=threads) as running:
            running.wait_ready()
            print("ready", flush=True)
            compare(running, running.add_key("score"), checkpoint, options)


def compare(running: Running, key: str, checkpoint: Any, options: argparse.Namespace) -> None:
    """Rounds of both, in turn."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.set_num_threads(options.threads)
    model: Any = AutoModelForSequenceClassification.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, padding_side="right")
    texts, rng = documents(), random.Random(0)
    ratios: list[float] = []
    cpu_ratios: list[float] = []
    sizes, furthest = BATCHES, 0.0
    for number in range(options.rounds + 1):
        groups = [make_group(texts, rng) for _ in range(options.prompts)]
        if number % 2:
            expected, theirs = forward_rates(model, tokenizer, groups, sizes)
            scores, ours = score_rates(running, key, checkpoint.id, groups)
        else:
            scores, ours = score_rates(running, key, checkpoint.id, groups)
            expected, theirs = forward_rates(model, tokenizer, groups, sizes)
        sizes = (max(theirs, key=lambda size: theirs[size].wall),)
        furthest = max(furthest, float(np.abs(scores - expected).max()))
        said = ", ".join(f"batch {size} {rates.wall:.0f}" for size, rates in theirs.items())
        note = "" if number else " (warms up, not counted)"
        print(f"round {number}{note}: ours {ours.wall:.0f} responses/s, transformers {said}", flush=True)
        if number:
            ratios.append(ours.wall / theirs[sizes[0]].wall)
            cpu_ratios.append(ours.cpu / theirs[sizes[0]].cpu)
    print(f"score_vs_transformers {options.model} largest difference {furthest:.1e} (at most {TOLERANCE:.0e})")
    show(f"score_vs_transformers {options.model} cpu ratio", cpu_ratios)
    print(f"aim {AIM}: {'met' if np.median(ratios) >= AIM else 'missed'}")
    show(f"score_vs_transformers {options.model} ratio", ratios)
    if furthest > TOLERANCE:
        raise SystemExit("the scores differ")


def make_group(texts: Iterator[str], rng: random.Random) -> Group:
    """A prompt and responses of 5 to 60 words, all different."""
    prompt = next(texts)
    words = [[word for _ in range(4) for word in next(texts).split()] for _ in range(RESPONSES)]
    return prompt, [" ".join(one[: rng.randint(5, 60)]) for one in words]


def score_rates(running: Running, key: str, model: str, groups: list[Group]) -> tuple[np.ndarray, Rates]:
    """Scores of `/score`, and how fast they came."""
    processes = [psutil.Process(running.process.pid), *running.descendants()]
    return timed(lambda: asyncio.run(score(running.url, key, model, groups)), processes)


def forward_rates(
    model: Any, tokenizer: Any, groups: list[Group], sizes: Sequence[int]
) -> tuple[np.ndarray, dict[int, Rates]]:
    """Scores of transformers, and how fast they came by batch size."""
    results = {size: timed(lambda s=size: forward(model, tokenizer, groups, s), []) for size in sizes}  # type: ignore[misc]
    return results[sizes[-1]][0], {size: rates for size, (_, rates) in results.items()}


def timed(work: Callable[[], np.ndarray], processes: list[psutil.Process]) -> tuple[np.ndarray, Rates]:
    """The scores that a call returns, with the CPU time of this process and of others."""

    def cpu() -> float:
        times = [process.cpu_times() for process in processes]
        return time.process_time() + sum(t.user + t.system for t in times)

    wall, used = time.perf_counter(), cpu()
    scores = work()
    return scores, Rates(scores.size / (time.perf_counter() - wall), scores.size / (cpu() - used))


async def score(url: str, key: str, model: str, groups: list[Group]) -> np.ndarray:
    """Raw scores by `/score`, shape (prompts, responses)."""
    gate = asyncio.Semaphore(IN_FLIGHT)

    async def one(http: aiohttp.ClientSession, prompt: str, responses: list[str]) -> list[float]:
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "responses": responses}
        async with gate, http.post(f"{url}/score", json=body) as reply:
            answer = await reply.json()
        assert reply.status == 200, answer
        return [row["raw"] for row in answer["data"]]

    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http:
        return np.array(await asyncio.gather(*(one(http, *group) for group in groups)))


def forward(model: Any, tokenizer: Any, groups: list[Group], size: int) -> np.ndarray:
    """The same by transformers, `size` responses at a time."""
    scores = np.zeros((len(groups), RESPONSES))
    for row, (prompt, responses) in enumerate(groups):
        order = sorted(range(RESPONSES), key=lambda i: len(responses[i]))
        for start in range(0, RESPONSES, size):
            part = order[start : start + size]
            conversations = [
                [{"role": "user", "content": prompt}, {"role": "assistant", "content": responses[i]}] for i in part
            ]
            texts = tokenizer.apply_chat_template(conversations, tokenize=False)
            inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                scores[row, part] = model(**inputs).logits[:, 0].numpy()
    return scores


if __name__ == "__main__":
    main()
