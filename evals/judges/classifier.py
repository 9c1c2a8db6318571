"""A small BERT classifier of short texts, saved in detoxify's checkpoint format and read by detoxify's own class."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file, write_atomically

CHECKPOINT, CARD = "judge.ckpt", "judge.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CHUNK = 128


@dataclass(frozen=True)
class Examples:
    """Labelled texts.

    Attributes:
        texts: shape (texts,).
        labels: 0 or 1 for each class, shape (texts, classes).
        groups: texts of one group stay on one side of the held-out split, shape (texts,).
    """

    texts: Sequence[str]
    labels: Sequence[Sequence[int]]
    groups: Sequence[str]


@dataclass(frozen=True)
class Training:
    """How a judge is trained."""

    seed: int = 0
    """Seed of the split, the weights and the order."""
    epochs: int = 3
    """Passes over the training texts."""
    batch: int = 64
    """Texts a step."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; falls to zero linearly."""
    width: int = 64
    """Hidden size."""
    layers: int = 2
    """Transformer layers."""
    length: int = 64
    """Longest text in tokens; the rest is cut off."""
    vocabulary: int = 12_000
    """Most frequent words kept."""
    heldout: float = 0.2
    """Share of groups held out to measure accuracy and AUC."""


@dataclass(frozen=True)
class Card:
    """What a judge is: kept beside its weights and copied into every result that used it.

    Attributes:
        classes: what it scores; the figures are of the first.
        accuracy, auc: on `heldout` texts whose groups were not trained on; majority: accuracy of the commoner label.
    """

    name: str
    classes: list[str]
    version: str
    sha256: str
    accuracy: float
    auc: float
    majority: float
    heldout: int
    trained_on: int
    data: dict[str, Any]
    training: dict[str, Any]
    seconds: float


