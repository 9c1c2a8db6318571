"""Ctrl-C and SIGKILL in every stage of training: no half checkpoint, and the same command then finishes.

Engines that die with their supervisor are tested in tests/service.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import toy_world as toy
from tests.support.stored import assert_weights_match
from training.artifacts import checkpoints
from training.artifacts.checkpoints import MANIFEST

e2e, slow = pytest.mark.e2e, pytest.mark.slow
ROOT = Path(__file__).parents[2]
SIZES = ["--layout", "documents", "--hidden-size", "16", "--layers", "1", "--heads", "2", "--feed-forward", "32"]
# Each stage with enough steps to be caught at work, as a user would type it.
COMMANDS = {
    "pretrain": [
        "--data", "{home}/text.jsonl", "--context", "32", "--tokens", "300000", "--batch-tokens", "200", *SIZES
    ],
    "sft": ["--data", "{home}/demonstrations.jsonl", "--batch", "4", "--epochs", "120"],
    "reward": [
        "--data", "{home}/rankings.jsonl", "--validation", "{home}/rankings-validation.jsonl",
        "--demonstrations", "{home}/demonstrations.jsonl", "--batch", "4", "--epochs", "200",
    ],
    "ppo": [
        "--prompts", "{home}/prompts.jsonl", "--iterations", "120", "--batch", "16", "--minibatch", "8",
        "--ptx-coefficient", "0.3", "--pretraining-data", "{home}/text.jsonl", "--max-tokens", "8",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make_home(tmp_path_factory.mktemp("kills"))


def start(home: Path, stage: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training", stage, *COMMANDS[stage], "--home", str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended before it was caught at work: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def logged(home: Path, stage: str) -> int:
    """Bytes of TensorBoard scalars: they grow from the first step on."""
    name = "ppo-ptx" if stage == "ppo" else stage
    return sum(file.stat().st_size for file in (home / "tensorboard").glob(f"{name}-*/events*"))


def states(home: Path) -> list[Path]:
    return list((home / "work").glob("*/state.pt"))


def published(home: Path) -> set[str]:
    """Ids that resolve. Every folder of the store that is not being staged must be whole."""
    store = home / "checkpoints"
    for folder in store.glob("[!.]*"):
        manifest = json.loads((folder / MANIFEST).read_text())
        for name in manifest["weights"]:
            assert (folder / name).is_file()
    return {c.id for c in checkpoints.checkpoints(store)} if store.is_dir() else set()


@e2e
@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stopped_stage_leaves_nothing_half_and_goes_on(home: Path, stage: str) -> None:
    before, written = published(home), logged(home, stage)

    process = start(home, stage)
    wait_for(lambda: logged(home, stage) > written, process)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "run the same command to resume" in messages
    assert "Traceback" not in messages
    assert published(home) == before
    assert len(states(home)) == 1  # Ctrl-C keeps what was done

    written = logged(home, stage)
    process = start(home, stage)
    wait_for(lambda: logged(home, stage) > written, process)
    process.kill()
    process.communicate()
    assert published(home) == before
    assert len(states(home)) == 1

    process = start(home, stage)
    output, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages
    assert "resumes from step" in messages
    new = output.strip().splitlines()[-1]
    assert published(home) == before | {new}
    assert_weights_match(checkpoints.resolve(new, home / "checkpoints"))
    assert not states(home)
    assert not list((home / "checkpoints").glob(".staging-*"))


@e2e
def test_a_killed_publisher_leaves_no_checkpoint_and_its_rest_is_swept(home: Path) -> None:
    """A process that dies between saving and renaming: its folder never resolves, the next publication removes it."""
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from training.artifacts import checkpoints\n"
        f"folder = checkpoints.staging(Path({str(home / 'checkpoints')!r}))\n"
        "(folder / 'model.safetensors').write_bytes(b'half')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = published(home)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert published(home) == before
    assert checkpoints.sweep(home / "checkpoints") == 1
    assert not list((home / "checkpoints").glob(".staging-*"))


@slow
def test_many_kills_end_in_the_same_bits(home: Path, tmp_path: Path) -> None:
    """A run stopped and killed at six random moments publishes the weights of one that was left alone."""
    chance = random.Random(0)
    killed = toy.make_home(tmp_path)
    for number in range(6):
        written = logged(killed, "pretrain")
        process = start(killed, "pretrain")
        wait_for(lambda written=written: logged(killed, "pretrain") > written, process)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGINT if number % 2 == 0 else signal.SIGKILL)
        process.communicate(timeout=60)
    weights = []
    for folder in (killed, home):
        output, messages = start(folder, "pretrain").communicate(timeout=300)
        new = output.strip().splitlines()[-1]
        weights.append(checkpoints.resolve(new, folder / "checkpoints").manifest.weights)
    assert weights[0] == weights[1], messages
