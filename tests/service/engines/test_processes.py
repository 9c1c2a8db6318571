"""An engine's process: the guard that ends it, its command, its environment, its logs."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError

from service.engines import environment, logs, process
from service.engines.planning import EnginePlan
from service.settings import Settings
from training.artifacts.checkpoints import MANIFEST, Checkpoint, load
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def gone(processes: list[psutil.Process], seconds: float = 20) -> bool:
    """Whether all of them end in time."""
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_the_guard_ends_its_group_when_the_parent_is_killed(tmp_path: Path) -> None:
    """A parent that is killed, a command that ignores SIGTERM, and a grandchild: all end."""
    nested = (
        "import subprocess, signal, time\n"
        "signal.signal(15, signal.SIG_IGN); subprocess.Popen(['sleep', '600']); time.sleep(600)"
    )
    parent = (
        "import os, subprocess, sys, time\n"
        "read, write = os.pipe()\n"
        f"command = [sys.executable, '-I', {str(process.GUARD)!r}, str(read), sys.executable, '-c', {nested!r}]\n"
        "guard = subprocess.Popen(command, pass_fds=(read,), start_new_session=True)\n"
        "os.close(read)\n"
        "print(guard.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    running = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    guard = psutil.Process(int(running.stdout.readline()))
    deadline = time.monotonic() + 20
    while len(guard.children(recursive=True)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = [guard, *guard.children(recursive=True)]
    running.kill()
    running.wait()
    running.stdout.close()
    assert gone(family, 10)


def test_a_failed_log_gives_its_cause(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text(
        "WARNING 11-21 This can cause fd limit errors like `OSError: [Errno 24] Too many open files`.\n"
        "(EngineCore pid=1) ERROR 11-21 [core.py:1] ValueError: head size 16 is not supported\n"
        "(APIServer pid=2) RuntimeError: Engine core initialization failed. See root cause above.\n"
    )
    manifest = {"id": "sft-1"}
    engine = process.Engine(manifest, "http://127.0.0.1:9", log)  # the log alone is read
    assert engine.failure() == "ValueError: head size 16 is not supported"


def test_the_guard_takes_a_pipe_of_any_number(tmp_path: Path) -> None:
    """A gateway with a thousand connections passes a high one; the end of the parent is still seen."""
    high = 1100
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= high:
        pytest.skip(f"this process may not open {high} files")
    read, write = os.pipe()
    os.dup2(read, high)
    command = [sys.executable, "-I", str(process.GUARD), str(high), sys.executable, "-c"]
    try:
        ended = subprocess.run([*command, "raise SystemExit(7)"], pass_fds=(high,), timeout=60, start_new_session=True)
        running = subprocess.Popen([*command, "import time; time.sleep(600)"], pass_fds=(high,), start_new_session=True)
    finally:
        for number in (read, high):
            os.close(number)
    guard = psutil.Process(running.pid)
    while not guard.children():
        assert running.poll() is None
        time.sleep(0.05)
    family = [guard, *guard.children()]
    os.close(write)
    running.wait(20)
    assert ended.returncode == 7
    assert gone(family)


def test_the_guard_of_a_stopped_command_waits(tmp_path: Path) -> None:
    """A stop is told like an end; the guard that did nothing else from then on looked like an engine that computes."""
    read, write = os.pipe()
    command = [
        sys.executable,
        "-I",
        str(process.GUARD),
        str(read),
        sys.executable,
        "-c",
        "import time; time.sleep(600)",
    ]
    running = subprocess.Popen(command, pass_fds=(read,), start_new_session=True)
    os.close(read)
    guard = psutil.Process(running.pid)
    while not guard.children():
        assert running.poll() is None
        time.sleep(0.05)
    child = guard.children()[0]
    child.suspend()
    before = sum(guard.cpu_times()[:2])
    time.sleep(1)
    used = sum(guard.cpu_times()[:2]) - before
    child.resume()
    os.close(write)
    running.wait(20)
    assert used < 0.3
    assert gone([guard, child])


def test_only_the_newest_logs_of_a_checkpoint_are_kept(tmp_path: Path) -> None:
    """Of each checkpoint by itself, one whose name is a pattern or begins like another's included."""
    others = [logs.new(tmp_path, name) for name in ("sft-1-a", "sft-[12]", "other")]
    for file in others:
        file.touch()
    files = []
    for number in range(3 * logs.FILES_PER_CHECKPOINT):
        files.append(logs.new(tmp_path, "sft-1"))
        files[-1].write_text(str(number))
        os.utime(files[-1], (number, number))
    assert sorted(tmp_path.iterdir()) == sorted([*files[-logs.FILES_PER_CHECKPOINT :], *others])


