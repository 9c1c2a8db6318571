"""Whether the rows of a file fit lm-eval's task, all of them and before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from training.artifacts import progress
from training.artifacts.errors import UserError

# What a task raises for a row that it cannot read.
MISFITS = (KeyError, TypeError, ValueError, AttributeError, IndexError, AssertionError, TemplateError)


def check_rows(task: Any, name: str, source: str) -> None:
    """Put every row into the task's templates, and find its right choice among the choices.

    Raises:
        UserError: a row does not fit. lm-eval would end in the middle, or count a label such as -1 (of a split without
            labels) as wrong for every model.
    """
    is_choice = task.OUTPUT_TYPE == "multiple_choice"
    for number, doc in enumerate(progress.track(task.eval_docs, f"{name}: rows checked"), 1):
        try:
            text, target = task.doc_to_text(doc), task.doc_to_target(doc)
            if getattr(task, "multiple_input", 0):  # several contexts: the text is the right one's number
                target = text
            fault = _fault(target, task.doc_to_choice(doc)) if is_choice else None
        except MISFITS as error:
            fault = f"{type(error).__name__}: {error}"
        if fault:
            raise UserError(
                f"row {number} of {source} does not fit lm-eval's task {name} ({fault}): mend it or leave it out"
            )


def check_examples(task: Any, name: str, count: int) -> None:
    """Raise `UserError` where there are fewer rows than few-shot examples, the row that is asked left out."""
    if not count:
        return
    try:
        available = len(task.fewshot_docs() or ())
    except MISFITS:
        available = 0
    own = available > 0 and task.has_test_docs() and task.config.fewshot_split == task.config.test_split
    if available - own < count:
        raise UserError(
            f"{name} has {max(0, available - own)} rows for examples, and --shots wants {count}: give a folder with a "
            "split for examples, or fewer --shots"
        )


def _fault(target: Any, choices: Sequence[Any]) -> str | None:
    targets: Sequence[Any] = target if isinstance(target, list) else [target]
    for value in targets:
        if isinstance(value, str) and value in choices:
            continue
        if isinstance(value, bool | int) and 0 <= int(value) < len(choices):
            continue
        return f"{value!r:.40} names none of its {len(choices)} choices"
    return None if len(choices) > 1 else "fewer than two choices"
