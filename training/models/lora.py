"""Low-rank adapters (LoRA; Hu et al. 2021, arXiv 2106.09685), by peft.

The weights of a model stay frozen; beside each of its matrices but the output head two thin ones are trained, whose
product is added to it. Models that were trained from the same weights hold these once: `share`, `load_over`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from training.artifacts.errors import UserError
from training.models.building import round_frozen, without_dropout
from training.models.head import head_of
from training.models.layers import layers_of, pattern_below

FOLDER = "adapter"  # of a checkpoint, beside the whole weights
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = "default"  # peft's, for the only adapter of a model
PREFIX = "base_model.model."  # of the names in peft's files
HEAD = "score."  # trained whole


class Adapter(NamedTuple):
    """What was trained: settings, and tensors by the names that they have in peft's files."""

    config: LoraConfig
    tensors: dict[str, Tensor]

    def save(self, folder: Path, base: str) -> None:
        """Write it as peft reads it. `base`: the id, folder or hub id of the model that it belongs to."""
        folder.mkdir()
        self.config.base_model_name_or_path = base
        self.config.modules_to_save = ["score"] if any(HEAD in name for name in self.tensors) else None
        self.config.save_pretrained(folder)
        save_file(self.tensors, folder / WEIGHTS)


def add(model: Any, rank: int, alpha: float, seed: int, layers: int | None = None) -> None:
    """Give a model adapters, which change nothing yet, and freeze everything else but a scalar head.

    Frozen matrices are rounded where forward passes multiply in bfloat16 (`building.round_frozen`).

    Args:
        rank: width of the thin matrices.
        alpha: their product is multiplied by alpha / rank.
        layers: how many of the last layers get adapters; None for all.

    Raises:
        UserError: the model has no layer that peft can adapt.
    """
    scalar = hasattr(model, "score")
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules="all-linear",
        task_type="SEQ_CLS" if scalar else "CAUSAL_LM",
        exclude_modules=pattern_below(model, layers) if layers else None,
    )
    torch.manual_seed(seed)  # peft draws the first of the two matrices; the second is 0
    _inject(config, model)
    train(model)
    round_frozen(model)


def not_adapted(model: Any, layers: int | None = None) -> tuple[list[str], float]:
    """The matrices that have no adapters, such as experts that are held as one tensor, and their share of all weights,
    in the last `layers` layers or in all.
    """
    adapted = {id(p) for module in model.modules() if isinstance(module, BaseTunerLayer) for p in module.parameters()}
    names = dict[str, None]()
    total = left_out = 0
    for layer in layers_of(model)[-layers if layers else None :]:
        for name, parameter in layer.named_parameters():
            total += parameter.numel()
            if parameter.ndim > 1 and id(parameter) not in adapted:
                left_out += parameter.numel()
                names[name] = None
    return list(names), left_out / total if total else 0.0


def train(model: Any) -> None:
    """Train a model's adapters and its scalar head, and nothing else."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(_is_own(name))


def is_adapted(model: Any) -> bool:
    """Whether a model has adapters."""
    return any("lora_" in name for name, _ in model.named_parameters())


def share(model: Any) -> Any:
    """A copy of a model that holds the same weights, but adapters and a scalar head of its own."""
    common = {id(parameter): parameter for name, parameter in model.named_parameters() if not _is_own(name)}
    copied = copy.deepcopy(model, common)
    if getattr(copied, "get_output_embeddings", lambda: None)() is not None:
        head_of(copied)  # before the common weights are rounded: it is tried out in full precision
    return copied


def merge(model: Any, whole: Any) -> tuple[Any, Adapter]:
    """The model without adapters, which are added to its weights; and the adapters by themselves.

    Args:
        whole: the model as it was before `add`, loaded anew: frozen weights may have been rounded since.
    """
    tuner = _inject(copy.copy(model.peft_config[NAME]), whole)
    state = {name: value.detach() for name, value in model.named_parameters() if _is_own(name)}
    whole.load_state_dict(state, strict=False)
    merged = tuner.merge_and_unload().requires_grad_(False)
    merged.__dict__.pop("peft_config", None)
    adapter = Adapter(model.peft_config[NAME], {_filed(name): value.cpu() for name, value in state.items()})
    return merged, adapter


def base_of(folder: str | Path) -> str | None:
    """The model that a checkpoint's adapters belong to; None for one without adapters."""
    file = Path(folder) / FOLDER / CONFIG
    if not file.is_file():
        return None
    base: str | None = json.loads(file.read_text())["base_model_name_or_path"]
    return base


def load_over(base: Any, folder: Path, config: Any) -> Any:
    """A reward model whose body is that of `base` with the checkpoint's adapters, so that both hold the weights once.

    None where the architecture has another body for rewards than for text.

    Args:
        base: a policy without adapters, the one that they belong to.
        config: of the checkpoint.
    """
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    prefix = model.base_model_prefix
    if type(model.base_model) is not type(base.base_model) or prefix != base.base_model_prefix:
        return None
    model._modules[prefix] = share(base.base_model)
    model.score.to_empty(device=base.device)
    settings = LoraConfig.from_pretrained(str(folder / FOLDER))
    settings.modules_to_save = None
    _inject(settings, model)
    tensors = {_named(name): value for name, value in load_file(folder / FOLDER / WEIGHTS).items()}
    missing = {name for name, _ in model.named_parameters() if _is_own(name)} ^ set(tensors)
    if missing:
        raise UserError(f"{folder / FOLDER} does not fit its model ({min(missing)}): restore the checkpoint")
    model.load_state_dict(tensors, strict=False)
    return without_dropout(model)


def _inject(config: LoraConfig, model: Any) -> LoraModel:
    try:
        tuner = LoraModel(model, config, NAME)
    except ValueError as error:
        raise UserError(f"--lora-rank: {type(model).__name__} has nothing to adapt ({error}): leave it out") from None
    for name, parameter in model.named_parameters():
        if _is_own(name):
            parameter.data = parameter.data.float()  # peft gives them the dtype of the weights beside them
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.cast_input_dtype_enabled = False  # autocast casts what is multiplied: once instead of twice
    return tuner


def _is_own(name: str) -> bool:
    return "lora_" in name or name.startswith(HEAD)


def _filed(name: str) -> str:
    return PREFIX + name.replace(f".{NAME}.", ".")


def _named(name: str) -> str:
    """The name in the model of a tensor of a file."""
    name = name.removeprefix(PREFIX)
    for matrix in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"):
        name = name.replace(f".{matrix}.", f".{matrix}.{NAME}.")
    return name
