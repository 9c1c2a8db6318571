"""The layers of a decoder, of which only the last may be trained."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

from training.artifacts.errors import UserError


def freeze_below(model: Any, count: int) -> None:
    """Freeze all but the last `count` layers, the norm after them and the head.

    What lies below has no backward pass: with a third of the layers a step takes about half of the work, and keeps a
    third of the activations. Where the output head is the embedding, it is frozen too.

    Raises:
        UserError: the model does not have so many layers.
    """
    check(model, count)
    model.get_input_embeddings().requires_grad_(False)
    layers = layers_of(model)
    for layer in layers[: len(layers) - count]:
        layer.requires_grad_(False)


def pattern_below(model: Any, count: int) -> str | None:
    """A regular expression of the names of all modules in the layers that `freeze_below` freezes; None without any."""
    check(model, count)
    layers = layers_of(model)
    [name] = [name for name, module in model.named_modules() if module is layers]
    numbers = "|".join(map(str, range(len(layers) - count)))
    return rf"{re.escape(name)}\.(?:{numbers})\..*" if numbers else None


def check(model: Any, count: int) -> None:
    """Raise `UserError` where the model has not so many layers."""
    layers = layers_of(model)
    if not layers:
        raise UserError(f"--train-layers: {type(model).__name__} has no list of layers: leave it out")
    if count > len(layers):
        raise UserError(f"--train-layers {count}: the model has {len(layers)} layers: use fewer, or leave it out")


def layers_of(model: Any) -> nn.ModuleList:
    """The list of a model's layers; an empty one where there is none."""
    count = int(getattr(model.config.get_text_config(), "num_hidden_layers", 0))
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return lists[0] if lists else nn.ModuleList()
