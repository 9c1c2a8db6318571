"""Stub engines in the place of vLLM's processes, and a service over them for histories."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import service.endpoints
from service.engines import conformance, environment, launching, parsers, planning, process
from service.settings import Settings
from service.store.database import Store
from tests.support.histories.world import POLICIES, REWARDS, Service
from tests.support.stub_engines import StubEngines, copies, stub_engines
from tests.support.supervising import Machine
from training.artifacts import machine
from training.artifacts.checkpoints import Checkpoint


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEngines]:
    """What supervisors start instead of processes, without the waits that real ones need."""
    with stub_engines() as running:
        monkeypatch.setattr(process, "start", running.start)
        monkeypatch.setattr(launching, "UNSEEN_SECONDS", 0.0)
        monkeypatch.setattr(launching, "CHECK_SECONDS", 0.0)
        monkeypatch.setattr(process, "ELSEWHERE_SECONDS", 0.2)
        yield running


@pytest.fixture(scope="module")
def history_checkpoints(
    tiny_policy: Checkpoint, tiny_reward: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A store with the checkpoints that histories promote."""
    store = tmp_path_factory.mktemp("histories") / "checkpoints"
    copies(tiny_policy, store, list(POLICIES))
    copies(tiny_reward, store, list(REWARDS))
    return store


@pytest.fixture
def history_service(
    tmp_path: Path,
    empty_sqlite: Path,
    history_checkpoints: Path,
    stubs: StubEngines,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    """A gateway whose supervisors are driven by hand; it reads the table when it is polled.

    Histories start some engines each: what a start finds out about a checkpoint is always the same, and found out once.
    """
    monkeypatch.setattr(service.endpoints, "REFRESH_SECONDS", 3600.0)
    monkeypatch.setattr(planning, "_config", cache(planning._config))
    monkeypatch.setattr(parsers, "_reads_tools", cache(parsers._reads_tools))
    monkeypatch.setattr(environment, "on_cpu", cache(environment.on_cpu))
    monkeypatch.setattr(conformance, "CONVERSATIONS", conformance.CONVERSATIONS[:1])
    monkeypatch.setattr(machine, "memory", lambda: 2**40)  # stubs take none, and this machine may be busy
    started = Service(tmp_path, empty_sqlite, history_checkpoints, stubs)
    yield started
    started.close()


@pytest.fixture
def machine_(tiny_policy: Checkpoint, tmp_path: Path, local_store: Store, stubs: StubEngines) -> Iterator[Machine]:
    """Three policies, and supervisors that a test starts."""
    copies(tiny_policy, tmp_path / "checkpoints", ["a", "b", "c"])
    values = {
        "database": f"sqlite:///{tmp_path}/service.db", "checkpoints": tmp_path / "checkpoints",
        "logs": tmp_path / "logs", "kv_cache_mib": 64,
    }  # fmt: skip
    built = Machine(Settings.model_validate(values), local_store, stubs)
    yield built
    for one in built.supervisors:
        one.store.close()
