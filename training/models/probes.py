"""Log-probabilities and rewards that a manifest keeps, to recognise the weights when they are served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from training.models.forward import logits_of, scores_of
from training.models.hardware import device, full_precision
from training.rl.losses import token_logprobs

PROBES = 4  # conversations that a manifest keeps with their log-probabilities or rewards


def policy_probe(model: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids and the float32 log-probabilities of ids[1:], for the manifest."""
    return {
        "ids": [list(row) for row in rows],
        "logprobs": [row.tolist() for row in _each(rows, lambda row: _own_logprobs(model, row))],
    }


def reward_probe(model: Any, rows: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Token ids and their raw float32 rewards, for the manifest."""
    rewards = [float(score) for score in _each(rows, lambda row: scores_of(model, [row])[0])]
    return {"ids": [list(row) for row in rows], "rewards": rewards}


def _own_logprobs(model: Any, row: Sequence[int]) -> Tensor:
    return token_logprobs(logits_of(model, [row])[0], torch.tensor(row[1:], device=device()))


def _each(rows: Sequence[Sequence[int]], function: Any) -> list[Tensor]:
    """Row by row, so that no padding is involved, in float32."""
    with torch.no_grad(), full_precision():
        return [function(row) for row in rows]
