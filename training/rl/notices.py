"""What a person would stop a PPO run for, noticed while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WINDOW = 5  # iterations over which something must last
FINISHED = 0.05  # share of finished responses below which a policy learns from penalties alone
KL = 10.0  # nats per response; below it a KL that doubles is a start, not an escape
NEGATIVE_KL = -0.1  # nats per response: the mean of a divergence is not below 0 but by chance
VALUE_WINDOW = 2 * WINDOW  # iterations; the value model starts as a reward model and needs some
SENTENCES = {
    "unfinished": (
        "fewer than {share:.0%} of the responses of the last {window} iterations are finished: the policy learns from "
        "penalties alone; use a longer --max-tokens, or start from a model that ends its turns"
    ),
    "kl_runs_away": (
        "the KL has doubled within {window} iterations, to {kl:.1f} nats per response: the reward may be hacked; use a "
        "larger --kl-coefficient, a smaller --learning-rate, or --kl-limit"
    ),
    "kl_negative": (
        "the KL is {kl:.2f} nats per response on average over {window} iterations, which a divergence cannot be: what "
        "is sampled from differs from what is trained; compare `sampler_gap` with 0"
    ),
    "value_explains_nothing": (
        "the value model has explained nothing of the returns for {value_window} iterations: advantages are noise; use "
        "a larger --value-learning-rate or --batch"
    ),
}


class Notices:
    """Looks at the scalars of each iteration. A sentence is returned once, when something has lasted; again only after
    it was over in between."""

    def __init__(self) -> None:
        self._history: list[dict[str, float]] = []
        self._active: list[str] = []

    def look(self, scalars: Mapping[str, float]) -> list[str]:
        """Sentences about what is new with this iteration."""
        names = ("finished", "kl", "value_explains")
        self._history.append({name: scalars[name] for name in names if name in scalars})
        self._history = self._history[-VALUE_WINDOW:]
        active = self._lasting()
        facts = {
            "share": FINISHED, "window": WINDOW, "value_window": VALUE_WINDOW, "kl": _mean(self._last("kl", WINDOW)),
        }  # fmt: skip
        new = [SENTENCES[name].format(**facts) for name in active if name not in self._active]
        self._active = active
        return new

    def scalars(self) -> dict[str, float]:
        """1 for each thing that lasts now, 0 for the others, for the log."""
        return {f"notice/{name}": float(name in self._active) for name in SENTENCES}

    def state_dict(self) -> dict[str, Any]:
        return {"history": self._history, "active": self._active}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._history, self._active = state_dict["history"], state_dict["active"]

    def _lasting(self) -> list[str]:
        finished, kl = self._last("finished", WINDOW), self._last("kl", WINDOW)
        explained, earlier = self._last("value_explains", VALUE_WINDOW), self._last("kl", VALUE_WINDOW)[:-WINDOW]
        doubled = len(earlier) == WINDOW and _mean(kl) > max(KL, 2 * _mean(earlier))
        lasting = {
            "unfinished": len(finished) == WINDOW and max(finished) < FINISHED,
            "kl_runs_away": doubled,
            "kl_negative": len(kl) == WINDOW and max(kl) < 0 and _mean(kl) < NEGATIVE_KL,
            "value_explains_nothing": len(explained) == VALUE_WINDOW and max(explained) <= 0,
        }
        return [name for name in SENTENCES if lasting[name]]

    def _last(self, name: str, count: int) -> list[float]:
        """The newest values of a scalar, oldest first; fewer where it was absent."""
        return [one[name] for one in self._history[-count:] if name in one]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
