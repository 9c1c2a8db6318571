"""Random histories of promotions, rollbacks and failures, judged by a client alone.

The gateway, the administration, the supervisors and the store are real; engines are stubs, time is a variable, and
background work is done when the history says so. Between any two steps the client polls every alias. It holds that

- an alias never answers from a checkpoint that was not promoted since the one before it,
- it never stops while the environment leaves the engines of what answered last alone,
- it never vanishes, and what can be served is served in the end.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select, update

import service.endpoints
from service import aliases
from service.app import create_app
from service.endpoints import STALE, Endpoints, View
from service.engines import launching, process, table
from service.engines.supervisor import Supervisor
from service.engines.wanted import Demand
from service.keys import add_key
from service.settings import Settings
from service.store.database import Store, clock
from service.store.models import Alias, Audit, Engine
from tests.support.stub_engines import StubEngines, copies, stub_engines
from tests.support.supervising import HandDriven
from training.artifacts.checkpoints import Checkpoint

POLICIES, REWARDS = ("sft-1", "sft-2", "sft-3", "sft-4"), ("reward-1", "reward-2", "reward-3")
KINDS = {"policy/production": POLICIES, "reward/production": REWARDS}
POLICY = "policy/production"
STEPS = 40
# How a checkpoint's engines fail to start, and whether that is for good.
FAULTS = {
    "busy": False,
    "RuntimeError: the device is lost": False,
    "wrong": True,
    "Cannot find any model weights": True,
}


class Violation(AssertionError):
    """The client saw what it must never see."""


class Judge:
    """What a client may see of one alias."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.last: str | None = None
        self.promoted: list[str] = []  # since the last answer
        self.disturbed = False  # the environment has taken engines of `last` away

    def see(self, status: int, checkpoint: str | None) -> None:
        if status == 200:
            assert checkpoint is not None
            if checkpoint != self.last:
                if checkpoint not in self.promoted:
                    raise Violation(f"{self.alias} answers from {checkpoint}, after {self.last}, unpromoted")
                place = len(self.promoted) - self.promoted[::-1].index(checkpoint)
                self.last, self.promoted = checkpoint, self.promoted[place:]
            self.disturbed = False
        elif self.last is not None and status == 404:
            raise Violation(f"{self.alias} vanished")
        elif self.last is not None and not self.disturbed:
            raise Violation(f"{self.alias} stopped ({status}) while engines of {self.last} were up")


