"""Real engines that are killed, that hang, and that have too much to do, while clients keep asking."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.busy_clients import KINDS, Load, load
from tests.support.live_service import Running, running_service
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.integration
CLIENTS = 12
CAPACITY = 4  # sequences of the engine that gets too much to do
POLICY_KINDS = tuple(kind for kind in KINDS if kind[0] != "/score")


def url_of(service: Running, checkpoint: str) -> str:
    with service.client() as client:
        rows = client.get("/admin/engines").json()["data"]
    return next(str(row["url"]) for row in rows if row["checkpoint"] == checkpoint)


def processes(service: Running, checkpoint: str) -> dict[str, psutil.Process]:
    """An engine's server, and the process that computes for it."""
    port = url_of(service, checkpoint).rpartition(":")[2]
    server = next(p for p in service.descendants() if port in command(p) and "guard.py" not in " ".join(command(p)))
    cores = [child for child in server.children() if "EngineCore" in " ".join(command(child))]
    assert len(cores) == 1, [command(child) for child in server.children()]
    return {"server": server, "core": cores[0]}


def command(process: psutil.Process) -> list[str]:
    """Its command line; empty when it has just ended."""
    try:
        words: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return words


def readiness(service: Running) -> int:
    return httpx.get(f"{service.url}/health/ready", timeout=30, trust_env=False).status_code


def seconds_until(condition: Callable[[], bool], most: float) -> float:
    """How long it takes until a condition holds; more than `most` when it does not."""
    began = time.monotonic()
    while not condition() and time.monotonic() - began <= most:
        time.sleep(0.1)
    return time.monotonic() - began


def noticed_and_back(service: Running, busy: Load, most: float) -> float:
    """Seconds until readiness says that something does not answer, at most `most`; then waits until clients have met
    it, and until all is well and requests are answered again."""
    noticed = seconds_until(lambda: readiness(service) == 503, most)
    service.wait_for(lambda: busy.replies[503] >= CLIENTS, 60)
    before = busy.replies[200]
    service.wait_ready()
    service.wait_for(lambda: busy.replies[200] > before + CLIENTS, 60)
    return noticed


def test_killed_engines_fail_their_requests_at_once_and_come_back(
    gateway: Running, tiny_policy: Checkpoint, tiny_reward: Checkpoint
) -> None:
    """Of one the server is killed, of the other the process that computes."""
    with load(gateway, CLIENTS) as busy:
        gateway.wait_for(lambda: busy.replies[200] > 5 * CLIENTS)
        core, server = processes(gateway, tiny_policy.id)["core"], processes(gateway, tiny_reward.id)["server"]
        core.send_signal(signal.SIGKILL)
        server.send_signal(signal.SIGKILL)
        noticed = noticed_and_back(gateway, busy, 5)
    print(f"\nnot ready after {noticed:.1f} s; replies {dict(busy.replies)}")
    assert busy.wrong == []
    assert noticed <= 5


@pytest.fixture
def small(tiny_policy: Checkpoint, tmp_path: Path) -> Iterator[Running]:
    """A service of its own whose engine takes few requests at once."""
    shutil.copytree(tiny_policy.path, tmp_path / "checkpoints" / tiny_policy.id)
    settings = {"ALIGNLOOP_MAX_NUM_SEQS": str(CAPACITY)}
    aliases = {"policy/production": tiny_policy.id}
    with running_service(tmp_path, aliases=aliases, environment=settings) as running:
        running.wait_ready()
        yield running


@pytest.mark.slow
def test_ten_times_its_capacity_leaves_an_engine_ready(small: Running, tiny_policy: Checkpoint) -> None:
    before = url_of(small, tiny_policy.id)
    with load(small, 10 * CAPACITY, POLICY_KINDS) as busy:
        statuses = []
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            statuses.append(readiness(small))
            time.sleep(0.5)
    print(f"\nreadiness {len(statuses)} times; replies {dict(busy.replies)}")
    assert set(statuses) == {200}
    assert busy.wrong == []
    assert set(busy.replies) == {200}
    assert url_of(small, tiny_policy.id) == before


@pytest.mark.slow
@pytest.mark.parametrize("which", ["server", "core"])
def test_an_engine_that_hangs_is_found_and_started_again(small: Running, tiny_policy: Checkpoint, which: str) -> None:
    with load(small, CLIENTS, POLICY_KINDS) as busy:
        small.wait_for(lambda: busy.replies[200] > 5 * CLIENTS)
        processes(small, tiny_policy.id)[which].send_signal(signal.SIGSTOP)
        noticed = noticed_and_back(small, busy, 10)
    print(f"\nnot ready after {noticed:.1f} s; replies {dict(busy.replies)}")
    assert busy.wrong == []
    assert noticed <= 10
