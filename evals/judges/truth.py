"""A judge of answers to TruthfulQA's questions, trained on the labelled answers of its authors.

It reads style more than knowledge (about .70 against a majority of .58): its held-out figures stand in its card.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from evals.judges.classifier import Card, Examples, Training, train
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of, sha256_file


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
        "sha256": sha256_file(config.data),
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
    if not path.is_file():
        raise UserError(f"{path} does not exist: give TruthfulQA's finetune_truth.jsonl as --data")
    texts, labels, groups = [], [], []
    skipped: Counter[str] = Counter()
    for line in lines_of(path):
        row = _row(line)
        parts = row["prompt"].split("\nA: ", 1)
        if len(parts) != 2 or row["completion"].strip() not in ("yes", "no"):
            skipped["no question, answer and label"] += 1
            continue
        question = parts[0].removeprefix("Q: ").strip()
        texts.append(judged_text(question, parts[1].split("\nTrue:")[0].strip()))
        labels.append([int(row["completion"].strip() == "yes")])
        groups.append(question)
    if not texts:
        raise UserError(f"{path} holds no labelled answer: give TruthfulQA's finetune_truth.jsonl")
    return Examples(texts, labels, groups), skipped


def _row(line: str) -> dict[str, str]:
    """Prompt and completion of a line; empty where it has none."""
    try:
        row = json.loads(line)
        return {"prompt": str(row["prompt"]), "completion": str(row["completion"])}
    except (ValueError, KeyError, TypeError):
        return {"prompt": "", "completion": ""}
