"""Fixtures that every part shares: tiny checkpoints, and one running service with both kinds of engines."""

from __future__ import annotations

import os

# Threads bring nothing to models and arrays as small as these, and wait for each other on a busy machine.
# Set before anything imports numpy or torch, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_service import Running, running_service
from training.artifacts.checkpoints import Checkpoint


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint store; `tiny_policy` and `tiny_reward` are published in it."""
    return tmp_path_factory.mktemp("home") / "checkpoints"


@pytest.fixture(scope="session")
def tiny_policy(tiny_store: Path) -> Checkpoint:
    """A random Llama of two layers in float32, with its tokenizer, chat template and probe."""
    from tests.support.checkpoints import publish_tiny

    return publish_tiny(tiny_store)


@pytest.fixture(scope="session")
def tiny_reward(tiny_store: Path) -> Checkpoint:
    """The same as a reward model, with offset 0.5."""
    from tests.support.checkpoints import publish_tiny

    return publish_tiny(tiny_store, "reward", seed=1)


@pytest.fixture(scope="session")
def tiny_policy_folder(tiny_policy: Checkpoint) -> Path:
    return tiny_policy.path


@pytest.fixture(scope="session")
def tiny_reward_folder(tiny_reward: Checkpoint) -> Path:
    return tiny_reward.path


@pytest.fixture(scope="session")
def gateway(tiny_policy: Checkpoint, tiny_reward: Checkpoint) -> Iterator[Running]:
    """`python -m service serve --with-engines` over both tiny checkpoints, ready; one for the whole test run.

    policy/production and reward/production name them. Tests must leave these aliases as they found them.
    """
    with running_service(
        tiny_policy.path.parent.parent,
        aliases={"policy/production": tiny_policy.id, "reward/production": tiny_reward.id},
    ) as running:
        running.wait_ready()
        yield running
