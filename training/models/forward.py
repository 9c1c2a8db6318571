"""Forward passes on ragged rows: logits, log-probabilities of responses, values, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.artifacts.scores import scored_part
from training.models.hardware import autocast, device
from training.models.head import head_of, logprobs_of_states, summed_cross_entropy
from training.models.sharding import in_one_forward
from training.rl.losses import token_logprobs


def context_of(model: Any) -> int:
    """Greatest number of tokens that the model takes."""
    return context_of_config(model.config)


def context_of_config(config: Any) -> int:
    """Greatest number of tokens by a configuration; 2048 where it names none (as of state-space models)."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 2048)


def pad_id_of(model: Any) -> int | None:
    """The token that a reward model takes for padding, None where it knows none."""
    pad_id: int | None = model.config.get_text_config().pad_token_id
    return pad_id


def is_stateful(model: Any) -> bool:
    """Whether some layer carries a state from token to token (Mamba, linear attention, convolutions) instead of a
    key-value cache: such a state takes in padding, which no attention mask hides, and cannot be cut back."""
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    return (
        bool(getattr(model, "_is_stateful", False))
        or any(not kind.endswith("attention") for kind in layers)
        or ("linear_attention" in layers)
    )


def pad_right(rows: Sequence[Any], value: int | float, dtype: torch.dtype = torch.long) -> Tensor:
    """Rows of different lengths, lists or arrays, as one tensor (rows, longest) on `device()`, padded with `value`."""
    padded = np.full((len(rows), max(map(len, rows))), value, np.int64 if dtype == torch.long else np.float64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return torch.from_numpy(padded).to(device(), dtype)


@in_one_forward
def logits_of(model: Any, rows: Sequence[Any]) -> Tensor:
    """Logits of rows padded to the right, at all positions but the last: (rows, longest - 1, vocabulary).

    A causal model never looks right, so padding there changes nothing and no attention mask is needed.
    """
    with autocast():
        logits: Tensor = model.forward(input_ids=pad_right(rows, 0), use_cache=False).logits[:, :-1]
    return logits


@in_one_forward
def response_logprobs(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float = 1.0
) -> Tensor:
    """Log-probabilities of response tokens at a temperature: (rows, longest response), 0 at padding."""
    rows = [[*p, *r] for p, r in zip(prompts, responses, strict=True)]
    written = pad_right([[0] * len(p) + [1] * len(r) for p, r in zip(prompts, responses, strict=True)], 0).bool()
    ids = pad_right(rows, 0)
    head = head_of(model)
    if head is None:
        logprobs = token_logprobs(logits_of(model, rows)[written[:, 1:]], ids[written], temperature)
    else:
        logprobs = logprobs_of_states(head, _states_before(model, rows, written), ids[written], temperature)
    mask = response_mask(responses)
    return torch.zeros_like(mask).masked_scatter(mask.bool(), logprobs)


@in_one_forward
def cross_entropy(model: Any, rows: Sequence[Any], learned: Sequence[Any]) -> Tensor:
    """Sum of the cross-entropy, in nats, of the tokens to be learned, of which a row's first is none.

    Args:
        learned: for each token of each row 1 where it counts, else 0.
    """
    counted = pad_right(learned, 0).bool()
    counted[:, 0] = False
    ids = pad_right(rows, 0)
    head = head_of(model)
    if head is None:
        return -token_logprobs(logits_of(model, rows)[counted[:, 1:]], ids[counted]).sum()
    return summed_cross_entropy(head, _states_before(model, rows, counted), ids[counted])


def _states_before(model: Any, rows: Sequence[Any], counted: Tensor) -> Tensor:
    """The last hidden states from which the counted tokens, (rows, longest) bool, are predicted: (N, width)."""
    return hidden_states(model, rows)[:, :-1][counted[:, 1:]]


@in_one_forward
def response_values(model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> Tensor:
    """Values before each response token is written: (rows, longest response), 0 at padding."""
    hidden = hidden_states(model, [[*p, *r] for p, r in zip(prompts, responses, strict=True)])
    positions, mask = _response_positions(prompts, responses)
    before = hidden[torch.arange(len(hidden), device=hidden.device)[:, None], positions - 1]
    return scalar_head(model, before) * mask


@in_one_forward
def scores_of(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Raw reward of each row, read at the end of `scored_part`: (rows,)."""
    rows = [scored_part(row, pad_id_of(model)) for row in rows]
    hidden = hidden_states(model, rows)
    last = torch.tensor([len(row) - 1 for row in rows], device=hidden.device)
    return scalar_head(model, hidden[torch.arange(len(rows), device=hidden.device), last])


@in_one_forward
def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """The body's last hidden states: (rows, longest, width)."""
    with autocast():
        hidden: Tensor = model.base_model(input_ids=pad_right(rows, 0), use_cache=False).last_hidden_state
    return hidden


def scalar_head(model: Any, hidden: Tensor) -> Tensor:
    """The head's output in float32: (..., width) -> (...)."""
    scalars: Tensor = model.score(hidden.float()).squeeze(-1)
    return scalars


def response_mask(responses: Sequence[Sequence[int]]) -> Tensor:
    """1 at real response tokens: (rows, longest response)."""
    return pad_right([[1.0] * len(r) for r in responses], 0.0, torch.float32)


def _response_positions(prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Position of each response token in its row, clamped to the row at padding; and the mask."""
    mask = response_mask(responses)
    starts = torch.tensor([len(p) for p in prompts], device=mask.device)
    lengths = mask.sum(1).long()
    steps = torch.arange(mask.shape[1], device=mask.device)
    return starts[:, None] + torch.minimum(steps[None], lengths[:, None] - 1), mask
