"""The gate's verdict on a candidate: all required metrics decided on, and everything that bears on it said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evals.comparability import check_comparable
from evals.decision import Outcome, Row, Rule, decide
from evals.measured import Measured
from evals.pairing import Tasks, pair_metric, tasks_of
from evals.policy import Policy, Ungated, rules_of
from training.artifacts.errors import UserError

ALPHA = 0.05  # one-sided
LEAST_ALPHA = 1e-6  # no sample that can be measured decides at less
CORRECTION = (
    "none: the gate passes only if every metric does (intersection-union), so that its error of passing a model that "
    "is worse by the margin anywhere is at most alpha"
)


@dataclass(frozen=True)
class Verdict:
    """Attributes:
    outcome: PASS if every row passes and nothing blocks; FAIL if any row fails; otherwise INCONCLUSIVE.
    candidate, baseline: names; checkpoints: what identifies the two.
    rows: one per metric that the policy requires.
    ungated: measured metrics that were not decided on, and why.
    notes: sentences that a reader must know, such as that both are the same checkpoint.
    alpha: one-sided error of each test.
    policy: name of the policy; correction: for several metrics.
    settings: suite -> what both measurements have in common.
    """

    outcome: Outcome
    candidate: str
    baseline: str
    checkpoints: tuple[str, str]
    rows: tuple[Row, ...]
    ungated: tuple[Ungated, ...] = ()
    notes: tuple[str, ...] = ()
    alpha: float = ALPHA
    policy: str = "shipped"
    correction: str = CORRECTION
    settings: Mapping[str, Any] | None = None

    @property
    def status(self) -> int:
        """Exit status of a command: 0 PASS, 1 FAIL, 3 INCONCLUSIVE."""
        return {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 3}[self.outcome]

    @property
    def items_needed(self) -> dict[str, int]:
        """Metric -> items that it needs, where it has fewer."""
        return {
            row.metric: row.items_needed
            for row in self.rows
            if row.outcome == "INCONCLUSIVE" and row.items_needed is not None and row.items_needed > row.n
        }

    def as_json(self) -> dict[str, Any]:
        """As values of JSON, without NaN or infinity."""
        return asdict(self) | {"items_needed": self.items_needed}


def compare_results(
    candidate: Measured, baseline: Measured, policy: Policy | None = None, alpha: float = ALPHA
) -> Verdict:
    """Decide whether the candidate may take the baseline's place.

    Raises:
        UserError: the two cannot be compared: repeated ids, different questions, unlike settings, a policy that names
            what was not measured, or nothing to decide on.
    """
    policy = policy or Policy()
    if not LEAST_ALPHA <= alpha < 0.5:
        raise UserError(
            f"--alpha is {alpha:g}: give a one-sided error from {LEAST_ALPHA:g} and below 0.5, such as 0.05"
        )
    mine, theirs = tasks_of(candidate.items, candidate.name), tasks_of(baseline.items, baseline.name)
    rules, ungated = rules_of(policy, candidate, baseline)
    if not rules and not any(metric.blocks for metric in ungated):
        raise UserError(
            f"{candidate.name} and {baseline.name} have no metric to decide on: measure both on suites with required "
            "metrics, or give margins in --policy"
        )
    check_comparable(candidate, baseline, rules)
    rows = tuple(_row(rule, mine, theirs, alpha) for rule in rules)
    same = bool(candidate.checkpoint) and candidate.checkpoint == baseline.checkpoint
    settings = {s: dict(candidate.comparable.get(s, {})) for s in sorted({r.metric.split(".")[0] for r in rules})}
    return Verdict(
        whole_outcome(rows, ungated),
        candidate.name,
        baseline.name,
        (candidate.checkpoint, baseline.checkpoint),
        rows,
        tuple(ungated),
        ("candidate and baseline are the same checkpoint: this tests nothing but the measurement",) if same else (),
        alpha,
        policy.name,
        settings=settings,
    )


def _row(rule: Rule, mine: Tasks, theirs: Tasks, alpha: float) -> Row:
    """The decision on one metric, which a side may not have measured."""
    suite, task, score = rule.metric.split(".")
    absent = [
        side
        for side, tasks in (("candidate", mine), ("baseline", theirs))
        if not any(score in item.scores for item in tasks.get((suite, task), {}).values())
    ]
    if absent:
        reason = f"not measured on the {' and the '.join(absent)}: measure it"
        return Row(rule.metric, rule.words, rule.margin, rule.wins, "INCONCLUSIVE", reason)
    return decide(rule, pair_metric(mine, theirs, rule.metric), alpha)


def whole_outcome(rows: Sequence[Row], ungated: Sequence[Ungated] = ()) -> Outcome:
    """FAIL if any metric fails, PASS if all pass and none without a rule stops it, otherwise INCONCLUSIVE."""
    if any(row.outcome == "FAIL" for row in rows):
        return "FAIL"
    if not rows or any(row.outcome != "PASS" for row in rows) or any(metric.blocks for metric in ungated):
        return "INCONCLUSIVE"
    return "PASS"
