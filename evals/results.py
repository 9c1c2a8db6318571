"""The result contract: one JSON file per system, and one JSONL file of per-item records beside it."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evals.statistics import Estimate, estimate
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of, sha256_file, write_atomically

FORMAT = 1
Ask = Literal["chat", "plain", "few-shot", "score"]


@dataclass(frozen=True)
class Score:
    """What a per-item score means.

    Attributes:
        better: which way is better; None for a figure that is only described.
        share: it lies in [0, 1].
        label: for people.
    """

    better: Literal["higher", "lower"] | None
    share: bool
    label: str


# Every score that a suite may write. A name that is not here is a bug.
SCORES: dict[str, Score] = {
    "accuracy": Score("higher", True, "answered correctly"),
    "accuracy_by_characters": Score("higher", True, "correct, log-probability divided by characters"),
    "accuracy_by_tokens": Score("higher", True, "correct, log-probability divided by tokens"),
    "loss": Score("lower", False, "loss on held-out text, nats per token"),
    "bits_per_byte": Score("lower", False, "loss on held-out text, bits per byte"),
    "mc1": Score("higher", True, "the best true answer is likelier than every false one"),
    "mc2": Score("higher", True, "probability mass on true answers"),
    "truthful": Score("higher", True, "truthful"),
    "informative": Score("higher", True, "informative"),
    "truthful_informative": Score("higher", True, "truthful and informative"),
    "wrongly_abstained": Score("lower", True, "abstained though the answer is known"),
    "honest": Score("higher", True, "honest: says so, asks, declines or recalls as the item needs"),
    "toxic": Score("lower", True, "toxic by the judge model (score at least 0.5)"),
    "toxicity": Score("lower", True, "mean toxicity score of the judge model"),
    "rude": Score("lower", True, "toxic by the world's own rules"),
    "judge_agrees": Score(None, True, "the judge model agrees with the world's rules"),
    "finished": Score("higher", True, "ended by itself"),
    "on_topic": Score("higher", True, "on topic"),
    "finished_on_topic": Score("higher", True, "finished and on topic"),
    "follows": Score("higher", True, "follows the instruction"),
    "correct": Score("higher", True, "correct"),
    "harmless": Score("higher", True, "harmless"),
    "concise": Score("higher", True, "concise"),
    "utility": Score("higher", False, "true utility"),
    "reward": Score("higher", False, "reward by the reward model"),
    "agrees": Score("higher", True, "prefers what the labeler preferred"),
    "prefers_better": Score("higher", True, "prefers the truly better response"),
    "longer_wins": Score(None, True, "the longer response is preferred by the labeler"),
    "labelers_agree": Score(None, True, "two labelers of one pair agree"),
    "best_accuracy": Score(None, True, "accuracy of the true preference: the best that the labelers' noise allows"),
    "calibration": Score("lower", False, "squared error of sigmoid(difference) as a probability"),
}


@dataclass(frozen=True)
class Item:
    """One item as one system answered it.

    Attributes:
        suite, task, id: which item; together unique within a system.
        prompt: messages of the conversation, or the text, before any template.
        prompt_hash: sha256 of the prompt; two systems are paired only on equal hashes.
        response: the text that came back; None where nothing is generated, or the request failed.
        finish_reason: `stop`, `length`, or None.
        scores: name of `SCORES` -> value; None is a failed measurement.
        weight: of this item in means, such as its number of tokens.
        cluster: items with the same cluster are not independent; None: the item stands alone.
        tags: use case, mode and whatever else splits items.
        missing: why the measurement failed, None if it did not.
        seed: that the response was sampled with; None for a greedy one.
    """

    suite: str
    task: str
    id: str
    prompt: Any
    prompt_hash: str
    response: str | None
    finish_reason: str | None
    scores: Mapping[str, float | None]
    weight: float = 1.0
    cluster: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    missing: str | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Result:
    """What one system scored in one run, and everything that made it.

    Attributes:
        system: name of the files; label: name for people.
        checkpoint: the immutable id; manifest: its stage, parents, seed and weight hashes, empty if not in the store.
        ask: through the chat template, as plain text, under a few-shot prefix, or scored by a reward model.
        created: time in UTC, ISO 8601.
        seed: sent with every request.
        suites: what was measured.
        url: the service; through_filters: whether its filters, canary and capture were in the way.
        sampling: temperature, max_tokens, top_p, and by what rule each answer got its seed.
        data: name -> {"path", "sha256", "rows", "skipped": {reason: count}}.
        judges: name -> what it is, its version or hash, its own accuracy.
        prompts_sha256: sha256 over the prompt hashes of all items in order.
        items_file, items_sha256: the per-item records.
        reward: id of the reward model, None without one.
        packages: versions of the packages that shape numbers.
        git_commit: commit of AlignLoop's checkout; git_dirty: whether tracked files differed from it.
        seconds: wall time of the measurement.
        format: version of this schema.
        metrics: "suite.task.score" -> the estimate, over items, for this seed.
    """

    system: str
    label: str
    checkpoint: str
    ask: Ask
    url: str
    through_filters: bool
    created: str
    seed: int
    sampling: Mapping[str, Any]
    suites: Sequence[str]
    data: Mapping[str, Any]
    judges: Mapping[str, Any]
    prompts_sha256: str
    items_file: str
    items_sha256: str
    metrics: Mapping[str, Estimate]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    reward: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    seconds: float | None = None
    format: int = FORMAT


def prompt_hash(prompt: Any) -> str:
    """sha256 of a prompt: of the text itself, or of the messages as sorted JSON."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def summarise(items: Iterable[Item]) -> dict[str, Estimate]:
    """The mean of every score of every task, with its interval and the number missing."""
    columns: dict[str, list[tuple[float | None, Item]]] = defaultdict(list)
    for item in items:
        for name, value in item.scores.items():
            columns[f"{item.suite}.{item.task}.{name}"].append((value, item))
    return {key: _estimate(key, rows) for key, rows in sorted(columns.items())}


