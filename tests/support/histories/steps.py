"""What happens in a history, step by step, and how often each step is drawn.

Several things at once are one step where a fault needs them in a row: chance alone would hardly ever finish two
promotions, let the first engine end, and roll back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.support.histories.world import CHECKPOINTS, FAULTS, KINDS, MOST_SUPERVISORS, World

ALIASES = st.sampled_from(sorted(KINDS))
NUMBERS = st.integers(0, 11)  # picks one of a list, whatever its length
FOR_GOOD = st.sampled_from([fault for fault, final in FAULTS.items() if final])
NOT_FOR_GOOD = st.sampled_from([fault for fault, final in FAULTS.items() if not final])
ANY_FAULT = st.sampled_from(list(FAULTS))
T = TypeVar("T")
Do = Callable[..., bool | None]


@dataclass(frozen=True)
class Step:
    """One kind of step.

    Attributes:
        do: takes the step. It counts unless it returns False.
        weight: how often it is drawn, beside the others that are possible.
        possible: whether the world is in a state for it.
        arguments: what `do` takes beside the world.
    """

    do: Do
    weight: int
    possible: Callable[[World], Any]
    arguments: dict[str, st.SearchStrategy[Any]]


STEPS: dict[str, Step] = {}


def step(weight: int, possible: Callable[[World], Any] = lambda _: True, **arguments: Any) -> Callable[[Do], Do]:
    """Make a step of a function."""

    def decorate(do: Do) -> Do:
        STEPS[do.__name__] = Step(do, weight, possible, arguments)
        return do

    return decorate


# People.


@step(4, alias=ALIASES, number=NUMBERS)
def promote(world: World, alias: str, number: int) -> bool:
    return world.promote(alias, pick(KINDS[alias], number))


@step(4, alias=ALIASES, number=NUMBERS)
def promote_until_it_answers(world: World, alias: str, number: int) -> bool:
    """To another checkpoint than the present one, of those that can start."""
    return bring_another(world, alias, number)


@step(4, lambda world: world.named, number=NUMBERS)
def roll_back(world: World, number: int) -> bool:
    return world.roll_back(pick(sorted(world.named), number))


@step(6, lambda world: world.settled, number=NUMBERS, seconds=st.sampled_from([0.5, 3.0]))
def roll_back_what_answers(world: World, number: int, seconds: float) -> bool:
    """The present checkpoint has answered, and another one before it."""
    alias = pick(sorted(world.settled), number)
    let_two_answer(world, alias, number)
    taken = world.roll_back(alias)
    world.poll()
    world.pass_time(seconds)
    return taken


@step(4, lambda world: world.settled, number=NUMBERS, other=NUMBERS, fault=ANY_FAULT)
def fail_a_promotion(world: World, number: int, other: int, fault: str) -> bool:
    """What is promoted does not start; while it is tried, and after it was given up, the client looks."""
    return promote_in_vain(world, pick(sorted(world.settled), number), other, fault)


@step(4, lambda world: world.settled, number=NUMBERS, other=NUMBERS, fault=NOT_FOR_GOOD, all_of_it=st.booleans())
def restart_beside_a_target_that_never_starts(
    world: World, number: int, other: int, fault: str, all_of_it: bool
) -> bool:
    """What goes on answering ends, alone or with all supervisors, and must come back."""
    alias = pick(sorted(world.settled), number)
    taken = promote_in_vain(world, alias, other, fault)
    if all_of_it:
        while world.supervisors:
            world.crash_supervisor(0)
        world.start_supervisor()
    else:
        world.crash(world.stubs.of(world.judges[alias].last or ""))
    world.settle()
    return taken


@step(6, lambda world: world.settled, number=NUMBERS, fault=FOR_GOOD)
def fail_a_rollback(world: World, number: int, fault: str) -> bool:
    """What is rolled back to does not start."""
    alias = pick(sorted(world.settled), number)
    let_two_answer(world, alias, number)
    taken = world.roll_back(alias)
    if taken:
        spoil_and_end(world, world.judges[alias].promoted[-1], fault)
    let_it_fail(world)
    return taken


@step(2, lambda world: world.named, number=NUMBERS)
def remove(world: World, number: int) -> bool:
    return world.remove(pick(sorted(world.named), number))


@step(2, checkpoint=st.sampled_from(CHECKPOINTS))
def request(world: World, checkpoint: str) -> None:
    world.request(checkpoint)


@step(3, lambda world: world.requested, number=NUMBERS)
def withdraw(world: World, number: int) -> bool:
    return world.withdraw(pick(sorted(world.requested), number))


# The environment.


@step(3, lambda world: world.stubs.running(), number=st.integers(0, 99), seen=st.booleans())
def crash_an_engine(world: World, number: int, seen: bool) -> None:
    """Any; its supervisor sees it at once, or later."""
    world.crash([pick(world.stubs.running(), number)])
    if seen:
        world.pass_time(0.5)


@step(3, lambda world: answering(world), number=NUMBERS, seen=st.booleans())
def crash_what_answers(world: World, number: int, seen: bool) -> None:
    """All engines of what an alias is answered by."""
    world.crash(world.stubs.of(pick(answering(world), number)))
    if seen:
        world.pass_time(0.5)


@step(4, lambda world: world.settled, number=NUMBERS, other=NUMBERS)
def crash_beside_what_answered_before(world: World, number: int, other: int) -> bool:
    """A checkpoint that the alias meant earlier was requested, and is up when the present one's engines end."""
    alias = pick(sorted(world.settled), number)
    let_two_answer(world, alias, number)
    last = world.judges[alias].last
    earlier = [name for name in world.judges[alias].answered if name != last]
    if not earlier:
        return False
    world.request(pick(earlier, other))
    world.advance()
    world.crash(world.stubs.of(last or ""))
    world.pass_time(0.5)
    return True


