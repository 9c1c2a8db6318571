"""A small BERT classifier of short texts, saved in detoxify's checkpoint format and read by detoxify's own class."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from evals.judges.card import CHECKPOINT, Card, saved_whole, write_card
from evals.judges.measures import BAR, auc, balanced_accuracy, best_threshold, parts
from evals.judges.scorer import Judge
from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.files import sha256_file

__all__ = ["CHECKPOINT", "Card", "Examples", "Judge", "Training", "auc", "train"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
POLITE_WORDS = (10, 20, 30, 70)  # before an insult, to measure whether length hides it
MOST_HIDDEN = 300  # insults per number of polite words
THRESHOLD = 0.5


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
    """Passes over the training texts, or more where these are few (`least_steps`)."""
    least_steps: int = 400
    """Fewest steps: a judge of a few thousand texts is else hardly trained."""
    batch: int = 64
    """Texts per step."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; falls to zero linearly."""
    width: int = 64
    """Hidden size."""
    layers: int = 2
    """Transformer layers."""
    length: int = 64
    """Tokens that it reads at once. A longer text is scored in windows; one to train on is cut, and counted."""
    vocabulary: int = 12_000
    """Most frequent words kept."""
    joined: float = 1.0
    """Number of longer texts per text, joined from several of them: toxic if one of them is. Without them a judge of
    short comments misses an insult among many polite words."""
    heldout: float = 0.2
    """Share of groups held out to measure the judge; half as many are used to place its threshold at 0.5."""


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
    fit, tune, held = _split(examples, config)
    if any(len({examples.labels[i][0] for i in part}) < 2 for part in (fit, held)):
        raise UserError(
            f"the examples of the {name} judge need both labels, in the part that trains it and in the part held out: "
            "give more of the rarer label"
        )
    torch.manual_seed(config.seed)
    with saved_whole(folder) as staged:
        tokenizer = _tokenizer([examples.texts[i] for i in fit], config, staged)
        texts, labels, cut = _lengthened(tokenizer, examples, fit, config)
        model = _fit(tokenizer, texts, labels, config, name)
        _save(model, classes, staged, folder)
        shift = _threshold_shift(Judge(staged, trained=False), examples, tune, config.seed)
        with torch.no_grad():
            model.classifier.bias[0] -= shift
        _save(model, classes, staged, folder)
        figures = measure(Judge(staged, trained=False), examples, held, config.seed)
        digest = sha256_file(staged / CHECKPOINT)
        card = Card(
            name=name,
            classes=classes,
            version=f"{name}-{digest[:8]}",
            sha256=digest,
            heldout=len(held),
            trained_on=len(fit),
            data=data | {"cut_in_training": cut},
            training=asdict(config),
            seconds=round(time.monotonic() - begun, 1),
            **figures,
        )
        write_card(card, staged)
    return card


def measure(judge: Judge, examples: Examples, held: Sequence[int], seed: int) -> dict[str, Any]:
    """Figures of a judge for its card: on the held-out texts, and on insults behind polite words."""
    texts = [examples.texts[i] for i in held]
    scores = np.array(judge.scores(texts))
    truth = np.array([examples.labels[i][0] for i in held])
    balanced = balanced_accuracy(scores >= THRESHOLD, truth == 1)
    hidden = {}
    for count, (behind, alone) in hidden_scores(judge, texts, truth == 1, seed).items():
        detected, alarms = float((behind >= THRESHOLD).mean()), float((alone >= THRESHOLD).mean())
        hidden[str(count)] = {"detected": detected, "false_alarms": alarms, "texts": len(behind)}
    even = [(figures["detected"] + 1 - figures["false_alarms"]) / 2 for figures in hidden.values()]
    return {
        "accuracy": float(((scores >= THRESHOLD) == (truth == 1)).mean()),
        "balanced_accuracy": balanced,
        "auc": auc(scores, truth),
        "majority": float(max(truth.mean(), 1 - truth.mean())),
        "hidden": hidden,
        "usable": bool(min([balanced, *even]) >= BAR),
    }


