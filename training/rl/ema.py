"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from training.runtime.dtensors import put


class Ema:
    """average <- decay average + (1 - decay) weights, from 0, corrected for its start by 1 / (1 - decay^steps).

    InstructGPT averages the policy's weights with decay 0.992 (appendix C.4). Started from the initial weights, as is
    common, the average of a short run would mostly hold those: 36 % after 128 steps at 0.992.

    Attributes:
        steps: number of updates so far.
        sums: the uncorrected average of each trained parameter, by its name.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.sums: dict[str, Tensor] = {name: torch.zeros_like(p) for name, p in _trained(model)}

    def update(self, model: Module) -> None:
        """Add the weights after an optimizer step."""
        self.steps += 1
        with torch.no_grad():
            for name, parameter in _trained(model):
                self.sums[name].lerp_(parameter, 1 - self.decay)

    def copy_to(self, model: Module) -> None:
        """Set the model's weights to the corrected average."""
        correction = 1 - self.decay**self.steps
        with torch.no_grad():
            for name, parameter in _trained(model):
                parameter.copy_(self.sums[name] / correction)

    @contextmanager
    def applied(self, model: Module) -> Iterator[None]:
        """The model with the corrected average for the time of a block; afterwards with its own weights, to the bit."""
        own = {name: p.detach().clone() for name, p in _trained(model)}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in _trained(model):
                    parameter.copy_(own[name])

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]
        for name, value in state["sums"].items():
            put(self.sums[name], value)


def _trained(model: Module) -> list[tuple[str, Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def decay_for(decay: float, steps: int) -> float:
    """The decay for a run of `steps` steps: its horizon, 1 / (1 - decay) steps, is at most a tenth of the run."""
    return min(decay, 1 - 1 / max(1.0, steps / 10))
