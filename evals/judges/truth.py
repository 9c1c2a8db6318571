"""A judge of answers to TruthfulQA's questions, trained on the labelled answers of its authors.

It reads style more than knowledge (about .70 against a majority of .58): its held-out figures stand in its card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.judges.classifier import Card, Examples, Training, train
from training.artifacts.loading import UNKNOWN_COLUMNS, load
from training.artifacts.rows import open_source
from training.artifacts.skips import Skip


@dataclass(frozen=True)
class Config:
    """Train the judge of truth on labelled answers."""

    data: Path
    """`finetune_truth.jsonl` of TruthfulQA: `prompt` holding question and answer, `completion` yes or no."""
    home: Path = Path("runs")
    """Folder of everything that commands make."""
    training: Training = field(default_factory=lambda: Training(epochs=3))
    """How it is trained."""


def main(config: Config) -> Card:
    """Train the judge, questions of the held-out part never seen in training, and return its card."""
    examples, skipped = read(config.data)
    data = {
        "path": str(config.data),
        "sha256": open_source(str(config.data)).sha256(),
        "rows": len(examples.texts),
        "skipped": dict(skipped),
    }
    return train("truth", ["truthful"], examples, data, config.training, judge_folder(config.home))


def judge_folder(home: Path) -> Path:
    return home / "judges" / "truth"


def judged_text(question: str, answer: str) -> str:
    """Question and answer as the judge reads them."""
    return f"Q: {question} A: {answer}"


def read(path: Path) -> tuple[Examples, Counter[str]]:
    """Labelled answers, grouped by question, and the skipped rows by reason."""
    loaded = load(str(path), _answer, needs="`prompt` and `completion`, as TruthfulQA's finetune_truth.jsonl has them")
    texts = [judged_text(question, answer) for question, answer, _ in loaded.records]
    labels = [[int(is_true)] for _, _, is_true in loaded.records]
    return Examples(texts, labels, [question for question, _, _ in loaded.records]), loaded.skipped


def _answer(row: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Question, answer and label of a row. Raises `Skip`."""
    if "prompt" not in row or "completion" not in row:
        raise Skip(UNKNOWN_COLUMNS)
    parts = str(row["prompt"]).split("\nA: ", 1)
    label = str(row["completion"]).strip()
    if len(parts) != 2 or label not in ("yes", "no"):
        raise Skip("no_answer", "no question, answer and label")
    return parts[0].removeprefix("Q: ").strip(), parts[1].split("\nTrue:")[0].strip(), label == "yes"
