"""A policy's weights as another engine reads them: whole matrices, and an output head of its own."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from training.models import lora
from training.models.weights import DTYPES, SINGLE

BASE_LAYER = ".base_layer."  # what peft puts into the name of a matrix that has adapters


def write_config(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write config.json for the weights that `write_weights` writes: untied, in this dtype. The model stays as it is.

    vLLM on a CPU leaves a tied head with its old weights when others are loaded; an untied one it loads.
    """
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    for part in {id(one): one for one in (config, config.get_text_config())}.values():
        part.tie_word_embeddings = False
        part.dtype = dtype
    config.save_pretrained(folder)


def write_weights(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Write the weights under the names that they have in a published checkpoint, adapters added to their matrices.

    Tensors that the model holds once under several names, such as tied embeddings, are written under each.

    Raises:
        OSError: there is no room.
    """
    with torch.no_grad():
        tensors = revert_weight_conversion(model, dict(_whole(model)))
        _write(folder / SINGLE, tensors, dtype)


def size_of(model: Any, dtype: torch.dtype) -> int:
    """Bytes of the file of weights, but for its header."""
    return sum(tensor.numel() * _dtype_in_file(tensor, dtype).itemsize for _, tensor in _stored(model))


def _whole(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Tensors by their names in the model as it was before it got adapters, which are added to what they adapt."""
    adapted = {f"{name}.weight": one for name, one in model.named_modules() if isinstance(one, BaseTunerLayer)}
    for name, tensor in _stored(model):
        plain = name.replace(BASE_LAYER, ".")
        if plain in adapted and plain != name:
            tensor = tensor.float() + adapted[plain].get_delta_weight(lora.NAME).float()
        yield plain, tensor


def _stored(model: Any) -> Iterator[tuple[str, Tensor]]:
    """The state of a model but for adapters and what it never saves."""
    ignored = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    for name, tensor in model.state_dict().items():
        if "lora_" not in name and name not in ignored:
            yield name, tensor.detach()


def _write(file: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    """A safetensors file, written tensor by tensor: nothing is held twice."""
    names = {torch_dtype: name for name, torch_dtype in DTYPES.items()}
    about: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        stored = _dtype_in_file(tensor, dtype)
        size = tensor.numel() * stored.itemsize
        about[name] = {
            "dtype": names[stored], "shape": list(tensor.shape), "data_offsets": [position, position + size]
        }  # fmt: skip
        position += size
    text = json.dumps(about).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for part in _bytes(tensors.values(), dtype):
            stream.write(part)


def _bytes(tensors: Iterable[Tensor], dtype: torch.dtype) -> Iterator[memoryview]:
    for tensor in tensors:
        whole = tensor.to("cpu", _dtype_in_file(tensor, dtype)).contiguous().flatten()
        yield whole.view(torch.uint8).numpy().data


def _dtype_in_file(tensor: Tensor, dtype: torch.dtype) -> torch.dtype:
    """What a tensor is written in: counts and masks as they are."""
    return dtype if tensor.is_floating_point() else tensor.dtype
