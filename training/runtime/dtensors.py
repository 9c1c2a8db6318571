"""Tensors that are divided over the processes of a run, each of which holds some rows, beside whole ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from training.runtime import ranks


def is_divided(tensor: Tensor) -> bool:
    return isinstance(tensor, DTensor)


def full(tensor: Tensor) -> Tensor:
    """A divided tensor with the parts of all processes; any other as it is."""
    if not isinstance(tensor, DTensor):
        return tensor
    complete: Tensor = tensor.full_tensor()
    return complete


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    if not isinstance(tensor, DTensor):
        return tensor
    part: Tensor = tensor.to_local()
    return part


def put(target: Tensor, value: Tensor) -> None:
    """Set a tensor, divided or not, to a value that is whole or divided in the same way."""
    with torch.no_grad():
        if isinstance(target, DTensor) and not isinstance(value, DTensor):
            local(target).copy_(_own_part(value))
        else:
            target.copy_(value)


def for_optimizer(optimizer: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    """A saved state of an optimizer, whose tensors are whole, with moments divided as their parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {name: _like(parameters[number], value) for name, value in moments.items()}
        for number, moments in state_dict["state"].items()
    }
    return state_dict | {"state": state}


def _like(target: Tensor, value: Any) -> Any:
    """A whole value divided as `target` is; a count of steps, say, as it is."""
    if not isinstance(target, DTensor) or not isinstance(value, Tensor) or value.shape != target.shape:
        return value
    divided = torch.zeros_like(target, dtype=value.dtype)
    put(divided, value)
    return divided


def for_saving(state: Any) -> Any:
    """A state with whole tensors, on the CPU where they were divided; in the main process alone. One after the other,
    so that no device holds more than one of them whole. Every process takes part."""

    def complete(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        whole = full(tensor.detach())
        return whole.cpu() if ranks.is_main() else whole[:0]

    return _tree(state, complete)


def _own_part(value: Tensor) -> Tensor:
    """The rows that FSDP2 gives this process: the tensor in as many chunks as there are processes, or fewer."""
    chunks = value.chunk(ranks.count())
    return chunks[ranks.rank()] if ranks.rank() < len(chunks) else value[:0]


def _tree(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A state with each of its tensors changed, in the same order in every process."""
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, dict):
        return {key: _tree(value, change) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return type(state)(_tree(value, change) for value in state)
    return state
