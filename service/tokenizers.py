"""Tokenizers of checkpoints, loaded once."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from service.endpoints import Endpoint
from service.errors import ApiError
from training.artifacts.checkpoints import MANIFEST, System
from training.artifacts.rendering import Renderer

# transformers fills itself lazily, and not safely from two threads at once.
_importing = threading.Lock()


@lru_cache(maxsize=32)
def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder."""
    with _importing:
        # transformers takes seconds to import: only those who render pay for it.
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


@lru_cache(maxsize=32)
def renderer_for(folder: Path, system: System, stop_ids: tuple[int, ...]) -> Renderer:
    """The renderer of a checkpoint's folder. Raises `UserError` without a chat template."""
    return Renderer(load_tokenizer(folder), system=system, stop_ids=stop_ids)


def renderer_of(endpoint: Endpoint) -> Renderer:
    """The renderer of a served checkpoint. Raises `ApiError` 503 when its folder is not on this machine."""
    if not (endpoint.folder / MANIFEST).is_file():
        raise ApiError(503, f"this gateway has no folder of {endpoint.checkpoint}: share the checkpoint store with it")
    return renderer_for(endpoint.folder, "merge" if endpoint.merge_system else "keep", endpoint.stop_ids)
