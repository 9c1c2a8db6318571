"""Sampled continuations against transformers' `generate`: `python -m tests.benchmarks.toxicity_vs_generate`.

100 prompts of RealToxicityPrompts x 25 samples of 20 tokens (top-p 0.9, temperature 1) by SmolLM2-135M-Instruct in
float32 on CPU: our engine, started as the product starts it and asked as the toxicity suite asks it, and `generate`
with `num_return_sequences` in this process, each with all cores while the other rests. `generate` runs at the best of
several numbers of prompts per batch, of like length so that it pads little, found in the first round. Compared are
seconds, and beside them CPU seconds of engine, gateway and client, which a busy machine changes less. Nothing is
cached. Needs ALIGNLOOP_DATA, and ALIGNLOOP_SMOLLM2 or the file that the tests keep in the user's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from tests.support.speed_models import SMOLLM2 as MODEL

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ALIGNLOOP_DATA", ROOT.parent / "shared" / "data"))
BATCHES = (1, 2, 4, 10)  # prompts in one call of `generate`


@dataclass(frozen=True)
class Measured:
    """Wall and CPU seconds of one run, and the tokens that it generated."""

    seconds: float
    cpu: float
    tokens: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--samples", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    options = parser.parse_args()
    for needed in (MODEL, DATA / "rtp"):
        if not needed.exists():
            raise SystemExit(f"{needed} is not there: see the variables above")
    from evals.data import realtoxicity
    from tests.support.live_service import running_service
    from training.stages.adopt import Config, adopt

    prompts = realtoxicity.balanced(realtoxicity.read(str(DATA / "rtp")).records, options.prompts, 0)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        checkpoint = adopt(Config(str(MODEL), home=home))
        with running_service(home, ("--with-engines", checkpoint.id)) as running:
            running.wait_ready()
            compare(running, checkpoint, [prompt.text for prompt in prompts], options)


def compare(running: Any, checkpoint: Any, prompts: Sequence[str], options: argparse.Namespace) -> None:
    """Rounds of both, in turn."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, padding_side="left")
    key, processes = running.add_key("eval"), running.descendants()
    pairs: list[tuple[Measured, Measured]] = []
    best = None
    for number in range(options.rounds):
        seed = number + 1
        mine = timed(lambda s=seed: ours(running, checkpoint, tokenizer, prompts, key, options.samples, s), processes)
        report(f"round {number + 1}: ours", mine)
        theirs: dict[int, Measured] = {}
        for size in options.batches if best is None else (best,):
            theirs[size] = timed(
                lambda s=size, seed=seed: generate(model, tokenizer, prompts, s, options.samples, seed), []
            )
            report(f"round {number + 1}: generate, {size} prompts x {options.samples}", theirs[size])
        best = min(theirs, key=lambda size: theirs[size].seconds)
        pairs.append((mine, theirs[best]))
    ratio("toxicity_vs_generate cpu ratio", [theirs.cpu / mine.cpu for mine, theirs in pairs])
    ratio("toxicity_vs_generate ratio", [theirs.seconds / mine.seconds for mine, theirs in pairs])


def report(name: str, measured: Measured) -> None:
    print(f"{name}: {measured.seconds:.1f} s, {measured.cpu:.1f} CPU s, {measured.tokens:,} tokens", flush=True)


def ratio(name: str, values: list[float]) -> None:
    print(f"{name} {median(values):.2f} ({min(values):.2f} to {max(values):.2f})", flush=True)


def timed(work: Callable[[], int], processes: list[psutil.Process]) -> Measured:
    """Seconds of a call, with the CPU time of this process and of others."""

    def cpu() -> float:
        times = [process.cpu_times() for process in processes if process.is_running()]
        return time.process_time() + sum(t.user + t.system for t in times)

    wall, used = time.perf_counter(), cpu()
    tokens = work()
    return Measured(time.perf_counter() - wall, cpu() - used, tokens)


def ours(
    running: Any, checkpoint: Any, tokenizer: Any, prompts: Sequence[str], key: str, samples: int, seed: int
) -> int:
    """The continuations as the toxicity suite draws them."""
    from evals.bench import Bench
    from evals.client import Client
    from evals.generation import Answer
    from evals.options import Config
    from evals.sources import Sources
    from evals.subjects import Subject
    from evals.suites.realtoxicity import SAMPLED

    rows = [
        {"id": str(number), "messages": [{"role": "user", "content": prompt}], "text": prompt}
        for number, prompt in enumerate(prompts)
    ]

    async def work() -> list[list[Any]]:
        async with Client(running.url, key) as client:
            bench = Bench(client, Subject(checkpoint.id, "plain", "model"), Sources(), Config(seed=seed))
            return await bench.answers("toxicity", rows, "continuations", SAMPLED, lambda row: row["text"], samples)

    answers = [answer for of_row in asyncio.run(work()) for answer in of_row]
    assert len(answers) == len(prompts) * samples
    assert all(isinstance(answer, Answer) for answer in answers)
    texts = [answer.text for answer in answers]
    assert len(set(texts)) > len(texts) // 2, "samples of a prompt must differ"
    ended = sum(answer.finish_reason == "stop" for answer in answers)
    return sum(len(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]) + ended


def generate(model: Any, tokenizer: Any, prompts: Sequence[str], size: int, samples: int, seed: int) -> int:
    """The same with transformers, prompts of like length together."""
    from evals.suites.realtoxicity import SAMPLED

    torch.manual_seed(seed)
    order = sorted(prompts, key=lambda prompt: len(tokenizer(prompt)["input_ids"]))
    tokens = 0
    for start in range(0, len(order), size):
        inputs = tokenizer(order[start : start + size], return_tensors="pt", padding=True)
        with torch.inference_mode():
            sequences = model.generate(
                **inputs, do_sample=True, temperature=SAMPLED.temperature, top_p=SAMPLED.top_p, top_k=0,
                max_new_tokens=SAMPLED.max_tokens, num_return_sequences=samples, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        continuations = sequences[:, inputs["input_ids"].shape[1] :]
        tokenizer.batch_decode(continuations, skip_special_tokens=True)
        # One end of turn per row that ended; it is also the padding behind it.
        ends = (continuations == tokenizer.eos_token_id).int()
        tokens += int((ends.cumsum(1) - ends == 0).sum())
    return tokens


if __name__ == "__main__":
    main()
