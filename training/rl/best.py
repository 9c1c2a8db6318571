"""The best weights so far, by a figure that is measured on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from training.runtime.dtensors import is_divided, put


class Best:
    """A copy of a model's trained weights where a figure was best, kept with the run's state.

    Attributes:
        step: where that was; None before anything was taken.
        figures: what was measured there.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.figures: dict[str, float] = {}
        self._value = -math.inf
        self._weights: dict[str, Tensor] = {}

    def take(self, model: Module, step: int, value: float, figures: Mapping[str, float]) -> bool:
        """Copy the weights if `value` is higher than any before; whether it is. Of equal ones the first stays."""
        if not value > self._value:
            return False
        self.step, self._value, self.figures = step, value, dict(figures)
        trained = ((name, p) for name, p in model.named_parameters() if p.requires_grad)
        self._weights = {name: _copy(p.detach()) for name, p in trained}
        return True

    def copy_to(self, model: Module) -> None:
        """Set the model's trained weights to the copy."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    put(parameter, self._weights[name])

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "value": self._value, "figures": self.figures, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self._value = state_dict["step"], state_dict["value"]
        self.figures, self._weights = state_dict["figures"], state_dict["weights"]


def _copy(weight: Tensor) -> Tensor:
    """On the CPU; a divided weight, which is small, stays where it is."""
    return weight.clone() if is_divided(weight) else weight.to("cpu", copy=True)
