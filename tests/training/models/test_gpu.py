"""The stages on a GPU, where there is one: what they publish is what the CPU computes."""

from __future__ import annotations

import contextvars
import shutil
from pathlib import Path

import pytest
import torch

from tests.support import toy_world as toy
from training.artifacts.checkpoints import MANIFEST
from training.models import hardware, loading, probes
from training.stages import adopt, ppo

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


def chain(home: Path) -> tuple[str, str, str]:
    """Ids of an SFT policy, a reward model and a PPO-ptx policy trained on the device that `hardware` chooses."""
    toy.make_home(home)
    policy, scorer = toy.make_models(home)
    trained = ppo.train(
        ppo.Config(
            prompts=(str(home / "prompts.jsonl"),),
            model=policy.id,
            reward=(scorer.id,),
            iterations=2,
            batch=16,
            minibatch=8,
            tokens_per_pass=256,
            max_tokens=6,
            ptx_coefficient=0.5,
            pretraining_data=(str(home / "text.jsonl"),),
            ptx_documents=4,
            home=home,
        )
    )
    return policy.id, scorer.id, trained.id


def test_a_chain_trained_in_bfloat16_on_the_gpu_is_what_the_cpu_loads(tmp_path: Path) -> None:
    """The first ratio of each batch is 1 (`ppo.train` checks it), and probes agree with the CPU's own numbers."""
    context = contextvars.Context()  # without the CPU and the full precision that the other tests ask for
    for id_, kind in zip(context.run(chain, tmp_path), ("policy", "reward", "policy"), strict=True):
        source = loading.load(id_, tmp_path, kind)
        assert source.checkpoint is not None
        kept = source.checkpoint.manifest.probe
        probe = probes.policy_probe if kind == "policy" else probes.reward_probe
        values = "logprobs" if kind == "policy" else "rewards"
        for ours, theirs in zip(probe(source.model, kept["ids"])[values], kept[values], strict=True):
            assert ours == pytest.approx(theirs, abs=2e-4)


def test_a_model_is_adopted_beside_a_gpu_with_the_probe_of_its_files(tmp_path: Path) -> None:
    home = toy.make_home(tmp_path)
    policy, _ = toy.make_models(home)
    foreign = shutil.copytree(policy.path, tmp_path / "foreign", ignore=shutil.ignore_patterns(MANIFEST))
    adopted = contextvars.Context().run(adopt.adopt, adopt.Config(str(foreign), home=tmp_path / "other"))
    assert adopted.manifest.probe["dtype"] == "float32"
    assert hardware.device().type == "cpu", "the tests' own device"
