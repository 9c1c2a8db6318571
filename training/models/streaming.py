"""A model that reads its weights while it computes: a forward pass in float32 within a few hundred MB of memory.

For adopting models that do not fit into memory. Slow: every pass reads every weight from the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from training.artifacts.checkpoints import Kind
from training.models.building import without_dropout
from training.models.hardware import device
from training.models.weights import Entry, headers

SLICE_BYTES = 64 * 2**20  # of a matrix, in float32


class NotStreamableError(Exception):
    """The model's weights lie in its files under other names or in other shapes than in the model."""


def open_streamed(folder: Path, kind: Kind) -> Any:
    """The model of a folder with its weights left in their files.

    Raises:
        NotStreamableError: transformers converts these weights when it loads them (some mixtures of experts).
    """
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    with init_empty_weights(include_buffers=False):
        model = auto.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=False), dtype=torch.float32)
    model = without_dropout(model).eval()
    entries = entries_by_parameter(model, folder)
    for name, other in tied_names(model):
        if (both := entries.get(name) or entries.get(other)) is not None:
            entries = {name: both, other: both} | entries
    for prefix, module in model.named_modules():
        own: dict[str, Entry] = {}
        for name, parameter in module.named_parameters(recurse=False):
            stored = entries.get(_join(prefix, name))
            if stored is None or stored.shape != tuple(parameter.shape):
                raise NotStreamableError(_join(prefix, name))
            own[name] = stored
        for name, buffer in module.named_buffers(recurse=False):
            stored = entries.get(_join(prefix, name))
            module._buffers[name] = (stored.read().to(buffer.dtype) if stored else buffer).to(device())
        _read_when_needed(module, own)
    return model


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def tied_names(model: Any) -> list[tuple[str, str]]:
    """Pairs of parameters that the configuration calls one."""
    return list((getattr(model, "all_tied_weights_keys", None) or {}).items())


def entries_by_parameter(model: Any, folder: Path) -> dict[str, Entry]:
    """The tensors of a folder under the names that they have in the model, by transformers' own rules of renaming."""
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    state, prefix = model.state_dict(), model.base_model_prefix
    entries = {}
    for stored_name, entry in headers(folder).items():
        name, converted = rename_source_key(stored_name, renamings, converters, prefix, state)
        if name not in state:
            name, converted = rename_source_key(stored_name, [], [], prefix, state)
        if converted is None:
            entries[name] = entry
    return entries


def _read_when_needed(module: nn.Module, own: Mapping[str, Entry]) -> None:
    if not own:
        return
    if type(module) is nn.Linear:
        module.forward = partial(_linear, own)  # type: ignore[method-assign]  # of this module alone
    elif isinstance(module, nn.Embedding):
        module.padding_idx = None  # it only matters for gradients
        module.register_forward_pre_hook(partial(_read_rows, own["weight"]))
        module.register_forward_hook(lambda one, *_: _empty(one, own))
    else:
        module.register_forward_pre_hook(lambda one, _: _fill(one, own))
        module.register_forward_hook(lambda one, *_: _empty(one, own))


def _linear(own: Mapping[str, Entry], inputs: Tensor) -> Tensor:
    """A linear layer, a slice of its outputs at a time: (..., inputs) -> (..., outputs)."""
    weight, bias = own["weight"], own.get("bias")
    rows = max(1, SLICE_BYTES // (4 * weight.shape[1]))
    slices = [
        functional.linear(inputs, _float(weight.read(first, first + rows))) for first in range(0, weight.shape[0], rows)
    ]
    outputs = torch.cat(slices, -1)
    return outputs if bias is None else outputs + _float(bias.read())


def _read_rows(entry: Entry, module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Give an embedding the rows of the tokens at hand, numbered anew, and no others."""
    ids, places = torch.unique(arguments[0], return_inverse=True)
    rows = torch.cat([entry.read(int(i), int(i) + 1) for i in ids])
    module._parameters["weight"] = nn.Parameter(_float(rows), requires_grad=False)
    return (places, *arguments[1:])


def _fill(module: nn.Module, own: Mapping[str, Entry]) -> None:
    for name, entry in own.items():
        module._parameters[name] = nn.Parameter(_float(entry.read()), requires_grad=False)


def _empty(module: nn.Module, own: Mapping[str, Entry]) -> None:
    for name, entry in own.items():
        module._parameters[name] = nn.Parameter(torch.empty(entry.shape, device="meta"), requires_grad=False)


def _float(tensor: Tensor) -> Tensor:
    return tensor.to(device(), torch.float32)
