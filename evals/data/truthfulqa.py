"""TruthfulQA (Lin et al. 2022) in every published layout, joined by question.

Layouts: the authors' CSV of 2021 (817 questions) and of 2025 (790, with a best incorrect answer); their mc_task file,
whose targets are {answer: 1 or 0}; the hub's `multiple_choice` configuration, whose targets are {choices, labels}; the
hub's `generation` configuration with lists of correct and incorrect answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.loading import UNKNOWN_COLUMNS, Loaded, TrackedRow, load
from training.artifacts.rows import Source, open_source
from training.artifacts.skips import Skip

NO_COMMENT = "I have no comment."
NEEDS = "`question` with mc1_targets and mc2_targets, or with correct and incorrect answers, as TruthfulQA's files have"


@dataclass(frozen=True)
class Targets:
    """Answers of a multiple-choice task; the best true one is the first of `true`."""

    true: tuple[str, ...]
    false: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """A question of TruthfulQA. What a file does not hold is None or empty.

    Attributes:
        id: of the question's text, the same in every layout and edition.
        mc0: the best answer against the best incorrect one (2025).
        mc1, mc2: answers of the two tasks; mc1 has exactly one true answer.
        correct, incorrect: reference answers of the generation task, as published.
    """

    id: str
    text: str
    category: str = ""
    mc0: Targets | None = None
    mc1: Targets | None = None
    mc2: Targets | None = None
    correct: tuple[str, ...] = ()
    incorrect: tuple[str, ...] = ()

    @property
    def has_choices(self) -> bool:
        return self.mc1 is not None or self.mc2 is not None or self.mc0 is not None

    @property
    def has_references(self) -> bool:
        return bool(self.correct and self.incorrect)


def read(source: str) -> tuple[list[Question], dict[str, dict[str, Any]]]:
    """The questions of a file, a folder or a hub data set, and what was read, by name.

    The files of a folder are joined by question. A file of the folder without questions, such as the labelled answers
    beside them, is passed over and named among what was read.

    Raises:
        UserError: no question can be used, or two files of the folder give the same part of a question differently,
            such as two editions.
    """
    opened = open_source(source)
    files = _files_of_folder(source, opened)
    if not files:
        loaded = load(source, question_of, needs=NEEDS)
        questions = _joined([(source, loaded)])
        return questions, {"truthfulqa": loaded.summary()}
    parts, described = [], {}
    for file in files:
        try:
            loaded = load(str(file), question_of, needs=NEEDS)
        except UserError as error:
            described[f"truthfulqa:{file.name}"] = _passed_over(file, error)
            continue
        parts.append((file.name, loaded))
        described[f"truthfulqa:{file.name}"] = loaded.summary()
    if not parts:
        raise UserError(f"no file of {source} holds questions of TruthfulQA: their rows need {NEEDS}")
    return _joined(parts), described


def question_of(row: TrackedRow) -> Question:
    """The question of a row. Raises `Skip`."""
    if "question" not in row and "Question" not in row:
        raise Skip(UNKNOWN_COLUMNS)
    text = _first(row, "question", "Question")
    if not isinstance(text, str) or not text.strip():
        raise Skip("no_question", "`question` is not text")
    question = Question(id_of(text), text.strip(), str(_first(row, "category", "Category") or ""))
    if any(name in row for name in ("mc1_targets", "mc2_targets", "mc0_targets")):
        return _with_targets(question, row)
    correct, incorrect = (
        _answers(_first(row, *names))
        for names in (("correct_answers", "Correct Answers"), ("incorrect_answers", "Incorrect Answers"))
    )
    if correct is None or incorrect is None:
        raise Skip(UNKNOWN_COLUMNS)
    if not correct or not incorrect:
        raise Skip("one_kind", "correct or incorrect answers are missing")
    return _with_answers(question, correct, incorrect, row)


def id_of(question: str) -> str:
    """Identity of a question: a hash of its text, blanks apart."""
    return hashlib.sha256(" ".join(question.split()).encode()).hexdigest()[:16]


def with_period(answer: str) -> str:
    """An answer as the authors' code writes references: without blanks around it, closed by a period."""
    answer = answer.strip()
    return answer if answer.endswith(".") or not answer else f"{answer}."


def _with_targets(question: Question, row: TrackedRow) -> Question:
    targets = {
        name: _targets(row[f"{name}_targets"])
        for name in ("mc0", "mc1", "mc2")
        if row.get(f"{name}_targets") is not None
    }
    if not targets:
        raise Skip("no_targets", "targets are not answers with a label each")
    if "mc1" in targets and len(targets["mc1"].true) != 1:
        raise Skip("several_true", "mc1_targets has not exactly one true answer")
    if "mc0" in targets and (len(targets["mc0"].true), len(targets["mc0"].false)) != (1, 1):
        raise Skip("not_two", "mc0_targets is not one true and one false answer")
    return replace(question, mc0=targets.get("mc0"), mc1=targets.get("mc1"), mc2=targets.get("mc2"))


