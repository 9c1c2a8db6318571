"""What gateways need to know of a served checkpoint, without its folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.engines import parsers
from service.tokenizers import load_tokenizer, renderer_for
from training.artifacts.checkpoints import Checkpoint
from training.artifacts.templates import special_strings


def served_manifest(checkpoint: Checkpoint, context: int, options: Sequence[str] = ()) -> dict[str, Any]:
    """The part of a manifest that the endpoint table keeps, with the engine's own context in tokens.

    Args:
        options: chosen for the engine's command line; they decide which tools and reasoning it parses.
    """
    manifest = checkpoint.manifest
    tokenizer = load_tokenizer(checkpoint.path)
    renderer = None
    if getattr(tokenizer, "chat_template", None):
        renderer = renderer_for(checkpoint.path, manifest.system, manifest.stop_ids)
    return {
        "stage": manifest.stage,
        "created": manifest.created,
        "context": context,
        "generation": dict(manifest.generation),
        "reward_offset": manifest.reward_offset,
        "pad_id": manifest.pad_id,
        "stop_ids": list(manifest.stop_ids),
        "special": list(renderer.control_strings if renderer else special_strings(tokenizer)),
        "merge_system": renderer is not None and renderer.merges_system,
        "lost_system": list(renderer.lost_system) if renderer else [],
        "path": str(checkpoint.path.resolve()),
        "figures": {name: value for name, value in manifest.metrics.items() if type(value) in (int, float)},
        **parsers.described(parsers.template_of(tokenizer), options),
    }
