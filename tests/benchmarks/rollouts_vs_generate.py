"""PPO's rollouts by vLLM against transformers: `python -m tests.benchmarks.rollouts_vs_generate`.

One response to each of a batch of prompts, at temperature 1, from a policy in float32 on the CPU. Three samplers take
turns, each with all threads while the others rest: the engine of `--rollouts vllm`, which gets the policy's weights
anew in every round (exported and loaded), transformers' `generate` at the best of several batches, found in the first
round by CPU seconds, and the trainer's own sampler, `--rollouts transformers`. Weights change between rounds. Compared
are tokens per second, and beside them tokens per CPU second of all processes, which a busy machine changes less; what
starting the engine took is printed apart. Random models of 1 and 25 million parameters, and SmolLM2-135M-Instruct
where ALIGNLOOP_SMOLLM2 or the user's cache has it.

Responses end by chance, as a policy's do: the last tokens of the vocabulary end them, so many that a random model ends
about one response in fifty per token (`--ends 0.02`). With `--ends 0` all have the greatest length, which suits
`generate` best: it computes every row of a batch until the last one has ended.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import psutil
import torch

from tests.benchmarks.ppo_vs_trl import PROMPT, SIZES
from tests.support.speed_models import SMOLLM2


@dataclass(frozen=True)
class Work:
    """Prompts of a round, and the greatest length of a response."""

    batch: int
    tokens: int


class Speed(NamedTuple):
    """Tokens per second, and per CPU second."""

    wall: float
    cpu: float


WORK = {"1M": Work(128, 64), "25M": Work(64, 64), "smollm2": Work(32, 48)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=sorted(WORK), default=list(WORK))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 32, 64, 128], help="rows per call of `generate`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ends", type=float, default=0.02, help="share of the vocabulary that ends a response")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for size in options.sizes:
        if size == "smollm2" and not SMOLLM2.exists():
            print(f"smollm2: left out, {SMOLLM2} is not there")
            continue
        with tempfile.TemporaryDirectory() as folder:
            compare(size, load(size, Path(folder)), Path(folder), options)


def load(size: str, folder: Path) -> Any:
    """The policy in float32."""
    from training.models import loading
    from training.stages.adopt import Config, adopt

    if size != "smollm2":
        SIZES[size].save(folder)
        return loading.load(str(folder / "policy"), folder).model
    return loading.load(adopt(Config(str(SMOLLM2), home=folder)).id, folder).model


def compare(size: str, model: Any, folder: Path, options: argparse.Namespace) -> None:
    """Rounds of the three samplers, in turn."""
    from training.rl.engine import Engine
    from training.rl.rollouts import Sampling
    from training.stages import planning, rollout_options

    work, rng = WORK[size], random.Random(0)
    vocabulary = int(model.config.vocab_size)
    prompts = [[rng.randrange(10, 400) for _ in range(PROMPT)] for _ in range(work.batch)]
    stops = tuple(range(vocabulary - int(vocabulary * options.ends), vocabulary))
    print(f"{size}: {sum(p.numel() for p in model.parameters()):,} parameters, {work.batch} prompts of {PROMPT} tokens")
    plan = rollout_options.plan_engine((), [planning.Trained(model)], PROMPT, work.tokens, work.batch)
    assert plan is not None
    speeds: dict[str, list[Speed]] = {"engine": [], "generate": [], "own": []}
    with Engine(model, plan, options.threads, folder / "engine.log", folder) as engine:
        print(f"  the engine started in {engine.start_seconds:.1f} s")
        best: int | None = None
        for number in range(options.rounds):
            change(model, number)
            sampling = Sampling(1.0, work.tokens, stops, number)
            mine = partial(by_engine, engine, model, prompts, sampling)
            own = partial(by_own, model, prompts, sampling)
            if number == 0:
                mine(), own()  # kernels are chosen and memory is taken
            speeds["engine"].append(report("engine, sync included", mine))
            print(f"    sync {engine.sync_seconds * 1000:.0f} ms", flush=True)
            speeds["own"].append(report("the trainer's own sampler", own))
            of_batch = {
                rows: report(f"generate, {rows} rows", partial(by_generate, model, prompts, rows, sampling))
                for rows in (options.batches if best is None else (best,))
                if rows <= work.batch
            }
            best = max(of_batch, key=lambda rows: of_batch[rows].cpu)
            speeds["generate"].append(of_batch[best])
    for other, name in (("generate", "rollouts_vs_generate"), ("own", "rollouts_vs_own_sampler")):
        pairs = list(zip(speeds["engine"], speeds[other], strict=True))
        show(f"{name} {size} cpu", [mine.cpu / theirs.cpu for mine, theirs in pairs])
        show(f"{name} {size}", [mine.wall / theirs.wall for mine, theirs in pairs])


def show(name: str, ratios: list[float]) -> None:
    print(f"{name} ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def change(model: Any, number: int) -> None:
    """Other weights, as after an iteration."""
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-4 * torch.randn(parameter.shape, generator=generator))


def count(responses: list[list[int]]) -> int:
    return sum(map(len, responses))


def report(name: str, work: Callable[[], int]) -> Speed:
    """Speed of a call that returns how many tokens it sampled."""
    started, used = time.perf_counter(), cpu_seconds()
    tokens = work()
    seconds, used = time.perf_counter() - started, cpu_seconds() - used
    speed = Speed(tokens / seconds, tokens / used)
    print(f"  {name}: {tokens:,} tokens in {seconds:.2f} s, {used:.2f} CPU s, {speed.wall:,.0f} per second", flush=True)
    return speed


def cpu_seconds() -> float:
    """CPU time of this process and its children."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def by_engine(engine: Any, model: Any, prompts: list[list[int]], sampling: Any) -> int:
    """Tokens that the engine samples with the model's weights as they are."""
    engine.sync(model)
    return count(engine.generate(prompts, sampling).ids)


def by_own(model: Any, prompts: list[list[int]], sampling: Any) -> int:
    """Tokens that the trainer's own sampler samples."""
    from training.rl.rollouts import generate

    return count(generate(model, prompts, 1, sampling).ids)


def by_generate(model: Any, prompts: list[list[int]], rows: int, sampling: Any) -> int:
    """The same with transformers' `generate`, so many prompts per call; tokens up to the end of each response."""
    torch.manual_seed(sampling.seed)
    tokens = 0
    for start in range(0, len(prompts), rows):
        ids = torch.tensor(prompts[start : start + rows])
        with torch.inference_mode():
            sequences = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=sampling.temperature,
                top_k=0, top_p=1.0, max_new_tokens=sampling.max_tokens, eos_token_id=list(sampling.stop_ids) or None,
                pad_token_id=0,
            )  # fmt: skip
        ends = torch.isin(sequences[:, ids.shape[1] :], torch.tensor(sampling.stop_ids, dtype=torch.long)).int()
        tokens += int((ends.cumsum(1) - ends == 0).sum())
    return tokens


if __name__ == "__main__":
    main()
