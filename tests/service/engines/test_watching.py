"""Engines that run and give nothing: a supervisor finds those that hang, and lets the busy ones work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import psutil
import pytest

from service.engines import activity, watching
from service.engines.activity import Activity
from service.engines.process import GUARD, Engine
from service.engines.slots import MISSES
from service.engines.watching import Sign
from tests.support import waiting
from tests.support.stub_engines import StubEngine
from tests.support.supervising import Machine
from training.artifacts.checkpoints import load

pytestmark = pytest.mark.unit
wait_until = partial(waiting.wait_until, seconds=30)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_SECONDS", "STOPPED_SECONDS", "PROBE_SECONDS", "WINDOW_SECONDS"):
        monkeypatch.setattr(watching, name, 0.2)


def served(machine_: Machine) -> StubEngine:
    """The engine of the alias's checkpoint, after it has proved itself."""
    machine_.promote("a")
    one = machine_.supervisor()
    machine_.run()
    engine = one.slots["a", ""].engine
    assert isinstance(engine, StubEngine)
    return engine


@pytest.mark.parametrize("fault", ["hung", "stuck"])
def test_an_engine_that_hangs_is_ended_and_started_again(machine_: Machine, fault: str) -> None:
    engine = served(machine_)
    assert engine.stub is not None
    engine.stub.fault = fault
    machine_.run(rounds=MISSES, seconds=3)
    (row,) = machine_.rows("a")
    assert (row.state, row.given_up) == ("failed", False)
    assert "hangs" in (row.detail or "")
    assert not engine.stub.up
    machine_.run()
    assert machine_.rows("a")[0].state == "ready"
    assert machine_.alias() == ("a", "a")


def test_one_look_without_a_sign_ends_nothing(machine_: Machine) -> None:
    """As after a machine that slept."""
    engine = served(machine_)
    assert engine.stub is not None
    for _ in range(3):
        engine.stub.fault = "hung"
        machine_.run(rounds=MISSES - 1, seconds=3)
        engine.stub.fault = ""
        machine_.run(seconds=3)
    assert machine_.rows("a")[0].state == "ready"
    assert engine.stub.up


def test_an_engine_with_a_full_queue_goes_on(machine_: Machine) -> None:
    """This look waits in vain for its token; others get theirs, and the metrics say so."""
    engine = served(machine_)
    assert engine.stub is not None
    engine.stub.fault = "full"
    machine_.run(rounds=3 * MISSES, seconds=machine_.settings.upstream_seconds)
    assert machine_.rows("a")[0].state == "ready"


def computing(_: StubEngine) -> Activity:
    """A reading of an engine whose core computes all the time."""
    return Activity(server=0.0, core=time.monotonic(), cores=1, runs=False, stopped=False)


