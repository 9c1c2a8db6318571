"""The gate's verdicts, and that its error rate is what it states."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from evals.gate import compare, load, passed
from evals.results import Item

pytestmark = pytest.mark.unit


def items(
    values: Sequence[float | None], score: str = "accuracy", suite: str = "tax", task: str = "cloze"
) -> list[Item]:
    return [Item(suite, task, str(i), f"prompt {i}", f"hash {i}", None, None, {score: v}) for i, v in enumerate(values)]


def share_passed(draw: Callable[[np.random.Generator], tuple[Sequence[float], Sequence[float]]], runs: int) -> float:
    generator = np.random.default_rng(0)
    opened = 0
    for _ in range(runs):
        candidate, baseline = draw(generator)
        opened += passed(compare(items(candidate), items(baseline)))
    return opened / runs


def test_a_candidate_worse_by_exactly_the_margin_passes_at_most_alpha() -> None:
    def draw(generator: np.random.Generator) -> tuple[Sequence[float], Sequence[float]]:
        # Over items: 3 % gained, 8 % lost, so the true drop is the margin of 0.05.
        kind = generator.choice(3, size=200, p=[0.03, 0.08, 0.89])
        return list((kind != 1).astype(float)), list((kind != 0).astype(float))

    # alpha is 0.025; 400 runs have a standard error of 0.008.
    assert share_passed(draw, 400) <= 0.025 + 3 * 0.008


def test_without_a_margin_swapped_outcomes_pass_at_alpha() -> None:
    """Two different checkpoints with their outcomes swapped at random within items: no true difference is left."""
    generator = np.random.default_rng(1)
    first, second = generator.random(200) < 0.7, generator.random(200) < 0.6
    opened = worse = 0
    for _ in range(400):
        swap = generator.random(200) < 0.5
        a, b = np.where(swap, second, first), np.where(swap, first, second)
        row = compare(items(list(a.astype(float))), items(list(b.astype(float))), margin=0.0)[0]
        opened += row.verdict == "pass"
        worse += row.verdict == "worse"
    assert 0.005 <= opened / 400 <= 0.049
    assert 0.005 <= worse / 400 <= 0.049


def test_swapped_preferences_win_at_most_alpha() -> None:
    generator = np.random.default_rng(2)
    opened = 0
    for _ in range(300):
        a, b = generator.normal(size=(2, 100))
        opened += passed(compare(items(list(a), "utility", "preference"), items(list(b), "utility", "preference")))
    assert opened / 300 <= 0.025 + 3 * 0.009


def test_an_equal_candidate_passes_with_enough_items() -> None:
    def draw(generator: np.random.Generator) -> tuple[Sequence[float], Sequence[float]]:
        kind = generator.choice(3, size=1200, p=[0.03, 0.03, 0.94])
        return list((kind != 1).astype(float)), list((kind != 0).astype(float))

    assert share_passed(draw, 20) > 0.95


def test_too_few_items_prove_nothing() -> None:
    row = compare(items([1.0] * 10), items([1.0] * 10))[0]
    assert row.verdict == "unproven"
    assert row.difference == 0


def test_a_clear_drop_is_called_worse() -> None:
    assert compare(items([0.0] * 30 + [1.0] * 30), items([1.0] * 60))[0].verdict == "worse"


def test_lower_is_better_for_loss_and_toxicity() -> None:
    generator = np.random.default_rng(0)
    base = list(generator.normal(3.0, 0.1, 50))
    better = compare(items([x - 0.2 for x in base], "loss"), items(base, "loss"))[0]
    assert better.verdict == "pass"
    assert better.difference == pytest.approx(0.2)
    toxic = compare(items([1.0] * 90, "toxic", "toxicity"), items([0.0] * 90, "toxic", "toxicity"))[0]
    assert toxic.verdict == "worse"


def test_failed_measurements_do_not_slip_through() -> None:
    row = compare(items([None] * 20 + [1.0] * 180), items([1.0] * 200))[0]
    assert row.verdict == "unmeasured"
    assert row.unpaired == 20
    assert not passed([])


def test_items_asked_otherwise_are_not_paired() -> None:
    other = [Item("tax", "cloze", "0", "p", "another prompt", None, None, {"accuracy": 1.0})]
    assert compare(other, items([1.0]))[0].verdict == "unmeasured"


def test_reads_samples_of_lm_eval(tmp_path: Path) -> None:
    row = {"doc_id": 0, "doc_hash": "d", "prompt_hash": "p", "metrics": ["acc"], "acc": 1.0, "filter": "none"}
    (tmp_path / "samples_arc_easy_2026-01-01.jsonl").write_text(json.dumps(row) + "\n")
    found = load(tmp_path)
    assert [(i.task, i.prompt_hash, dict(i.scores)) for i in found] == [("arc_easy", "p", {"accuracy": 1.0})]