class World:
    """One history's service and environment."""

    def __init__(self, home: Path, template: Path, store: Path, stubs: StubEngines, seed: int) -> None:
        self.rng, self.stubs, self.time, self.count = random.Random(seed), stubs, 0.0, 0
        self.fired: Counter[str] = Counter()
        stubs.faults.clear()
        shutil.copy(template, home / f"{seed}.db")
        values = {"database": f"sqlite:///{home}/{seed}.db", "checkpoints": store, "logs": home, "kv_cache_mib": 64}
        self.settings = Settings.model_validate(values)
        self.store = Store(self.settings.database)
        with self.store.session() as session:
            key = add_key(session, "tests", ["admin"])[1]
        self.supervisors: list[HandDriven] = []
        self.dead: list[tuple[str, float]] = []
        self.judges = {alias: Judge(alias) for alias in KINDS}
        self.ever_broken: set[str] = set()
        self.hopeless: set[str] = set()  # broken for good at some time: may stay down until somebody wants it anew
        self.client = TestClient(
            create_app(self.settings), base_url="http://127.0.0.1:8000", headers={"Authorization": f"Bearer {key}"}
        )
        self.client.__enter__()
        self.start_supervisor()

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.store.close()
        self.client.__exit__(None, None, None)
        self.store.close()
        for stub in self.stubs.stubs:
            stub.up = False

    # Rules: what may happen in a step.

    def promote(self) -> None:
        alias = self.any_alias()
        checkpoint = self.rng.choice(KINDS[alias])
        self.change(alias, self.client.put(f"/admin/aliases/{alias}", json={"checkpoint": checkpoint}))

    def rollback(self) -> None:
        alias = self.any_alias()
        self.change(alias, self.client.post(f"/admin/aliases/{alias}/rollback"))

    def remove(self) -> None:
        alias = self.any_alias()
        if self.client.delete(f"/admin/aliases/{alias}").status_code == 200:
            self.judges[alias] = Judge(alias)

    def request(self) -> None:
        body = {"checkpoint": self.rng.choice(POLICIES + REWARDS)}
        assert self.client.post("/admin/engines", json=body).status_code == 202

    def withdraw(self) -> None:
        checkpoint = self.rng.choice(POLICIES + REWARDS)
        assert self.client.delete(f"/admin/engines/{checkpoint}").status_code in (202, 404)

    def crash_engine(self) -> None:
        serving = [judge.last for judge in self.judges.values() if judge.last]
        running = self.stubs.of(self.rng.choice(serving)) if serving and self.rng.random() < 0.6 else []
        running = running or [stub for stub in self.stubs.stubs if stub.up]
        if running:
            stub = self.rng.choice(running)
            stub.up = False
            self.disturb({stub.checkpoint.id})

    def crash_supervisor(self) -> None:
        if self.supervisors:
            supervisor = self.supervisors.pop(self.rng.randrange(len(self.supervisors)))
            self.dead.append((supervisor.name, self.time))
            for slot in supervisor.slots.values():
                if slot.engine is not None:
                    slot.engine.stop()  # they die with it
                    self.disturb({slot.id})
            supervisor.store.close()

    def start_supervisor(self) -> None:
        if len(self.supervisors) < 2:
            self.count += 1
            self.supervisors.append(HandDriven(self.settings, lambda: self.time, f"supervisor-{self.count}"))

    def spoil(self) -> None:
        """The next starts of a checkpoint fail."""
        checkpoint = self.rng.choice(POLICIES + REWARDS)
        fault = self.rng.choice(list(FAULTS))
        self.stubs.faults[checkpoint] = fault
        self.ever_broken.add(checkpoint)
        if FAULTS[fault]:
            self.hopeless.add(checkpoint)

    def mend(self) -> None:
        if self.stubs.faults:
            del self.stubs.faults[self.rng.choice(list(self.stubs.faults))]

    def work(self) -> None:
        """Starts and stops in the background come to their end."""
        for supervisor in self.supervisors:
            if self.rng.random() < 0.8:
                supervisor.work()

    def tick(self) -> None:
        self.pass_time(self.rng.choice((0.5, 0.5, 3.0, 6.0)))

    def wait(self) -> None:
        self.pass_time(70)
        self.work()

    # How they work.

    def advance(self) -> None:
        """What is due starts, becomes ready, and takes effect."""
        self.pass_time(0.5)
        self.work()
        self.pass_time(0.5)

    def any_alias(self) -> str:
        return self.rng.choice(list(KINDS))

    def change(self, alias: str, reply: Any) -> None:
        assert reply.status_code in (200, 400, 404), reply.text
        if reply.status_code == 200:
            self.judges[alias].promoted.append(reply.json()["checkpoint"])

    def bring(self, checkpoint: str) -> None:
        """Promote a policy, and let it take effect where it can."""
        self.change(POLICY, self.client.put(f"/admin/aliases/{POLICY}", json={"checkpoint": checkpoint}))
        self.pass_time(0.5)
        for supervisor in self.supervisors:
            supervisor.work()
        self.pass_time(0.5)
        self.poll()

    def disturb(self, checkpoints: set[str]) -> None:
        for judge in self.judges.values():
            judge.disturbed = judge.disturbed or judge.last in checkpoints

    def pass_time(self, seconds: float) -> None:
        self.time += seconds
        with self.store.session() as session:
            for name, when in self.dead:
                if self.time - when > STALE.total_seconds():
                    old = clock(session) - STALE - timedelta(seconds=1)
                    session.execute(update(Engine).where(Engine.supervisor == name).values(heartbeat=old))
            for supervisor in self.supervisors:
                table.beat(session, supervisor.name)
        for supervisor in self.supervisors:
            supervisor.tick()

    def poll(self) -> None:
        endpoints: Endpoints = self.client.app.state.endpoints  # type: ignore[attr-defined]
        endpoints.refresh()
        for alias, judge in self.judges.items():
            if alias.startswith("policy"):
                reply = self.client.post("/v1/completions", json={"model": alias, "prompt": "x", "max_tokens": 1})
            else:
                messages = [{"role": "user", "content": "so"}]
                reply = self.client.post("/score", json={"model": alias, "messages": messages, "responses": ["hot"]})
            answered = reply.json()["model"] if reply.status_code == 200 else None
            if answered is not None and alias.startswith("policy"):
                assert reply.json()["choices"][0]["text"] == answered, "what it says is what it is"
            judge.see(reply.status_code, answered)

    def settle(self) -> None:
        """Let time pass with nothing more going wrong; then all that can be served must be."""
        if not self.supervisors:
            self.start_supervisor()
        for _ in range(12):
            self.pass_time(70)
            for supervisor in self.supervisors:
                supervisor.work()
            self.poll()
        for alias, judge in self.judges.items():
            if judge.last is not None and judge.disturbed and judge.last not in self.hopeless | set(self.stubs.faults):
                raise Violation(f"{alias} never came back: {judge.last} can be served")
            if judge.promoted and judge.promoted[-1] not in {judge.last, *self.ever_broken}:
                raise Violation(f"{judge.promoted[-1]} never answered for {alias}, and {judge.last} does")


