"""Which sampler PPO's rollouts come from, and where its engine computes."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from training.artifacts.errors import UserError
from training.models import exporting, hardware, memory
from training.rl import engine_settings
from training.rl.engine_settings import EnginePlan
from training.runtime import ranks
from training.runtime.runs import CONSOLE, NO_NUMBERS
from training.stages import planning

Sampler = Literal["auto", "vllm", "transformers"]
ENGINE_SHARE = 0.5  # of the free memory that an engine may take at most: the rest is for training


@dataclass(frozen=True, kw_only=True)
class RolloutOptions:
    """Options of a stage that samples from the policy that it trains."""

    rollouts: Sampler = "auto"
    """What samples: `transformers` in this process, or `vllm`, an engine that gets the new weights before each
    iteration. `auto` is vllm where it is installed and there is a GPU, and continues by transformers where the engine
    does not start or its log-probabilities are not the trainer's. An engine's samples differ from those of
    transformers; a resumed run gives the same bits with transformers only."""
    rollout_devices: tuple[int, ...] = field(default=(), metadata=NO_NUMBERS)
    """GPUs of the engine, by number, none of them the first, which trains. Left out, it shares the first one and sleeps
    while that trains."""


def resolve(options: RolloutOptions) -> Literal["vllm", "transformers"]:
    """What samples, on this machine.

    Raises:
        UserError: vllm is asked for and cannot be had, or its GPUs cannot.
    """
    installed = importlib.util.find_spec("vllm") is not None
    on_gpu = hardware.device().type == "cuda"
    processes = ranks.count()
    if options.rollouts == "vllm" and not installed:
        raise UserError("--rollouts vllm: vLLM is not installed here: run `make setup`, or use --rollouts transformers")
    if options.rollouts == "vllm" and processes > 1:
        raise UserError(f"--rollouts vllm: {processes} processes train here, which samples with transformers only")
    _check_devices(options, torch.cuda.device_count() if on_gpu else 0)
    if options.rollouts == "auto":
        return "vllm" if installed and processes == 1 and on_gpu else "transformers"
    return options.rollouts


def _check_devices(options: RolloutOptions, gpus: int) -> None:
    numbers = options.rollout_devices
    if not numbers:
        return
    if options.rollouts == "transformers":
        raise UserError("--rollout-devices are an engine's: leave them out, or use --rollouts vllm")
    if gpus < 2:
        raise UserError(f"--rollout-devices: there are {gpus} GPUs here, and the first one trains: leave it out")
    if len(set(numbers)) < len(numbers) or not all(0 < number < gpus for number in numbers):
        raise UserError(
            f"--rollout-devices {' '.join(map(str, numbers))}: name each GPU once, from 1 to {gpus - 1}; 0 trains"
        )


def plan_engine(
    devices: tuple[int, ...],
    trained: Sequence[planning.Trained],
    prompt: int,
    max_tokens: int,
    rows: int,
    may_fall_back: bool = False,
) -> EnginePlan | None:
    """Responses that are sampled at once by an engine, and the memory that it takes; says so.

    Args:
        devices: GPUs of its own.
        trained: the policy first, and what else is trained beside it.
        prompt: tokens of the longest prompt.
        rows: responses of an iteration.
        may_fall_back: where not one response fits there is no plan; else that is an error.

    Raises:
        UserError: not one response fits.
    """
    model = trained[0].model
    dtype = torch.bfloat16 if hardware.multiplies_in_bf16() else torch.float32
    device: engine_settings.Device = "cuda" if hardware.device().type == "cuda" else "cpu"
    context = prompt + max_tokens
    weights, per_token = exporting.size_of(model, dtype), memory.cache_per_token(model)
    count = min(rows, engine_settings.SEQUENCES[device])
    beside = weights + engine_settings.BESIDE_BYTES[device]
    if not devices:
        usable = int(memory.free() * memory.SHARE) - planning.states_of(trained) - beside
        # On a CPU the engine stays while the passes of training need memory as well.
        usable = usable if device == "cuda" else int(usable * ENGINE_SHARE)
        while count > 0 and engine_settings.cache_bytes(context, count, per_token) > usable:
            count //= 2
        if count == 0:
            least = engine_settings.cache_bytes(context, 1, per_token)
            fault = (
                f"an engine takes {memory.gigabytes(beside + least)}, and {memory.gigabytes(max(0, usable + beside))} "
                "are free for it beside the training"
            )
            if not may_fall_back:
                raise UserError(f"--rollouts vllm: {fault}: use --rollouts transformers or a smaller --max-tokens")
            CONSOLE.print(f"rollouts: by transformers, for {fault}", highlight=False, soft_wrap=True)
            return None
    gpu_bytes = torch.cuda.get_device_properties(0).total_memory if device == "cuda" and not devices else 0
    cache = engine_settings.cache_bytes(context, count, per_token)
    plan = EnginePlan(device, dtype, context, count, cache, weights, devices, gpu_bytes)
    CONSOLE.print(sentence(plan), highlight=False, soft_wrap=True)
    return plan


def sentence(plan: EnginePlan) -> str:
    """Where the engine computes, and what it takes."""
    if plan.device == "cpu":
        place = "on the CPU, beside the training"
    elif plan.gpus:
        place = f"on GPU {', '.join(map(str, plan.gpus))}, which it has for itself"
    else:
        place = "on the GPU that trains, asleep while that trains"
    return (
        f"rollouts: vLLM {place}: {plan.sequences} responses at once, {memory.gigabytes(plan.total_bytes)} of memory "
        f"({memory.gigabytes(plan.weight_bytes)} weights, {memory.gigabytes(plan.cache_bytes)} key-value cache)"
    )