def test_of_a_long_log_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    with log.open("w") as stream:
        stream.write("ValueError: at the start\n")
        stream.truncate(2**33)  # takes no room on the disk, and would take eight gigabytes of memory
    with log.open("a") as stream:
        stream.write("\nRuntimeError: at the end\n")
    assert logs.cause(log) == "RuntimeError: at the end"
    assert logs.cause(tmp_path / "absent") == "it wrote nothing"


SECRETS = {
    "ALIGNLOOP_DATABASE": "postgresql://me:secret@host/db", "ALIGNLOOP_ENGINE_KEYS": "{}", "VLLM_API_KEY": "k",
    "OPENAI_API_KEY": "k", "HF_TOKEN": "t", "PGPASSWORD": "p", "DATABASE_URL": "postgresql://x",
    "AWS_SECRET_ACCESS_KEY": "k",
    "GITHUB_TOKEN": "t", "MY_PASSWORD": "p", "GOOGLE_APPLICATION_CREDENTIALS": "f", "SOME_APIKEY": "k",
}  # fmt: skip
KEPT = {"CUDA_VISIBLE_DEVICES": "1", "HF_HOME": "/x", "VLLM_LOGGING_LEVEL": "INFO", "TOKENIZERS_PARALLELISM": "0"}


def test_an_engine_gets_no_secret(tiny_policy: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its real environment, as a process in its place sees it."""
    for name, value in (SECRETS | KEPT).items():
        monkeypatch.setenv(name, value)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    monkeypatch.setattr(process, "command_line", lambda *_: [sys.executable, "-c", code])
    settings = Settings(database="sqlite://", engine_keys={}, logs=tmp_path)
    engine = process.start(tiny_policy.path, "policy", settings, EnginePlan(tiny_policy.id, 64, threads=3))
    assert engine.log is not None
    while engine.alive():
        time.sleep(0.05)
    engine.stop()
    seen = json.loads(engine.log.read_text())
    assert sorted(set(SECRETS) & set(seen)) == []
    assert {name: seen.get(name) for name in KEPT} == KEPT
    assert set(environment.own(EnginePlan(tiny_policy.id, 64, threads=3)).items()) <= set(seen.items())


def test_an_engine_takes_only_its_kind(tmp_path: Path) -> None:
    fields = {
        "id": "reward-1", "stage": "reward", "kind": "reward", "parents": [], "created": "2026-01-31T10:15:02+00:00",
        "tokenizer_hash": "0", "template_hash": None, "stop_ids": [], "context": 64,
    }  # fmt: skip
    folder = tmp_path / "reward-1"
    folder.mkdir()
    (folder / MANIFEST).write_text(json.dumps(fields))
    with pytest.raises(UserError, match="is a reward model, not a policy model"):
        process.start(folder, "policy", Settings(), EnginePlan("reward-1", 32))
    plan = EnginePlan("reward-1", 32, cache_bytes=7 * 2**20, threads=3)
    command = process.command_line(load(folder), 1234, Settings(engine_options=["--x"]), plan)
    assert command[-1] == "--x"
    assert command[command.index("--max-model-len") + 1] == "32"
    if environment.on_cpu():
        assert command[command.index("--kv-cache-memory-bytes") + 1] == str(7 * 2**20)
        assert environment.own(plan)["OMP_NUM_THREADS"] == "3"
    assert command[command.index("--runner") + 1] == "pooling"
    assert json.loads(command[command.index("--pooler-config") + 1]) == {"use_activation": False}


def test_engines_listen_where_gateways_of_other_machines_reach_them(tiny_policy: Checkpoint) -> None:
    own, shared = socket.gethostname(), "postgresql://one@db.example/store"  # SQLite is a file of one machine
    settings = Settings(engine_address=own, database=shared)
    command = process.command_line(tiny_policy, 1234, settings, EnginePlan(tiny_policy.id, 64))
    assert command[command.index("--host") + 1] == own
    for wrong in ("0.0.0.0", "::", "http://gpu1", "gpu1:8000", "", "a b"):
        with pytest.raises(ValidationError, match="write one name or IPv4 address"):
            Settings(engine_address=wrong)
    elsewhere = Settings(engine_address="192.0.2.1", database=shared)  # an address of documentation: no machine has it
    with pytest.raises(UserError, match=r"engines cannot listen on 192\.0\.2\.1"):
        process.start(tiny_policy.path, "policy", elsewhere, EnginePlan(tiny_policy.id, 64))
