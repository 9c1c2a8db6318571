"""The judge agrees with a reader who wrote answers and labels without having seen it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.training.miniature.hand_made_by_another import CASES, SEED, Case, prompt_rows
from training.miniature import World, judge

pytestmark = pytest.mark.unit

Rows = Mapping[str, dict[str, Any]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return prompt_rows(World.build(seed=SEED, size="demo"))


def disagreements(case: Case, rows: Rows) -> dict[str, tuple[bool, object]]:
    """Label and verdict of each label that applies and that the judge does not share."""
    verdict = judge(rows[case.id], case.answer)
    pairs = {
        "correct": (case.correct, verdict.correct),
        "truthful": (case.truthful, verdict.truthful),
        "harmless": (case.harmless, verdict.harmless),
    }
    return {
        name: (label, opinion) for name, (label, opinion) in pairs.items() if label is not None and label != opinion
    }


def test_the_world_still_has_the_prompts(rows: Rows) -> None:
    """The labels hold for these prompts only: under another prompt of the same id they would mean nothing."""
    assert len({case.id for case in CASES}) == 40
    for case in CASES:
        assert " / ".join(message["content"] for message in rows[case.id]["messages"]) == case.prompt


def test_the_judge_agrees_with_another_reader(rows: Rows) -> None:
    wrong = {f"{case.prompt}: {case.answer}": disagreements(case, rows) for case in CASES}
    wrong = {name: labels for name, labels in wrong.items() if labels}
    assert len(CASES) - len(wrong) >= 34, wrong
