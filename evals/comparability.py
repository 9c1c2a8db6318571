"""Whether two measurements may be compared: same judges, sampling, filters, prompts and data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from evals.decision import Rule
from evals.measured import Measured
from training.artifacts.errors import UserError

# What lists things that were measured: one that a side lacks shows in the rows, as not measured.
LISTS = frozenset(("data", "tasks"))
PER_TOKEN = "loss"  # score in nats per token; bits per byte mean the same for every tokenizer


def check_comparable(candidate: Measured, baseline: Measured, rules: Iterable[Rule]) -> None:
    """Check the settings of every suite that is decided on and that both sides measured.

    Raises:
        UserError: they differ; the line names each difference.
    """
    rules = list(rules)
    suites = {rule.metric.split(".", 1)[0] for rule in rules} & candidate.suites & baseline.suites
    differences = [
        f"{suite}: {line}"
        for suite in sorted(suites)
        for line in _differences(candidate.comparable.get(suite, {}), baseline.comparable.get(suite, {}))
    ]
    if differences:
        raise UserError(
            f"the two were not measured alike (candidate against baseline): {'; '.join(differences)}: measure both "
            "with the same settings, judges and data"
        )
    tokenizers = {candidate.tokenizer, baseline.tokenizer} - {None}
    per_token = [rule.metric for rule in rules if rule.metric.rsplit(".", 1)[1] == PER_TOKEN]
    if per_token and len(tokenizers) == 2:
        raise UserError(
            f"{per_token[0]} is per token, and the two have different tokenizers: ignore it in --policy and compare "
            "bits per byte"
        )


def _differences(mine: Any, theirs: Any, path: str = "") -> list[str]:
    """A line per setting in which two records differ."""
    if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
        listed = path in LISTS
        keys = sorted(mine.keys() & theirs.keys() if listed else mine.keys() | theirs.keys(), key=str)
        absent = object()
        return [
            line
            for key in keys
            for line in _differences(mine.get(key, absent), theirs.get(key, absent), f"{path}.{key}".lstrip("."))
        ]
    shown, other = _shown(mine), _shown(theirs)
    if shown == other:
        return []
    return [f"{path} {_short(shown)} against {_short(other)}"]


def _shown(value: Any) -> str:
    return "not recorded" if type(value) is object else json.dumps(value, sort_keys=True, default=str)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
