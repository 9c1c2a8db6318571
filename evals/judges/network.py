"""A small network over features: several perceptrons whose probabilities are averaged, saved without pickle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from training.artifacts import progress
from training.artifacts.errors import UserError

MOST_DEVIATIONS = 5.0  # features beyond are clipped: a far outlier would decide alone


@dataclass(frozen=True)
class Fitting:
    """How the network is trained."""

    seed: int = 0
    """Seed of the split, the weights and the order."""
    members: int = 3
    """Perceptrons whose probabilities are averaged."""
    epochs: int = 12
    """Passes over the training answers."""
    batch: int = 128
    """Answers per step."""
    learning_rate: float = 2e-3
    """First rate of AdamW; falls to zero linearly."""
    weight_decay: float = 1e-2
    """Weight decay of AdamW."""
    width: int = 128
    """Units in each of two hidden layers."""
    dropout: float = 0.2
    """Share of hidden units left out in each step."""

    def check(self) -> None:
        """Raise `UserError` for settings that make no sense."""
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--training.seed {self.seed}: use a number from 0 up to, not including, 2^63")
        if min(self.members, self.epochs, self.batch, self.width) < 1:
            raise UserError("--training.members, .epochs, .batch and .width must be at least 1")
        if not 0 < self.learning_rate < 1:
            raise UserError(f"--training.learning-rate {self.learning_rate}: use a number between 0 and 1")
        if not 0 <= self.weight_decay < 1 or not 0 <= self.dropout < 1:
            raise UserError("--training.weight-decay and .dropout must lie from 0 up to, not including, 1")


class Network:
    """A fitted network.

    Attributes:
        weights: name -> tensor: of each member, and mean and deviation of the features.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.weights = dict(weights)
        self._members = 1 + max(int(name.split(".")[0]) for name in weights if name[0].isdigit())

    def scores(self, features: NDArray[Any]) -> NDArray[Any]:
        """Probability of the label 1, shape (rows,), of features of shape (rows, features)."""
        inputs = self._standardised(features)
        with torch.inference_mode():
            members = [torch.sigmoid(self._forward(inputs, member)) for member in range(self._members)]
        return np.asarray(torch.stack(members).mean(0).numpy())

    def to_bytes(self) -> bytes:
        return bytes(save(self.weights))

    @classmethod
    def load(cls, path: Path) -> Network:
        """Read a saved network. Raises `UserError` for a file that is missing or damaged."""
        try:
            return cls(load_file(path))
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(f"{path} cannot be read ({error}): train the judge again") from None

    def _standardised(self, features: NDArray[Any]) -> torch.Tensor:
        inputs = torch.as_tensor(np.asarray(features), dtype=torch.float32)
        return ((inputs - self.weights["mean"]) / self.weights["deviation"]).clip(-MOST_DEVIATIONS, MOST_DEVIATIONS)

    def _forward(self, inputs: torch.Tensor, member: int) -> torch.Tensor:
        for layer in (0, 3, 6):  # the linear layers of `_perceptron`
            weight, bias = (self.weights[f"{member}.{layer}.{name}"] for name in ("weight", "bias"))
            inputs = torch.nn.functional.linear(inputs, weight, bias)
            if layer < 6:
                inputs = torch.nn.functional.gelu(inputs)
        return inputs[:, 0]


def fit(features: NDArray[Any], labels: Sequence[int], config: Fitting, title: str) -> Network:
    """Train on features, shape (rows, features), and labels 0 or 1, shape (rows,), which weigh the same in sum.

    Raises:
        UserError: only one label.
    """
    truth = torch.tensor(list(labels), dtype=torch.float32)
    share = float(truth.mean()) if len(truth) else 0.0
    if not 0 < share < 1:
        raise UserError(f"{title}: the answers to train on need both labels, give more of the rarer one")
    weights = {
        "mean": torch.as_tensor(features.mean(0), dtype=torch.float32),
        "deviation": torch.as_tensor(features.std(0) + 1e-6, dtype=torch.float32),
    }
    blank = Network(weights | {"0": torch.zeros(1)})
    inputs = blank._standardised(features)
    steps = config.epochs * -(-len(truth) // config.batch)
    with progress.bar(title, config.members * config.epochs) as bar:
        for member in range(config.members):
            torch.manual_seed(config.seed * 1000 + member)
            model = _perceptron(inputs.shape[1], config)
            optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
            for _ in range(config.epochs):
                for rows in torch.randperm(len(truth)).split(config.batch):
                    weight = torch.where(truth[rows] == 1, 0.5 / share, 0.5 / (1 - share))
                    loss = torch.nn.functional.binary_cross_entropy_with_logits(
                        model(inputs[rows])[:, 0], truth[rows], weight=weight
                    )
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                bar.advance()
            weights |= {f"{member}.{name}": value.detach().clone() for name, value in model.state_dict().items()}
    return Network(weights)


def _perceptron(width_in: int, config: Fitting) -> torch.nn.Sequential:
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(width_in, config.width), nn.GELU(), nn.Dropout(config.dropout),
        nn.Linear(config.width, config.width), nn.GELU(), nn.Dropout(config.dropout),
        nn.Linear(config.width, 1),
    )  # fmt: skip
