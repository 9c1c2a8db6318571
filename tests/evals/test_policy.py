"""Policies: what is required, with which margin, and what stops a PASS."""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.measured import Measured
from evals.policy import Policy, Ungated, read_policy, rules_of
from tests.support.measured import items, side
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def sides(**fields: object) -> tuple[Measured, Measured]:
    records = items([1.0, 0.0], "tax.hellaswag.acc") + items([1.0, 0.0], "tax.hellaswag.acc_norm")
    return side(records, **fields), side(records, "baseline", **fields)  # type: ignore[arg-type]


def margins(policy: Policy, candidate: Measured, baseline: Measured) -> dict[str, float]:
    return {rule.metric: rule.margin for rule in rules_of(policy, candidate, baseline)[0]}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_the_shipped_policy_takes_what_is_declared_as_required() -> None:
    assert margins(Policy(), *sides()) == {"tax.hellaswag.acc": 0.05, "tax.hellaswag.acc_norm": 0.05}
    rules, ungated = rules_of(Policy(), *sides(required=False, margin=None))
    assert rules == []
    assert ungated[0] == Ungated("tax.hellaswag.acc", "it has no margin", blocks=False)


def test_what_either_side_measured_is_required() -> None:
    candidate, baseline = sides()
    narrow = side(items([1.0, 0.0], "tax.hellaswag.acc"), "baseline")
    assert set(margins(Policy(), candidate, narrow)) == set(margins(Policy(), narrow, candidate))
    assert set(margins(Policy(), candidate, narrow)) == set(margins(Policy(), candidate, baseline))


def test_a_file_adds_margins_and_cannot_drop_a_metric_in_silence(tmp_path: Path) -> None:
    policy = read_policy(written(tmp_path, '[margins]\n"tax.hellaswag.acc_norm" = 0.02\n'))
    assert margins(policy, *sides()) == {"tax.hellaswag.acc": 0.05, "tax.hellaswag.acc_norm": 0.02}
    ignoring = read_policy(written(tmp_path, 'ignore = ["tax.*.acc"]\n'))
    rules, ungated = rules_of(ignoring, *sides())
    assert [rule.metric for rule in rules] == ["tax.hellaswag.acc_norm"]
    assert ungated == [Ungated("tax.hellaswag.acc", "ignored by the policy", blocks=False)]


def test_exact_names_come_before_patterns_and_the_first_pattern_holds(tmp_path: Path) -> None:
    text = '[margins]\n"tax.*" = 0.1\n"tax.hella*" = 0.2\n"tax.hellaswag.acc" = 0.01\n'
    policy = read_policy(written(tmp_path, text))
    assert margins(policy, *sides()) == {"tax.hellaswag.acc": 0.01, "tax.hellaswag.acc_norm": 0.1}


@pytest.mark.parametrize("key", ["margins", "ignore"])
def test_a_name_that_neither_measured_is_refused_with_the_nearest(key: str) -> None:
    names = {"tax.helaswag.acc_norm": 0.02}
    policy = Policy(names, name="p.toml") if key == "margins" else Policy({}, tuple(names), "p.toml")
    with pytest.raises(UserError, match=r"p.toml: neither side measured .*nearest are tax.hellaswag.acc_norm"):
        rules_of(policy, *sides())


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("[margins\n", "not TOML"),
        ('[margin]\n"a.b.c" = 1\n', "'margin' is not a key"),
        ('[margins]\n"tax.t.acc" = "2 %"\n', "give a number"),
        ('[margins]\n"tax.t.acc" = true\n', "give a number"),
        ('[margins]\n"tax.t.acc" = -0.1\n', "give a number"),
        ('[margins]\n"tax.t.acc" = nan\n', "give a number"),
        ('[margins]\n"tax.t.acc" = inf\n', "give a number"),
        ("[margins]\ntax.t.acc = 0.02\n", 'in quotes: "tax.t.acc"'),
        ('ignore = "tax.t.acc"\n', "a list"),
        ("margins = 3\n", "a table"),
    ],
)
def test_a_faulty_file_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint) as refusal:
        read_policy(written(tmp_path, text))
    assert "\n" not in str(refusal.value).strip()


def test_a_policy_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_policy(tmp_path / "none.toml")


@pytest.mark.parametrize("wins, margin", [(False, 1.0), (False, 1.5), (True, 0.5), (True, 0.7)])
def test_a_margin_that_allows_any_drop_is_refused(wins: bool, margin: float) -> None:
    with pytest.raises(UserError, match="allows any drop"):
        rules_of(Policy({"tax.hellaswag.acc": margin}), *sides(wins=wins))


def test_what_cannot_be_compared_cannot_be_gated() -> None:
    reason = {"tax.squad.f1": "its values per item are lists"}
    candidate, baseline = (side(s.items, s.name, unusable=reason) for s in sides())
    with pytest.raises(UserError, match=r"tax.squad.f1 cannot be gated: its values per item are lists"):
        rules_of(Policy({"tax.squad.f1": 0.02}), candidate, baseline)
    with pytest.raises(UserError, match="has no direction"):
        rules_of(Policy({"tax.hellaswag.acc": 0.02}), *sides(better=None, margin=None, required=False))


def test_foreign_metrics_without_a_rule_stop_a_pass_unless_ignored() -> None:
    candidate, baseline = sides(margin=None, required=True, share=False)
    rules, ungated = rules_of(Policy(), candidate, baseline)
    assert rules == []
    assert all(metric.blocks for metric in ungated)
    rules, ungated = rules_of(Policy({"tax.hellaswag.acc": 3.0}, ("tax.*.acc_norm",)), candidate, baseline)
    assert [rule.margin for rule in rules] == [3.0]
    assert not any(metric.blocks for metric in ungated)


def test_a_score_that_nothing_declares_stops_a_pass() -> None:
    records = items([1.0, 0.0], "tax.hellaswag.acc")
    silent = Measured("silent", "silent", records, {})
    assert rules_of(Policy(), silent, silent)[1] == [
        Ungated("tax.hellaswag.acc", "nothing declares what it means", blocks=True)
    ]


def test_contradicting_declarations_are_refused() -> None:
    up, down = sides()[0], sides(better="lower")[1]
    with pytest.raises(UserError, match="declare better differently"):
        rules_of(Policy(), up, down)


def test_of_two_margins_the_smaller_holds() -> None:
    assert set(margins(Policy(), sides(margin=0.03)[0], sides(margin=0.1)[1]).values()) == {0.03}


@pytest.mark.parametrize("order", [1, -1])
def test_a_value_that_is_a_share_on_one_side_only_loses_the_margin_of_shares(order: int) -> None:
    pair = (sides(margin=0.02)[0], sides(share=False, margin=None)[1])[::order]
    rules, ungated = rules_of(Policy(), *pair)
    assert rules == []
    assert all(metric.blocks for metric in ungated)
