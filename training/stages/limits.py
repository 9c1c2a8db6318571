"""Lengths in tokens that no stage goes beyond unless it is told to, and what was used of the data."""

from __future__ import annotations

from typing import Any

from training.artifacts.errors import UserError
from training.data import splits
from training.data.lengths import CONTEXT, RESPONSE
from training.data.usage import Usage
from training.models import forward, loading
from training.runtime.runs import CONSOLE


def check_rates(config: Any) -> None:
    """Raise `UserError` for a learning rate or a limit of the gradient below 0."""
    for name in ("learning_rate", "value_learning_rate", "max_grad_norm"):
        if getattr(config, name, 0.0) < 0:
            raise UserError(f"--{name.replace('_', '-')} {getattr(config, name)} is below 0: use a number above it")


def check_name(name: str) -> None:
    """Raise `UserError` for a name that leads out of its folder: what lies there would be replaced."""
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise UserError(f"--name {name!r} is not a name inside the stage's folder: use one such as default")


def context_of(model: Any, context: int | None) -> int:
    """The greatest number of tokens of a row: --context, or the model's own and at most CONTEXT.

    Raises:
        UserError: the model takes fewer tokens.
    """
    own = forward.context_of(model)
    if context is None:
        return min(own, CONTEXT)
    if context > own:
        raise UserError(f"--context {context} is beyond the {own} tokens that the model takes: use {own} or fewer")
    if context < 2:
        raise UserError(f"--context {context} leaves nothing to learn: use at least 2")
    return context


def response_length(source: loading.Source, context: int, max_tokens: int | None) -> int:
    """The greatest length of a response: --max-tokens, or the checkpoint's default; at most RESPONSE unless
    --max-tokens says more, and at most half the context where the checkpoint has no default.

    Raises:
        UserError: it leaves no room for a prompt.
    """
    if max_tokens is None:
        manifest = source.manifest
        default = (manifest.generation.get("max_tokens") if manifest else None) or context // 2
        max_tokens = max(1, min(int(default), RESPONSE, context - 1))
    if not 1 <= max_tokens < context:
        raise UserError(
            f"--max-tokens {max_tokens} leaves no prompt room in the context of {context} tokens: "
            f"use a number from 1 to {context - 1}"
        )
    return max_tokens


def prompt_length(context: int, max_tokens: int, max_prompt_tokens: int) -> int:
    """The greatest length of a prompt: --max-prompt-tokens, and what the response leaves of the context."""
    if max_prompt_tokens < 1:
        raise UserError(f"--max-prompt-tokens {max_prompt_tokens}: use at least 1")
    return min(max_prompt_tokens, context - max_tokens)


def report_split(split: splits.Split) -> None:
    """Say how many rows are held out, and what the split goes by."""
    by = "" if split.by == "file" else f" (split by {split.by})"
    CONSOLE.print(f"training {len(split.training):,}, held out {len(split.held_out):,}{by}", highlight=False)


def report(*usages: Usage) -> None:
    """Print one line per role: used N of M, left out by reason.

    Raises:
        UserError: nothing is left of one of them; the reasons are the error.
    """
    for usage in usages:
        usage.require()
        CONSOLE.print(usage.sentence(), markup=False, highlight=False, soft_wrap=True)