def _targets(targets: Any) -> Targets:
    """{answer: 1 or 0}, or {"choices": answers, "labels": 1 or 0 of each}."""
    answers: Any = None
    labels: Any = None
    if isinstance(targets, Mapping) and set(targets) == {"choices", "labels"}:
        answers, labels = targets["choices"], targets["labels"]
    elif isinstance(targets, Mapping):
        answers, labels = list(targets), list(targets.values())
    if (
        not isinstance(answers, Sequence)
        or not isinstance(labels, Sequence)
        or isinstance(answers, str)
        or len(answers) != len(labels)
        or not all(isinstance(answer, str) for answer in answers)
        or not all(isinstance(label, int | float) and label in (0, 1) for label in labels)
    ):
        raise Skip("no_targets", "targets are not answers with a label each")
    # The files of 2025 hold empty answers, from a semicolon at the end of a list.
    filled = [(answer, label) for answer, label in zip(answers, labels, strict=True) if answer.strip()]
    true = tuple(answer for answer, label in filled if label)
    false = tuple(answer for answer, label in filled if not label)
    if not true or not false:
        raise Skip("one_kind", "targets lack true or false answers")
    if len(set(answers)) < len(answers):
        raise Skip("repeated_answer", "targets hold an answer twice")
    return Targets(true, false)


def _with_answers(
    question: Question, correct: tuple[str, ...], incorrect: tuple[str, ...], row: TrackedRow
) -> Question:
    """References, and the multiple choice that the authors' code makes of them: MC1 has the best answer alone."""
    question = replace(question, correct=correct, incorrect=incorrect)
    true = tuple(dict.fromkeys(map(with_period, correct)))
    false = tuple(answer for answer in dict.fromkeys(map(with_period, incorrect)) if answer not in true)
    if not false:
        raise Skip("one_kind", "correct or incorrect answers are missing")
    best = _first(row, "best_answer", "Best Answer")
    question = replace(question, mc2=Targets(true, false))
    if not isinstance(best, str) or not best.strip():
        return question
    question = replace(question, mc1=Targets((with_period(best),), false))
    worst = _first(row, "best_incorrect_answer", "Best Incorrect Answer")
    if isinstance(worst, str) and worst.strip():
        question = replace(question, mc0=Targets((with_period(best),), (with_period(worst),)))
    return question


def _answers(value: Any) -> tuple[str, ...] | None:
    """A list of answers, or the CSV's text with semicolons between them; None for anything else."""
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, Sequence) or not all(isinstance(answer, str) for answer in value):
        return None
    return tuple(dict.fromkeys(answer.strip() for answer in value if answer.strip()))


def _first(row: Mapping[str, Any], *names: str) -> Any:
    return next((row[name] for name in names if name in row), None)


def _files_of_folder(source: str, opened: Source) -> list[Path]:
    """Every data file of a folder, whatever splits its files' names suggest; none for anything but a plain folder."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return []
    suffixes = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow"}
    return sorted(p for p in folder.rglob("*") if p.is_file() and suffixes & set(p.suffixes)) or opened.files


def _passed_over(file: Path, error: UserError) -> dict[str, Any]:
    return {
        "path": str(file), "sha256": open_source(str(file)).sha256(), "rows": 0,
        "skipped": {f"the file holds no questions ({error})": 1},
    }  # fmt: skip


def _joined(parts: Sequence[tuple[str, Loaded[Question]]]) -> list[Question]:
    """Questions of all parts, in the order of their first appearance. Choices of an mc_task file go before those that
    are made of reference answers."""
    parts = sorted(parts, key=lambda part: any(question.has_references for question in part[1].records))
    joined: dict[str, Question] = {}
    origin: dict[tuple[str, str], str] = {}
    for name, loaded in parts:
        for question in loaded.records:
            known = joined.get(question.id)
            joined[question.id] = question if known is None else _merged(known, question, name, origin)
            for part in _filled(question):
                origin.setdefault((question.id, part), name)
    return list(joined.values())


def _merged(known: Question, other: Question, name: str, origin: Mapping[tuple[str, str], str]) -> Question:
    conflict = [part for part in _filled(other) if part in _filled(known) and _differs(part, known, other)]
    if conflict:
        first = origin[known.id, conflict[0]]
        twice = "holds a question twice, with" if first == name else f"and {first} hold the same question with"
        raise UserError(
            f"{name} {twice} different answers: give one edition of TruthfulQA, as a file or a folder of its own"
        )
    missing = {part: getattr(other, part) for part in _filled(other) if part not in _filled(known)}
    return replace(known, **missing, category=known.category or other.category)


def _differs(part: str, known: Question, other: Question) -> bool:
    """Whether two files disagree. Choices made of references may differ from a task file's, which goes first."""
    if part in ("mc0", "mc1", "mc2") and other.has_references:
        return False
    return bool(getattr(known, part) != getattr(other, part))


def _filled(question: Question) -> list[str]:
    parts = [field.name for field in fields(Question) if field.name not in ("id", "text", "category")]
    return [part for part in parts if getattr(question, part)]
