"""The cache of arrays: written once, whole or not there, safe with two writers and with damage."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.data import cache
from training.data.cache import Writer, cached

pytestmark = pytest.mark.unit
ROOT = Path(__file__).parents[3]


class Build:
    """Writes two arrays in parts, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, writer: Writer) -> Mapping[str, Any]:
        self.calls += 1
        for part in ([7, 8], [], [9]):
            writer.append("ids", part, np.int32)
        writer.append("lengths", [1, 0, 2], np.int32)
        return {"rows": 3}


def folders(home: Path) -> list[Path]:
    return sorted((home / "cache").iterdir())


def test_what_is_written_in_parts_is_read_as_one_array(tmp_path: Path) -> None:
    made = cached(tmp_path, {"data": "a"}, Build())
    assert made.arrays["ids"].tolist() == [7, 8, 9]
    assert made.arrays["ids"].dtype == np.int32
    assert made.facts == {"rows": 3}


def test_a_second_start_builds_nothing_and_another_key_does(tmp_path: Path) -> None:
    build = Build()
    cached(tmp_path, {"data": "a", "context": 8}, build)
    again = cached(tmp_path, {"context": 8, "data": "a"}, build)
    assert build.calls == 1
    assert again.arrays["ids"].tolist() == [7, 8, 9]
    cached(tmp_path, {"data": "a", "context": 9}, build)
    assert build.calls == 2


def test_an_array_without_values_stays_one(tmp_path: Path) -> None:
    def build(writer: Writer) -> Mapping[str, Any]:
        writer.append("ids", [], np.int32)
        return {}

    assert cached(tmp_path, {}, build).arrays["ids"].tolist() == []


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(writer: Writer) -> Mapping[str, Any]:
        writer.append("ids", [1], np.int32)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached(tmp_path, {}, fail)
    assert folders(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "missing", "no facts", "half facts"])
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    build = Build()
    cached(tmp_path, {}, build)
    (folder,) = folders(tmp_path)
    if damage == "cut":
        (folder / "ids.bin").write_bytes(b"\0" * 8)
    elif damage == "missing":
        (folder / "lengths.bin").unlink()
    elif damage == "no facts":
        (folder / cache.FACTS).unlink()
    else:
        (folder / cache.FACTS).write_text('{"arrays": {')
    again = cached(tmp_path, {}, build)
    assert build.calls == 2
    assert again.arrays["ids"].tolist() == [7, 8, 9]


def test_a_killed_writer_leaves_nothing_whole_and_its_rest_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from training.data.cache import cached\n"
        "def build(writer):\n"
        "    writer.append('ids', range(5000), 'i4')\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        f"cached(Path({str(tmp_path)!r}), {{}}, build)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    assert len(folders(tmp_path)) == 1
    monkeypatch.setattr(cache, "ABANDONED_SECONDS", 0.0)
    assert cache.sweep(tmp_path / "cache") == 0, "its writer is alive"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    build = Build()
    assert cached(tmp_path, {}, build).arrays["ids"].tolist() == [7, 8, 9]
    assert build.calls == 1
    (folder,) = folders(tmp_path)
    assert not folder.name.startswith(cache.PARTIAL)


def slow_write(home: Path, start: float) -> None:
    def build(writer: Writer) -> Mapping[str, Any]:
        time.sleep(max(0.0, start - time.time()))
        for value in range(200):
            writer.append("ids", [value], np.int32)
        return {"process": os.getpid()}

    assert cached(home, {}, build).arrays["ids"].tolist() == list(range(200))


def test_two_processes_at_once_both_read_a_whole_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=slow_write, args=(tmp_path, time.time() + 0.5)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(folders(tmp_path)) == 1
