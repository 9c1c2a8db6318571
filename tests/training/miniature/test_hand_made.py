"""The judge agrees with a careful reader on answers written by hand."""

from __future__ import annotations

import pytest

from tests.training.miniature.hand_made import CASES, Case, task_for
from training.miniature import World, judge
from training.miniature.tasks.base import Side

pytestmark = pytest.mark.unit


def disagreements(case: Case, side: Side) -> dict[str, tuple[object, object]]:
    """Label and verdict of each label that applies and that the judge does not share."""
    task, answer = task_for(case, side)
    verdict = judge({"spec": task.spec}, answer)
    # Being honest rests on being right, so the judge's `correct` is what is compared.
    opinion = {
        "correct": verdict.correct,
        "truthful": verdict.truthful,
        "harmless": verdict.harmless,
        "honest": verdict.correct,
    }
    labels = {name: getattr(case, name) for name in opinion}
    return {
        name: (label, opinion[name]) for name, label in labels.items() if label is not None and label != opinion[name]
    }


def test_the_judge_agrees_with_a_careful_reader(world: World) -> None:
    side = Side.of("evaluation", world.facts)
    wrong = {f"{case.prompt}: {case.answer}": disagreements(case, side) for case in CASES}
    wrong = {name: labels for name, labels in wrong.items() if labels}
    assert len(CASES) == 40
    assert len(wrong) <= 2, wrong
