"""Histories of promotions, rollbacks and failures with real engines and processes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.histories.judge import Violation
from tests.support.histories.real import POLICIES, REWARDS, RealHistory, log_of
from tests.support.live_service import running_service
from tests.support.stub_engines import copies
from training.artifacts.checkpoints import Checkpoint

HISTORIES, STEPS = 10, 30
LEAST_ANSWERED = 100  # polls of each history that must be answered: how many are not depends on how fast engines start


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_ten_histories_with_real_engines(tiny_policy: Checkpoint, tiny_reward: Checkpoint, tmp_path: Path) -> None:
    copies(tiny_policy, tmp_path / "checkpoints", list(POLICIES))
    copies(tiny_reward, tmp_path / "checkpoints", list(REWARDS))
    fired: Counter[str] = Counter()
    with running_service(tmp_path, arguments=()) as running:
        running.wait_live()
        for seed in range(HISTORIES):
            history = RealHistory(running, seed)
            try:
                fired += history.play(STEPS)
            except Violation as violation:
                raise Violation(f"history {seed}: {violation}\n{log_of(tmp_path)}") from None
            assert history.polls[200] >= LEAST_ANSWERED, f"history {seed}: the client hardly saw the aliases answer"
            print(f"history {seed}: polls by status {dict(history.polls)}", flush=True)
    print(f"{HISTORIES} histories of {STEPS} steps:", dict(fired))
