"""Models of the sizes that are served, for measurements of speed, in which their numbers do not matter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from training.artifacts.checkpoints import Checkpoint
from training.miniature import World

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignloop-tests"
SMOLLM2 = Path(os.environ.get("ALIGNLOOP_SMOLLM2") or CACHE / "SmolLM2-135M-Instruct.Q4_1.gguf")
DOCUMENTS = 20_000  # of the miniature world, for its vocabulary
Name = Literal["smollm2", "miniature"]


def publish(name: Name, home: Path, *, reward: bool = False) -> Checkpoint:
    """SmolLM2-135M-Instruct, or a random model of the demo's sizes, below `home`.

    Args:
        reward: its body under a random scalar head.
    """
    from training.models.building import new_scalar_head
    from training.stages.adopt import Config, adopt

    if name == "smollm2" and not SMOLLM2.exists():
        raise SystemExit(f"{SMOLLM2} is not there: set ALIGNLOOP_SMOLLM2 to the file")
    source = SMOLLM2 if name == "smollm2" else _save_miniature(home / "source")
    policy = adopt(Config(str(source), home=home))
    if not reward:
        return policy
    from service.tokenizers import load_tokenizer

    tokenizer = load_tokenizer(policy.path)
    folder = home / "scorer"
    new_scalar_head(str(policy.path), tokenizer.pad_token_id, seed=0).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return adopt(Config(str(folder), home=home))


def documents() -> Iterator[str]:
    """Texts of the miniature world, of some 23 words and at most 60: English to SmolLM2, whole words to the other."""
    return (" ".join(text.split()[:60]) for text in World.build().pretraining_documents())


def _save_miniature(folder: Path) -> Path:
    """The sizes and the vocabulary of the preset `demo`, with random weights."""
    from training.models.building import new_llama
    from training.stages.tokenizer import whole_words

    tokenizer = whole_words(islice(documents(), DOCUMENTS), 4096)
    model = new_llama(tokenizer, width=128, layers=3, heads=4, feed_forward=352, context=256, std=0.05, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
