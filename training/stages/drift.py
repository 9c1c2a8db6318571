"""How far policies moved from where they started, and what it bought: KL and reward on held-out prompts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import tyro
from torch import Tensor

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.data import lengths, reading
from training.models import forward, hardware, loading, memory, templates
from training.rl import batches, rollouts
from training.runtime import runs
from training.runtime.configuration import parse
from training.stages import intervals, limits, sample

TOKENS_PER_PASS = 4096
AT_ONCE = 32  # prompts that are sampled together


@dataclass(frozen=True)
class Config:
    """Measure policies on held-out prompts: mean reward, and KL from the policy that they started from."""

    prompts: tuple[str, ...]
    """Prompts that no policy was trained on: files, folders or hub ids (ID[:configuration][@split])."""
    policy: tuple[str, ...]
    """Policies to measure: checkpoint ids, stages (their newest), or folders."""
    start: str = "sft"
    """The policy that they started from; it is measured too."""
    reward: str = "reward"
    """Reward model with the policies' tokenizer."""
    limit: int | None = None
    """Use this many prompts at most, drawn at random."""
    temperature: float = 1.0
    """Sampling temperature, above 0; every log-probability is taken at it."""
    max_tokens: int = 64
    """Greatest length of a response in tokens."""
    max_prompt_tokens: int = lengths.PROMPT
    """Longer prompts are left out, never cut."""
    out: Path | None = None
    """File for one JSON line per prompt, with all responses, their rewards and KL."""
    dtype: hardware.Dtype = "auto"
    """What forward passes multiply in: `auto` is bfloat16 where the hardware has it, else float32."""
    seed: int = 0
    """Seed of the draw of prompts and of sampling."""
    home: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("runs")
    """Where everything is written."""


class Answers(NamedTuple):
    """A policy's answers, one to each prompt.

    Attributes:
        rewards: offset subtracted; a response that was cut off is scored as it stands.
        kl: log(pi / pi_start) of the whole response, in nats; 0 for the start itself.
    """

    ids: list[list[int]]
    texts: list[str]
    finished: list[bool]
    rewards: list[float]
    kl: list[float]


