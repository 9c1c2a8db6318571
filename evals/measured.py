"""One side of a comparison: what was measured of a model, whether AlignLoop or lm-eval wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from evals.results import Item, Result
from evals.usable import unusable_metrics

FORM_SETTINGS = frozenset(("form", "forms"))  # suites whose settings say how items are put to a model


@dataclass(frozen=True)
class Measured:
    """What the gate reads of a model's measurement.

    Attributes:
        name: for people.
        checkpoint: what identifies the model.
        items: per-item records of all suites.
        declared: "suite.task.score" -> fields of `evals.suite.Metric`.
        comparable: suite -> what must agree between the two sides.
        tokenizer: hash of the tokenizer; None where it is not recorded.
        unusable: "suite.task.score" -> why a measured metric cannot be decided on: no value per item, or a poor judge.
        rule_for_all: every measured metric needs a rule, or to be ignored by the policy, before the gate passes: the
            metrics were not declared by a suite of ours.
    """

    name: str
    checkpoint: str
    items: Sequence[Item]
    declared: Mapping[str, Mapping[str, Any]]
    comparable: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tokenizer: str | None = None
    unusable: Mapping[str, str] = field(default_factory=dict)
    rule_for_all: bool = False

    @property
    def suites(self) -> set[str]:
        """Suites of which anything was measured."""
        return {item.suite for item in self.items} | {metric.split(".", 1)[0] for metric in self.unusable}


def measured_of(result: Result, items: Sequence[Item]) -> Measured:
    """The side of a result of `python -m evals run`."""
    comparable = {suite: _with_form(settings, result.ask) for suite, settings in result.comparable.items()}
    judged = {
        key: f"its judge ({judge}) is not accurate enough" for key, judge in unusable_metrics(result, items).items()
    }
    return Measured(
        result.label,
        result.checkpoint,
        items,
        result.declared,
        comparable,
        result.manifest.get("tokenizer_hash"),
        judged,
    )


def _with_form(settings: Mapping[str, Any], ask: str) -> dict[str, Any]:
    """Settings of a suite, with the way in which the model was asked where the suite does not choose it itself."""
    own = FORM_SETTINGS & set(settings.get("settings") or {})
    return dict(settings) if own else dict(settings) | {"asked": ask}
