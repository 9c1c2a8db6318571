"""Save a model and publish it with its manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint
from training.models.forward import context_of


def publish(
    model: Any, tokenizer: Any, home: Path, *, generation: Mapping[str, Any] | None = None, **facts: Any
) -> Checkpoint:
    """Save model and tokenizer and publish them under `home`; `facts` go to `checkpoints.publish`."""
    store = home / "checkpoints"
    checkpoints.sweep(store)
    folder = checkpoints.staging(store)
    _quiet_generation_defaults(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return checkpoints.publish(
        folder, store, tokenizer=tokenizer, context=context_of(model), generation=generation, **facts
    )


def _quiet_generation_defaults(model: Any) -> None:
    """Sampling defaults live in the manifest alone: servers would apply those of generation_config.json as well."""
    defaults = getattr(model, "generation_config", None)
    for name in ("temperature", "top_p", "top_k", "do_sample", "max_length", "max_new_tokens"):
        if defaults is not None and hasattr(defaults, name):
            setattr(defaults, name, None)
