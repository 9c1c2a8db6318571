"""Scores and log-probabilities of several responses to a prompt, in passes that compute the prompt once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from training.artifacts.scores import scored_part
from training.models.forward import is_stateful, pad_id_of, pad_right, response_logprobs, scalar_head, scores_of
from training.models.hardware import autocast
from training.models.head import head_of, logprobs_of_states
from training.models.sharding import in_one_forward

SHARED_TOKENS = 8192  # of a prompt with all its responses, at most: their mask has the square of that many entries


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
    if not _shares_pass(model, rankings):
        return scores_of(model, [row for rows in rankings for row in rows])
    shared = [_share_prefix(rows) for rows in rankings]
    hidden = _shared_states(model, shared)
    numbers = [number for number, row in enumerate(shared) for _ in row.ends]
    ends = [end for row in shared for end in row.ends]
    return scalar_head(model, hidden[numbers, ends])


@in_one_forward
def ranking_logprobs(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[Sequence[int]]]
) -> Tensor:
    """Sums of the log-probabilities of all responses of several prompts, one after the other: (sum of K,).

    A prompt is computed once for its K responses wherever `ranking_scores` does so.

    Args:
        responses: of each prompt, none empty.
    """
    rankings = [[[*prompt, *one] for one in of] for prompt, of in zip(prompts, responses, strict=True)]
    flat = [response for of in responses for response in of]
    head = head_of(model)
    if head is None or not _shares_pass(model, rankings):
        repeated = [prompt for prompt, of in zip(prompts, responses, strict=True) for _ in of]
        return response_logprobs(model, repeated, flat).sum(dim=1)
    shared = [_share_prefix(rows, len(prompt)) for rows, prompt in zip(rankings, prompts, strict=True)]
    hidden = _shared_states(model, shared)
    before = [  # of each token of a response the place that predicts it: for the first one the end of the prompt
        (number, place)
        for number, (row, prompt, of) in enumerate(zip(shared, prompts, responses, strict=True))
        for end, response in zip(row.ends, of, strict=True)
        for place in (len(prompt) - 1, *range(end - len(response) + 1, end))
    ]
    numbers, places = map(list, zip(*before, strict=True))
    ids = torch.tensor([token for response in flat for token in response], device=hidden.device)
    logprobs = logprobs_of_states(head, hidden[numbers, places], ids)
    return torch.stack([of_response.sum() for of_response in logprobs.split(list(map(len, flat)))])


def _shares_pass(model: Any, rankings: Sequence[Sequence[Sequence[int]]]) -> bool:
    """Whether prompts with all their responses go forward as one row: where the model can, and it is less work."""
    longest, window = max(len(row) for rows in rankings for row in rows), shortest_window(model)
    by_mask = getattr(model.config.get_text_config(), "alibi", False)  # where positions are read off a mask of tokens
    takes_mask = model.config._attn_implementation == "sdpa" and not is_stateful(model) and not by_mask
    within = window is None or longest <= window  # the mask takes the place of the windows
    return takes_mask and within and _is_cheaper_shared(model, rankings)


def _shared_states(model: Any, shared: Sequence[_Shared]) -> Tensor:
    """The body's last hidden states of rows of several branches: (rows, longest, width)."""
    ids = pad_right([row.ids for row in shared], 0)
    branch = pad_right([row.branch for row in shared], -1)
    positions = torch.arange(ids.shape[1], device=ids.device)
    same_branch = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    with autocast():
        hidden: Tensor = model.base_model(
            input_ids=ids,
            attention_mask=(same_branch & (positions[None, :] <= positions[:, None]))[:, None],
            position_ids=pad_right([row.positions for row in shared], 0),
            use_cache=False,
        ).last_hidden_state
    return hidden


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


def _share_prefix(rows: Sequence[Sequence[int]], common: int | None = None) -> _Shared:
    """Rows that begin with `common` tokens alike, or left out with as many as there are, as one."""
    common = common_prefix(rows) if common is None else common
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
