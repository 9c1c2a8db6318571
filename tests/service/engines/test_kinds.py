"""Two supervisors, one for each kind of models: each serves its own, and a hopeless one is taken back all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.administration import aliases
from tests.support.stub_engines import copies
from tests.support.supervising import ALIAS, HandDriven, Machine
from training.artifacts.checkpoints import Checkpoint

pytestmark = pytest.mark.unit


@pytest.fixture
def both(machine_: Machine, tiny_reward: Checkpoint, tmp_path: Path) -> tuple[HandDriven, HandDriven]:
    """Supervisors of policies and of reward models; `a` and `r` are in production."""
    copies(tiny_reward, tmp_path / "checkpoints", ["r", "s"])
    machine_.promote("a")
    promote(machine_, "reward/production", "r")
    for kind in ("policy", "reward"):
        settings = machine_.settings.model_copy(update={"engine_kind": kind})
        machine_.supervisors.append(HandDriven(settings, lambda: machine_.time, kind))
    policies, rewards = machine_.supervisors
    machine_.run()
    return policies, rewards


def promote(machine: Machine, alias: str, checkpoint: str) -> None:
    with machine.store.session() as session:
        aliases.promote(session, machine.settings.checkpoints, alias, checkpoint, "me")


def served(machine: Machine, alias: str) -> tuple[str, str | None]:
    with machine.store.session() as session:
        row = next(row for row in aliases.listed(session) if row["alias"] == alias)
        return row["checkpoint"], row["served"]


def test_each_serves_its_own_kind(machine_: Machine, both: tuple[HandDriven, HandDriven]) -> None:
    policies, rewards = both
    assert [slot.id for slot in policies.slots.values()] == ["a"]
    assert [slot.id for slot in rewards.slots.values()] == ["r"]
    machine_.promote("b")
    promote(machine_, "reward/production", "s")
    machine_.run()
    assert machine_.alias() == ("b", "b")
    assert served(machine_, "reward/production") == ("s", "s")


@pytest.mark.parametrize(("alias", "hopeless", "before"), [(ALIAS, "b", "a"), ("reward/production", "s", "r")])
def test_a_hopeless_target_is_taken_back_beside_a_supervisor_of_the_other_kind(
    machine_: Machine, both: tuple[HandDriven, HandDriven], alias: str, hopeless: str, before: str
) -> None:
    machine_.stubs.faults[hopeless] = "wrong"
    promote(machine_, alias, hopeless)
    machine_.run(rounds=2)
    assert served(machine_, alias) == (before, before)


def test_a_checkpoint_that_nobody_can_read_is_taken_back(
    machine_: Machine, both: tuple[HandDriven, HandDriven]
) -> None:
    """Nobody knows its kind, so both try it and both say why they cannot."""
    machine_.promote("c")
    (machine_.settings.checkpoints / "c").rename(machine_.settings.checkpoints / "elsewhere")
    machine_.run(rounds=2)
    assert machine_.alias() == ("a", "a")


def test_the_sign_says_whether_engines_start(machine_: Machine, both: tuple[HandDriven, HandDriven]) -> None:
    policies, _ = both
    sign = machine_.settings.logs / "supervisor.sign"
    policies._sign()
    assert sign.read_text() == "ready"
    machine_.promote("b")
    policies.tick()
    policies._sign()
    assert sign.read_text() == "starting"
