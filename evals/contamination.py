"""Evaluation items that stand in a checkpoint's training data, by overlap of word n-grams.

The rule is that of GPT-3's appendix C (Brown et al. 2020): words in lower case without punctuation, n-grams of 13
words, and at least 8 for shorter texts. A text of 13 words or more is in the data when one of its 13-grams is; a text
of 8 to 12 words when it is there whole. Shorter texts occur by chance, so an item whose first text (the question) is
shorter is also in the data when that text and other short ones of the item, 8 words together, stand in one training
row. Unlike the paper's, n-grams that occur in many training rows count too: an item that leaked often is not clean.

One pass over each file of the training data. Memory is bounded by the items, not by the data.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.results import Item
from training.artifacts import checkpoints, progress
from training.artifacts.checkpoints import Manifest
from training.artifacts.errors import UserError
from training.artifacts.rows import open_source
from training.artifacts.skips import Skip

N, FEWEST = 13, 8  # words of an n-gram, and of the shortest text that counts by itself
WORD = re.compile(r"[a-z0-9]+|[^\W\x00-\x7f]")  # outside ASCII a character: many languages write no blanks
STEP = 2000  # rows per movement of the bar
NOT_TRAINED_ON = ("validation",)  # roles of a manifest's data that only measure
Key = tuple[str, str, str]  # suite, task, id


@dataclass(frozen=True)
class TrainingData:
    """One source of a checkpoint or of its ancestors, as a manifest names it."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class Report:
    """What stands in the training data.

    Attributes:
        items: number of items by suite and task, as SUITE.TASK.
        contaminated: the items in the data -> names of the sources that hold them.
        too_short: items about which the rule can say nothing, such as those of fewer than 8 words; by SUITE.TASK.
        read: sources that were read -> number of their rows.
        missing: sources that were not read -> the reason.
    """

    items: Mapping[str, int]
    contaminated: Mapping[Key, tuple[str, ...]]
    too_short: Mapping[str, int]
    read: Mapping[str, int]
    missing: Mapping[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Items in the training data by SUITE.TASK, all tasks named."""
        counts = dict.fromkeys(self.items, 0)
        for suite, task, _ in self.contaminated:
            counts[f"{suite}.{task}"] += 1
        return counts

    def clean(self, items: Iterable[Item]) -> list[Item]:
        """The items that are not in the data, to measure again on them alone."""
        return [item for item in items if (item.suite, item.task, item.id) not in self.contaminated]

    def summary(self) -> dict[str, Any]:
        """JSON of the counts, without the items."""
        return {
            "rule": f"{N}-grams of words, texts of {FEWEST} to {N - 1} words whole (GPT-3, appendix C)",
            "items": dict(self.items), "contaminated": self.counts, "too_short": dict(self.too_short),
            "read": dict(self.read), "missing": dict(self.missing),
        }  # fmt: skip


@dataclass
class _Index:
    """N-grams of items: what to look for in a training row.

    Attributes:
        grams: hash of an n-gram -> numbers of the items that have it.
        shorts: hash of a short text -> numbers of the items whose first text is short.
        lengths: the first two words of anything that is looked for (or its only one) -> its possible numbers of words.
        first: item whose first text is short -> hash of that text.
    """

    grams: dict[int, list[int]] = field(default_factory=dict)
    shorts: dict[int, list[int]] = field(default_factory=dict)
    lengths: dict[str, set[int]] = field(default_factory=dict)
    first: dict[int, int] = field(default_factory=dict)

    def add(self, number: int, texts: Iterable[str]) -> bool:
        """Look for an item. False where it is too short to say anything about."""
        split = [words for words in dict.fromkeys(tuple(words_of(text)) for text in texts) if words]
        long = [words for words in split if len(words) >= FEWEST]
        for words in long:
            size = min(N, len(words))
            for start in range(len(words) - size + 1):
                self._look_for(self.grams, words[start : start + size], number)
        short = [words for words in split if len(words) < FEWEST]
        if short[:1] == split[:1] and sum(map(len, short)) >= FEWEST:
            self.first[number] = _digest(short[0])
            for words in short:
                self._look_for(self.shorts, words, number)
        return bool(long) or number in self.first

    def _look_for(self, table: dict[int, list[int]], words: Sequence[str], number: int) -> None:
        numbers = table.setdefault(_digest(words), [])
        if not numbers or numbers[-1] != number:
            numbers.append(number)
        self.lengths.setdefault(" ".join(words[:2]), set()).add(len(words))

    def in_row(self, texts: Iterable[str]) -> set[int]:
        """Numbers of the items that stand in a training row."""
        hits: set[int] = set()
        parts: dict[int, dict[int, int]] = defaultdict(dict)  # item -> hash of each short text in the row -> words
        for text in texts:
            words = words_of(text)
            for start, size in self._candidates(words):
                digest = _digest(words[start : start + size])
                hits.update(self.grams.get(digest, ()))
                for number in self.shorts.get(digest, ()):
                    parts[number][digest] = size
        for number, sizes in parts.items():
            if self.first[number] in sizes and sum(sizes.values()) >= FEWEST:
                hits.add(number)
        return hits

    def _candidates(self, words: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Starts and sizes of stretches that may be looked for."""
        lengths = self.lengths
        for start, word in enumerate(words):
            if word in lengths:
                yield start, 1
            if start + 1 < len(words):
                for size in lengths.get(f"{word} {words[start + 1]}", ()):
                    if start + size <= len(words):
                        yield start, size


def _digest(words: Sequence[str]) -> int:
    return hash(" ".join(words))


def overlaps(
    items: Sequence[Item], sources: Sequence[TrainingData], texts: Callable[[Item], list[str]] | None = None
) -> Report:
    """Look for every item in every source.

    Args:
        items: of one run, of any suites.
        texts: the texts of an item, the question first; by default those of its prompt (`texts_of`).

    A source that is not there, or is not what the checkpoint was trained on, is named in `missing`.
    """
    index, counts, too_short = _Index(), Counter[str](), Counter[str]()
    for number, item in enumerate(items):
        counts[f"{item.suite}.{item.task}"] += 1
        if not index.add(number, (texts or texts_of)(item)):
            too_short[f"{item.suite}.{item.task}"] += 1
    contaminated: dict[Key, tuple[str, ...]] = {}
    read: dict[str, int] = {}
    missing: dict[str, str] = {}
    for source in sources:
        try:
            numbers, rows = _in_source(index, source)
        except UserError as error:
            missing[source.name] = str(error)
            continue
        read[source.name] = rows
        for number in sorted(numbers):
            key = (items[number].suite, items[number].task, items[number].id)
            contaminated[key] = (*contaminated.get(key, ()), source.name)
    return Report(dict(counts), contaminated, dict(too_short), read, missing)


def training_data(manifest: Manifest, store: Path) -> tuple[list[TrainingData], dict[str, str]]:
    """Every source that a checkpoint and its ancestors were trained on, each once, and the ancestors that the store
    lacks with the reason."""
    sources: dict[str, TrainingData] = {}
    missing: dict[str, str] = {}
    queue, seen = [manifest], {manifest.id}
    while queue:
        current = queue.pop(0)
        for role, described in current.data.items():
            if role.split("/")[0] in NOT_TRAINED_ON or not isinstance(described, Mapping):
                continue
            digest = str(described.get("sha256", ""))
            path = str(described.get("path", ""))
            sources.setdefault(digest or path, TrainingData(f"{current.stage}: {role}", path, digest))
        for parent in current.parents:
            if parent in seen:
                continue
            seen.add(parent)
            try:
                queue.append(checkpoints.load(store / parent).manifest)
            except UserError:
                missing[parent] = f"the checkpoint {parent} is not in {store}: what it was trained on is not known"
        if not current.parents and current.base_model:
            missing[current.base_model] = "the base model was not trained here: its data is not known"
    return _named_apart(list(sources.values())), missing


def texts_of(item: Item) -> list[str]:
    """Texts of an item: lines of a text with marked answers, user turns of a conversation, or all that it holds."""
    if isinstance(item.prompt, str):
        lines = [re.sub(r"^\[(true|false)\] ", "", line) for line in item.prompt.split("\n")]
        return lines if lines != item.prompt.split("\n") else [item.prompt]
    turns = item.prompt if isinstance(item.prompt, Sequence) else [item.prompt]
    if all(isinstance(turn, Mapping) and "role" in turn for turn in turns):
        return [text for turn in turns if turn["role"] == "user" for text in strings_of(turn.get("content"))]
    return list(strings_of(item.prompt))


def strings_of(value: Any) -> Iterator[str]:
    """Every text in a row, however it is nested. A key of several words is one, as in TruthfulQA's {answer: label}; any
    other is the name of a column."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str) and " " in key:
                yield key
            yield from strings_of(inner)
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        for inner in value:
            yield from strings_of(inner)


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return WORD.findall(text.lower().replace("'", "").replace("\u2019", ""))


def _in_source(index: _Index, source: TrainingData) -> tuple[set[int], int]:
    """Numbers of the items in a source, and its number of rows. Raises `UserError` where it cannot be read."""
    opened = open_source(source.path, documents=True)
    if source.sha256 and opened.sha256() != source.sha256:
        raise UserError(f"{source.path} has changed since the training: its hash differs from the manifest's")
    numbers: set[int] = set()
    rows = 0
    with progress.bar(f"looking for items in {source.name}") as bar:
        for row in opened.rows():
            rows += 1
            if rows % STEP == 0:
                bar.advance(STEP)
            if not isinstance(row, Skip):
                numbers |= index.in_row(strings_of(row))
    return numbers, rows


def _named_apart(sources: Sequence[TrainingData]) -> list[TrainingData]:
    """Sources with names of their own."""
    names = Counter(source.name for source in sources)
    return [
        TrainingData(f"{source.name} ({source.path})", source.path, source.sha256) if names[source.name] > 1 else source
        for source in sources
    ]
