"""Load a model by checkpoint id, stage, folder or hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint, Kind
from training.artifacts.errors import UserError
from training.models.building import without_dropout
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
        """What tells it from any other: the checkpoint's id, or the path."""
        return self.checkpoint.id if self.checkpoint else self.path

    @property
    def parents(self) -> tuple[str, ...]:
        return (self.checkpoint.id,) if self.checkpoint else ()


def load(name: str, home: Path, kind: Kind = "policy") -> Source:
    """Load a model by checkpoint id, stage, folder or hub id, in float32 on `device()`, without dropout.

    Raises:
        UserError: there is no such model, it has no tokenizer, or it is of the other kind.
    """
    checkpoint = _checkpoint(name, home)
    path = str(checkpoint.path) if checkpoint else name
    if checkpoint and checkpoint.manifest.kind != kind:
        raise UserError(f"{checkpoint.id} is a {checkpoint.manifest.kind} checkpoint, not a {kind} one")
    auto = AutoModelForCausalLM if kind == "policy" else AutoModelForSequenceClassification
    try:
        model = auto.from_pretrained(path, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot load {name!r} as a {kind} model: {str(error).splitlines()[0]}") from None
    base = checkpoint.manifest.base_model if checkpoint else name
    return Source(without_dropout(model).to(device()), tokenizer, path, checkpoint, base)


def _checkpoint(name: str, home: Path) -> Checkpoint | None:
    """The checkpoint of that name; None for a folder or hub id of a model without a manifest."""
    try:
        return checkpoints.resolve(name, home / "checkpoints")
    except UserError:
        is_folder = (Path(name) / "config.json").is_file()
        if is_folder or ("/" in name and name[0] not in "./~" and not Path(name).exists()):
            return None
        raise
