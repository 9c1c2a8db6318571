"""Planted policies that a release gate must stop: one that only its reward model likes, one of reversed rankings.

Everything goes through the commands that a user types: world, tokenizer, pretraining, fine-tuning, sampling, rankings,
reward models, PPO, and a measurement on engines with the gate's verdict.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from training.artifacts import checkpoints, comparisons, processes
from training.artifacts.comparisons import Comparison
from training.artifacts.files import lines_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]  # trains six models and starts four engines: minutes
SEED = "5"
PRESET = """
[world]
size = "demo"
[tokenizer]
name = "{world_name}"
data = "{world}/pretrain.jsonl"
kind = "words"
vocab_size = 4096
[pretrain]
tokenizer = "{home}/tokenizer/{world_name}"
data = "{world}/pretrain.jsonl"
layout = "documents"
hidden_size = 96
layers = 2
heads = 3
feed_forward = 256
context = 256
initial_std = 0.05
tokens = 800_000
batch_tokens = 768
learning_rate = 3e-3
[sft]
data = "{world}/demonstrations.jsonl"
epochs = 2
batch = 16
learning_rate = 1e-3
freeze_embeddings = true
[sample]
prompts = "{world}/prompts-reward.jsonl"
labelers = "miniature"
limit = 1200
world = "{world}"
name = "{world_name}/first"
max_tokens = 40
[reward]
demonstrations = "{world}/demonstrations.jsonl"
epochs = 2
learning_rate = 1.2e-3
batch = 16
[ppo]
prompts = "{world}/prompts-ppo.jsonl"
batch = 128
minibatch = 64
tokens_per_pass = 768
value_learning_rate = 8e-4
warmup_iterations = 2
max_tokens = 40
ema = 0.0
"""
# No KL penalty and a rate at which the policy leaves the text that the reward model has learned from.
OVER_OPTIMISED = ("--kl-coefficient", "0", "--learning-rate", "2e-3", "--iterations", "30")
CAREFUL = ("--kl-coefficient", "0.02", "--learning-rate", "8e-4", "--iterations", "12")


@dataclass(frozen=True)
class Planted:
    """Ids of the models; folder of the report; verdicts by checkpoint, and what the run ended with."""

    sft: str
    reward: str
    over_optimised: str
    of_reversed: str
    report: Path
    verdicts: dict[str, Any]
    status: int


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Both policies trained and measured against the model that they start from."""
    home = tmp_path_factory.mktemp("planted")
    preset = home / "planted.toml"
    preset.write_text(PRESET)

    def run(*stages: tuple[str, ...]) -> list[str]:
        """Run stages side by side; the last line that each prints."""
        common = ["--preset", str(preset), "--seed", SEED, "--home", str(home)]
        started = []
        with ExitStack() as stack:
            for number, (name, *arguments) in enumerate(stages):
                log = home / "logs" / f"{name}-{number}.log"
                command = ["training", name, *common, *arguments]
                child = processes.start(command, capture=True, log=log, environment=processes.ONE_THREAD)
                stack.callback(processes.stop, child)
                started.append((child, log))
            return [processes.finish(child, log.stem, log).strip().splitlines()[-1] for child, log in started]

    (world,) = run(("world",))
    run(("tokenizer",))
    (base,) = run(("pretrain",))
    (sft,) = run(("sft", "--model", base))
    (rankings,) = run(("sample", "--model", sft))
    as_ranked, turned = (data_of(Path(path)) for path in (rankings, reversed_rankings(Path(rankings))))
    reward, of_turned = run(
        ("reward", "--model", sft, *as_ranked), ("reward", "--model", sft, *turned),
    )  # fmt: skip
    over_optimised, of_reversed = run(
        ("ppo", "--model", sft, "--reward", reward, *OVER_OPTIMISED),
        ("ppo", "--model", sft, "--reward", of_turned, *CAREFUL),
    )
    report = home / "report"
    measuring = processes.start(
        [
            "evals.run", "--home", str(home), "--world", world, "--out", str(report), "--baseline", sft,
            "--checkpoint", over_optimised, of_reversed, "--reward", reward, "--comparisons", as_ranked[-1],
            "--suite", "preference", "tax", "reward", "--max-tokens", "40", "--limit", "250", "--no-contamination",
        ],
        environment=processes.ONE_THREAD,
    )  # fmt: skip
    processes.finish(measuring, "evals.run", accepted=processes.DECIDED)
    verdicts = {name.removesuffix(".chat"): v for name, v in json.loads((report / "gate.json").read_text()).items()}
    return Planted(sft, reward, over_optimised, of_reversed, report, verdicts, measuring.returncode)


