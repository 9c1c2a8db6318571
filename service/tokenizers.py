"""Tokenizers of checkpoints, loaded once."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from service.errors import ApiError
from training.artifacts.checkpoints import MANIFEST

# transformers fills itself lazily, and not safely from two threads at once.
_importing = threading.Lock()


@lru_cache(maxsize=32)
def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a checkpoint's folder."""
    with _importing:
        # transformers takes seconds to import: only those who render pay for it.
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, local_files_only=True)


def tokenizer_of(checkpoint: str, folder: Path) -> Any:
    """The tokenizer of a served checkpoint. Raises `ApiError` 503 when its folder is not on this machine."""
    if not (folder / MANIFEST).is_file():
        raise ApiError(503, f"this gateway has no folder of {checkpoint}: share the checkpoint store with it")
    return load_tokenizer(folder)
