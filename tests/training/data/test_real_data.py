"""Public data through the commands of the README: WikiText-2, Alpaca and HH-RLHF into one small chain of models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import ROOT
from training.artifacts.checkpoints import Checkpoint, resolve

pytestmark = pytest.mark.integration
DATA = Path(os.environ.get("ALIGNLOOP_DATA", ROOT.parent / "shared" / "data"))
WIKITEXT, WIKITEXT_HELD_OUT = DATA / "ptx" / "wikitext2_test.txt", DATA / "ptx" / "wikitext2_valid.txt"
ALPACA = DATA / "sft" / "alpaca_random9k.jsonl"
HH = DATA / "hh" / "harmless_base_test.jsonl"


def training(home: Path, *arguments: object) -> str:
    """Run `python -m training ...`; the last line that it printed."""
    command = [sys.executable, "-m", "training", *map(str, arguments), "--home", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def made(home: Path, *arguments: object) -> Checkpoint:
    return resolve(training(home, *arguments), home / "checkpoints")


def share_used(source: dict[str, Any]) -> float:
    """Share of a source's rows that were used; the others are counted by reason."""
    lost = sum(source["skipped"].values()) + sum(source.get("unusable", {}).values())
    return 1 - lost / float(source["rows"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}: set ALIGNLOOP_DATA")
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def base(home: Path) -> Checkpoint:
    """A base model with a tokenizer of its own, on WikiText-2."""
    training(home, "tokenizer", "--data", WIKITEXT, "--vocab-size", 4096)
    shape = ("--hidden-size", 64, "--layers", 1, "--heads", 2, "--feed-forward", 128, "--context", 1024)
    size = ("--tokens", 400_000, "--batch-tokens", 2048, "--learning-rate", 3e-3)
    return made(home, "pretrain", "--data", WIKITEXT, "--validation", WIKITEXT_HELD_OUT, *shape, *size)


@pytest.fixture(scope="module")
def tuned(home: Path, base: Checkpoint) -> Checkpoint:
    """The base model fine-tuned on Alpaca."""
    return made(home, "sft", "--data", ALPACA, "--epochs", 1, "--learning-rate", 2e-3, "--tokens-per-pass", 4096)


def test_pretraining_on_wikitext(base: Checkpoint) -> None:
    facts = base.manifest
    assert share_used(facts.data["pretraining"]) >= 0.97
    # A model that knows only how often each token occurs stays above 6.4 nats: the entropy of its tokens.
    assert facts.metrics["held_out_loss"] < 6.0


def test_fine_tuning_on_alpaca(tuned: Checkpoint) -> None:
    source = tuned.manifest.data["demonstrations"]
    assert source["rows"] == 9229
    assert share_used(source) >= 0.97
    assert tuned.manifest.metrics["validation_loss"] < 5.5


def test_a_reward_model_on_hh(home: Path, tuned: Checkpoint) -> None:
    options = ("--epochs", 1, "--batch", 32, "--tokens-per-pass", 4096, "--learning-rate", 1e-3)
    reward = made(home, "reward", "--data", HH, "--model", tuned.id, *options)
    source = reward.manifest.data["comparisons"]
    assert source["rows"] == 2312
    assert share_used(source) >= 0.97
    assert 0.3 < reward.manifest.metrics["accuracy/all"] < 0.9
    assert reward.manifest.reward_offset is not None
