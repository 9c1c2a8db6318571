"""Items of a run that stand in the training data of its models: each file is read once for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evals.contamination import FEWEST, Key, N, TrainingData, overlaps, training_data
from evals.record import Record
from evals.results import Item, count_asked, declare, summarise


def find(records: Sequence[Record], store: Path) -> dict[str, dict[str, Any]]:
    """Name of each model with a manifest -> how many of its items stand in what it and its ancestors were trained on.

    Returns:
        checked, found: numbers of items, one in several tasks counted once; by_task: SUITE.TASK -> number found; clean:
        metric -> mean on the other items, of tasks where some were found; not_read: source or ancestor -> why its data
        could not be looked into.
    """
    items: dict[Key, Item] = {}
    for record in records:
        items |= {(item.suite, item.task, item.id): item for item in record.items}
    trained = {
        record.subject.name: training_data(record.subject.manifest, store)
        for record in records
        if record.subject.manifest is not None and record.items
    }
    # Models share ancestors, and so sources: each is read once, under what it is instead of what a model calls it.
    unique = {_identity(source): source for sources, _ in trained.values() for source in sources}
    overlap = overlaps(list(items.values()), [replace(source, name=identity) for identity, source in unique.items()])
    reports = {}
    for record in records:
        if record.subject.name in trained:
            sources, ancestors = trained[record.subject.name]
            mine = {_identity(source) for source in sources}
            hits = {key for key, names in overlap.contaminated.items() if mine.intersection(names)}
            unread = {s.name: overlap.missing[_identity(s)] for s in sources if _identity(s) in overlap.missing}
            reports[record.subject.name] = _report(record, hits, ancestors | unread)
    return reports


def _identity(source: TrainingData) -> str:
    return source.sha256 or source.path


def _report(record: Record, hits: set[Key], missing: dict[str, str]) -> dict[str, Any]:
    leaked = [item for item in record.items if (item.suite, item.task, item.id) in hits]
    by_task = Counter(f"{item.suite}.{item.task}" for item in leaked)
    clean = [
        item
        for item in record.items
        if (item.suite, item.task, item.id) not in hits and f"{item.suite}.{item.task}" in by_task
    ]
    means = summarise(clean, declare(clean, record.metrics))
    return {
        "rule": f"{N}-grams of words, texts of {FEWEST} to {N - 1} words whole (GPT-3, appendix C)",
        "checked": count_asked(record.items),
        "found": count_asked(leaked),
        "by_task": dict(sorted(by_task.items())),
        "clean": {key: e.value for key, e in means.items()},
        "not_read": missing,
    }
