"""Weights & Biases and MLflow as they are, each in an environment of its own; and where they are not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training.conftest import Toy
from tests.training.stages.test_dpo import config_of
from training.artifacts.errors import UserError
from training.stages import dpo

ROOT = Path(__file__).resolve().parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "alignloop-tests"


@pytest.mark.unit
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_one_that_is_not_installed_is_refused_before_the_first_step(
    toy_chain: Toy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=f"--log-to {name}: it is not installed: pip install {name}"):
        dpo.train(config_of(toy_chain, log_to=(name,)))


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb==0.31.0"), ("mlflow", "mlflow==3.17.2")])
def test_a_stopped_run_is_one_run_of_the_tracker(tmp_path: Path, name: str, package: str) -> None:
    folder = CACHE / package.replace("[", "-").replace("]", "")
    python = folder / "bin/python"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        done = subprocess.run([python, "-m", "pip", "install", "--quiet", package], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"{package} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        (folder / "complete").touch()
    environment = os.environ | {
        "WANDB_MODE": "offline", "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    command = [python, "-m", "tests.support.tracked_run", name, str(tmp_path / "logs")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    held = json.loads(done.stdout.splitlines()[-1])
    if name == "wandb":
        assert held["files"]
        assert all("sft-1" in file for file in held["files"])
        return
    assert held["status"] == "FINISHED"
    assert held["parameters"] == {"epochs": "2", "data": "['a']"}
    assert held["values"] == [[step, 1.0 / (1 + step)] for step in range(6)]
