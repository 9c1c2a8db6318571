"""Load a model by checkpoint id, stage, folder or hub id: whole, of the right kind, or refused with the reason."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint, Kind, Manifest
from training.artifacts.errors import UserError
from training.artifacts.files import exists
from training.models import lora, weights
from training.models.building import without_dropout
from training.models.checks import (
    check_head,
    check_kind,
    check_labels,
    check_report,
    first_line,
    quantisation,
    read_config,
)
from training.models.hardware import device


@dataclass(frozen=True)
class Source:
    """A loaded model and where it came from.

    Attributes:
        path: its folder, or its hub id.
        checkpoint: None for a model without a manifest.
        base_model: name of the model at the root, where it was not trained here.
    """

    model: Any
    tokenizer: Any
    path: str
    checkpoint: Checkpoint | None
    base_model: str | None

    @property
    def key(self) -> str:
        """Unique key of the model: the checkpoint's id, or the path."""
        return self.checkpoint.id if self.checkpoint else self.path

    @property
    def manifest(self) -> Manifest | None:
        return self.checkpoint.manifest if self.checkpoint else None

    @property
    def reward_offset(self) -> float:
        """What is subtracted from a reward model's raw scores: 0 where no manifest says."""
        return (self.manifest.reward_offset if self.manifest else None) or 0.0

    @property
    def parents(self) -> tuple[str, ...]:
        return (self.checkpoint.id,) if self.checkpoint else ()


def load(name: str, home: Path, kind: Kind = "policy", over: Source | None = None) -> Source:
    """Load a model by checkpoint id, stage, folder or hub id, in float32 on `device()`, without dropout.

    Its `config.dtype` stays the dtype of its files, in which `publishing.publish` saves it again.

    Args:
        over: a policy. A reward model that was trained as an adapter of it shares its weights and has the adapter.

    Raises:
        UserError: there is no such model, it has no tokenizer, it is not whole, or it is of another kind.
    """
    checkpoint = _checkpoint(name, home)
    path = str(checkpoint.path if checkpoint else Path(name).expanduser() if name.startswith("~") else name)
    if checkpoint and checkpoint.manifest.kind != kind:
        raise UserError(f"{checkpoint.id} is a {checkpoint.manifest.kind} checkpoint, not a {kind} one")
    config = read_config(path, name)
    check_kind(config, kind, name)
    if kind == "reward":
        check_labels(config, name)
    quantised = quantisation(config)
    if quantised:
        raise UserError(f"{name} has quantised weights ({quantised}): train the unquantised model instead")
    model = None
    if over is not None and lora.base_of(path) == over.key:
        model = lora.load_over(over.model, Path(path), config)
    if model is None:
        model = load_whole(path, kind, name, dtype=torch.float32)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # each family of tokenizers fails in its own way on missing files
        raise UserError(f"{name} has no usable tokenizer: save one into it ({first_line(error)})") from None
    model.config.dtype = weights.stored_dtype(Path(path), config)
    base = checkpoint.manifest.base_model if checkpoint else name
    return Source(without_dropout(model).to(device()), tokenizer, path, checkpoint, base)


def load_whole(
    path: str | Path,
    kind: Kind,
    name: str,
    *,
    dtype: Any = "auto",
    on: str | None = None,
    unused: Collection[str] = (),
) -> Any:
    """The model with each of its weights taken from its files; nothing is missing, left over or random.

    Args:
        on: device; "meta" reads headers alone and allocates nothing.
        unused: weights of the files that are left out on purpose.

    Raises:
        UserError: weights are damaged, missing, left over or of another shape, or its head gives no single score.
    """
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    try:
        model, report = auto.from_pretrained(
            path,
            dtype=dtype,
            trust_remote_code=False,  # else transformers asks on the terminal whether to run the folder's code
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
            **({"device_map": {"": on}} if on else {}),
        )
    except Exception as error:  # damaged files raise errors of safetensors, pickle or torch alike
        raise UserError(f"{name} cannot be loaded as a {kind} model: {first_line(error)}") from None
    check_report(report, kind, name, unused=unused)
    if kind == "reward":
        check_head(model, name)
    elif model.config.tie_word_embeddings and on != "meta":
        # The files may hold two weights that the configuration ties; transformers then keeps both.
        head = model.get_output_embeddings()
        model.config.tie_word_embeddings = head is None or head.weight is model.get_input_embeddings().weight
    return model


def _checkpoint(name: str, home: Path) -> Checkpoint | None:
    """The checkpoint of that name; None for a folder or hub id of a model without a manifest."""
    try:
        return checkpoints.resolve(name, home / "checkpoints")
    except UserError:
        folder = Path(name).expanduser()
        is_folder = exists(folder / "config.json") and not exists(folder / checkpoints.MANIFEST)
        if is_folder or ("/" in name and name[0] not in "./~" and not exists(Path(name))):
            return None
        raise
