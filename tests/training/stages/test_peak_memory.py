"""What a run takes is what was planned: measured in a process of its own, on a model whose weights do not hide it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny_models

Peaks = Callable[..., float]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of 23 million parameters with a vocabulary of 32,000, demonstrations and comparisons."""
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, tokenizer, rng = tmp_path_factory.mktemp("peak"), tiny_models.tokenizer(), random.Random(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=384, intermediate_size=1024, num_hidden_layers=6, num_attention_heads=6,
        num_key_value_heads=6, max_position_embeddings=1024, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")

    def words(count: int) -> str:
        return " ".join(rng.choices(tiny_models.WORDS, k=count))

    rows: list[dict[str, Any]] = [
        {"prompt": f"{words(20)} {number}", "user": str(number), "response": words(rng.randint(100, 200))}
        for number in range(80)
    ]
    (folder / "demonstrations.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        row |= {"chosen": row.pop("response"), "rejected": words(rng.randint(100, 200))}
    (folder / "comparisons.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def planned_over_peak(home: Path) -> Peaks:
    """What was planned for a stage with these options, over what it took at its peak."""

    def run(stage: str, *options: str) -> float:
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.peak_memory", stage, "--home", home / "runs", *options],
            capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        sizes = json.loads(done.stdout.splitlines()[-1])
        print(stage, *options, sizes)
        return float(sizes["loaded"] + sizes["planned"]) / float(sizes["peak"])

    return run


CLOSE = pytest.approx(1.0, abs=0.15)


@pytest.mark.integration
def test_fine_tuning_takes_what_was_planned(planned_over_peak: Peaks, home: Path) -> None:
    options = ("--data", f"{home}/demonstrations.jsonl", "--model", f"{home}/model", "--epochs", "1")
    assert planned_over_peak("sft", *options) == CLOSE


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("dtype", ["auto", "float32"])
def test_every_stage_takes_what_was_planned(planned_over_peak: Peaks, home: Path, dtype: str) -> None:
    start = ("--model", f"{home}/model", "--dtype", dtype)
    demonstrations = ("--data", f"{home}/demonstrations.jsonl", "--epochs", "1")
    for options in ((), ("--checkpoint-activations",), ("--tokens-per-pass", "512")):
        assert planned_over_peak("sft", *start, *demonstrations, *options) == CLOSE, options
    assert planned_over_peak("reward", *start, "--data", f"{home}/comparisons.jsonl", "--batch", "16") == CLOSE
    store = home / "runs/checkpoints"
    reward = next(folder.name for folder in store.iterdir() if folder.name.startswith("reward"))
    assert planned_over_peak(
        "ppo", *start, "--prompts", f"{home}/demonstrations.jsonl", "--reward", reward, "--iterations", "1",
        "--batch", "16", "--minibatch", "8", "--max-tokens", "128",
    ) == CLOSE  # fmt: skip