def test_a_long_step_is_waited_for_but_not_for_ever(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, and nothing counted, but the processor is at work: until a client would have been told 504."""
    machine_.settings = machine_.settings.model_copy(update={"upstream_seconds": 100.0})
    engine = served(machine_)
    assert engine.stub is not None
    monkeypatch.setattr(StubEngine, "activity", computing)
    engine.stub.fault = "stuck"
    machine_.run(rounds=3, seconds=30)
    assert machine_.rows("a")[0].state == "ready"
    machine_.run(seconds=30)
    assert machine_.rows("a")[0].state == "failed"


def test_time_in_which_the_supervisor_was_stopped_says_nothing_against_an_engine(
    machine_: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = served(machine_)
    assert engine.stub is not None
    monkeypatch.setattr(StubEngine, "activity", computing)
    engine.stub.fault = "stuck"
    machine_.run(seconds=10 * machine_.settings.upstream_seconds)
    engine.stub.fault = ""
    machine_.run(seconds=3)
    assert machine_.rows("a")[0].state == "ready"
    assert engine.stub.up


def test_elsewhere_a_server_that_answers_is_left_alone(machine_: Machine) -> None:
    a = load(machine_.settings.checkpoints / "a")
    stub, url = machine_.stubs.add(a)
    machine_.promote("a")
    machine_.supervisor(remote_urls={"a": [url]})
    machine_.run()
    stub.fault = "stuck"
    machine_.run(rounds=5, seconds=6)
    assert machine_.rows("a")[0].state == "ready"
    stub.fault = "hung"
    machine_.run(rounds=3, seconds=6)
    assert machine_.rows("a")[0].state == "failed"


CORE = {"computes": "while True: pass", "waits": "import time; time.sleep(600)"}
# A server that clients keep a little busy: some 2 ms of work, 50 times per second at most.
SERVER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
while True:
    ends = time.process_time() + 0.002
    while time.process_time() < ends: pass
    time.sleep(0.06)
"""


@pytest.fixture
def start(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Engine]]:
    """Starts an engine's processes with a core that `computes` or `waits`; no token comes of either."""
    for name in ("PROBE_SECONDS", "WINDOW_SECONDS"):
        monkeypatch.setattr(watching, name, 1.0)  # on a busy machine a process has its turn in every one
    engines: list[Engine] = []

    def start_(core: str, url: str = "http://127.0.0.1:9") -> Engine:
        read, write = os.pipe()
        command = [sys.executable, "-I", str(GUARD), str(read), sys.executable, "-c", SERVER, CORE[core]]
        process = subprocess.Popen(command, pass_fds=(read,), start_new_session=True)
        os.close(read)
        engine = Engine(load(machine_.settings.checkpoints / "a"), url, _process=process, _pipe=write)
        engines.append(engine)
        wait_until(lambda: len(tree(engine)) == 2)
        return engine

    yield start_
    for engine in engines:
        engine.kill()
        engine.stop()


def tree(engine: Engine) -> list[psutil.Process]:
    """The server and the core."""
    assert engine._process is not None
    processes: list[psutil.Process] = psutil.Process(engine._process.pid).children(recursive=True)
    return processes


def test_the_processor_time_of_a_real_core_is_a_sign(start: Callable[..., Engine]) -> None:
    engine = start("computes")
    assert watching.look(engine) is Sign.WORKS
    assert watching.look(replace(engine, _process=None)) is Sign.SILENT
    for process in tree(engine):
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda p=process: p.status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        assert watching.look(engine) is Sign.SILENT
        process.send_signal(signal.SIGCONT)
        assert watching.look(engine) is Sign.WORKS


def test_a_server_that_clients_keep_busy_hides_no_core_that_hangs(
    machine_: Machine, start: Callable[..., Engine]
) -> None:
    stub, url = machine_.stubs.add(load(machine_.settings.checkpoints / "a"))
    stub.fault = "stuck"
    assert watching.look(start("waits", url)) is Sign.SILENT


def test_a_core_that_died_is_counted_no_more_though_its_server_has_not_noticed(start: Callable[..., Engine]) -> None:
    engine = start("computes")
    assert engine._process is not None
    assert activity.read(engine._process.pid).cores == 1
    _, core = tree(engine)
    core.kill()
    wait_until(lambda: core.status() == psutil.STATUS_ZOMBIE)
    assert activity.read(engine._process.pid).cores == 0


def test_a_core_that_waits_for_a_processor_has_work(start: Callable[..., Engine]) -> None:
    """However little of a full machine it gets."""
    for core, runs in (("computes", True), ("waits", False)):
        engine = start(core)
        assert engine._process is not None
        process = engine._process.pid
        wait_until(lambda process=process, runs=runs: activity.read(process).runs is runs)  # type: ignore[misc]
        assert [activity.read(process).runs for _ in range(5)] == [runs] * 5


def test_what_explains_that_no_token_came() -> None:
    """Over 2 seconds a core counts from 0.04 s on; a server from 0.2 s on if it answers, else from 0.04 s on."""
    before = Activity(server=10.0, core=20.0, cores=1, runs=False, stopped=False)

    def works(answers: bool, **more: float) -> bool:
        return watching.works(before, replace(before, **more), 2.0, server_answers=answers)  # type: ignore[arg-type]

    for answers in (True, False):
        assert not works(answers)
        assert works(answers, core=20.05)
        assert not works(answers, core=20.03)
        assert works(answers, server=10.21)
        assert works(answers, runs=True)
        assert not works(answers, server=12.0, cores=0)
    assert not works(True, server=10.19)
    assert works(False, server=10.05)
    assert not works(False, server=10.03)
