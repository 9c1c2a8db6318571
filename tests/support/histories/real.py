"""Histories of a service with real engines: the gateway is one process, the supervisor another, the time is real.

A client polls all the while. What changes an alias, or takes engines away, waits for the poll under way, so that the
judge knows of it before the next one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from tests.support.histories.judge import Judge, Violation
from tests.support.live_service import ROOT, Running

POLICIES, REWARDS = ("sft-1", "sft-2", "sft-3"), ("reward-1", "reward-2")
KINDS = {"policy/production": POLICIES, "reward/production": REWARDS}
CHECKPOINTS = POLICIES + REWARDS
NAME = "--served-model-name "  # of a server's checkpoint, on its command line
WEIGHTS = "model.safetensors"
POLL_SECONDS = 0.1
FAIL_SECONDS = 10.0  # in which a target that cannot start is taken back
SETTLE_SECONDS = 300.0  # for two engines to start on a slow machine
# How often a step is what, out of their sum.
STEPS = {
    "pause": 12, "wait_until_settled": 4, "promote": 4, "roll_back": 4, "fail_a_promotion": 2, "fail_a_rollback": 2,
    "crash_an_engine": 3, "crash_the_supervisor": 1, "crash_both": 1,
}  # fmt: skip


class RealHistory:
    """One history of a running gateway, whose supervisor it starts and ends."""

    def __init__(self, service: Running, seed: int) -> None:
        self.service, self.rng = service, random.Random(seed)
        self.store = service.home / "checkpoints"
        self.client = service.client()
        self.judges = {alias: Judge(alias) for alias in KINDS}
        self.turn = threading.Lock()  # of a poll, or of a step that the judges must know of
        self.ended = threading.Event()
        self.violation: Violation | None = None
        self.polls: Counter[int] = Counter()
        self.failed: set[str] = set()  # promoted or rolled back to, and could not start
        self.supervisor = self._start_supervisor()

    # Steps.

    def pause(self) -> None:
        time.sleep(self.rng.uniform(0.2, 3.0))

    def wait_until_settled(self) -> None:
        self._wait(self.rng.uniform(10, 60))

    def promote(self) -> None:
        alias = self.rng.choice(list(KINDS))
        self._promote(alias, self.rng.choice(KINDS[alias]))

    def roll_back(self) -> None:
        with self.turn:
            self._change(alias := self.rng.choice(list(KINDS)), self.client.post(f"/admin/aliases/{alias}/rollback"))

    def fail_a_promotion(self) -> None:
        """Its weights are missing: it is taken back."""
        alias = self.rng.choice(list(KINDS))
        with self._damaged(alias) as damaged:
            self._promote(alias, self.rng.choice(damaged))
            time.sleep(FAIL_SECONDS)

    def fail_a_rollback(self) -> None:
        alias = self.rng.choice(list(KINDS))
        with self._damaged(alias):
            with self.turn:
                self._change(alias, self.client.post(f"/admin/aliases/{alias}/rollback"))
            time.sleep(FAIL_SECONDS)

    def crash_an_engine(self) -> None:
        """The server, or the process that computes for it."""
        with self.turn:
            self._crash_engine()

    def crash_the_supervisor(self) -> None:
        with self.turn:
            self._crash_supervisor()
        self.pause()
        self.supervisor = self._start_supervisor()

    def crash_both(self) -> None:
        with self.turn:
            self._crash_engine()
            self._crash_supervisor()
        self.supervisor = self._start_supervisor()

    # How they work.

    def play(self, steps: int) -> Counter[str]:
        """Take random steps under a client's eyes, then see that all is served that can be. Raises `Violation`."""
        fired: Counter[str] = Counter()
        poller = threading.Thread(target=self._poll)
        poller.start()
        try:
            for alias, checkpoints in KINDS.items():
                self._promote(alias, checkpoints[0])
            while fired.total() < steps and self.violation is None:
                name = self.rng.choices(list(STEPS), list(STEPS.values()))[0]
                getattr(self, name)()
                fired[name] += 1
            self._wait(SETTLE_SECONDS)
            if self.violation is None and (missing := self._missing()):
                self.violation = Violation("; ".join(missing))
        finally:
            self.ended.set()
            poller.join()
            self._end()
        if self.violation is not None:
            raise Violation(f"{self.violation}, after {dict(fired)}")
        return fired

    def _poll(self) -> None:
        while not self.ended.wait(POLL_SECONDS):
            for alias, judge in self.judges.items():
                try:
                    with self.turn:
                        reply = self._ask(alias)
                        self.polls[reply.status_code] += 1
                        judge.see(reply.status_code, reply.json()["model"] if reply.status_code == 200 else None)
                except (Violation, httpx.HTTPError) as seen:
                    self.violation = self.violation or Violation(f"{alias}: {seen!r}")

    def _ask(self, alias: str) -> httpx.Response:
        if alias.startswith("policy"):
            return self.client.post("/v1/completions", json={"model": alias, "prompt": "the", "max_tokens": 1})
        body = {"model": alias, "messages": [{"role": "user", "content": "so"}], "responses": ["hot"]}
        return self.client.post("/score", json=body)

    def _promote(self, alias: str, checkpoint: str) -> None:
        with self.turn:
            self._change(alias, self.client.put(f"/admin/aliases/{alias}", json={"checkpoint": checkpoint}))

    def _change(self, alias: str, reply: httpx.Response) -> None:
        assert reply.status_code in (200, 400, 404), reply.text
        if reply.status_code != 200:
            return
        checkpoint = reply.json()["checkpoint"]
        self.judges[alias].promoted.append(checkpoint)
        self.failed.discard(checkpoint)
        if not (self.store / checkpoint / WEIGHTS).exists():
            self.failed.add(checkpoint)

    @contextmanager
    def _damaged(self, alias: str) -> Iterator[list[str]]:
        """The weights of all that the alias may mean, but of what answers, are out of the way: nothing starts."""
        self._wait(SETTLE_SECONDS)  # a start under way would fail for good
        names = [name for name in KINDS[alias] if name != self.judges[alias].last]
        files = [self.store / name / WEIGHTS for name in names]
        with self.turn:
            for file in files:
                file.rename(file.with_suffix(".away"))
        yield names
        for file in files:
            file.with_suffix(".away").rename(file)

    def _crash_engine(self) -> None:
        commands = {process: _command(process) for process in self._processes()}
        servers = [process for process, command in commands.items() if NAME in command and "guard.py" not in command]
        if not servers:
            return
        server = self.rng.choice(servers)
        self._disturb({commands[server].partition(NAME)[2].split()[0]})
        victims = [server, *server.children(recursive=True)]
        self.rng.choice(victims[:2]).send_signal(signal.SIGKILL)
        psutil.wait_procs([server], timeout=60)

    def _crash_supervisor(self) -> None:
        processes = self._processes()
        self._disturb(set(CHECKPOINTS))
        self.supervisor.kill()
        self.supervisor.wait()
        psutil.wait_procs(processes, timeout=60)

    def _disturb(self, checkpoints: set[str]) -> None:
        for judge in self.judges.values():
            judge.disturbed = judge.disturbed or judge.last in checkpoints

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._missing() and self.violation is None and time.monotonic() < deadline:
            time.sleep(0.5)

    def _missing(self) -> list[str]:
        """What should answer by now and does not."""
        missing = []
        for alias, judge in self.judges.items():
            target = judge.promoted[-1] if judge.promoted else judge.last
            if judge.disturbed:
                missing.append(f"{alias} never came back: {judge.last} can be served")
            elif target not in {judge.last, *self.failed}:
                missing.append(f"{target} never answered for {alias}, and {judge.last} does")
        return missing

    def _processes(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            processes: list[psutil.Process] = psutil.Process(self.supervisor.pid).children(recursive=True)
            return processes
        return []

    def _start_supervisor(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "service", "engines", "--home", str(self.service.home)]
        with (self.service.home / "engines.log").open("ab") as log:
            return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=dict(os.environ))

    def _end(self) -> None:
        for alias in KINDS:
            self.client.delete(f"/admin/aliases/{alias}")
        self.supervisor.terminate()
        try:
            self.supervisor.wait(120)
        except subprocess.TimeoutExpired:
            self.supervisor.kill()
        self.client.close()


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):  # it has just ended
        return " ".join(process.cmdline())
    return ""


def log_of(home: Path) -> str:
    """The end of what the supervisors said."""
    return (home / "engines.log").read_text()[-3000:]
