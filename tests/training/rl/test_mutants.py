"""Faults put into the mathematics one at a time, each of which some test must notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOSSES, EPISODES, UPDATES = "training/rl/losses.py", "training/rl/episodes.py", "training/rl/updates.py"
FORWARD, PPO, SFT = "training/models/forward.py", "training/stages/ppo.py", "training/stages/sft.py"
DPO, RANKINGS, HEAD = "training/stages/dpo.py", "training/stages/rankings.py", "training/models/head.py"
TESTS = ("rl", "models/test_models.py", "models/test_head.py", "models/test_loading.py", "stages/test_ppo.py",
         "stages/test_reward.py", "stages/test_sft.py", "stages/test_dpo.py", "runtime/test_ranks.py")  # fmt: skip


class Mutant(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str


MUTANTS = (
    Mutant("KL as a reward", LOSSES, "rewards = -coefficient * kl", "rewards = coefficient * kl"),
    Mutant("KL of the reference", LOSSES, "d = logprobs - reference", "d = reference - logprobs"),
    Mutant("k3 without its correction", LOSSES, "torch.expm1(-d) + d)", "torch.expm1(-d))"),
    Mutant("score before the last token", LOSSES, "last = mask.sum(1).long() - 1", "last = mask.sum(1).long() - 2"),
    Mutant(
        "score at every token",
        LOSSES,
        "rewards[torch.arange(len(scores)), last] += scores",
        "rewards += scores[:, None] * mask",
    ),
    Mutant(
        "minimum of the clipped losses",
        LOSSES,
        "losses = torch.maximum(-advantages",
        "losses = torch.minimum(-advantages",
    ),
    Mutant(
        "advantage with the wrong sign",
        LOSSES,
        "torch.maximum(-advantages * ratio, -advantages *",
        "torch.maximum(advantages * ratio, advantages *",
    ),
    Mutant("ratio upside down", LOSSES, "torch.exp((logprobs - old_logprobs)", "torch.exp((old_logprobs - logprobs)"),
    Mutant("padding in the policy loss", LOSSES, "PolicyLoss((losses * mask).sum()", "PolicyLoss(losses.sum()"),
    Mutant("minimum of the value losses", LOSSES, "0.5 * (torch.maximum((values", "0.5 * (torch.minimum((values"),
    Mutant(
        "value clipped around nothing",
        LOSSES,
        "torch.maximum(values, old_values - clip), old_values + clip)",
        "torch.maximum(values, returns - clip), returns + clip)",
    ),
    Mutant(
        "padding in the value loss",
        LOSSES,
        "(clipped - returns) ** 2) * mask).sum()",
        "(clipped - returns) ** 2)).sum()",
    ),
    Mutant(
        "returns without values",
        LOSSES,
        "return advantages, (advantages + values) * mask",
        "return advantages, advantages * mask",
    ),
    Mutant("GAE without lambda", LOSSES, "discount * lam * next_advantage", "discount * next_advantage"),
    Mutant("next value of padding", LOSSES, "    values = values * mask\n", ""),
    Mutant("mean over padding", LOSSES, "return (values * mask).sum() / mask.sum()", "return (values * mask).mean()"),
    Mutant(
        "whitening that keeps its mean", LOSSES, "return (values - mean) * torch.rsqrt", "return values * torch.rsqrt"
    ),
    Mutant("ties count as wins", LOSSES, "for i, j, outcome in pairs if outcome != 0]", "for i, j, outcome in pairs]"),
    Mutant("losers win", LOSSES, "if outcome > 0 else (j, i)", "if outcome < 0 else (j, i)"),
    Mutant(
        "one mean over all pairs",
        LOSSES,
        "return torch.stack([loss for loss in losses if loss is not None]).mean()",
        "return pairwise_loss(scores, [(rows[i], rows[j], o) for rows, pairs in groups for i, j, o in pairs])",
    ),
    Mutant("penalty above the lowest score", LOSSES, "torch.minimum(lowest - 1.0", "torch.maximum(lowest - 1.0"),
    Mutant("adaptive KL the wrong way", LOSSES, "kl / target - 1", "1 - kl / target"),
    Mutant(
        "temperature left out",
        LOSSES,
        "logits.float() / temperature if temperature != 1.0 else logits.float()",
        "logits.float()",
    ),
    Mutant("offset added", EPISODES, "one[:, 0] - reward.offset", "one[:, 0] + reward.offset"),
    Mutant("values without offset", EPISODES, "(raw - models.offset) *", "raw *"),
    Mutant(
        "the policy is its own reference",
        EPISODES,
        "response_logprobs(models.reference,",
        "response_logprobs(models.policy,",
    ),
    Mutant("values after the token", FORWARD, "positions - 1]", "positions]"),
    Mutant(
        "log-probabilities one place on",
        FORWARD,
        "hidden_states(model, rows)[:, :-1][counted[:, 1:]]",
        "hidden_states(model, rows)[:, 1:][counted[:, 1:]]",
    ),
    Mutant(
        "a mean of the passes' means",
        UPDATES,
        "(policy.total / tokens).backward()",
        "(policy.total / float(mask.sum())).backward()",
    ),
    Mutant("value loss without its weight", UPDATES, "(value_coefficient * value / tokens)", "(value / tokens)"),
    Mutant(
        "whitening before returns",
        PPO,
        "advantages = losses.whiten(advantages, episodes.mask)",
        "returns = losses.whiten(advantages, episodes.mask) + episodes.old_values",
    ),
    Mutant("text without gamma", PPO, "(coefficient * loss).backward()", "loss.backward()"),
    Mutant("DPO without beta", DPO, "return beta * (logprobs", "return (logprobs"),
    Mutant("the reference's sign in DPO", DPO, "(logprobs - torch.cat(", "(logprobs + torch.cat("),
    Mutant(
        "a mean of the passes' means in SFT",
        SFT,
        "share = weight * loss_of(model, [examples[i] for i in part]) / tokens",
        "share = weight * loss_of(model, [examples[i] for i in part]) / sum(learned_tokens(examples[i]) for i in part)",
    ),
    Mutant(
        "a mean of the processes' means in SFT",
        SFT,
        "tokens = sum(map(learned_tokens, examples))",
        "tokens = ranks.count() * sum(learned_tokens(examples[i]) for i in "
        "ranks.own_share([len(example.ids) for example in examples])) or 1",
    ),
    Mutant(
        "a mean of the processes' means in the reward model",
        RANKINGS,
        "for part, weight in _own_passes(rankings, tokens_per_pass):\n        share = weight *",
        "own = batches.ranks.own_share([sum(ranking.lengths) for ranking in rankings])\n"
        "    for part, weight in _own_passes(rankings, tokens_per_pass):\n"
        "        share = len(rankings) / (len(own) or 1) / batches.ranks.count() * weight *",
    ),
    Mutant("episodes of one process alone", EPISODES, "ranks.add_up([columns])", "pass"),
)


def notices(folder: Path) -> bool:
    """Whether a test fails in that copy of the tree."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider",
         "--deselect", "tests/training/rl/test_mutants.py", *(f"tests/training/{name}" for name in TESTS)],
        cwd=folder, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode == 1


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("training", "service", "evals", "tests", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    return folder


@pytest.mark.unit
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_fault_can_be_put_in(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text().count(mutant.right) == 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_without_a_fault_nothing_is_noticed(tree: Path) -> None:
    assert not notices(tree)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_noticed(tree: Path, mutant: Mutant) -> None:
    file = tree / mutant.file
    right = file.read_text()
    file.write_text(right.replace(mutant.right, mutant.wrong))
    try:
        assert notices(tree)
    finally:
        file.write_text(right)
