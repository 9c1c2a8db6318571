"""The verdict on a whole comparison."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from evals.measured import Measured
from evals.policy import Policy
from evals.verdict import Verdict, compare_results
from tests.support.measured import items, side
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
GOOD = [float(i % 2) for i in range(400)]
LOST = [0.0] * 100 + GOOD[100:]
TORN = [0.0] * 20 + GOOD[20:]  # 10 of 400 items lost: 2.5 points, which 400 items do not tell from 5


def verdict(*metrics: tuple[str, list[float | None], list[float | None]], policy: Policy | None = None) -> Verdict:
    mine = [item for metric, scores, _ in metrics for item in items(scores, metric)]
    theirs = [item for metric, _, scores in metrics for item in items(scores, metric)]
    return compare_results(side(mine), side(theirs, "baseline"), policy)


def test_all_must_pass() -> None:
    good, lost = ("tax.a.acc", GOOD, GOOD), ("tax.b.acc", LOST, GOOD)
    short = ("tax.c.acc", GOOD[:40], GOOD[:40])
    assert verdict(good).outcome == "PASS"
    assert verdict(good, short).outcome == "INCONCLUSIVE"
    assert verdict(good, lost, short).outcome == "FAIL"
    assert [verdict(*m).status for m in ([good], [good, short], [good, lost])] == [0, 3, 1]
    assert "intersection-union" in verdict(good).correction


def test_the_items_needed_are_told_for_what_is_undecided() -> None:
    needed = verdict(("tax.a.acc", GOOD, GOOD), ("tax.c.acc", GOOD[:40], GOOD[:40])).items_needed
    # Nothing changed: Tango's bound excludes a drop of 5 points from 52 items on.
    assert needed == {"tax.c.acc": 52}


@pytest.mark.parametrize("absent", ["candidate", "baseline"])
def test_a_metric_that_one_side_lacks_is_not_passed(absent: str) -> None:
    """A baseline measured on fewer suites once narrowed the gate in silence."""
    full = items(GOOD, "tax.a.acc") + items(GOOD, "truth.facts.truthful")
    narrow = items(GOOD, "tax.a.acc")
    candidate, baseline = (narrow, full) if absent == "candidate" else (full, narrow)
    result = compare_results(side(candidate), side(baseline, "baseline"))
    assert result.outcome == "INCONCLUSIVE"
    assert [r.reason for r in result.rows if r.outcome != "PASS"] == [f"not measured on the {absent}: measure it"]


def test_metrics_without_a_margin_are_listed_and_do_not_stop_a_pass() -> None:
    mine = items(GOOD, "tax.a.acc")
    shown = items(GOOD, "tax.b.shown")
    declared = side(mine).declared | side(shown, margin=None, required=False).declared
    sides = [Measured(name, name, mine + shown, declared) for name in ("candidate", "baseline")]
    result = compare_results(*sides)
    assert (result.outcome, [u.metric for u in result.ungated]) == ("PASS", ["tax.b.shown"])


def test_foreign_metrics_without_a_rule_stop_the_pass() -> None:
    sides = [
        side(items(GOOD, "tax.a.acc"), name, rule_for_all=True, unusable={"tax.a.bleu": "a corpus figure"})
        for name in ("candidate", "baseline")
    ]
    assert compare_results(*sides).outcome == "INCONCLUSIVE"
    assert compare_results(*sides, Policy({}, ("tax.a.bleu",))).outcome == "PASS"


def test_a_checkpoint_against_itself_is_said() -> None:
    one = side(items(GOOD, "tax.a.acc"))
    assert "same checkpoint" in compare_results(one, one).notes[0]
    assert compare_results(one, replace(one, checkpoint="other")).notes == ()


def test_nothing_to_decide_on_is_an_error() -> None:
    shown = side(items(GOOD, "tax.a.acc"), margin=None, required=False)
    with pytest.raises(UserError, match="no metric to decide on"):
        compare_results(shown, shown)
    empty = Measured("empty", "empty", [], {})
    with pytest.raises(UserError, match="no metric to decide on"):
        compare_results(empty, empty)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, -0.1, float("nan")])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha: float) -> None:
    one = side(items(GOOD, "tax.a.acc"))
    with pytest.raises(UserError, match="--alpha"):
        compare_results(one, one, alpha=alpha)


def test_a_smaller_alpha_asks_for_more() -> None:
    sides = side(items(TORN)), side(items(GOOD), "baseline")
    assert compare_results(*sides, alpha=0.1).outcome == "PASS"
    assert compare_results(*sides, alpha=0.001).outcome == "INCONCLUSIVE"


def test_a_verdict_is_strict_json() -> None:
    holes = [None if i % 7 == 0 else v for i, v in enumerate(GOOD)]
    result = verdict(("tax.a.acc", holes, GOOD), ("tax.b.acc", [1.0], [1.0]), ("tax.c.acc", [None], [1.0]))
    content = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert content["outcome"] == "INCONCLUSIVE"
    assert content["rows"][0]["missing_candidate"] == {"timed out": 58}
    assert set(content["items_needed"]) <= {"tax.a.acc", "tax.b.acc"}


def test_settings_stand_in_the_verdict() -> None:
    comparable = {"tax": {"limit": 400, "data": {"a": "sha"}}, "truth": {"limit": 3}}
    sides = [side(items(GOOD, "tax.a.acc"), name, comparable) for name in ("candidate", "baseline")]
    assert compare_results(*sides).settings == {"tax": comparable["tax"]}
