"""Exponential moving average of a model's weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Ema:
    """average <- decay average + (1 - decay) weights, from 0, corrected for its start by 1 / (1 - decay^steps).

    Without the correction the average of a short run is mostly the initial weights: 36 % of them after 128 steps
    at 0.992.
    """

    def __init__(self, model: Any, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.sums: dict[str, Tensor] = {name: torch.zeros_like(p) for name, p in _trained(model)}

    def update(self, model: Any) -> None:
        """Take in the weights after an optimizer step."""
        self.steps += 1
        with torch.no_grad():
            for name, parameter in _trained(model):
                self.sums[name].lerp_(parameter, 1 - self.decay)

    def copy_to(self, model: Any) -> None:
        """Set the model's weights to the corrected average."""
        correction = 1 - self.decay**self.steps
        with torch.no_grad():
            for name, parameter in _trained(model):
                parameter.copy_(self.sums[name] / correction)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, value in state["sums"].items():
            self.sums[name].copy_(value)


def _trained(model: Any) -> list[tuple[str, Any]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def decay_for(decay: float, steps: int) -> float:
    """The decay for a run of so many steps: its horizon, 1 / (1 - decay), is at most a tenth of the run."""
    return min(decay, 1 - 1 / max(1.0, steps / 10))
