"""Save a model and publish it with its manifest."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from training.artifacts import checkpoints
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.errors import UserError
from training.models import lora
from training.models.forward import context_of
from training.runtime import ranks


def publish(
    model: Any,
    tokenizer: Any,
    home: Path,
    *,
    generation: Mapping[str, Any] | None = None,
    adapter: lora.Adapter | None = None,
    **facts: Any,
) -> Checkpoint:
    """Save model and tokenizer and publish them under `home`; `facts` go to `checkpoints.publish`.

    The weights are saved in `model.config.dtype`, the dtype in which they came (`loading.load`). Of several processes
    the main one publishes.

    Args:
        adapter: what was trained, where the weights hold it already; it belongs to the first of the parents, or to
            the base model.

    Raises:
        UserError: a metric among the facts is not finite, or the model cannot be written.
    """
    check_metrics({**(facts.get("metrics") or {}), "reward_offset": facts.get("reward_offset")})
    return ranks.on_main(partial(_publish, model, tokenizer, home, generation, adapter, **facts))


def _publish(
    model: Any, tokenizer: Any, home: Path, generation: Any, adapter: lora.Adapter | None, **facts: Any
) -> Checkpoint:
    store = home / "checkpoints"
    checkpoints.sweep(store)
    folder = checkpoints.staging(store)
    try:
        _quiet_generation_defaults(model)
        with in_stored_dtype(model):
            model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if adapter is not None:
            adapter.save(folder / lora.FOLDER, (*facts.get("parents", ()), facts.get("base_model"))[0] or "")
        pad_id = model.config.get_text_config().pad_token_id if facts.get("kind") == "reward" else None
        return checkpoints.publish(
            folder,
            store,
            tokenizer=tokenizer,
            context=context_of(model),
            generation=generation,
            pad_id=pad_id,
            **facts,
        )
    except SafetensorError as error:
        raise UserError(f"the model cannot be written to {store}: {error}: make room there") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # gone already where it was published


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Raise `UserError` for a metric that is infinite or not a number: such a model is not published."""
    for name, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(
                f"{name} of the trained model is {value}, so it is not published: use a smaller --learning-rate, or "
                "--dtype float32"
            )


@contextmanager
def in_stored_dtype(model: Any) -> Iterator[None]:
    """The model's weights in the dtype that they are published in; afterwards in their own again, but rounded.

    Rounding comes before a probe is computed: what is published must reproduce it.
    """
    stored = model.config.dtype or torch.float32
    own = {name: parameter.dtype for name, parameter in model.named_parameters()}
    _cast(model, dict.fromkeys(own, stored))
    try:
        yield
    finally:
        _cast(model, own)
        model.config.dtype = stored


def _cast(model: Any, dtypes: Mapping[str, torch.dtype]) -> None:
    """Cast parameters in place, so that tied ones stay tied. Buffers keep their precision."""
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtypes[name])


def _quiet_generation_defaults(model: Any) -> None:
    """Sampling defaults live in the manifest alone: servers would apply those of generation_config.json as well."""
    defaults = getattr(model, "generation_config", None)
    for name in ("temperature", "top_p", "top_k", "do_sample", "max_length", "max_new_tokens"):
        if defaults is not None and hasattr(defaults, name):
            setattr(defaults, name, None)
