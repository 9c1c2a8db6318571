"""Heads of adopted models: several labels become one score, an output matrix of its own is told from a tied one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from training.artifacts.errors import UserError
from training.artifacts.files import write_atomically
from training.models.streaming import entries_by_parameter, tied_names
from training.models.weights import CHUNK, Entry, headers, replace_tensors

HEAD, BIAS = "score.weight", "score.bias"
INDEX = "model.safetensors.index.json"


def untie_different(folder: Path, model: Any) -> None:
    """Correct a configuration that ties two weights which differ in the files: transformers uses both, an engine one.

    Args:
        model: of the folder, with or without weights.
    """
    entries = entries_by_parameter(model, folder)
    pairs = [(entries.get(name), entries.get(other)) for name, other in tied_names(model)]
    if any(one is not None and other is not None and _differ(one, other) for one, other in pairs):
        file = folder / "config.json"
        settings = json.loads(file.read_text()) | {"tie_word_embeddings": False}
        write_atomically(file, json.dumps(settings, indent=2) + "\n")


def _differ(one: Entry, other: Entry) -> bool:
    step = max(1, CHUNK // max(1, one.size // max(1, one.shape[0])))
    return one.shape != other.shape or any(
        not torch.equal(one.read(first, first + step), other.read(first, first + step))
        for first in range(0, one.shape[0], step)
    )


def take_bias(folder: Path, label_weights: Sequence[float], name: str) -> float:
    """Take the bias of a reward model's head out of its files. Not every engine and architecture loads one, and to
    scores it is a constant, which belongs into their offset.

    Args:
        label_weights: weight of each label's logit in the score.

    Returns:
        What the bias adds to every score; 0 where the head has none.

    Raises:
        UserError: its size is not the number of labels.
    """
    entry = headers(folder).get(BIAS)
    if entry is None:
        return 0.0
    bias = entry.read().double().flatten()
    if len(bias) != len(label_weights):
        raise UserError(f"{name} has a bias of {len(bias)} numbers for {len(label_weights)} labels: give a whole model")
    replace_tensors(entry.file, {BIAS: None})
    index = folder / INDEX
    if index.is_file():
        settings = json.loads(index.read_text())
        settings["weight_map"].pop(BIAS, None)
        write_atomically(index, json.dumps(settings, indent=2) + "\n")
    return float(torch.tensor(label_weights, dtype=torch.float64) @ bias)


def fold_labels(folder: Path, label_weights: Sequence[float], name: str) -> None:
    """Replace a head of n labels by one of a single label: the weighted sum of the labels' logits.

    The logits are linear in the hidden state, hence so is their sum: w . (W h) = (w W) h. The folded head is kept in
    float32, so that rounding adds nothing.

    Raises:
        UserError: the head is not a plain linear map, or its number of labels is not that of the weights.
    """
    entries = headers(folder)
    entry = entries.get(HEAD)
    if entry is None or len(entry.shape) != 2:
        raise UserError(f"{name} has no plain linear head named `score`: its labels cannot be made one score")
    if entry.shape[0] != len(label_weights):
        raise UserError(f"{name} has {entry.shape[0]} labels and --label-weights {len(label_weights)} numbers")
    weights = torch.tensor(label_weights, dtype=torch.float64)
    folded = (weights @ entry.read().double()).float()[None]
    replace_tensors(entry.file, {HEAD: folded})
    file = folder / "config.json"
    settings = json.loads(file.read_text()) | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    settings.pop("num_labels", None)
    write_atomically(file, json.dumps(settings, indent=2) + "\n")