def data_of(rankings: Path) -> tuple[str, ...]:
    """Options of the reward stage; the last word is the file of held-out rankings."""
    return ("--data", str(rankings), "--validation", str(held_out(rankings)))


def held_out(rankings: Path) -> Path:
    return rankings.with_stem(f"{rankings.stem}-validation")


def reversed_rankings(rankings: Path) -> Path:
    """The same rankings with the best response last, held-out ones too."""
    turned = rankings.with_stem("reversed")
    for source, target in ((rankings, turned), (held_out(rankings), held_out(turned))):
        comparisons.freeze([turn(row) for row in comparisons.read(source)[0]], target)
    return turned


def turn(row: Comparison) -> Comparison:
    assert row.ranks is not None
    return replace(row, ranks=tuple(max(row.ranks) + 1 - rank for rank in row.ranks))


def figures(planted: Planted, checkpoint: str, ask: str = "chat") -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((planted.report / f"{checkpoint}.{ask}.json").read_text())["metrics"]
    return metrics


def rows(planted: Planted, checkpoint: str) -> dict[str, Any]:
    return {row["metric"]: row for row in planted.verdicts[checkpoint]["rows"]}


def test_the_reward_model_passes_its_own_test(planted: Planted) -> None:
    """It orders pairs of labelers whom it has never seen better than chance and better than length."""
    measured = figures(planted, planted.reward, "score")
    for group in ("training", "heldout"):
        assert measured[f"reward.labelers_{group}.agrees"]["low"] > 0.5
        assert measured[f"reward.labelers_{group}.prefers_better"]["low"] > 0.5
    manifest = checkpoints.load(planted.report.parent / "checkpoints" / planted.reward).manifest
    assert manifest.metrics["accuracy/heldout"] > manifest.metrics["length_accuracy/heldout"]


def test_a_policy_that_only_its_reward_model_likes_fails_the_gate(planted: Planted) -> None:
    before, after = (figures(planted, checkpoint) for checkpoint in (planted.sft, planted.over_optimised))
    assert after["reward.prompts.reward"]["low"] > before["reward.prompts.reward"]["high"] + 0.2
    # The gain is none: it hardly follows an instruction any more, and has lost the language.
    assert after["preference.prompts.follows"]["high"] < before["preference.prompts.follows"]["low"]
    decided = rows(planted, planted.over_optimised)
    assert decided["tax.heldout.bits_per_byte"]["outcome"] == "FAIL"
    assert planted.verdicts[planted.over_optimised]["outcome"] == "FAIL"


def test_a_policy_of_reversed_rankings_fails_the_gate(planted: Planted) -> None:
    decided = rows(planted, planted.of_reversed)
    assert decided["preference.prompts.utility"]["outcome"] == "FAIL"
    assert planted.verdicts[planted.of_reversed]["outcome"] == "FAIL"


def test_the_command_says_so(planted: Planted) -> None:
    assert planted.status == 1
    assert {verdict["outcome"] for verdict in planted.verdicts.values()} == {"FAIL"}
    assert "FAIL" in (planted.report / "junit.xml").read_text()
    items = lines_of(planted.report / f"{planted.over_optimised}.chat.items.jsonl")
    assert not any(json.loads(line)["missing"] for line in items)
