"""Our trainers and TRL's on the same rows: each side alone in a process of its own, one after the other per round."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from tests.support import tiny_models

ROOT = Path(__file__).resolve().parents[2]
OURS: list[Any] = [sys.executable, "-m", "tests.support.trainers_of_ours"]


def options(description: str | None, micro: Sequence[int]) -> argparse.ArgumentParser:
    """The options that all comparisons with TRL's trainers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--trl", required=True, help="python of TRL's environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--micro", type=int, nargs="+", default=list(micro), help="TRL's micro-batches")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def trl(python: str) -> list[Any]:
    """The command of TRL's side."""
    return [python, ROOT / "tests/support/trainers_of_trl.py"]


def run(command: Sequence[Any], settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What a side prints, in a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(settings, file)
        file.flush()
        done = subprocess.run([*map(str, command), file.name], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name} failed: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def report(name: str, ratios: Sequence[float]) -> None:
    print(f"{name} ratio {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


def save_model(folder: Path, *, vocabulary: int, width: int, layers: int) -> int:
    """Save a random Llama policy with the tests' tokenizer; its parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = tiny_models.tokenizer()
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3, num_hidden_layers=layers,
        num_attention_heads=width // 64, num_key_value_heads=width // 64, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    policy = LlamaForCausalLM(config)
    policy.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return int(policy.num_parameters())
