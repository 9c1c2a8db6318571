"""Progress in a log file: a line every so often with the time left, and how long it took."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from training.artifacts import progress

pytestmark = pytest.mark.unit


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=stream, width=60))
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.1)
    monkeypatch.setattr(progress, "SHORT_SECONDS", 0.1)
    return stream


def test_a_log_file_gets_lines_with_the_time_left_though_nothing_advances(log: io.StringIO) -> None:
    with progress.bar("a very long title that is wider than the console of a log", 10) as bar:
        bar.advance(5)
        bar.note("loss [1.5]")
        time.sleep(0.35)
    lines = log.getvalue().splitlines()
    assert len(lines) >= 3
    expected = r"a very long title .* log: 5 of 10 \(50 %\), 0:00 passed, 0:00 left, loss \[1\.5\]"
    assert all(re.fullmatch(expected, line) for line in lines[:-1])
    assert re.fullmatch(r"a very long title .* log: done in 0:00, loss \[1\.5\]", lines[-1])


def fail_slowly() -> None:
    with progress.bar("failed", 3):
        time.sleep(0.15)
        raise ValueError("broken")


def test_short_work_and_failed_work_say_nothing_of_being_done(log: io.StringIO) -> None:
    assert list(progress.track(range(3), "short")) == [0, 1, 2]
    with pytest.raises(ValueError, match="broken"):
        fail_slowly()
    assert "done" not in log.getvalue()


def test_several_bars_are_told_side_by_side(log: io.StringIO) -> None:
    with progress.bar("outer", 2), progress.bar("inner"):
        time.sleep(0.15)
    assert re.search(r"outer: 0 of 2 \(0 %\), 0:00 passed\ninner: 0:00 passed\n", log.getvalue())


def test_time_left_counts_from_where_this_process_began() -> None:
    bar = progress.Bar("resumed", 100, 80, keep=False)
    assert bar.seconds_left() is None
    bar._begun -= 10
    bar.advance(10)  # ten steps in ten seconds, ten are left
    assert bar.seconds_left() == pytest.approx(10, abs=0.5)


def test_a_terminal_gets_bars_and_they_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "CONSOLE", Console(file=stream, force_terminal=True, width=100))
    with progress.bar("outer", 2, keep=True) as outer:
        for _ in progress.track(range(2), "inner"):
            outer.advance()
    drawn = stream.getvalue()
    assert "outer" in drawn
    assert "2/2" in drawn
    assert progress._DISPLAY._rich is None


@pytest.mark.parametrize("seconds, text", [(0.4, "0:00"), (7, "0:07"), (750, "12:30"), (3723, "1:02:03")])
def test_clock(seconds: float, text: str) -> None:
    assert progress.clock(seconds) == text
