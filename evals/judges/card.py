"""What a judge trained here is: kept beside its weights, and copied into every result that used it."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.artifacts.errors import UserError
from training.artifacts.files import make_folder, write_atomically

CHECKPOINT, CARD = "judge.ckpt", "judge.json"


@dataclass(frozen=True)
class Card:
    """A judge and its figures, on `heldout` texts whose groups were not trained on.

    Attributes:
        classes: what it scores; the figures are of the first.
        version, sha256: of its weights.
        balanced_accuracy: mean of the shares decided rightly among positive and among negative texts.
        accuracy, auc: of the same decisions and scores; majority: accuracy of the commoner label.
        splits: split -> its figures, where the judge was measured under several.
        hidden: number of polite words -> share of insults noticed behind so many (`detected`), and share of polite
            texts of that length taken for toxic (`false_alarms`).
        usable: whether every figure reaches the bar; otherwise results say so, and the gate refuses its figures.
        data: what it was trained on; training: how.
        seconds: wall time of the training.
    """

    name: str
    classes: list[str]
    version: str
    sha256: str
    accuracy: float
    balanced_accuracy: float
    auc: float
    majority: float
    heldout: int
    trained_on: int
    usable: bool
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    seconds: float
    splits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    hidden: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def read_card(folder: Path) -> Card:
    """The card of a folder. Raises `UserError` where it is missing or of another version."""
    try:
        return Card(**json.loads((folder / CARD).read_text()))
    except (OSError, ValueError, TypeError):
        raise UserError(f"{folder / CARD} is missing or of another version: train the judge again") from None


@contextmanager
def saved_whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write a judge into. It takes the place of `folder`, or goes if anything fails."""
    make_folder(folder.parent)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".judge-"))
    try:
        yield staged
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise


def write_card(card: Card, folder: Path) -> None:
    write_atomically(folder / CARD, json.dumps(asdict(card), indent=2) + "\n")
