"""Children end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from training.artifacts import processes
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_output_is_captured_and_a_failure_names_the_log(tmp_path: Path) -> None:
    good = processes.start(["platform"], capture=True)
    assert processes.finish(good, "platform").strip()
    log = tmp_path / "log" / "bad.log"
    bad = processes.start(["no_such_module_here"], log=log)
    with pytest.raises(UserError, match=r"stage ended with status 1: see .*bad\.log"):
        processes.finish(bad, "stage", log)
    assert "no_such_module_here" in log.read_text()


def test_stop_kills_a_child_that_ignores_sigint(tmp_path: Path) -> None:
    script = tmp_path / "stubborn.py"
    script.write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)\n"
    )
    child = processes.start(["stubborn"], capture=True, environment={"PYTHONPATH": str(tmp_path)})
    assert child.stdout is not None
    assert child.stdout.readline() == "up\n"
    processes.stop(child, grace=0.2)
    assert child.returncode == -signal.SIGKILL
    child.stdout.close()


def test_a_child_dies_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from training.artifacts import processes\nimport time\n"
        "child = processes.start(['http.server', '--bind', '127.0.0.1', '0'], capture=True)\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    root = Path(__file__).parents[3]
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_until_gone(child)


def test_commands_side_by_side_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.artifacts.machine.cores", lambda: 4)
    assert processes.shared_cores(1) is None
    assert processes.shared_cores(2) == {"OMP_NUM_THREADS": "2"}
    assert processes.shared_cores(8) == {"OMP_NUM_THREADS": "1"}
