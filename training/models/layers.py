"""The layers of a decoder, of which only the last may be trained."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import nn

from training.artifacts.errors import UserError
from training.models.hardware import autocast, device


def freeze_below(model: Any, count: int) -> None:
    """Freeze all but the last `count` layers and what comes after them, such as a norm and the head.

    What lies below has no backward pass: with a third of the layers a step takes about half of the work, and keeps a
    third of the activations. Where the output head is the embedding, it is frozen too.

    Raises:
        UserError: the model does not have so many layers.
    """
    check(model, count)
    layers = layers_of(model)
    trained = {id(p) for layer in layers[len(layers) - count :] for p in layer.parameters()}
    trained |= {id(p) for module in _called_after(model, layers[-1]) for p in module.parameters(recurse=False)}
    embeddings = {id(p) for p in model.get_input_embeddings().parameters()}
    for parameter in model.parameters():
        if id(parameter) not in trained - embeddings:
            parameter.requires_grad_(False)


def _called_after(model: Any, layer: nn.Module) -> list[nn.Module]:
    """The modules that a forward pass calls after this layer; how a model is put together says nothing of the order."""
    called: list[nn.Module] = []
    hooks = [module.register_forward_pre_hook(lambda module, _: called.append(module)) for module in model.modules()]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), autocast():
            model(input_ids=torch.tensor([[0, 1]], device=device()), use_cache=False)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    inside = set(layer.modules())
    last = max(place for place, module in enumerate(called) if module in inside)
    return called[last + 1 :]


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
    text = model.config.get_text_config()
    count = int(getattr(text, "num_hidden_layers", 0))
    bodies = [module for module in model.modules() if type(getattr(module, "config", None)) is type(text)]
    within = bodies[0] if bodies else model  # not the layers of a model that reads pictures for it
    lists = [module for module in within.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return lists[0] if lists else nn.ModuleList()