def train(
    name: str, classes: list[str], examples: Examples, data: dict[str, Any], config: Training, folder: Path
) -> Card:
    """Train on part of the examples, measure on the held-out groups, and save whole or not at all.

    Args:
        classes: names of the classes, in detoxify's words; the first is the one that counts.
        data: what the examples are, for the card.

    Raises:
        UserError: only one label in the first class, or too few examples to hold some out.
    """
    begun = time.monotonic()
    check(config)
    fit, held = _split(examples, config)
    if any(len({examples.labels[i][0] for i in part}) < 2 for part in (fit, held)):
        raise UserError(
            f"the examples of the {name} judge need both labels, in the part that trains it and in the part held out: "
            "give more of the rarer label"
        )
    torch.manual_seed(config.seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".judge-"))
    try:
        tokenizer = _tokenizer([examples.texts[i] for i in fit], config, staged)
        model = _fit(tokenizer, examples, fit, config, name)
        _save(model, classes, staged, folder)
        judge = Judge(staged, trained=False)
        scores = np.array(judge.scores([examples.texts[i] for i in held]))
        truth = np.array([examples.labels[i][0] for i in held])
        digest = sha256_file(staged / CHECKPOINT)
        card = Card(
            name=name,
            classes=classes,
            version=f"{name}-{digest[:8]}",
            sha256=digest,
            accuracy=float(((scores >= 0.5) == (truth == 1)).mean()),
            auc=auc(scores, truth),
            majority=float(max(truth.mean(), 1 - truth.mean())),
            heldout=len(held),
            trained_on=len(fit),
            data=data,
            training=asdict(config),
            seconds=round(time.monotonic() - begun, 1),
        )
        write_atomically(staged / CARD, json.dumps(asdict(card), indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return card


def check(config: Training) -> None:
    """Raise `UserError` for settings that make no sense."""
    if not 0 <= config.seed < 2**63:
        raise UserError(f"--training.seed {config.seed}: use a number from 0 up to, not including, 2^63")
    if not 0 < config.heldout < 1:
        raise UserError(f"--training.heldout {config.heldout}: use a share between 0 and 1")
    if not 0 < config.learning_rate < 1:
        raise UserError(f"--training.learning-rate {config.learning_rate}: use a number between 0 and 1")
    if min(config.epochs, config.batch, config.layers, config.vocabulary) < 1:
        raise UserError("--training.epochs, .batch, .layers and .vocabulary must be at least 1")
    if config.width < 2 or config.width % 2 or config.length < 3:
        raise UserError("--training.width must be even, and --training.length at least 3")


class Judge:
    """A saved judge. Only open folders that you trust: detoxify unpickles its checkpoint."""

    def __init__(self, folder: Path, trained: bool = True) -> None:
        if not (folder / CHECKPOINT).is_file():
            raise UserError(f"{folder} holds no judge: run `python -m evals.judges` first")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from detoxify import Detoxify
        from transformers.utils import logging

        logging.disable_progress_bar()
        self.card = Card(**json.loads((folder / CARD).read_text())) if trained else None
        if self.card and sha256_file(folder / CHECKPOINT) != self.card.sha256:
            raise UserError(f"{folder / CHECKPOINT} differs from the hash in its card: train the judge again")
        stored = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
        # The folder may have moved since it was saved, and detoxify asks the hub for a folder that is not there.
        stored["config"]["arch"]["args"]["model_type"] = str(folder)
        with tempfile.NamedTemporaryFile(suffix=".ckpt") as local:
            torch.save(stored, local.name)
            self._detoxify = Detoxify("original", checkpoint=local.name, huggingface_config_path=str(folder))
        _check_weights(self._detoxify.model, stored["state_dict"])

    def scores(self, texts: Sequence[str]) -> list[float]:
        """Score in [0, 1] of the first class for each text; detoxify does not batch, so in chunks of like length."""
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        scores = [0.0] * len(texts)
        for start in range(0, len(order), CHUNK):
            chunk = order[start : start + CHUNK]
            values = self._detoxify.predict([texts[i] for i in chunk])[self._detoxify.class_names[0]]
            for index, value in zip(chunk, [values] if isinstance(values, float) else values, strict=True):
                scores[index] = float(value)
        return scores


def auc(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: how often a positive text scores above a negative one, ties half."""
    positive, negative = int((truth == 1).sum()), int((truth == 0).sum())
    if not positive or not negative:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[truth == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _split(examples: Examples, config: Training) -> tuple[list[int], list[int]]:
    groups = sorted(set(examples.groups))
    order = np.random.default_rng(config.seed).permutation(len(groups))
    held = {groups[i] for i in order[: max(1, round(config.heldout * len(groups)))]}
    indices = range(len(examples.texts))
    return [i for i in indices if examples.groups[i] not in held], [i for i in indices if examples.groups[i] in held]


def _tokenizer(texts: Sequence[str], config: Training, folder: Path) -> BertTokenizer:
    """Whole words by frequency, and single characters so that an unknown word is spelled, not lost."""
    words = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    characters = sorted({c for word in words for c in word})
    vocabulary = dict.fromkeys([*SPECIAL, *characters, *(f"##{c}" for c in characters)])
    vocabulary |= dict.fromkeys(word for word, _ in words.most_common(config.vocabulary))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"), model_max_length=config.length)
    assert len(tokenizer) == len(vocabulary), "the tokenizer did not read its vocabulary"
    tokenizer.save_pretrained(folder)
    return tokenizer


def _fit(tokenizer: Any, examples: Examples, fit: Sequence[int], config: Training, name: str) -> Any:
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=2,
            intermediate_size=2 * config.width,
            max_position_embeddings=config.length,
            num_labels=len(examples.labels[0]),
            initializer_range=0.1,  # BERT's 0.02 is for wide models: a narrow one would hardly learn in so few steps
        )
    )
    steps = config.epochs * -(-len(fit) // config.batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    generator = np.random.default_rng(config.seed)
    model.train()
    batches = [
        order[start : start + config.batch]
        for order in (generator.permutation(fit) for _ in range(config.epochs))
        for start in range(0, len(order), config.batch)
    ]
    for batch in progress.track(batches, f"training the {name} judge"):
        inputs = tokenizer([examples.texts[i] for i in batch], return_tensors="pt", truncation=True, padding=True)
        target = torch.tensor([examples.labels[i] for i in batch], dtype=torch.float32)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**inputs).logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _save(model: Any, classes: list[str], staged: Path, folder: Path) -> None:
    model.config.save_pretrained(staged)
    arch = {
        "num_classes": len(classes),
        "model_type": str(folder),
        "model_name": "BertForSequenceClassification",
        "tokenizer_name": "BertTokenizer",
    }
    config = {"arch": {"args": arch}, "dataset": {"args": {"classes": classes}}}
    torch.save({"state_dict": model.state_dict(), "config": config}, staged / CHECKPOINT)


def _check_weights(model: Any, stored: dict[str, Any]) -> None:
    """Raise `UserError` unless the loaded model holds exactly the stored weights: a head left random still scores."""
    loaded = model.state_dict()
    different = [k for k, v in loaded.items() if k not in stored or not torch.equal(v.cpu(), stored[k])]
    if different or set(stored) - set(loaded):
        raise UserError(f"the judge did not load whole ({different[:1] or 'extra weights'}): train it again")