@step(3, lambda world: world.supervisors, number=NUMBERS)
def crash_a_supervisor(world: World, number: int) -> None:
    world.crash_supervisor(number % len(world.supervisors))


@step(3, lambda world: world.supervisors and answering(world), number=NUMBERS, other=NUMBERS)
def crash_both(world: World, number: int, other: int) -> None:
    """What answers, and a supervisor that has not seen it; another one starts."""
    world.crash(world.stubs.of(pick(answering(world), number)))
    world.crash_supervisor(other % len(world.supervisors))
    world.start_supervisor()
    world.advance()


@step(6, lambda world: len(world.supervisors) < MOST_SUPERVISORS)
def start_a_supervisor(world: World) -> None:
    world.start_supervisor()


@step(2, checkpoint=st.sampled_from(CHECKPOINTS), fault=ANY_FAULT)
def spoil(world: World, checkpoint: str, fault: str) -> None:
    world.spoil(checkpoint, fault)


@step(6, lambda world: world.stubs.faults, number=NUMBERS)
def mend(world: World, number: int) -> None:
    world.mend(pick(list(world.stubs.faults), number))


# Time.


@step(3, seconds=st.sampled_from([0.5, 3.0, 6.0]))
def tick(world: World, seconds: float) -> None:
    world.pass_time(seconds)


@step(3, seconds=st.sampled_from([0.5, 3.0, 70.0]))
def go_on(world: World, seconds: float) -> None:
    world.advance(seconds)


@step(6, lambda world: world.is_disturbed())
def settle(world: World) -> None:
    world.settle()


# How they work.


def pick(choices: Sequence[T], number: int) -> T:
    """One of several."""
    return choices[number % len(choices)]


def answering(world: World) -> list[str]:
    """Checkpoints that answer for an alias and have engines."""
    lasts = [judge.last for judge in world.judges.values() if judge.last]
    return [last for last in lasts if world.stubs.of(last)]


def bring_another(world: World, alias: str, number: int) -> bool:
    unfit = {world.judges[alias].last, *world.stubs.faults}
    others = [name for name in KINDS[alias] if name not in unfit]
    taken = bool(others) and world.bring(alias, pick(others, number))
    for _ in range(2):  # nothing names the one before any more: its engine ends
        world.advance(3.0)
    return taken


def let_two_answer(world: World, alias: str, number: int) -> None:
    if not world.may_roll_back(alias):
        bring_another(world, alias, number)
        world.poll()


def promote_in_vain(world: World, alias: str, number: int, fault: str) -> bool:
    checkpoint = pick([name for name in KINDS[alias] if name != world.judges[alias].last], number)
    spoil_and_end(world, checkpoint, fault)
    taken = world.promote(alias, checkpoint)
    let_it_fail(world)
    return taken


def spoil_and_end(world: World, checkpoint: str, fault: str) -> None:
    world.spoil(checkpoint, fault)
    world.crash(world.stubs.of(checkpoint))


def let_it_fail(world: World) -> None:
    for _ in range(2):
        world.advance(6.0)
        world.poll()
