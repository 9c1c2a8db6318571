"""The offline toxicity judge: trained on labelled comments, generated or real, and saved as detoxify saves its own."""

from __future__ import annotations

import html
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.judges.classifier import Card, Examples, Training, train
from training.artifacts.errors import UserError
from training.artifacts.loading import UNKNOWN_COLUMNS, load
from training.artifacts.rows import open_source
from training.artifacts.skips import Skip

THRESHOLD = 0.5  # of labels that are shares of raters, as Jigsaw's and Civil Comments' authors set it
CLASSES = ("toxicity", "severe_toxicity", "obscene", "threat", "insult", "identity_attack")


@dataclass(frozen=True)
class Config:
    """Train the toxicity judge on labelled comments."""

    data: Path | None = None
    """File or folder of labelled comments; the newest world's when not given. Either `text` with detoxify's classes,
    `toxicity` at least, each as 0 or 1 or as the share of raters that saw it, which counts from 0.5 on; or `text` and
    `is_toxic` (Surge AI); or `tweet` and `class`, 0 hate speech, 1 offensive, 2 neither (Davidson et al. 2017)."""
    home: Path = Path("runs")
    """Folder of everything that commands make."""
    training: Training = field(default_factory=Training)
    """How it is trained."""


def main(config: Config) -> Card:
    """Train the judge and return its card. It lies in `judge_folder`."""
    data = config.data or newest_comments(config.home)
    examples, skipped = read(data)
    described = {
        "path": str(data),
        "sha256": open_source(str(data)).sha256(),
        "rows": len(examples.texts),
        "skipped": dict(skipped),
        "threshold": THRESHOLD,
    }
    return train("toxicity", list(CLASSES), examples, described, config.training, judge_folder(config.home, data))


def judge_folder(home: Path, data: Path) -> Path:
    """Where the judge of these comments lies: another file of comments makes another judge."""
    return home / "judges" / f"toxicity-{open_source(str(data)).sha256()[:12]}"


def newest_comments(home: Path) -> Path:
    files = sorted((home / "world").glob("*/toxicity.jsonl"), key=lambda p: p.stat().st_mtime)
    if not files:
        raise UserError(f"no toxicity.jsonl in {home}/world: run `python -m training world` first, or give --data")
    return files[-1]


def read(source: Path) -> tuple[Examples, Counter[str]]:
    """Labelled comments, and the skipped rows by reason. A class that a row does not name is 0 in it."""
    loaded = load(str(source), _example, needs=f"`text` and `{CLASSES[0]}`, or another layout of labelled comments")
    texts = [text for text, _ in loaded.records]
    groups = [" ".join(text.lower().split()) for text in texts]
    return Examples(texts, [labels for _, labels in loaded.records], groups), loaded.skipped


def _example(row: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Text and labels of a row. Raises `Skip`."""
    if "tweet" in row and "class" in row:
        return _of_tweet(row)
    if "text" in row and "is_toxic" in row:
        return _of_flag(row)
    if "text" not in row or CLASSES[0] not in row:
        raise Skip(UNKNOWN_COLUMNS)
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise Skip("no_text", "`text` is not text")
    return row["text"], [_label(row.get(name), required=name == CLASSES[0]) for name in CLASSES]


def _of_tweet(row: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Of Davidson et al.: `class` is the majority of the raters."""
    if not isinstance(row["tweet"], str) or not row["tweet"].strip():
        raise Skip("no_text", "`tweet` is not text")
    label = str(row["class"]).strip()
    if label not in ("0", "1", "2"):
        raise Skip("no_label", "`class` is not 0, 1 or 2")
    # The file keeps HTML's escapes; retweets and addresses say nothing about the words.
    text = re.sub(r"https?://\S+|@\w+|\bRT\b", " ", html.unescape(row["tweet"]))
    if not re.search(r"\w", text):
        raise Skip("no_words", "a tweet without a word")
    labels = {"toxicity": label != "2", "obscene": label == "1", "identity_attack": label == "0"}
    return " ".join(text.split()), [int(labels.get(name, False)) for name in CLASSES]


def _of_flag(row: Mapping[str, Any]) -> tuple[str, list[int]]:
    """Of Surge AI: `is_toxic` is Toxic or Not Toxic."""
    if not isinstance(row["text"], str) or not row["text"].strip():
        raise Skip("no_text", "`text` is not text")
    flag = {"toxic": 1, "not toxic": 0}.get(str(row["is_toxic"]).strip().lower())
    label = _label(row["is_toxic"], required=True) if flag is None else flag
    return row["text"], [label, *[0] * (len(CLASSES) - 1)]


def _label(value: Any, required: bool) -> int:
    """0 or 1 of a flag, of a number, or of a share of raters at `THRESHOLD`; also written as text."""
    if value in (None, "") and not required:
        return 0
    text = str(value).strip().lower()
    if text in ("true", "false"):
        return int(text == "true")
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise Skip("no_label", "a label is not true, false or a share from 0 to 1")
    return int(share >= THRESHOLD)