def _estimate(key: str, rows: list[tuple[float | None, Item]]) -> Estimate:
    items = [item for _, item in rows]
    weights = [item.weight for item in items] if any(item.weight != 1.0 for item in items) else None
    clusters = [item.cluster or item.id for item in items] if any(item.cluster for item in items) else None
    return estimate([value for value, _ in rows], weights, clusters, share=SCORES[key.rsplit(".", 1)[1]].share)


def write_items(items: Sequence[Item], path: Path) -> str:
    """Write one item per line; returns the file's sha256."""
    text = "".join(json.dumps(asdict(item), sort_keys=True, ensure_ascii=False) + "\n" for item in items)
    write_atomically(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def write_result(result: Result, folder: Path) -> Path:
    path = folder / f"{result.system}.json"
    write_atomically(path, json.dumps(asdict(result), indent=1, ensure_ascii=False, default=str) + "\n")
    return path


def read_result(path: Path) -> tuple[Result, list[Item]]:
    """Read a result and its items. Raises `UserError` if a file is missing, damaged or of another format."""
    try:
        row = json.loads(path.read_text())
        row.pop("notes", None)  # always empty; 0.1.0 wrote it
        row["metrics"] = {name: Estimate(**value) for name, value in row["metrics"].items()}
        result = Result(**row)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give a result file of `python -m evals.run`") from None
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a result file of `python -m evals.run` ({error})") from None
    if result.format != FORMAT:
        raise UserError(f"{path} has format {result.format}, this version reads {FORMAT}")
    items_path = path.parent / result.items_file
    if not items_path.is_file() or sha256_file(items_path) != result.items_sha256:
        raise UserError(
            f"{items_path} is missing or not the file that {path.name} was made from: run the evaluation again"
        )
    items = [Item(**json.loads(line)) for line in lines_of(items_path)]
    return result, items


def read_folder(folder: Path) -> list[tuple[Result, list[Item]]]:
    """The results that the folder's last run wrote, in its order."""
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} holds no results: run `python -m evals.run` first")
    names = json.loads((folder / "run.json").read_text())["systems"]
    return [read_result(folder / f"{name}.json") for name in names]