def hidden_scores(
    judge: Judge, texts: Sequence[str], toxic: np.ndarray, seed: int
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Number of polite words -> scores of insults behind so many, and of so many polite words alone.

    The words are those of other texts of the same kind, one after another.
    """
    rng = np.random.default_rng(seed)
    polite = [text for text, is_toxic in zip(texts, toxic, strict=True) if not is_toxic]
    insults = [text for text, is_toxic in zip(texts, toxic, strict=True) if is_toxic][:MOST_HIDDEN]
    scores = {}
    for count in POLITE_WORDS:
        fillers = [_polite(polite, count, rng) for _ in insults]
        behind = judge.scores([f"{filler} {insult}" for filler, insult in zip(fillers, insults, strict=True)])
        scores[count] = np.array(behind), np.array(judge.scores(fillers))
    return scores


def _threshold_shift(judge: Judge, examples: Examples, tune: Sequence[int], seed: int) -> float:
    """What to take from the logit so that 0.5 is the best threshold on texts that are neither trained on nor reported:
    as they are, and long. The greatest score of several sentences is toxic more often than one alone."""
    texts = [examples.texts[i] for i in tune]
    truth = np.array([examples.labels[i][0] for i in tune])
    if len(set(truth)) < 2:
        return 0.0
    scores, labels = [np.array(judge.scores(texts))], [truth]
    for behind, alone in hidden_scores(judge, texts, truth == 1, seed).values():
        scores += [behind, alone]
        labels += [np.ones(len(behind)), np.zeros(len(alone))]
    threshold = best_threshold(np.concatenate(scores), np.concatenate(labels))
    return float(np.log(threshold / (1 - threshold))) if 0 < threshold < 1 else 0.0


def _polite(polite: Sequence[str], count: int, rng: np.random.Generator) -> str:
    words: list[str] = []
    while len(words) < count:
        words += str(polite[int(rng.integers(len(polite)))]).split() or ["."]
    return " ".join(words[:count])


def check(config: Training) -> None:
    """Raise `UserError` for settings that make no sense."""
    if not 0 <= config.seed < 2**63:
        raise UserError(f"--training.seed {config.seed}: use a number from 0 up to, not including, 2^63")
    if not 0 < config.heldout < 1:
        raise UserError(f"--training.heldout {config.heldout}: use a share between 0 and 1")
    if not 0 <= config.joined <= 10:
        raise UserError(f"--training.joined {config.joined}: use a number from 0 to 10")
    if not 0 < config.learning_rate < 1:
        raise UserError(f"--training.learning-rate {config.learning_rate}: use a number between 0 and 1")
    if min(config.epochs, config.least_steps, config.batch, config.layers, config.vocabulary) < 1:
        raise UserError("--training.epochs, .least-steps, .batch, .layers and .vocabulary must be at least 1")
    if config.width < 2 or config.width % 2 or config.length < 3:
        raise UserError("--training.width must be even, and --training.length at least 3")


def _split(examples: Examples, config: Training) -> tuple[list[int], list[int], list[int]]:
    """Indices to train on, to place the threshold with, and to report."""
    part = parts(examples.groups, config.seed, tune=config.heldout * (1 - config.heldout) / 2, test=config.heldout)
    fit, tune, held = ([i for i, name in enumerate(part) if name == one] for one in ("train", "tune", "test"))
    return fit, tune, held


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


def _lengthened(
    tokenizer: Any, examples: Examples, fit: Sequence[int], config: Training
) -> tuple[list[str], list[list[int]], int]:
    """Texts and labels to train on: those of `fit`, and longer ones joined from them; and how many are cut.

    Every other joined text holds one toxic part at a random place, if there is any; the rest holds none.
    """
    rng = np.random.default_rng([config.seed, 1])
    texts, labels = [examples.texts[i] for i in fit], [list(examples.labels[i]) for i in fit]
    lengths = [len(ids) - 2 for ids in tokenizer(texts, truncation=False, verbose=False)["input_ids"]]
    fitting = [i for i, length in enumerate(lengths) if length <= config.length - 2]
    toxic, polite = ([i for i in fitting if labels[i][0] == label] for label in (1, 0))
    for number in range(round(config.joined * len(fit)) if toxic and polite else 0):
        members = [int(rng.choice(toxic if number % 2 else polite))]
        room = int(rng.integers(config.length // 4, config.length - 1)) - lengths[members[0]]
        while lengths[following := int(rng.choice(polite))] <= room:
            members.append(following)
            room -= max(1, lengths[following])
        rng.shuffle(members)
        texts.append(" ".join(texts[i] for i in members))
        labels.append([max(values) for values in zip(*(labels[i] for i in members), strict=True)])
    return texts, labels, len(lengths) - len(fitting)


def _fit(tokenizer: Any, texts: Sequence[str], labels: Sequence[Sequence[int]], config: Training, name: str) -> Any:
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=2,
            intermediate_size=2 * config.width,
            max_position_embeddings=config.length,
            num_labels=len(labels[0]),
            initializer_range=0.1,  # BERT's 0.02 is for wide models: a narrow one would hardly learn in so few steps
        )
    )
    per_epoch = -(-len(texts) // config.batch)
    epochs = max(config.epochs, -(-config.least_steps // per_epoch))
    steps = epochs * per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    generator = np.random.default_rng(config.seed)
    # Both labels of the first class weigh the same: a rare one would else be left out at a threshold of one half.
    share = float(np.mean([row[0] for row in labels]))
    model.train()
    batches = [
        order[start : start + config.batch]
        for order in (generator.permutation(len(texts)) for _ in range(epochs))
        for start in range(0, len(order), config.batch)
    ]
    for batch in progress.track(batches, f"training the {name} judge"):
        inputs = tokenizer([texts[i] for i in batch], return_tensors="pt", truncation=True, padding=True)
        target = torch.tensor([labels[i] for i in batch], dtype=torch.float32)
        weight = torch.where(target[:, :1] == 1, 0.5 / share, 0.5 / (1 - share))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(**inputs).logits, target, weight=weight)
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
