"""Forward passes on ragged rows: logits, log-probabilities of responses, values, scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from training.artifacts.scores import scored_part
from training.models.hardware import autocast, device
from training.models.head import head_of, logprobs_of_states, summed_cross_entropy
from training.models.sharding import in_one_forward
from training.rl.losses import token_logprobs

SHARED_TOKENS = 8192  # of a prompt with all its responses, at most: their mask has the square of that many entries


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
    return _scalar_head(model, before) * mask


@in_one_forward
def scores_of(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """Raw reward of each row, read at the end of `scored_part`: (rows,)."""
    rows = [scored_part(row, pad_id_of(model)) for row in rows]
    hidden = hidden_states(model, rows)
    last = torch.tensor([len(row) - 1 for row in rows], device=hidden.device)
    return _scalar_head(model, hidden[torch.arange(len(rows), device=hidden.device), last])


@in_one_forward
def ranking_scores(model: Any, rankings: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """`scores_of` all responses of several prompts, one after the other, with each prompt computed once.

    A prompt and its K responses are one row, in which a response sees the prompt and itself, here with a prompt of two
    tokens (branch 0) and two responses of one token (branches 1 and 2):

        0  x . . .
        0  x x . .
        1  x x x .
        2  x x . x

    With short responses that is less than half the work. Where the model's attention takes no such mask, a response
    reaches beyond the window of a layer, or long responses make that more work (`_is_cheaper_shared`), each response
    is a row of its own.

    Args:
        rankings: for each prompt the rows of its responses, prompt included.
    """
    rankings = [[scored_part(row, pad_id_of(model)) for row in rows] for rows in rankings]
    longest, window = max(len(row) for rows in rankings for row in rows), shortest_window(model)
    takes_mask = model.config._attn_implementation == "sdpa" and not is_stateful(model)
    within = window is None or longest <= window  # the mask takes the place of the windows
    if not (takes_mask and within and _is_cheaper_shared(model, rankings)):
        return scores_of(model, [row for rows in rankings for row in rows])
    shared = [_share_prefix(rows) for rows in rankings]
    ids = pad_right([row.ids for row in shared], 0)
    branch = pad_right([row.branch for row in shared], -1)
    positions = torch.arange(ids.shape[1], device=ids.device)
    same_branch = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    with autocast():
        hidden = model.base_model(
            input_ids=ids,
            attention_mask=(same_branch & (positions[None, :] <= positions[:, None]))[:, None],
            position_ids=pad_right([row.positions for row in shared], 0),
            use_cache=False,
        ).last_hidden_state
    rows_of_ends = [number for number, row in enumerate(shared) for _ in row.ends]
    ends = [end for row in shared for end in row.ends]
    return _scalar_head(model, hidden[rows_of_ends, ends])


def shortest_window(model: Any) -> int | None:
    """The width in tokens of the shortest sliding or chunked window of a layer; None where every layer sees all."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    sliding, chunk = getattr(config, "sliding_window", None), getattr(config, "attention_chunk_size", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    windows = [sliding if slides else None, chunk if "chunked_attention" in kinds or not kinds else None]
    return min((window for window in windows if window), default=None)


def _is_cheaper_shared(model: Any, rankings: Sequence[Sequence[Sequence[int]]]) -> bool:
    """Whether prompts with all their responses as one row take less work than a row for each response.

    In multiply-adds: each token meets every weight of the body once, and in each layer, for keys and values, every
    token that the kernel goes over: all of the row under a mask, on average half of it without. Measured on a CPU with
    bodies of 0.6, 3 and 24 million parameters, prompts of 32 to 400 tokens, 2 to 9 responses of 16 to 400 tokens: the
    choice is right wherever one of them takes a fifth more time than the other.
    """
    config = model.config.get_text_config()
    embedding = model.get_input_embeddings().weight.numel()
    weights = max(1, sum(p.numel() for p in model.base_model.parameters()) - embedding)
    per_pair = 2 * int(config.hidden_size) * int(config.num_hidden_layers) / weights
    apart = [len(row) for rows in rankings for row in rows]
    shared = [sum(map(len, rows)) - (len(rows) - 1) * common_prefix(rows) for rows in rankings]
    if max(shared) > SHARED_TOKENS:
        return False
    cost_shared = sum(length + per_pair * length**2 for length in shared)
    return bool(cost_shared < sum(length + per_pair / 2 * length**2 for length in apart))


class _Shared(NamedTuple):
    """Rows with a common prefix as one. `branch` is 0 in the prefix, then 1, 2, ...; `ends` are last tokens."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    ends: list[int]


def _share_prefix(rows: Sequence[Sequence[int]]) -> _Shared:
    common = common_prefix(rows)
    shared = _Shared(list(rows[0][:common]), list(range(common)), [0] * common, [])
    for number, row in enumerate(rows, start=1):
        shared.ids.extend(row[common:])
        shared.positions.extend(range(common, len(row)))
        shared.branch.extend([number] * (len(row) - common))
        shared.ends.append(len(shared.ids) - 1)
    return shared


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; at least one token of each row is left."""
    shortest = min(len(row) for row in rows) - 1
    return next((i for i in range(shortest) if len({row[i] for row in rows}) > 1), shortest)


@in_one_forward
def hidden_states(model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
    """The body's last hidden states: (rows, longest, width)."""
    with autocast():
        hidden: Tensor = model.base_model(input_ids=pad_right(rows, 0), use_cache=False).last_hidden_state
    return hidden


def _scalar_head(model: Any, hidden: Tensor) -> Tensor:
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
