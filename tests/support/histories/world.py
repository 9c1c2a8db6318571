"""A service whose environment is in a test's hands.

The gateway, the administration, the supervisors and the store are real; engines are stubs, time is a variable, and
background work is done when the history says so.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update

from service.app import create_app
from service.endpoints import STALE, Endpoints
from service.engines import table
from service.keys import add_key
from service.settings import Settings
from service.store.database import Store, clock
from service.store.models import Alias, Audit, Engine, WantedEngine
from tests.support.histories.judge import Judge, Violation
from tests.support.stub_engines import Stub, StubEngines
from tests.support.supervising import HandDriven

POLICIES, REWARDS = ("sft-1", "sft-2", "sft-3", "sft-4"), ("reward-1", "reward-2", "reward-3")
KINDS = {"policy/production": POLICIES, "reward/production": REWARDS}
CHECKPOINTS = POLICIES + REWARDS
# How the engines of a checkpoint fail to start, and whether that is for good.
FAULTS = {
    "busy": False,
    "RuntimeError: the device is lost": False,
    "wrong": True,
    "Cannot find any model weights": True,
}
MOST_SUPERVISORS = 2
LONG = 70.0  # seconds: longer than any wait between two starts, and than `STALE`
ROUNDS = 12  # of `LONG`: what fails is given up and taken back by then, and what was before it is up


class Service:
    """The gateway and its store, for one history after the other."""

    def __init__(self, home: Path, template: Path, checkpoints: Path, stubs: StubEngines) -> None:
        shutil.copy(template, home / "service.db")
        values = {"database": f"sqlite:///{home}/service.db", "checkpoints": checkpoints, "logs": home}
        self.settings = Settings.model_validate(values | {"kv_cache_mib": 64})
        self.stubs = stubs
        self.store = Store(self.settings.database)
        with self.store.session() as session:
            key = add_key(session, "tests", ["admin"])[1]
        app = create_app(self.settings)
        self.endpoints: Endpoints = app.state.endpoints
        headers = {"Authorization": f"Bearer {key}"}
        self.client = TestClient(app, base_url="http://127.0.0.1:8000", headers=headers)
        self.client.__enter__()

    def close(self) -> None:
        self.client.__exit__(None, None, None)
        self.store.close()

    def clear(self) -> None:
        """Forget all that a history did."""
        with self.store.session() as session:
            for model in (Alias, Audit, Engine, WantedEngine):
                session.execute(delete(model))
        self.stubs.faults.clear()
        self.stubs.stubs.clear()
        self.stubs.started.clear()


class World:
    """One history."""

    def __init__(self, service: Service) -> None:
        service.clear()
        self.service, self.client, self.store, self.stubs = service, service.client, service.store, service.stubs
        self.time, self.count = 0.0, 0
        self.supervisors: list[HandDriven] = []
        self.dead: list[tuple[str, float]] = []
        self.judges = {alias: Judge(alias) for alias in KINDS}
        # Checkpoints that may be down, or may have been taken back, until somebody wants them anew: some start of them
        # failed for good, or failed at all.
        self.hopeless: set[str] = set()
        self.failed: set[str] = set()
        self.requested: set[str] = set()
        self.named: set[str] = set()  # aliases that are set
        self.settled: set[str] = set()  # aliases that are answered by what they were last promoted to
        self.start_supervisor()

    def close(self) -> None:
        for supervisor in self.supervisors:
            supervisor.store.close()
        for stub in self.stubs.stubs:
            stub.up = False

    # What people do.

    def promote(self, alias: str, checkpoint: str) -> bool:
        """Returns whether the service took it."""
        return self._change(alias, self.client.put(f"/admin/aliases/{alias}", json={"checkpoint": checkpoint}))

    def roll_back(self, alias: str) -> bool:
        """Returns whether there was something to go back to."""
        return self._change(alias, self.client.post(f"/admin/aliases/{alias}/rollback"))

    def remove(self, alias: str) -> bool:
        removed = self.client.delete(f"/admin/aliases/{alias}").status_code == 200
        if removed:
            self.judges[alias] = Judge(alias)
        return removed

    def request(self, checkpoint: str) -> None:
        assert self.client.post("/admin/engines", json={"checkpoint": checkpoint}).status_code == 202
        self.requested.add(checkpoint)
        if self._starts_well(checkpoint):
            self.hopeless.discard(checkpoint)

    def withdraw(self, checkpoint: str) -> bool:
        answer = self.client.delete(f"/admin/engines/{checkpoint}")
        assert answer.status_code in (202, 404)
        self.requested.discard(checkpoint)
        return answer.status_code == 202

    # What the environment does.

    def crash(self, stubs: Iterable[Stub]) -> None:
        """Engines end."""
        fallen = list(stubs)
        for stub in fallen:
            stub.up = False
        self._disturb({stub.checkpoint.id for stub in fallen})

    def crash_supervisor(self, number: int) -> None:
        """It ends, and its engines with it."""
        supervisor = self.supervisors.pop(number)
        self.dead.append((supervisor.name, self.time))
        stopped = [slot for slot in supervisor.slots.values() if slot.engine is not None]
        for slot in stopped:
            assert slot.engine is not None
            slot.engine.stop()
        supervisor.store.close()
        self._disturb({slot.id for slot in stopped})

    def start_supervisor(self) -> None:
        self.count += 1
        settings = self.service.settings
        self.supervisors.append(HandDriven(settings, lambda: self.time, f"supervisor-{self.count}"))

    def spoil(self, checkpoint: str, fault: str) -> None:
        """The next starts of a checkpoint fail."""
        self.stubs.faults[checkpoint] = fault
        self.failed.add(checkpoint)
        if FAULTS[fault]:
            self.hopeless.add(checkpoint)

    def mend(self, checkpoint: str) -> None:
        """They go well again."""
        del self.stubs.faults[checkpoint]

    # How time passes.

    def pass_time(self, seconds: float) -> None:
        """Supervisors look at the store and at their engines once, after a time."""
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

    def work(self) -> None:
        """Starts and stops in the background come to their end."""
        for supervisor in self.supervisors:
            supervisor.work()

    def advance(self, seconds: float = 0.5) -> None:
        """What is due starts, becomes ready, and takes effect."""
        self.pass_time(seconds)
        self.work()
        self.pass_time(0.5)

    def bring(self, alias: str, checkpoint: str) -> bool:
        """Promote, and let it take effect where it can. Returns whether the service took it."""
        taken = self.promote(alias, checkpoint)
        self.advance()
        self.poll()
        return taken

    def settle(self) -> None:
        """Let time pass with nothing more going wrong, until all that can be served is. Raises `Violation`."""
        if not self.supervisors:
            self.start_supervisor()
        missing: list[str] = []
        for number in range(ROUNDS):
            self.pass_time(LONG)
            self.work()
            self.poll()
            missing = [sentence for judge in self.judges.values() if (sentence := self._missing(judge))]
            if number and not missing:
                return
        raise Violation("; ".join(missing))

    # What the client sees.

    def poll(self) -> None:
        """Ask every alias once. Raises `Violation`."""
        self.service.endpoints.refresh()
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
        with self.store.session() as session:
            rows = session.execute(select(Alias.name, Alias.served == Alias.checkpoint)).all()
        self.named = {alias for alias, _ in rows}
        self.settled = {alias for alias, is_served in rows if is_served and not self.judges[alias].disturbed}

    def is_disturbed(self) -> bool:
        """Whether an alias may be down, or was promoted to what does not answer yet."""
        return any(judge.disturbed or judge.promoted for judge in self.judges.values())

    def may_roll_back(self, alias: str) -> bool:
        """Whether a rollback of what answers has somewhere to go, as far as the client knows."""
        return alias in self.settled and len(set(self.judges[alias].answered)) > 1

    # How they work.

    def _change(self, alias: str, reply: Any) -> bool:
        assert reply.status_code in (200, 400, 404), reply.text
        if reply.status_code != 200:
            return False
        checkpoint = reply.json()["checkpoint"]
        self.judges[alias].promoted.append(checkpoint)
        if self._starts_well(checkpoint):
            self.hopeless.discard(checkpoint)
            self.failed.discard(checkpoint)
        return True

    def _starts_well(self, checkpoint: str) -> bool:
        """Whether the next start will: nothing is wrong with it, and no failure is on its way."""
        under_way = (slot for supervisor in self.supervisors for slot in supervisor.slots.values() if slot.work)
        return checkpoint not in self.stubs.faults and checkpoint not in {slot.id for slot in under_way}

    def _disturb(self, checkpoints: set[str]) -> None:
        """Aliases whose last ready engine is gone may stop."""
        with self.store.session() as session:
            rows = session.execute(select(Engine.checkpoint, Engine.url).where(Engine.state == "ready")).all()
        up = {row.checkpoint for row in rows if self.stubs.stubs[int(row.url.rpartition("/")[2])].up}
        for judge in self.judges.values():
            judge.disturbed = judge.disturbed or (judge.last in checkpoints and judge.last not in up)

    def _missing(self, judge: Judge) -> str | None:
        """What should answer by now and does not."""
        faults = self.stubs.faults
        if judge.last is not None and judge.disturbed and judge.last not in self.hopeless | set(faults):
            return f"{judge.alias} never came back: {judge.last} can be served"
        target = judge.promoted[-1] if judge.promoted else judge.last
        if target not in {judge.last, *self.failed}:
            return f"{target} never answered for {judge.alias}, and {judge.last} does"
        return None
