"""Signals in every stage of training: no half checkpoint, and the same command then finishes in the same bits.

Engines that die with their supervisor are tested in tests/service.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_world as toy
from tests.support.stored import assert_weights_match
from training.artifacts import checkpoints
from training.artifacts.checkpoints import MANIFEST
from training.runtime import metrics

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
    "dpo": ["--data", "{home}/rankings.jsonl", "--batch", "4", "--epochs", "200"],
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
@pytest.mark.parametrize("stage", [pytest.param(stage, marks=[slow] if stage == "dpo" else []) for stage in COMMANDS])
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


# Save more often than a run of some seconds would; the interval between two saves is SECONDS.
OFTEN = """
import sys
from training.artifacts.errors import run_command
from training.runtime import runs
runs.SAVE_SECONDS = float(sys.argv.pop(1))
from training import __main__
sys.exit(run_command(__main__.main))
"""
SECONDS = 0.5
# Long enough to be stopped four times.
LONG = {
    "pretrain": ["--tokens", "1200000"],
    "sft": ["--epochs", "400"],
    "reward": ["--epochs", "600"],
    "dpo": ["--epochs", "600"],
    "ppo": ["--iterations", "250"],
}
STOPS = (signal.SIGKILL, signal.SIGTERM)


def start_saving_often(home: Path, stage: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OFTEN, str(SECONDS), stage, *COMMANDS[stage], *LONG[stage], "--home", str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def saved_steps(home: Path) -> int:
    """Steps that the state of the only unfinished run holds; 0 without one."""
    files = states(home)
    return int(torch.load(files[0], weights_only=True)["step"]) if files else 0


def logged_steps(home: Path, stage: str) -> list[dict[str, Any]]:
    name = "ppo-ptx" if stage == "ppo" else stage
    (file,) = (home / "tensorboard").glob(f"{name}-*/{metrics.NAME}")
    return metrics.read(file)


def stop_at_random(home: Path, stage: str, number: signal.Signals, chance: random.Random) -> bool:
    """Stop a stage at a random moment of its work, and check what it leaves; False where it was finished before."""
    before = saved_steps(home)
    process = start_saving_often(home, stage)
    wait_for(lambda: saved_steps(home) > before, process, 300)
    time.sleep(chance.uniform(0, 3 * SECONDS))
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    if process.returncode == 0:
        return False
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL), messages
    # What is logged beyond the state is done again: it must be younger than an interval, with room for a slow disk.
    saved = saved_steps(home)
    redone = [line for line in logged_steps(home, stage) if line["step"] >= saved]
    times = [datetime.fromisoformat(line["time"]).timestamp() for line in redone]
    assert not times or times[-1] - times[0] < 2 * SECONDS + 1, (stage, number)
    assert number != signal.SIGTERM or not redone
    return True


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy home with a model of every stage to start from."""
    folder = toy.make_home(tmp_path_factory.mktemp("trained"))
    toy.make_models(folder)
    shutil.rmtree(folder / "tensorboard")  # of the runs that made them
    return folder


@pytest.fixture(scope="module")
def undisturbed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], checkpoints.Checkpoint]:
    """The checkpoint of each stage that was left alone, trained from the checkpoints of `trained`."""

    @cache
    def of(stage: str) -> checkpoints.Checkpoint:
        folder = shutil.copytree(trained, tmp_path_factory.mktemp("undisturbed") / stage)
        output, messages = start_saving_often(folder, stage).communicate(timeout=600)
        assert output, messages
        return checkpoints.resolve(output.strip().splitlines()[-1], folder / "checkpoints")

    return of


def assert_same_bits_after_stops(
    stage: str,
    trained: Path,
    folder: Path,
    expected: checkpoints.Checkpoint,
    numbers: Sequence[signal.Signals],
    chance: random.Random,
) -> None:
    killed = shutil.copytree(trained, folder / stage)
    stopped = [stop_at_random(killed, stage, number, chance) for number in numbers]
    assert all(stopped), f"{stage} is too short for {len(numbers)} stops: see LONG"
    output, messages = start_saving_often(killed, stage).communicate(timeout=600)
    assert output, messages
    new = checkpoints.resolve(output.strip().splitlines()[-1], killed / "checkpoints")
    assert new.manifest.weights == expected.manifest.weights, messages
    steps = [line["step"] for line in logged_steps(killed, stage)]
    assert steps == sorted(set(steps))
    assert not states(killed)


@e2e
def test_a_stop_of_either_kind_ends_in_the_same_bits(
    trained: Path, tmp_path: Path, undisturbed: Callable[[str], checkpoints.Checkpoint]
) -> None:
    """A small draw: one stage, stopped once by each signal."""
    stage = random.Random(1).choice(sorted(COMMANDS))
    assert_same_bits_after_stops(stage, trained, tmp_path, undisturbed(stage), STOPS, random.Random(1))


@slow
@pytest.mark.timeout(3600)
def test_twenty_stops_at_random_over_all_stages_end_in_the_same_bits(
    trained: Path, tmp_path: Path, undisturbed: Callable[[str], checkpoints.Checkpoint]
) -> None:
    chance = random.Random(0)
    for stage in COMMANDS:
        assert_same_bits_after_stops(stage, trained, tmp_path, undisturbed(stage), STOPS * 2, chance)
