"""SQuAD 2.0's scores (Rajpurkar, Jia and Liang 2018) without a download: lm-eval takes them from the hub.

Answers are compared after lowering, without punctuation, articles and repeated spaces; F1 is over their words. `best_*`
is the score at the best threshold on the probability that there is no answer.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


class Scores(dict[str, float]):
    """Scores by name; one that no question has (of answerable ones, where there are none) is nan instead of 0."""

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, math.nan)


def normalised(answer: str) -> str:
    """An answer as it is compared."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def exact(gold: str, prediction: str) -> float:
    """Whether both are the same after normalisation."""
    return float(normalised(gold) == normalised(prediction))


def f1(gold: str, prediction: str) -> float:
    """Harmonic mean of precision and recall over words; without words on a side, whether both have none."""
    ours, theirs = normalised(prediction).split(), normalised(gold).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def compute(predictions: Sequence[Mapping[str, Any]], references: Sequence[Mapping[str, Any]]) -> Scores:
    """Scores in per cent, over all questions and over those with and without an answer.

    Args:
        predictions: `id`, `prediction_text`, `no_answer_probability`.
        references: `id`, `answers` with the list `text`, in the same order.
    """
    golds = [[text for text in row["answers"]["text"] if normalised(text)] or [""] for row in references]
    answered = [bool(row["answers"]["text"]) for row in references]
    texts = [row["prediction_text"] for row in predictions]
    silence = [float(row["no_answer_probability"]) for row in predictions]
    scores = Scores()
    measures: dict[str, Callable[[str, str], float]] = {"exact": exact, "f1": f1}
    for name, measure in measures.items():
        values = [max(measure(gold, text) for gold in options) for options, text in zip(golds, texts, strict=True)]
        scores[name] = 100 * math.fsum(values) / len(values)
        for prefix, wanted_kind in (("HasAns", True), ("NoAns", False)):
            part = [value for value, kind in zip(values, answered, strict=True) if kind is wanted_kind]
            if part:
                scores[f"{prefix}_{name}"] = 100 * math.fsum(part) / len(part)
        scores[f"best_{name}"] = 100 * _best(values, answered, texts, silence) / len(values)
    return scores


def _best(values: Sequence[float], answered: Sequence[bool], texts: Sequence[str], silence: Sequence[float]) -> float:
    """The greatest sum of scores when all questions above some probability of no answer are left unanswered."""
    total = best = float(answered.count(False))
    for _, value, is_answered, text in sorted(zip(silence, values, answered, texts, strict=True), key=lambda r: r[0]):
        total += value if is_answered else -float(bool(text))
        best = max(best, total)
    return best


class _Metric:
    def compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> Scores:
        return compute(predictions, references)


@contextmanager
def local_metric() -> Iterator[None]:
    """`evaluate.load("squad_v2")` gives these scores inside the block; other metrics come from where they came from."""
    import evaluate

    original = evaluate.load

    def load(path: str, *arguments: Any, **options: Any) -> Any:
        return _Metric() if path == "squad_v2" else original(path, *arguments, **options)

    evaluate.load = load
    try:
        yield
    finally:
        evaluate.load = original
