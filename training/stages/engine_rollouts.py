"""Rollouts from an engine in place of the trainer's own sampling: started once, compared with the trainer, given up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from training.artifacts.errors import UserError
from training.models import forward, memory
from training.rl.engine import Engine, EngineFailure
from training.rl.engine_settings import EnginePlan
from training.rl.rollouts import Rollouts, Sampling
from training.runtime.runs import CONSOLE

CHECKED = 4  # responses whose log-probabilities are compared after the first sync
# Nats per token, mean over them. Kernels differ by 1e-5 in float32 and some hundredths in bfloat16; a tensor that was
# not synced holds random numbers, and gives a nat and more.
TOLERANCE = 0.2


class EngineRollouts:
    """Samples from a policy by an engine. A part of a run's state: a run that gave the engine up continues without it.

    Args:
        plan: None where memory has no room for an engine, which is given up at once.
        may_fall_back: an engine that does not start, or samples from something else, is given up; else that is an
            error.
        folder: of the run, for the engine's log.
    """

    def __init__(self, plan: EnginePlan | None, may_fall_back: bool, folder: Path) -> None:
        self._plan, self._may_fall_back, self._folder = plan, may_fall_back, folder
        self._engine: Engine | None = None
        self._is_checked = False
        self.is_given_up = plan is None

    def __enter__(self) -> EngineRollouts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def respond(self, policy: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Rollouts | None:
        """One response to each prompt from the policy as it is; None where the engine was given up.

        Raises:
            UserError: the engine ended, or cannot be used and must not be given up.
        """
        if self.is_given_up:
            return None
        if self._is_checked:
            return self._sample(policy, prompts, sampling)
        try:
            rollouts = self._sample(policy, prompts, sampling)
        except EngineFailure as failure:
            self._give_up(str(failure))
            return None
        gap = gap_of(policy, prompts, rollouts, sampling.temperature)
        if not gap <= TOLERANCE:  # of a number that is none, too
            self._give_up(
                f"after the first sync the engine's log-probabilities differ from the trainer's by {gap:.2f} nats "
                "per token, so it samples from something else"
            )
            return None
        self._is_checked = True
        CONSOLE.print(f"rollouts: engine and trainer agree to {gap:.1e} nats per token", highlight=False)
        return rollouts

    def close(self) -> None:
        """End the engine."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def state_dict(self) -> dict[str, Any]:
        return {"is_given_up": self.is_given_up}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["is_given_up"] and not self._may_fall_back:
            raise UserError(
                "--rollouts vllm: this run continued by transformers when its engine could not be used: resume it with "
                "--rollouts auto"
            )
        self.is_given_up = state_dict["is_given_up"]

    def _sample(self, policy: Any, prompts: Sequence[Sequence[int]], sampling: Sampling) -> Rollouts:
        """By the engine, which is started where it was not."""
        assert self._plan is not None
        if self._plan.sleeps:
            memory.release()  # what the trainer's allocator holds on to is the engine's now
        if self._engine is None:
            log = self._folder / "engine.log"
            engine = self._engine = Engine(policy, self._plan, torch.get_num_threads(), log, self._folder)
            CONSOLE.print(f"rollouts: {engine.command_line}", highlight=False, markup=False, soft_wrap=True)
            CONSOLE.print(f"rollouts: the engine started in {engine.start_seconds:.0f} s", highlight=False)
        self._engine.sync(policy)
        rollouts = self._engine.generate(prompts, sampling)
        self._engine.rest()
        return rollouts

    def _give_up(self, reason: str) -> None:
        self.close()
        if not self._may_fall_back:
            fix = "" if "--rollouts transformers" in reason else ": use --rollouts transformers"
            raise UserError(f"--rollouts vllm: {reason}{fix}")
        self.is_given_up = True
        CONSOLE.print(
            f"rollouts: by transformers from here on, for {reason}", highlight=False, markup=False, soft_wrap=True
        )


def gap_of(policy: Any, prompts: Sequence[Sequence[int]], rollouts: Rollouts, temperature: float) -> float:
    """Mean |trainer's - engine's log-probability| over the tokens of a few responses, in nats."""
    differences: list[float] = []
    with torch.no_grad():
        for prompt, response, sampled in list(zip(prompts, rollouts.ids, rollouts.logprobs, strict=True))[:CHECKED]:
            own = forward.response_logprobs(policy, [prompt], [response], temperature)[0].tolist()
            differences += [abs(a - b) for a, b in zip(own, sampled, strict=True)]
    return math.fsum(differences) / len(differences)
