"""Log-probabilities and rewards that a manifest keeps, to recognise the weights when they are served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from training.artifacts.errors import UserError
from training.artifacts.scores import scored_part
from training.models.forward import logits_of, pad_id_of, scores_of
from training.models.hardware import device, full_precision
from training.models.publishing import in_stored_dtype
from training.rl.losses import token_logprobs

PROBES = 4  # conversations that a manifest keeps with their log-probabilities or rewards


def policy_probe(model: Any, rows: Sequence[Sequence[int]], *, together: bool = False) -> dict[str, Any]:
    """Token ids and the log-probabilities of ids[1:], for the manifest.

    The weights are rounded, in place, to the dtype that they are published in.

    Args:
        together: all rows in one pass, for a model that reads its weights anew in each; else row by row, so that no
            padding is involved.
    """

    def logprobs_of(part: Sequence[Sequence[int]]) -> list[Tensor]:
        logits = logits_of(model, part)
        targets = [torch.tensor(row[1:], device=device()) for row in part]
        return [token_logprobs(one[: len(ids)], ids) for one, ids in zip(logits, targets, strict=True)]

    logprobs = _parts(model, rows, logprobs_of, together)
    return {
        "dtype": dtype_of(model),
        "ids": [list(row) for row in rows],
        "logprobs": [row.tolist() for row in logprobs],
    }


def reward_probe(model: Any, rows: Sequence[Sequence[int]], *, together: bool = False) -> dict[str, Any]:
    """Token ids up to the scored one and their raw rewards, for the manifest. As `policy_probe`."""
    rows = [scored_part(row, pad_id_of(model)) for row in rows]
    rewards = _parts(model, rows, lambda part: list(scores_of(model, part)), together)
    return {"dtype": dtype_of(model), "ids": [list(row) for row in rows], "rewards": [float(r) for r in rewards]}


def absent(reason: str) -> dict[str, Any]:
    """In place of a probe that nothing but an engine could compute."""
    return {"absent": reason}


def dtype_of(model: Any) -> str:
    """The dtype that the model computes in, such as `float32`."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _parts(
    model: Any,
    rows: Sequence[Sequence[int]],
    function: Callable[[Sequence[Sequence[int]]], list[Tensor]],
    together: bool,
) -> list[Tensor]:
    """`function` of all rows at once or of each alone, without autocast; a result per row."""
    with in_stored_dtype(model):
        pass
    with torch.no_grad(), full_precision():
        parts = [rows] if together else [[row] for row in rows]
        results = [result for part in parts for result in function(part)]
    if not all(bool(result.isfinite().all()) for result in results):
        raise UserError(
            "the model computes numbers that are not finite (nan or inf): its weights are damaged, or training went "
            "astray: use whole weights, or a lower --learning-rate"
        )
    return results