def measure(config: Config) -> dict[str, Any]:
    """Mean reward of each policy and of the start, their paired difference, and the KL, with intervals over prompts.

    Returns:
        `start`, `reward`, `prompts`, and `policies`: id -> `reward` and, but for the start, `gain`, `kl` (nats per
        response) and `kl_per_token`, all `intervals.Interval`; `finished` is a share, `tokens` a mean.
    """
    if config.temperature <= 0:
        raise UserError("--temperature must be above 0: a greedy policy has no KL")
    if config.max_tokens < 1:
        raise UserError(f"--max-tokens {config.max_tokens}: use at least 1")
    hardware.set_threads()
    hardware.set_dtype(config.dtype)
    start = loading.load(config.start, config.home)
    reward = loading.load(config.reward, config.home, "reward")
    renderer = templates.renderer_for(start)
    renderer.require_end()
    context = limits.context_of(start.model, None)
    longest = limits.prompt_length(context, config.max_tokens, config.max_prompt_tokens)
    selection = reading.select(reading.PROMPTS, config.prompts, limit=config.limit, seed=config.seed)
    prompts, usage = sample.load_prompts(selection, renderer, longest)
    limits.report(usage)
    ids = [prompt.ids for prompt in prompts]
    answers: dict[str, Answers] = {}
    for name in dict.fromkeys((config.start, *config.policy)):
        source = start if name == config.start else loading.load(name, config.home)
        for other in (source, reward):
            _check_tokenizer(start, other)
        answers[source.key] = _answers(source, start, reward, renderer, ids, config)
    if config.out is not None:
        rows = [
            {
                "id": prompt.record.id,
                "messages": list(prompt.record.messages),
                "responses": {
                    name: {"text": one.texts[i], "finished": one.finished[i], "reward": one.rewards[i], "kl": one.kl[i]}
                    for name, one in answers.items()
                },
            }
            for i, prompt in enumerate(prompts)
        ]
        write_atomically(config.out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    first = answers[start.key]
    return {
        "start": start.key,
        "reward": reward.key,
        "prompts": len(prompts),
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "policies": {name: _figures(one, None if name == start.key else first) for name, one in answers.items()},
    }


def _figures(answers: Answers, start: Answers | None) -> dict[str, Any]:
    ones = [1.0] * len(answers.ids)
    tokens = [float(len(ids)) for ids in answers.ids]
    figures: dict[str, Any] = {
        "reward": intervals.bootstrap(answers.rewards, ones),
        "finished": sum(answers.finished) / len(ones),
        "tokens": sum(tokens) / len(ones),
    }
    if start is not None:
        gains = [one - other for one, other in zip(answers.rewards, start.rewards, strict=True)]
        figures["gain"] = intervals.bootstrap(gains, ones)
        figures["kl"] = intervals.bootstrap(answers.kl, ones)
        figures["kl_per_token"] = intervals.bootstrap(answers.kl, tokens)
    return figures


def _answers(
    source: loading.Source,
    start: loading.Source,
    reward: loading.Source,
    renderer: Any,
    prompts: list[list[int]],
    config: Config,
) -> Answers:
    runs.CONSOLE.print(f"{source.key}: {len(prompts):,} answers of at most {config.max_tokens} tokens")
    ids: list[list[int]] = []
    finished: list[bool] = []
    parts = batches.chunks(list(range(len(prompts))), AT_ONCE)
    for number, part in enumerate(progress.track(parts, "sampling")):
        seed = runs.derive_seed(config.seed, "drift", number)
        sampling = rollouts.Sampling(config.temperature, config.max_tokens, renderer.stop_ids, seed)
        sampled = rollouts.generate(source.model, [prompts[i] for i in part], 1, sampling)
        ids += sampled.ids
        finished += sampled.finished
    offset = reward.reward_offset
    rows = list(map(renderer.extend, prompts, ids))
    raw = _by_parts(rows, lambda part: forward.scores_of(reward.model, [rows[i] for i in part]), "rewards")
    kl = [0.0] * len(ids)
    if source is not start:
        own, other = (_logprobs(model, prompts, ids, config.temperature) for model in (source.model, start.model))
        kl = [one - two for one, two in zip(own, other, strict=True)]
    return Answers(ids, [renderer.answer(one) for one in ids], finished, [value - offset for value in raw], kl)


def _logprobs(model: Any, prompts: list[list[int]], responses: list[list[int]], temperature: float) -> list[float]:
    """Log-probability of each whole response."""

    def compute(part: Sequence[int]) -> Tensor:
        rows = [prompts[i] for i in part], [responses[i] for i in part]
        return forward.response_logprobs(model, *rows, temperature).sum(1)

    return _by_parts([[*p, *r] for p, r in zip(prompts, responses, strict=True)], compute, "log-probabilities")


def _by_parts(rows: Sequence[Sequence[int]], compute: Callable[[Sequence[int]], Tensor], title: str) -> list[float]:
    """One number per row, of `compute` for the numbers of the rows that go forward together."""
    values: dict[int, float] = {}

    def run(tokens: int) -> None:
        with torch.no_grad():
            for part in progress.track(batches.passes(range(len(rows)), list(map(len, rows)), tokens), title):
                values.update(zip(part, compute(part).tolist(), strict=True))

    memory.Budget(TOKENS_PER_PASS).run([], run)
    return [values[i] for i in range(len(rows))]


def _check_tokenizer(one: loading.Source, other: loading.Source) -> None:
    """Raise `UserError` where another model would read these token ids as another text."""
    same = one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    if not same or one.tokenizer.chat_template != other.tokenizer.chat_template:
        raise UserError(f"{one.key} and {other.key} have different tokenizers: measure models of one family")


def main(arguments: Sequence[str]) -> int:
    """`python -m training drift`."""
    print(json.dumps(measure(parse(Config, "drift", arguments))))
    return 0
