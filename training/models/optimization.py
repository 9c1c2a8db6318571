"""AdamW over several models, its learning rates, gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from training.models import sharding
from training.runtime import dtensors, ranks


def adamw(
    groups: Iterable[tuple[Any, float]], betas: tuple[float, float] = (0.9, 0.95), decay: float = 0.0, eps: float = 1e-8
) -> torch.optim.AdamW:
    """AdamW over (model, learning rate) pairs; each group remembers its peak rate for `set_rate`.

    betas (0.9, 0.95): Ouyang et al. 2022, appendix C. No decay and eps 1e-8 are ours; the reward model and PPO take
    1e-5, as the authors' earlier code does (Ziegler et al. 2019).
    """
    parameter_groups = [
        {"params": [p for p in model.parameters() if p.requires_grad], "lr": rate, "peak": rate}
        for model, rate in groups
    ]
    return torch.optim.AdamW(parameter_groups, betas=betas, weight_decay=decay, eps=eps, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to `factor` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def add_up_gradients(models: Iterable[Any]) -> None:
    """Add up the gradients of all processes, once per step, after all of its passes.

    This is data parallelism without the hooks of torch's DistributedDataParallel: they take the mean over processes,
    where losses here are divided by the tokens or prompts of all already, and they expect equally many passes of each.
    Divided weights have their sum since their backward pass (`sharding.shard`). A gradient that some process lacks is
    0 there; one that all lack stays absent.
    """
    if ranks.count() == 1:
        return
    trained = [p for model in models if not sharding.is_sharded(model) for p in model.parameters() if p.requires_grad]
    present = ranks.most([float(p.grad is not None) for p in trained])
    used = [parameter for parameter, some in zip(trained, present, strict=True) if some]
    for parameter in used:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    ranks.add_up([parameter.grad for parameter in used if parameter.grad is not None])


def clip_gradients(parts: Iterable[Any], limit: float) -> float:
    """Scale the gradient of each model to a norm of at most `limit`. Returns the norm of the first, or NaN where one
    of them is not finite: then no optimizer step may follow."""
    norms = [float(dtensors.full(nn.utils.clip_grad_norm_(part.parameters(), limit))) for part in parts]
    return norms[0] if all(map(math.isfinite, norms)) else math.nan


def cosine(step: int, total: int, floor: float = 0.1) -> float:
    """Factor that falls from 1 at step 0 to `floor` at the last step along a cosine.

    To a tenth, without warm-up: Ouyang et al. 2022, appendices C.1 and C.2.
    """
    done = step / max(1, total - 1)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))
