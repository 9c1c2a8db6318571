"""PPO under watch: its policy measured on held-out prompts on the way, its best weights, a limit of the KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from training.artifacts.errors import UserError
from training.data import reading
from training.data.items import Rows
from training.data.ragged import Ragged
from training.rl import batches
from training.rl.best import Best


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """Options of a run that is measured on the way."""

    held_out_prompts: tuple[str, ...] = ()
    """Prompts on which the policy is scored on the way, as many as --batch at most: files, folders or hub ids; those
    that it learns from too are left out. Left out, with --publish best or --kl-limit, a batch of its own prompts."""
    held_out_every: int = 10
    """Iterations between two such measurements; the last one is always measured."""
    publish: Literal["last", "best"] = "last"
    """Which weights are published: the last, or those with the highest reward of all that were measured, and with a
    KL below --kl-limit."""
    kl_limit: float | None = None
    """KL per response (nats) that ends the run: the best weights from before are published."""

    @property
    def is_watched(self) -> bool:
        """Whether anything is measured on the way."""
        return bool(self.held_out_prompts) or self.publish == "best" or self.kl_limit is not None


class Config(Protocol):
    """What is read of PPO's settings."""

    @property
    def batch(self) -> int: ...

    @property
    def iterations(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def home(self) -> Path: ...

    @property
    def held_out_prompts(self) -> tuple[str, ...]: ...

    @property
    def held_out_every(self) -> int: ...

    @property
    def publish(self) -> Literal["last", "best"]: ...

    @property
    def kl_limit(self) -> float | None: ...

    @property
    def is_watched(self) -> bool: ...


def check(config: WatchOptions) -> None:
    """Raise `UserError` for settings that make no sense, before anything is loaded."""
    if config.held_out_every < 1:
        raise UserError(f"--held-out-every {config.held_out_every}: use at least 1")
    if config.kl_limit is not None and config.kl_limit <= 0:
        raise UserError(f"--kl-limit {config.kl_limit}: use a number above 0, or leave it out")


def select(config: Config) -> reading.Selection:
    """The held-out prompts, all of their sources in equal parts."""
    return reading.select(reading.PROMPTS, config.held_out_prompts, role="held-out prompts")


def apart(training: Rows[Ragged], held_out: Rows[Ragged]) -> Rows[Ragged]:
    """Held-out prompts without those that the policy learns from.

    Raises:
        UserError: nothing is left.
    """
    rest = held_out.without(np.isin(held_out.contents, training.contents), "it is among the --prompts too")
    if not len(rest):
        raise UserError(f"every prompt of {held_out.usage.names} is among the --prompts too: give others, or none")
    return rest


def sample(prompts: Ragged, config: Config) -> list[list[int]]:
    """The prompts that are measured on: the same ones every time, as many as --batch at most."""
    size = min(config.batch, len(prompts))
    rows = batches.cycle_batch(len(prompts), size, 0, config.seed, "held out")
    return [prompts[row].tolist() for row in rows]


class Watch:
    """Which iterations are measured, which weights are the best, and whether a run ends before its last iteration.

    Attributes:
        best: among those measured with a KL within the limit.
        over_limit: the iteration whose KL was beyond the limit; None before that.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.best = Best()
        self.over_limit: int | None = None

    def is_due(self, iteration: int, kl: float) -> bool:
        """Whether the policy is measured after this iteration, whose rollouts had this KL."""
        every = (iteration + 1) % self._config.held_out_every == 0 or iteration + 1 == self._config.iterations
        return self._config.is_watched and (every or self._exceeds(kl))

    def judge(self, model: Any, iteration: int, kl: float, figures: Mapping[str, float]) -> bool:
        """Take the weights if they are the best so far; whether the run goes no further.

        Args:
            model: with the weights that `figures` are of.
            kl: of the iteration's own rollouts.
        """
        if not self._exceeds(figures["kl"]):
            self.best.take(model, iteration, figures["score"], figures)
        if self._exceeds(kl) or self._exceeds(figures["kl"]):
            self.over_limit = iteration
        return self.over_limit is not None

    def takes_best(self) -> bool:
        """Whether the best weights are published in place of the last.

        Raises:
            UserError: they should be, and none had a KL within the limit.
        """
        if self._config.publish == "last" and self.over_limit is None:
            return False
        if self.best.step is None:
            raise UserError(
                f"the KL was beyond --kl-limit {self._config.kl_limit} before any weights were within it, so nothing "
                "is published: use a smaller --learning-rate or --held-out-every, or a higher limit"
            )
        return True

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the best weights, where they are published."""
        measured = {f"held_out/{name}": value for name, value in self.best.figures.items()}
        ended = {"kl_beyond_limit_at": self.over_limit} if self.over_limit is not None else {}
        return {"published_iteration": self.best.step, **ended, **measured}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best.state_dict(), "over_limit": self.over_limit}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best.load_state_dict(state_dict["best"])
        self.over_limit = state_dict["over_limit"]

    def _exceeds(self, kl: float) -> bool:
        return self._config.kl_limit is not None and kl > self._config.kl_limit
