"""PPO on the tiny checkpoints, small enough for a test, with heads that an engine on a CPU takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support import toy_world
from tests.support.tiny_models import publish_tiny
from training.artifacts.checkpoints import Checkpoint
from training.stages import ppo

PROMPTS = 24


def make_home(home: Path, *, tied: bool = False) -> tuple[Checkpoint, Checkpoint]:
    """Publish a policy and a reward model and write prompts below `home`."""
    home.mkdir(parents=True, exist_ok=True)
    rows = ({"id": f"p{i}", "messages": toy_world.turns(toy_world.question(i))} for i in range(PROMPTS))
    toy_world.write_jsonl(home / "prompts.jsonl", rows)
    policy = publish_tiny(home / "checkpoints", train=tie if tied else None)
    return policy, publish_tiny(home / "checkpoints", "reward", 1)


def tie(model: Any, tokenizer: Any) -> None:
    """Make the output head the embeddings."""
    model.config.tie_word_embeddings = True
    model.tie_weights()


def config_of(home: Path, **changes: Any) -> ppo.Config:
    """Two iterations at a rate that moves every weight."""
    settings: dict[str, Any] = {
        "prompts": (str(home / "prompts.jsonl"),),
        "iterations": 2,
        "batch": 8,
        "minibatch": 4,
        "max_tokens": 12,
        "learning_rate": 1e-2,
        "value_learning_rate": 1e-2,
        "warmup_iterations": 0,
        "home": home,
    }
    return ppo.Config(**(settings | changes))
