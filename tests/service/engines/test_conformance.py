"""What a new engine answers is compared with what the checkpoint kept when it was published."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.engines import conformance
from service.engines.failures import Permanent
from tests.support.stub_engines import copies, stub_engines
from training.artifacts.checkpoints import Checkpoint


def test_a_probe_as_long_as_the_context_is_compared_as_far_as_an_answer_fits(
    tiny_policy: Checkpoint, tmp_path: Path
) -> None:
    (policy,) = copies(tiny_policy, tmp_path, ["sft-1"])
    longest = max(len(row) for row in policy.manifest.probe["ids"])
    with stub_engines() as stubs:
        for context in (longest, longest - 1, 2):
            stub, url = stubs.add(policy, context=context)
            conformance.check(policy, url, "float32", context=context)
            if context > 2:  # one token has no log-probability
                stub.fault = "wrong"
                with pytest.raises(Permanent, match="does not reproduce its probe"):
                    conformance.check(policy, url, "float32", context=context)


def test_a_reward_probe_that_does_not_fit_is_said(tiny_reward: Checkpoint, tmp_path: Path) -> None:
    (reward,) = copies(tiny_reward, tmp_path, ["reward-1"])
    length = len(reward.manifest.probe["ids"][0])
    with stub_engines() as stubs:
        _, url = stubs.add(reward)
        conformance.check(reward, url, "float32", context=length)
        with pytest.raises(Permanent, match=f"needs a context of {length} tokens, the engine has {length - 1}"):
            conformance.check(reward, url, "float32", context=length - 1)
