"""Weights, gradients and moments of a model divided over the processes of a run, by torch's FSDP2 (`fully_shard`).

Each layer's weights are gathered when it computes, and given back afterwards. A model is made, planned for and tried
out whole, then `shard` divides it in place; at the end `gather` makes it whole again in every process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, Concatenate, ParamSpec, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from training.models.hardware import device
from training.models.head import head_of
from training.models.layers import layers_of
from training.runtime import dtensors, ranks

P = ParamSpec("P")
METHOD = "in_one_forward"  # of a divided model

_skeletons: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()  # of divided models: they without weights
_meshes: list[DeviceMesh] = []
_within: ContextVar[bool] = ContextVar("within", default=False)


def shard(model: Any) -> None:
    """Divide a model over the processes, in place. In one process it stays whole."""
    if ranks.count() == 1:
        return
    if getattr(model, "get_output_embeddings", lambda: None)() is not None:
        head_of(model)  # tried out and kept while the model is whole
    skeleton = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    units = [*layers_of(model), model]
    for unit in units:
        # Also the root: weights that stay gathered would be those from before the next optimizer step.
        fully_shard(unit, mesh=_mesh(), reshard_after_forward=True)
        # The losses are divided by the counts of all processes, so gradients are added up; gloo has no other way.
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)
    setattr(model, METHOD, lambda work: work())
    register_fsdp_forward_method(model, METHOD)
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in skeleton.parameters()}
    _set_parameters(skeleton, empty)
    _skeletons[model] = skeleton


def _mesh() -> DeviceMesh:
    if not _meshes:
        _meshes.append(init_device_mesh(device().type, (ranks.count(),)))
    return _meshes[0]


def is_in_use() -> bool:
    """Whether some model is divided."""
    return len(_skeletons) > 0


def is_sharded(model: Any) -> bool:
    return isinstance(model, FSDPModule)


def in_one_forward(function: Callable[Concatenate[Any, P], Tensor]) -> Callable[Concatenate[Any, P], Tensor]:
    """Let a function of a model use any part of it, as its forward pass does: body, output head, scalar head.

    Of a divided model the weights outside its layers are gathered for the time of the call, and for its backward
    pass. Every process must call it equally often.
    """

    @wraps(function)
    def called(model: Any, *arguments: P.args, **keywords: P.kwargs) -> Tensor:
        if not is_sharded(model) or _within.get():
            return function(model, *arguments, **keywords)
        token = _within.set(True)
        try:
            result: Tensor = getattr(model, METHOD)(lambda: _no_view(function(model, *arguments, **keywords)))
        finally:
            _within.reset(token)
        return result

    return cast(Callable[Concatenate[Any, P], Tensor], called)


def _no_view(result: Tensor) -> Tensor:
    """A tensor of its own, on which FSDP2 can hang its backward pass."""
    return result if result._base is None else result.clone()


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights of a divided model gathered for the time of a block, whose passes then need no other process: for
    sampling, in which each process takes as many passes as its responses have tokens."""
    units = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(True, recurse=False)


def gather(model: Any) -> Any:
    """The model whole again, in every process; one that is not divided as it is."""
    if not is_sharded(model):
        return model
    skeleton = _skeletons[model]
    parts = dict(model.named_parameters())
    complete = {
        id(empty): nn.Parameter(dtensors.full(parts[name].detach()), empty.requires_grad)
        for name, empty in skeleton.named_parameters()
    }
    _set_parameters(skeleton, complete)
    return skeleton


def _set_parameters(model: nn.Module, by_id: dict[int, nn.Parameter]) -> None:
    """Replace parameters, those that several modules share by one."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = by_id[id(parameter)]
