"""What stopped runs left is listed, deleted on request, and never taken from a live process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from training.artifacts import checkpoints
from training.artifacts.errors import UserError
from training.runtime import cleaning, locks, runs
from training.runtime.cleaning import Config

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Settings:
    """Of a run with one setting."""

    rate: float = 0.1


def stop_run(home: Path, rate: float) -> Path:
    """A run that died after it saved its state; its folder."""
    run = runs.Run(home, "sft", Settings(rate), [])

    def die() -> None:
        with run:
            run.save(3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    return run.folder


def test_stopped_runs_are_listed_and_deleted_only_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, live = stop_run(tmp_path, 0.1), stop_run(tmp_path, 0.2)
    staged = checkpoints.staging(tmp_path / "checkpoints")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    half = staged.rename(staged.with_name(staged.name.replace(f"-{os.getpid()}-", f"-{dead.stdout.strip()}-")))
    in_use = checkpoints.staging(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "sft-1").mkdir()
    with runs.Run(tmp_path, "sft", Settings(0.2), []):
        assert {one.path for one in cleaning.clean(Config(home=tmp_path))} == {left, half}
        assert left.is_dir()
        assert half.is_dir()
        printed = "".join(capsys.readouterr())
        assert f"{left}: state of a stopped run of sft" in printed
        assert "2 left over" in printed
        assert "--yes deletes them" in printed
        cleaning.clean(Config(home=tmp_path, yes=True))
        assert not left.exists()
        assert not half.exists()
        assert (live / "state.pt").is_file()
        assert in_use.is_dir()
        assert (tmp_path / "checkpoints" / "sft-1").is_dir()


def test_a_run_that_is_resumed_between_listing_and_deleting_is_left_alone(tmp_path: Path) -> None:
    left = stop_run(tmp_path, 0.1)
    (one,) = cleaning.find(tmp_path)
    with runs.Run(tmp_path, "sft", Settings(0.1), []):
        assert not cleaning.delete(one)
        assert (left / "state.pt").is_file()


def test_a_run_that_begins_while_its_old_state_is_deleted_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_run(tmp_path, 0.1)
    (one,) = cleaning.find(tmp_path)
    original = cleaning.shutil.rmtree

    def slow(path: Path, **options: bool) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(cleaning.shutil, "rmtree", original)
            stop_run(tmp_path, 0.1)  # begins, saves and is stopped in between
        original(path, **options)

    monkeypatch.setattr(cleaning.shutil, "rmtree", slow)
    assert cleaning.delete(one)
    (again,) = cleaning.find(tmp_path)
    assert (again.path / "state.pt").is_file()


def test_runs_of_another_machine_are_left_alone_for_a_week(tmp_path: Path) -> None:
    left = stop_run(tmp_path, 0.1)
    facts = json.loads((left / "run.json").read_text())
    (left / "run.json").write_text(json.dumps(facts | {"machine": "another"}))
    assert cleaning.find(tmp_path) == []
    old = time.time() - 8 * 24 * 3600
    for path in (*left.iterdir(), left):
        os.utime(path, (old, old))
    assert [one.path for one in cleaning.find(tmp_path)] == [left]


def test_days_leave_out_what_changed_since(tmp_path: Path) -> None:
    stop_run(tmp_path, 0.1)
    assert cleaning.clean(Config(home=tmp_path, days=1, yes=True)) == []
    assert len(cleaning.clean(Config(home=tmp_path, days=0))) == 1


def test_looking_makes_no_lock(tmp_path: Path) -> None:
    (tmp_path / "work" / "x").mkdir(parents=True)
    assert not locks.is_locked(tmp_path / "work" / "x")
    assert not list((tmp_path / "work" / "x").iterdir())


def test_a_home_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a folder"):
        cleaning.clean(Config(home=tmp_path / "none"))
