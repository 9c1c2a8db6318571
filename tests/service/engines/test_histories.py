"""Histories of promotions, rollbacks and failures, judged by a client alone: what it must never see, and that it sees
each fault that was mended when that one is put back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.histories import faults
from tests.support.histories.judge import Violation
from tests.support.histories.machine import LENGTH, play
from tests.support.histories.steps import STEPS
from tests.support.histories.world import KINDS, Service, World

POLICY = "policy/production"
LEAST_FIRED = 500  # times each step, in a thousand histories
PutBack = Callable[[pytest.MonkeyPatch], None]
# A fault, and what the client sees of it.
SEEN = {
    faults.rollback_that_takes_effect_at_once: "stopped",
    faults.undone_from_history: "vanished|unpromoted",
    faults.wanted_while_ready: "never came back",
    faults.fallback_after_a_crash: "unpromoted",
}


@pytest.mark.unit
def test_random_histories(history_service: Service) -> None:
    play(history_service, 3, start=1, shrink=False)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_histories(history_service: Service) -> None:
    tally = play(history_service, 1000)
    print(f"\n{len(tally.lengths):,} histories, {sum(tally.lengths):,} steps:", dict(tally.fired))
    assert sum(length >= LENGTH for length in tally.lengths) >= 1000
    assert {name: tally.fired[name] for name in STEPS if tally.fired[name] < LEAST_FIRED} == {}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", SEEN)
def test_a_thousand_histories_show_each_fault_put_back_alone(
    fault: PutBack, history_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault(monkeypatch)
    with pytest.raises(Violation, match=SEEN[fault]) as seen:
        play(history_service, 1000, start=1, shrink=False)
    print(f"\n{fault.__name__}: {seen.value}")


# Four short histories on which the faults show at once.


def roll_back(world: World) -> None:
    """The other way round, too, what serves goes on until the other one does."""
    world.bring(POLICY, "sft-1")
    world.bring(POLICY, "sft-2")
    for _ in range(3):  # nothing names the first one: it ends
        world.advance(70)
    world.roll_back(POLICY)
    world.poll()
    world.pass_time(3.0)
    world.pass_time(3.0)


def fail_a_rollback(world: World) -> None:
    world.bring(POLICY, "sft-1")
    world.bring(POLICY, "sft-2")
    for _ in range(3):
        world.advance(70)
    world.spoil("sft-1", "wrong")
    world.roll_back(POLICY)
    for _ in range(4):
        world.advance(70)
        world.poll()


def crash_while_a_target_never_starts(world: World) -> None:
    world.bring(POLICY, "sft-1")
    world.spoil("sft-2", "busy")
    world.bring(POLICY, "sft-2")
    world.crash(world.stubs.of("sft-1"))


def crash_beside_the_one_before(world: World) -> None:
    world.request("sft-1")
    world.bring(POLICY, "sft-1")
    world.bring(POLICY, "sft-2")
    world.crash(world.stubs.of("sft-2"))
    world.pass_time(0.5)


@pytest.mark.unit
def test_the_engines_of_another_supervisor_go_on_for_every_alias(history_service: Service) -> None:
    """Until the table forgets the first supervisor's, requests to them must not fail."""
    world = World(history_service)
    try:
        world.start_supervisor()
        for alias, checkpoints in KINDS.items():
            world.bring(alias, checkpoints[0])
        world.crash_supervisor(0)
        for _ in range(3):
            world.poll()
        assert not any(judge.disturbed for judge in world.judges.values())
    finally:
        world.close()


SHORT = {
    roll_back: faults.rollback_that_takes_effect_at_once,
    fail_a_rollback: faults.undone_from_history,
    crash_while_a_target_never_starts: faults.wanted_while_ready,
    crash_beside_the_one_before: faults.fallback_after_a_crash,
}


def play_short(short: Callable[[World], None], service: Service) -> None:
    world = World(service)
    try:
        short(world)
        world.poll()
        world.settle()
    finally:
        world.close()


@pytest.mark.unit
@pytest.mark.parametrize("short", SHORT)
def test_short_histories(short: Callable[[World], None], history_service: Service) -> None:
    play_short(short, history_service)


@pytest.mark.unit
@pytest.mark.parametrize("short", SHORT)
def test_each_fault_put_back_alone_is_seen(
    short: Callable[[World], None], history_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    SHORT[short](monkeypatch)
    with pytest.raises(Violation, match=SEEN[SHORT[short]]):
        play_short(short, history_service)
