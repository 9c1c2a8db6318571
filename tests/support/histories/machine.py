"""Random histories of promotions, rollbacks and failures, judged by a client alone.

Between any two steps the client polls every alias. Several steps at once are one rule where a fault needs them in a
row: chance alone would hardly ever finish two promotions, let the first engine end, and roll back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support.histories.world import CHECKPOINTS, FAULTS, KINDS, MOST_SUPERVISORS, Service, World

STEPS = 40
ALIASES = st.sampled_from(sorted(KINDS))
NUMBERS = st.integers(0, 11)  # picks one of a list, whatever its length
FOR_GOOD = st.sampled_from([fault for fault, final in FAULTS.items() if final])
ANY_FAULT = st.sampled_from(list(FAULTS))


@dataclass
class Tally:
    """What was played.

    Attributes:
        fired: how often each rule did what its name says.
        lengths: steps of each history.
    """

    fired: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)


def step(**arguments: Any) -> Callable[[Callable[..., bool | None]], Any]:
    """A rule, after which the client polls. It counts unless it returns False."""

    def decorate(do: Callable[..., bool | None]) -> Any:
        @wraps(do)
        def run(self: Histories, **values: Any) -> None:
            try:
                fired = do(self, **values)
                self.world.poll()
            except BaseException:
                self.over = True
                raise
            self.steps += 1
            self.tally.fired[do.__name__] += fired is not False

        return rule(**arguments)(run)  # type: ignore[no-untyped-call]

    return decorate


class Histories(RuleBasedStateMachine):
    """One history."""

    service: Service
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.service)
        self.steps, self.over = 0, False
        for alias, checkpoints in KINDS.items():
            self.world.bring(alias, checkpoints[0])

    def teardown(self) -> None:
        """A history that went well ends with all being served that can be."""
        try:
            if not self.over:
                self.world.settle()
                self.tally.lengths.append(self.steps)
        finally:
            self.world.close()

    # People.

    @step(alias=ALIASES, number=NUMBERS)
    def promote(self, alias: str, number: int) -> bool:
        return self.world.promote(alias, pick(KINDS[alias], number))

    @step(alias=ALIASES, number=NUMBERS)
    def promote_until_it_answers(self, alias: str, number: int) -> bool:
        """To another checkpoint than the present one, of those that can start."""
        return self.bring_another(alias, number)

    @precondition(lambda self: bool(self.world.named))
    @step(number=NUMBERS)
    def roll_back(self, number: int) -> bool:
        return self.world.roll_back(pick(sorted(self.world.named), number))

    @precondition(lambda self: bool(self.world.settled))
    @step(number=NUMBERS, seconds=st.sampled_from([0.5, 3.0]))
    def roll_back_what_answers(self, number: int, seconds: float) -> bool:
        """The present checkpoint has answered, and another one before it."""
        alias = pick(sorted(self.world.settled), number)
        self.let_two_answer(alias, number)
        taken = self.world.roll_back(alias)
        self.world.poll()
        self.world.pass_time(seconds)
        return taken

    @precondition(lambda self: bool(self.world.settled))
    @step(number=NUMBERS, other=NUMBERS, fault=ANY_FAULT, crash=st.booleans())
    def fail_a_promotion(self, number: int, other: int, fault: str, crash: bool) -> bool:
        """What is promoted does not start; while it is tried, and after it was given up, the client looks. What goes on
        answering may crash meanwhile, and must come back."""
        alias = pick(sorted(self.world.settled), number)
        checkpoint = pick([name for name in KINDS[alias] if name != self.world.judges[alias].last], other)
        self.spoil_and_end(checkpoint, fault)
        taken = self.world.promote(alias, checkpoint)
        self.let_it_fail()
        last = self.world.judges[alias].last
        if crash and last is not None:
            self.world.crash(self.world.stubs.of(last))
            self.world.settle()
        return taken

    @precondition(lambda self: bool(self.world.settled))
    @step(number=NUMBERS, fault=FOR_GOOD)
    def fail_a_rollback(self, number: int, fault: str) -> bool:
        """What is rolled back to does not start."""
        alias = pick(sorted(self.world.settled), number)
        self.let_two_answer(alias, number)
        taken = self.world.roll_back(alias)
        if taken:
            self.spoil_and_end(self.world.judges[alias].promoted[-1], fault)
        self.let_it_fail()
        return taken

    @precondition(lambda self: bool(self.world.named))
    @step(number=NUMBERS)
    def remove(self, number: int) -> bool:
        return self.world.remove(pick(sorted(self.world.named), number))

    @step(checkpoint=st.sampled_from(CHECKPOINTS))
    def request(self, checkpoint: str) -> None:
        self.world.request(checkpoint)

    @precondition(lambda self: any(judge.answered for judge in self.world.judges.values()))
    @step(number=NUMBERS, other=NUMBERS)
    def request_what_answered(self, number: int, other: int) -> None:
        """It stays beside what comes after it."""
        judge = pick([judge for judge in self.world.judges.values() if judge.answered], number)
        self.world.request(pick(judge.answered, other))
        self.world.advance()

    @precondition(lambda self: bool(self.world.requested))
    @step(number=NUMBERS)
    def withdraw(self, number: int) -> bool:
        return self.world.withdraw(pick(sorted(self.world.requested), number))

    # The environment.

    @precondition(lambda self: any(stub.up for stub in self.world.stubs.stubs))
    @step(number=st.integers(0, 99), seen=st.booleans())
    def crash_an_engine(self, number: int, seen: bool) -> None:
        """Any; its supervisor sees it at once, or later."""
        self.world.crash([pick([stub for stub in self.world.stubs.stubs if stub.up], number)])
        if seen:
            self.world.pass_time(0.5)

    @precondition(lambda self: bool(self.answering()))
    @step(number=NUMBERS, seen=st.booleans())
    def crash_what_answers(self, number: int, seen: bool) -> None:
        """All engines of what an alias is answered by."""
        self.world.crash(self.world.stubs.of(pick(self.answering(), number)))
        if seen:
            self.world.pass_time(0.5)

    @precondition(lambda self: bool(self.world.supervisors))
    @step(number=NUMBERS)
    def crash_a_supervisor(self, number: int) -> None:
        self.world.crash_supervisor(number % len(self.world.supervisors))

    @precondition(lambda self: bool(self.world.supervisors and self.answering()))
    @step(number=NUMBERS, other=NUMBERS)
    def crash_both(self, number: int, other: int) -> None:
        """What answers, and a supervisor that has not seen it; another one starts."""
        self.world.crash(self.world.stubs.of(pick(self.answering(), number)))
        self.world.crash_supervisor(other % len(self.world.supervisors))
        self.world.start_supervisor()
        self.world.advance()

    @precondition(lambda self: len(self.world.supervisors) < MOST_SUPERVISORS)
    @step()
    def start_a_supervisor(self) -> None:
        self.world.start_supervisor()

    @step(checkpoint=st.sampled_from(CHECKPOINTS), fault=ANY_FAULT)
    def spoil(self, checkpoint: str, fault: str) -> None:
        self.world.spoil(checkpoint, fault)

    @precondition(lambda self: bool(self.world.stubs.faults))
    @step(number=NUMBERS)
    def mend(self, number: int) -> None:
        self.world.mend(pick(list(self.world.stubs.faults), number))

    # Time.

    @step(seconds=st.sampled_from([0.5, 3.0, 6.0]))
    def tick(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @step(seconds=st.sampled_from([0.5, 3.0, 70.0]))
    def go_on(self, seconds: float) -> None:
        self.world.advance(seconds)

    @precondition(lambda self: self.world.is_disturbed())
    @step()
    def settle(self) -> None:
        self.world.settle()

    # How they work.

    def answering(self) -> list[str]:
        """Checkpoints that answer for an alias and have engines."""
        lasts = [judge.last for judge in self.world.judges.values() if judge.last]
        return [last for last in lasts if self.world.stubs.of(last)]

    def bring_another(self, alias: str, number: int) -> bool:
        unfit = {self.world.judges[alias].last, *self.world.stubs.faults}
        others = [name for name in KINDS[alias] if name not in unfit]
        taken = bool(others) and self.world.bring(alias, pick(others, number))
        for _ in range(2):  # nothing names the one before any more: its engine ends
            self.world.advance(3.0)
        return taken

    def let_two_answer(self, alias: str, number: int) -> None:
        if not self.world.may_roll_back(alias):
            self.bring_another(alias, number)
            self.world.poll()

    def spoil_and_end(self, checkpoint: str, fault: str) -> None:
        self.world.spoil(checkpoint, fault)
        self.world.crash(self.world.stubs.of(checkpoint))

    def let_it_fail(self) -> None:
        for _ in range(2):
            self.world.advance(6.0)
            self.world.poll()


RULES = sorted(name for name, value in vars(Histories).items() if hasattr(value, "hypothesis_stateful_rule"))


def pick(choices: Any, number: int) -> Any:
    """One of several."""
    return choices[number % len(choices)]


def play(service: Service, count: int, *, start: int | None = None, shrink: bool = True) -> Tally:
    """Play histories until one is violated. Of that one hypothesis prints the steps.

    Args:
        start: the seed of the random choices; None: another one each time.
        shrink: look for the shortest history that is violated, which takes some minutes.

    Raises:
        Violation: the client saw what it must never see.
    """
    tally = Tally()
    played = type("History", (Histories,), {"service": service, "tally": tally})
    if start is not None:
        seed(start)(played)
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    options = settings(
        max_examples=count, stateful_step_count=STEPS, deadline=None, database=None, phases=phases,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip
    run_state_machine_as_test(played, settings=options)
    return tally
