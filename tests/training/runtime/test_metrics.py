"""Scalars as lines of JSON: one file per run, no step twice, whatever a kill leaves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from training.runtime import metrics
from training.runtime.metrics import Metrics

pytestmark = pytest.mark.unit


def test_a_resumed_run_goes_over_what_was_logged_beyond_its_state(tmp_path: Path) -> None:
    first = Metrics(tmp_path, 0)
    for step in range(6):
        first.write(step, {"loss": float(step)})
    first.close()
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text() + '{"step": 6, "lo')  # killed while it wrote
    again = Metrics(tmp_path, 3)
    for step in range(3, 5):
        again.write(step, {"loss": 10.0 + step})
    again.close()
    assert [(line["step"], line["loss"]) for line in metrics.read(file)] == [
        (0, 0.0), (1, 1.0), (2, 2.0), (3, 13.0), (4, 14.0)
    ]  # fmt: skip


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    log = Metrics(tmp_path, 0)
    log.write(0, {"loss": math.nan, "norm": 1.0, "ratio": math.inf})
    log.close()
    (line,) = metrics.read(tmp_path / "metrics.jsonl")
    assert set(line) == {"step", "time", "norm"}
    assert line["norm"] == 1.0


def test_a_run_from_the_start_begins_a_new_file(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        log = Metrics(tmp_path, 0)
        log.write(0, {"loss": value})
        log.close()
    assert [line["loss"] for line in metrics.read(tmp_path / "metrics.jsonl")] == [2.0]


class Listener:
    """A tracker that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        self.heard.append((step, dict(scalars)))

    def close(self, completed: bool) -> None:
        self.heard.append(completed)


def test_trackers_hear_the_scalars_and_the_end(tmp_path: Path) -> None:
    listener = Listener()
    log = Metrics(tmp_path, 0, [listener])
    log.write(4, {"loss": 1.5, "score": math.nan})
    log.close(completed=False)
    assert listener.heard == [(4, {"loss": 1.5}), False]


def test_a_tracker_that_fails_ends_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Failing(Listener):
        def write(self, step: int, scalars: Mapping[str, float]) -> None:
            raise ConnectionError("no network")

    listener = Listener()
    log = Metrics(tmp_path, 0, [Failing(), listener])
    for step in range(2):
        log.write(step, {"loss": 1.0})
    log.close()
    assert capsys.readouterr().err.count("Failing takes no more scalars from step 0 on: no network") == 1
    assert listener.heard == [(0, {"loss": 1.0}), (1, {"loss": 1.0}), True]
