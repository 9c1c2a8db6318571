"""Random histories of promotions, rollbacks and failures, judged by a client alone.

Between any two steps the client polls every alias.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, assume, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.support.histories.steps import STEPS
from tests.support.histories.world import KINDS, Service, World

LENGTH = 30  # steps of a history
# Histories of one run of hypothesis. Where there are ten or more, it holds the first tenth close to the simplest one.
ROUND = 9


@dataclass
class Tally:
    """What was played.

    Attributes:
        fired: how often each step did what its name says.
        lengths: steps of each history.
    """

    fired: Counter[str] = field(default_factory=Counter)
    lengths: list[int] = field(default_factory=list)


class History(RuleBasedStateMachine):
    """One history. There is one rule alone: of several, hypothesis leaves out many in most histories, and the rare
    steps would hardly be taken."""

    service: Service
    tally: Tally

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.service)
        self.steps, self.over = 0, True

    def teardown(self) -> None:
        """A history that went well ends with all being served that can be."""
        try:
            if not self.over:
                self.world.settle()
                self.tally.lengths.append(self.steps)
        finally:
            self.world.close()

    @initialize(number=st.integers(0, 1000))
    def begin(self, number: int) -> None:
        """Hypothesis begins each run with the simplest history, whose steps are all the same one: it is left out."""
        assume(number)
        for alias, checkpoints in KINDS.items():
            self.world.bring(alias, checkpoints[0])
        self.over = False

    @rule(chosen=st.runner().flatmap(lambda history: history.choices()))
    def take(self, chosen: tuple[str, dict[str, Any]]) -> None:
        """A step, after which the client polls."""
        name, arguments = chosen
        try:
            fired = STEPS[name].do(self.world, **arguments)
            self.world.poll()
        except BaseException:
            self.over = True
            raise
        self.steps += 1
        self.tally.fired[name] += fired is not False

    def choices(self) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        """The steps that are possible now, by their weights, with arguments."""
        names = [name for name, step in STEPS.items() if step.possible(self.world) for _ in range(step.weight)]
        return st.sampled_from(names).flatmap(
            lambda name: st.tuples(st.just(name), st.fixed_dictionaries(STEPS[name].arguments))
        )


def play(service: Service, count: int, *, start: int | None = None, shrink: bool = True) -> Tally:
    """Play histories until one is violated. Of that one hypothesis prints the steps.

    Args:
        count: histories of LENGTH steps; hypothesis ends some before, which are played but not counted.
        start: the seed of the random choices; None: another one each time.
        shrink: look for the shortest history that is violated, which takes some minutes.

    Raises:
        Violation: the client saw what it must never see.
    """
    tally = Tally()
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    begun = 0
    while (missing := count - sum(length >= LENGTH for length in tally.lengths)) > 0:
        played = type("History", (History,), {"service": service, "tally": tally})
        if start is not None:
            seed(start + begun)(played)
        options = settings(
            max_examples=min(ROUND, missing), stateful_step_count=1 + LENGTH, deadline=None, database=None,
            phases=phases, suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        )  # fmt: skip
        run_state_machine_as_test(played, settings=options)
        begun += ROUND
    return tally
