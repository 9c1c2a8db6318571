"""Options of what is trained, all or the last layers or LoRA's adapters; what a run saves of it, and publishes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.models import layers, lora, memory, sharding
from training.runtime import dtensors, runs

NOTED_SHARE = 0.01  # of the layers' weights; state-space layers have thin convolutions without adapters


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Options of every stage that trains an existing model."""

    lora_rank: int = 0
    """With a number above 0 the weights stay as they are, and low-rank adapters of this rank are trained beside them
    (Hu et al. 2021): no moments or gradients of whole matrices. They want a rate about ten times as high. What is
    published has them added to its weights, and holds them by themselves in the folder `adapter`."""
    lora_alpha: float | None = None
    """The adapters' product is multiplied by this / rank; left out, twice the rank. Ours."""
    train_layers: int | None = None
    """Train this many of the last layers alone, with the norm after them and the head; left out, all. A third of the
    layers takes about half of the work of a step, and a third of the memory of its passes."""


class Config(Protocol):
    @property
    def lora_rank(self) -> int: ...

    @property
    def lora_alpha(self) -> float | None: ...

    @property
    def train_layers(self) -> int | None: ...

    @property
    def seed(self) -> int: ...


def check(config: LoraOptions) -> None:
    """Raise `UserError` for settings that make no sense, before anything is loaded."""
    if config.lora_rank < 0:
        raise UserError(f"--lora-rank {config.lora_rank}: use a rank such as 16, or 0 to train all weights")
    if config.train_layers is not None and config.train_layers < 1:
        raise UserError(f"--train-layers {config.train_layers}: use at least 1, or leave it out")
    if config.lora_alpha is not None and (config.lora_rank == 0 or config.lora_alpha <= 0):
        raise UserError("--lora-alpha needs a --lora-rank, and is a number above 0: change one")


def add(config: Config, model: Any, purpose: str) -> None:
    """Freeze what the options leave out, and give the model adapters where they say so.

    Args:
        purpose: makes the adapters' random numbers its own.
    """
    if config.lora_rank > 0:
        alpha = 2.0 * config.lora_rank if config.lora_alpha is None else config.lora_alpha
        seed = runs.derive_seed(config.seed, "lora", purpose)
        lora.add(model, config.lora_rank, alpha, seed, config.train_layers)
        names, share = lora.not_adapted(model, config.train_layers)
        if share > NOTED_SHARE:
            sentence = (
                f"LoRA: {', '.join(names)} get no adapters and stay as they are, {share:.0%} of the layers' weights"
            )
            progress.CONSOLE.print(sentence, highlight=False, markup=False)
    freeze(config, model)


def freeze(config: Config, model: Any) -> None:
    """Freeze the layers that the options leave out."""
    if config.train_layers is not None:
        layers.freeze_below(model, config.train_layers)


def merge(model: Any, load: Callable[[], Any]) -> tuple[Any, lora.Adapter | None]:
    """The model as it is published, whole, and its adapters by themselves; without adapters the model itself.

    Args:
        load: gives the model as it was before it got adapters.
    """
    model = sharding.gather(model)
    if not lora.is_adapted(model):
        return model, None
    memory.release()  # of passes; the whole weights come beside what is loaded
    return lora.merge(model, load())


class Trained:
    """The parameters of a model that a run trains, as a part of its state. The others come from their files again."""

    def __init__(self, model: Any) -> None:
        self._parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def state_dict(self) -> dict[str, Any]:
        return dict(self._parameters)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                dtensors.put(parameter, state_dict[name])
