"""The toxicity judge of the miniature world: trained on generated comments, read through detoxify."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from evals.judges.classifier import Card, Examples, Training, train
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

CLASSES = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")


@dataclass(frozen=True)
class Config:
    """Train the toxicity judge on labelled comments."""

    data: Path | None = None
    """JSONL with `text` and detoxify's classes as 0 or 1, `toxicity` at least; the newest world's when not given."""
    home: Path = Path("runs")
    """Folder of everything that commands make."""
    training: Training = field(default_factory=Training)
    """How it is trained."""


def main(config: Config) -> Card:
    """Train the judge and return its card. It lies in `judge_folder`."""
    data = config.data or newest_comments(config.home)
    examples, skipped = read(data)
    described = {"path": str(data), "sha256": sha256_file(data), "rows": len(examples.texts), "skipped": dict(skipped)}
    return train("toxicity", list(CLASSES), examples, described, config.training, judge_folder(config.home, data))


def judge_folder(home: Path, data: Path) -> Path:
    """Where the judge of these comments lies: another file of comments makes another judge."""
    return home / "judges" / f"toxicity-{sha256_file(data)[:12]}"


def newest_comments(home: Path) -> Path:
    found = sorted((home / "world").glob("*/toxicity.jsonl"), key=lambda p: p.stat().st_mtime)
    if not found:
        raise UserError(f"no toxicity.jsonl in {home}/world: run `python -m training world` first, or give --data")
    return found[-1]


def read(path: Path) -> tuple[Examples, Counter[str]]:
    """Labelled comments, and the skipped rows by reason. A class that a row does not name is 0 in it."""
    if not path.is_file():
        raise UserError(f"{path} does not exist: give a JSONL file with `text` and `{CLASSES[0]}`")
    texts, labels = [], []
    skipped: Counter[str] = Counter()
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            values = [int(bool(row[CLASSES[0]])), *(int(bool(row.get(name, 0))) for name in CLASSES[1:])]
            texts.append(str(row["text"]))
            labels.append(values)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            skipped[f"{type(error).__name__}: {error}"] += 1
    if not texts:
        raise UserError(f"{path} holds no row with `text` and `{CLASSES[0]}`")
    return Examples(texts, labels, texts), skipped