RULES = {
    World.promote: 5, World.rollback: 4, World.remove: 1, World.request: 2, World.withdraw: 2, World.crash_engine: 4,
    World.crash_supervisor: 2, World.start_supervisor: 2, World.spoil: 3, World.mend: 2, World.work: 8, World.tick: 8,
    World.wait: 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint_store(
    tiny_policy: Checkpoint, tiny_reward: Checkpoint, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    store = tmp_path_factory.mktemp("histories") / "checkpoints"
    copies(tiny_policy, store, list(POLICIES))
    copies(tiny_reward, store, list(REWARDS))
    return store


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEngines]:
    """Stubs instead of processes, and nothing that waits for real time."""
    with stub_engines() as running:
        monkeypatch.setattr(process, "start", running.start)
        monkeypatch.setattr(launching, "UNSEEN_SECONDS", 0.0)
        monkeypatch.setattr(launching, "CHECK_SECONDS", 0.0)
        monkeypatch.setattr(service.endpoints, "REFRESH_SECONDS", 3600.0)  # `poll` reads the table
        yield running


def play(
    count: int, home: Path, template: Path, store: Path, stubs: StubEngines, first: int = 0, steps: int = STEPS
) -> Counter[str]:
    """Play histories; a violation names its seed and what had happened. Returns how often each rule was applied."""
    fired: Counter[str] = Counter()
    for seed in range(first, first + count):
        world, story = World(home, template, store, stubs, seed), []
        try:
            for _ in range(steps):
                rule = world.rng.choices(list(RULES), list(RULES.values()))[0]
                story.append(rule.__name__)
                fired[rule.__name__] += 1
                rule(world)
                if world.rng.random() < 0.5:  # often enough that promotions take effect before the next mishap
                    world.advance()
                world.poll()
            world.settle()
        except Violation as violation:
            raise Violation(f"seed {seed}: {violation}, after {' '.join(story)}") from None
        finally:
            world.close()
        (home / f"{seed}.db").unlink()
    return fired


@pytest.mark.unit
def test_histories(tmp_path: Path, empty_sqlite: Path, checkpoint_store: Path, stubs: StubEngines) -> None:
    play(10, tmp_path, empty_sqlite, checkpoint_store, stubs)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_histories(tmp_path: Path, empty_sqlite: Path, checkpoint_store: Path, stubs: StubEngines) -> None:
    fired = play(1000, tmp_path, empty_sqlite, checkpoint_store, stubs, first=1000)
    print(f"\n1,000 histories of {STEPS} steps:", dict(fired))
    assert all(fired[rule.__name__] >= 500 for rule in RULES), fired


# Four short histories on which the faults of the first version show; each fault is then put back alone.


def roll_back(world: World) -> None:
    """The other way round, too, what serves goes on until the other one does."""
    world.bring("sft-1")
    world.bring("sft-2")
    for _ in range(3):  # nothing names the first one: it ends
        world.wait()
    world.change(POLICY, world.client.post(f"/admin/aliases/{POLICY}/rollback"))
    world.poll()
    world.pass_time(3.0)
    world.pass_time(3.0)
    world.poll()


def fail_a_rollback(world: World) -> None:
    world.bring("sft-1")
    world.bring("sft-2")
    for _ in range(3):
        world.wait()
    world.stubs.faults["sft-1"] = "wrong"
    world.ever_broken.add("sft-1")
    world.hopeless.add("sft-1")
    world.change(POLICY, world.client.post(f"/admin/aliases/{POLICY}/rollback"))
    for _ in range(4):
        world.wait()
        world.poll()


def crash_while_a_target_never_starts(world: World) -> None:
    world.bring("sft-1")
    world.stubs.faults["sft-2"] = "busy"
    world.ever_broken.add("sft-2")
    world.bring("sft-2")
    for stub in world.stubs.of("sft-1"):
        stub.up = False
    world.disturb({"sft-1"})


def crash_beside_the_one_before(world: World) -> None:
    world.client.post("/admin/engines", json={"checkpoint": "sft-1"})
    world.bring("sft-1")
    world.bring("sft-2")
    for stub in world.stubs.of("sft-2"):
        stub.up = False
    world.disturb({"sft-2"})
    world.pass_time(0.5)


DIRECTED = (roll_back, fail_a_rollback, crash_while_a_target_never_starts, crash_beside_the_one_before)


def play_directed(
    directed: Callable[[World], None], home: Path, template: Path, store: Path, stubs: StubEngines
) -> None:
    world = World(home, template, store, stubs, seed=1)
    try:
        directed(world)
        world.poll()
        world.settle()
    finally:
        world.close()


@pytest.mark.unit
@pytest.mark.parametrize("directed", DIRECTED)
def test_directed_histories(
    directed: Callable[[World], None], tmp_path: Path, empty_sqlite: Path, checkpoint_store: Path, stubs: StubEngines
) -> None:
    play_directed(directed, tmp_path, empty_sqlite, checkpoint_store, stubs)


def rollback_that_takes_effect_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """H1: after a rollback nothing names what serves."""
    real = aliases.rollback

    def rollback(*arguments: Any, **keywords: Any) -> Alias:
        row = real(*arguments, **keywords)
        row.served = row.checkpoint
        return row

    monkeypatch.setattr(aliases, "rollback", rollback)


def undone_from_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """H2: what fails is undone by what was promoted before it, or by removing the alias."""

    def take_back(session: Any, alias: str, version: int, reason: str, actor: str) -> str | None:
        row = session.get(Alias, alias)
        if row is None or row.version != version:
            return None
        audit = select(Audit).where(Audit.subject == alias, Audit.action.in_(("promote", "rollback")))
        stack: list[str] = []
        for change in session.scalars(audit.order_by(Audit.id)):
            target, previous = change.detail["checkpoint"], change.detail["previous"]
            if change.action == "rollback" and target in stack:
                del stack[stack.index(target) :]
            elif previous and previous != target:
                stack.append(previous)
        if stack:
            aliases.promote(session, alias, stack[-1], actor, version=version, action="rollback")
        else:
            aliases.remove(session, alias, actor, version=version)
        return "undone"

    monkeypatch.setattr(aliases, "take_back", take_back)


def wanted_while_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """H3: what serves beside another target is wanted only as long as its engine is ready."""

    def to_serve(supervisor: Supervisor, now_wanted: Demand) -> list[str]:
        with supervisor.store.session() as session:
            ready = set(session.scalars(select(Engine.checkpoint).where(Engine.state == "ready")))
        targets = [target.checkpoint for target in now_wanted.targets]
        return list(dict.fromkeys([*(c for c in now_wanted.served if c in ready), *now_wanted.requested, *targets]))

    monkeypatch.setattr(Supervisor, "_to_serve", to_serve)


def fallback_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """M1: an alias whose engine is down means what it was promoted to before, as long as that is ready."""
    real = Endpoints.refresh

    def refresh(endpoints: Endpoints) -> None:
        real(endpoints)
        view = endpoints.view
        named = dict(view.aliases)
        with endpoints._store.session() as session:
            for alias in named:
                audit = select(Audit).where(Audit.subject == alias, Audit.action == "served").order_by(Audit.id.desc())
                before = [row.detail["checkpoint"] for row in session.scalars(audit)]
                named[alias] = next((c for c in (named[alias], *before) if c in view.ready), named[alias])
        endpoints.view = View(view.ready, named, view.targets, view.states, view.failures)

    monkeypatch.setattr(Endpoints, "refresh", refresh)


@pytest.mark.unit
@pytest.mark.parametrize(
    "fault, directed, seen",
    [
        (rollback_that_takes_effect_at_once, roll_back, "stopped"),
        (undone_from_history, fail_a_rollback, "vanished|unpromoted"),
        (wanted_while_ready, crash_while_a_target_never_starts, "never came back"),
        (fallback_after_a_crash, crash_beside_the_one_before, "unpromoted"),
    ],
)
def test_each_fault_put_back_alone_is_seen(
    fault: Callable[[pytest.MonkeyPatch], None],
    directed: Callable[[World], None],
    seen: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_sqlite: Path,
    checkpoint_store: Path,
    stubs: StubEngines,
) -> None:
    fault(monkeypatch)
    with pytest.raises(Violation, match=seen):
        play_directed(directed, tmp_path, empty_sqlite, checkpoint_store, stubs)
