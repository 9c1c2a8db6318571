"""What a run can measure, known before it asks anything: a policy that names anything else is a mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from evals.policy import Policy, PolicyError, margin_of, rule_of
from evals.sources import Sources
from evals.suite import EVERY_TASK, Metric, Suite
from evals.suites import tax


def check_policy(
    policy: Policy, suites: Sequence[Suite], sources: Sources, read: Mapping[str, Mapping[str, Any]]
) -> None:
    """Check every name of a policy, and the margin of every metric that is declared by its name.

    A name that may turn out to be measured is let through: what a task of lm-eval computes is known only afterwards.

    Args:
        read: suite -> what its `check` has read; of the tax, its tasks.

    Raises:
        PolicyError: no suite of the run measures what the policy names, or a margin allows any drop.
    """
    declared = {f"{suite.name}.{m.name}": m for suite in suites for m in _metrics(suite, sources)}
    tasks = [f"{tax.SUITE.name}.{name}*.*" for name in read.get(tax.SUITE.name, ())]  # with the forms of each
    known = [*declared, *tasks]
    for pattern in (*policy.margins, *policy.ignore):
        if "[" not in pattern and not any(may_agree(pattern, name) for name in known):
            measured = ", ".join(suite.name for suite in suites)
            raise PolicyError(
                f"{policy.name}: nothing in this run measures {pattern} (it measures {measured}; `--list` names the "
                "metrics)"
            )
    for name, metric in declared.items():
        margin = margin_of(policy, name)
        if margin is not None and metric.better is not None and name.split(".")[1] != EVERY_TASK:
            rule_of(name, asdict(metric), margin)


def _metrics(suite: Suite, sources: Sources) -> list[Metric]:
    """Metrics of the parts that the sources allow; the tax names its tasks itself."""
    ready = [part for part in suite.parts or (suite,) if part.needs(sources) is None]
    metrics = [metric for part in ready for metric in part.metrics]
    if suite.name != tax.SUITE.name:
        return metrics
    return [metric for metric in metrics if not metric.name.startswith(f"{EVERY_TASK}.")]


@lru_cache(maxsize=100_000)
def may_agree(first: str, second: str) -> bool:
    """Whether any text fits both patterns; `*` stands for any text, `?` for one character."""
    if not first or not second:
        return not (first + second).strip("*")
    if first[0] == "*":
        return may_agree(first[1:], second) or may_agree(first, second[1:])
    if second[0] == "*":
        return may_agree(first, second[1:]) or may_agree(first[1:], second)
    return ("?" in (first[0], second[0]) or first[0] == second[0]) and may_agree(first[1:], second[1:])
