"""Which figures rest on a judge that is not accurate enough to be believed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from evals.results import Item, Result


def unusable_metrics(result: Result, items: Iterable[Item]) -> dict[str, str]:
    """Metric ("suite.task.score") -> the judge that makes it unusable.

    A judge that says `"usable": false` spoils the `scores` that it names, in the suites that it judged. One that names
    none spoils every score of generated answers there: what it judged is then not known more exactly, and a figure in
    doubt is not shown as sound.
    """
    judges = {name: judge for name, judge in result.judges.items() if is_unusable(judge)}
    if not judges:
        return {}
    generated = {(item.suite, item.task) for item in items if item.response is not None}
    spoiled: dict[str, str] = {}
    for name, judge in judges.items():
        for key in result.metrics:
            suite, task, score = key.split(".")
            scores = judge.get("scores")
            decided = score in scores if scores else (suite, task) in generated
            if decided and name in _judges_of(result, suite):
                spoiled.setdefault(key, name)
    return spoiled


def is_unusable(judge: Any) -> bool:
    """Whether a judge is described as not accurate enough."""
    return isinstance(judge, Mapping) and judge.get("usable") is False


def _judges_of(result: Result, suite: str) -> Iterable[str]:
    """Judges of a suite; all of the result's where it does not say."""
    comparable = result.comparable.get(suite)
    return result.judges if comparable is None else comparable.get("judges") or ()
