"""Engines that run and give nothing: a supervisor finds those that hang, and lets the busy ones work."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from service.engines import watching
from service.engines.process import Engine
from service.engines.slots import MISSES
from service.engines.watching import Sign
from tests.support.stub_engines import StubEngine
from tests.support.supervising import Machine
from training.artifacts.checkpoints import load

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "PROBE_SECONDS", 0.2)
    monkeypatch.setattr(watching, "WINDOW_SECONDS", 0.2)


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


def test_a_long_step_is_waited_for_but_not_for_ever(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """No token, and nothing counted, but the processor is at work: until a client would have been told 504."""
    engine = served(machine_)
    assert engine.stub is not None
    monkeypatch.setattr(StubEngine, "cpu_seconds", lambda _: time.monotonic())
    engine.stub.fault = "stuck"
    machine_.run(rounds=3 * MISSES, seconds=machine_.settings.upstream_seconds / (3 * MISSES + 1))
    assert machine_.rows("a")[0].state == "ready"
    machine_.run(seconds=machine_.settings.upstream_seconds)
    assert machine_.rows("a")[0].state == "failed"


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


@pytest.fixture
def computing(machine_: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A process that computes, in the place of an engine's, and that no request reaches."""
    monkeypatch.setattr(watching, "WINDOW_SECONDS", 1.0)  # on a busy machine it has its turn in every one
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    engine = Engine(load(machine_.settings.checkpoints / "a"), "http://127.0.0.1:9", _process=process)
    yield engine
    engine.kill()
    process.wait()


def test_the_processor_time_of_a_real_process_is_a_sign(computing: Engine) -> None:
    assert watching.look(computing) is Sign.WORKS
    assert computing._process is not None
    computing._process.send_signal(signal.SIGSTOP)
    assert watching.look(computing) is Sign.SILENT
    assert watching.look(replace(computing, _process=None)) is Sign.SILENT
    computing._process.send_signal(signal.SIGCONT)
    assert watching.look(computing) is Sign.WORKS
    computing.kill()
    computing._process.wait()
    assert watching.look(computing) is Sign.SILENT
