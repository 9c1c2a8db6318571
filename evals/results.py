"""The result contract: one JSON file per model, and one JSONL file of per-item records beside it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from evals.checked import check_fields, item_of, parsed
from evals.statistics import Estimate, estimate
from evals.statistics.draws import draws_interval
from evals.suite import Metric, metric_of
from training.artifacts.errors import UserError
from training.artifacts.files import lines_of, sha256_file, write_atomically

FORMAT = 2
DRAW = "#"  # between the id of a prompt and the number of one of its answers
Ask = Literal["chat", "plain", "few-shot", "score"]


@dataclass(frozen=True)
class Item:
    """One item as one model answered it.

    Attributes:
        suite, task, id: which item; together unique within a result.
        prompt: messages of the conversation, or the text, before any template.
        prompt_hash: sha256 of all that was sent (contexts, choices, examples) and of what it is scored against (gold,
            references, spec); two models are paired only on equal hashes.
        response: the text that came back; None where nothing is generated, or the request failed.
        finish_reason: `stop`, `length`, or None.
        scores: name of a score that the suite declares -> value; None is a failed measurement.
        weight: of this item in means, such as its number of bytes.
        cluster: items with the same cluster are not independent; None: the item stands alone.
        tags: use case, language, mode and whatever else splits items.
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
    """What one model scored in one run, and everything that made it.

    Attributes:
        system: name of the files; label: name for people.
        checkpoint: the immutable id; manifest: its stage, parents, seed, tokenizer and weight hashes, empty if it is
            not in the store.
        ask: through the chat template, as plain text, under a few-shot prefix, or scored by a reward model.
        created: time in UTC, ISO 8601.
        seed: of the run; each sampled answer has its own, by the rule in `sampling`.
        suites: what was measured.
        url: the service; through_filters: whether its filters, canary and capture were in the way.
        sampling: temperature, max_tokens, top_p, and by what rule each answer got its seed.
        data: name -> {"path", "sha256", "rows", "skipped": {reason: count}}.
        judges: name -> what it is, its version or hash, its own accuracy, and whether it is `usable`.
        prompts_sha256: sha256 over the prompt hashes of all items in order.
        items_file, items_sha256: the per-item records.
        metrics: "suite.task.score" -> the estimate, over items, for this seed.
        declared: "suite.task.score" -> what it means: the fields of `evals.suite.Metric`.
        comparable: suite -> what must agree before two results may be compared: data, judges, settings, filters.
        options: the command line's options; `passed` names those that were not left at their default.
        reward: id of the reward model, None without one.
        packages: versions of the packages that shape numbers.
        git_commit: commit of AlignLoop's checkout; git_dirty: whether tracked files differed from it.
        seconds: wall time of the measurement.
        requests: requests sent, and answers that were taken from the cache.
        format: version of this schema.
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
    declared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    comparable: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    reward: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    seconds: float | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    def metric(self, key: str) -> Metric:
        """The declaration of one of `metrics`."""
        return read_metric(self.declared[key])


def read_metric(row: Mapping[str, Any]) -> Metric:
    """A declaration from its JSON."""
    return Metric(**{**row, "slices": tuple(row.get("slices", ()))})


def prompt_hash(prompt: Any) -> str:
    """sha256 of a prompt: of the text itself, or of anything else as sorted JSON."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def count_asked(items: Iterable[Item]) -> int:
    """Number of items, of which one that stands in several tasks (alone and pooled, say) counts once."""
    return len({(item.suite, item.id, item.prompt_hash) for item in items})


def declare(items: Iterable[Item], metrics: Mapping[str, Sequence[Metric]]) -> dict[str, Metric]:
    """The metric of every score of every item, by "suite.task.score".

    Args:
        metrics: suite -> its declarations.

    Raises:
        ValueError: a score that no metric declares, or two items with one identity: a fault of the suite.
    """
    declared: dict[str, Metric] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for item in items:
        seen[item.suite, item.task, item.id] += 1
        for score in item.scores:
            key = f"{item.suite}.{item.task}.{score}"
            if key not in declared:
                declared[key] = metric_of(item.suite, metrics.get(item.suite, ()), item.task, score)
    repeated = [identity for identity, count in seen.items() if count > 1]
    if repeated:
        raise ValueError(f"{len(repeated)} items occur twice, the first is {'/'.join(repeated[0])}")
    return declared


def summarise(items: Iterable[Item], declared: Mapping[str, Metric]) -> dict[str, Estimate]:
    """The mean of every score of every task, with its interval and the number missing.

    Where prompts were answered several times, also how far the mean moves with the seeds alone.
    """
    columns: dict[str, list[tuple[float | None, Item]]] = defaultdict(list)
    for item in items:
        for name, value in item.scores.items():
            columns[f"{item.suite}.{item.task}.{name}"].append((value, item))
    return {
        key: replace(estimate_of(rows, declared[key]), seed_half=_seed_half(rows))
        for key, rows in sorted(columns.items())
    }


def _seed_half(rows: Sequence[tuple[float | None, Item]]) -> float | None:
    """Half of the 95 % interval over seeds with the prompts fixed; None without several answers per prompt."""
    answers: dict[str, list[float]] = defaultdict(list)
    for value, item in rows:
        prompt, mark, _ = item.id.rpartition(DRAW)
        if mark and value is not None:
            answers[prompt].append(value)
    estimate = draws_interval(list(answers.values()))
    return None if estimate.value is None or estimate.high is None else estimate.high - estimate.value


def estimate_of(rows: Sequence[tuple[float | None, Item]], metric: Metric) -> Estimate:
    """Mean of a metric over items, weighted and clustered as the items say."""
    items = [item for _, item in rows]
    weights = [item.weight for item in items] if any(item.weight != 1.0 for item in items) else None
    clusters = [item.cluster or item.id for item in items] if any(item.cluster for item in items) else None
    return estimate([value for value, _ in rows], weights, clusters, share=metric.share)


def write_items(items: Sequence[Item], path: Path) -> str:
    """Write one item per line; returns the file's sha256."""
    text = "".join(
        json.dumps(asdict(item), sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n" for item in items
    )
    write_atomically(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def write_result(result: Result, folder: Path) -> Path:
    """Write a result as strict JSON and return its path."""
    path = folder / f"{result.system}.json"
    text = json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False, default=str)
    write_atomically(path, text + "\n")
    return path


def read_result(path: Path) -> tuple[Result, list[Item]]:
    """Read a result and its items. Raises `UserError` if a file is missing, damaged or of another format."""
    try:
        row = parsed(path.read_text(encoding="utf-8"))
        if "results" in row and "higher_is_better" in row:
            raise UserError(f"{path} is a results file of lm-eval: give its folder, with the samples beside it")
        if row.get("format") != FORMAT and "items_sha256" in row:
            raise UserError(_other_format(path, row))
        check_fields(row)
        row["metrics"] = {name: Estimate(**value) for name, value in row["metrics"].items()}
        result = Result(**row)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: give a result file of `python -m evals.run`") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a result file of `python -m evals.run` ({error})") from None
    items_path = path.parent / result.items_file
    if not items_path.is_file() or sha256_file(items_path) != result.items_sha256:
        raise UserError(
            f"{items_path} is missing or not the file that {path.name} was made from: run the evaluation again"
        )
    items = []
    for number, line in enumerate(lines_of(items_path), 1):
        try:
            items.append(item_of(line, Item))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"line {number} of {items_path} is not an item ({error}): run the evaluation again"
            ) from None
    return result, items


def _other_format(path: Path, row: Mapping[str, Any]) -> str:
    """Why a result of another version cannot be read. The hashes of format 1 leave out choices and gold labels."""
    return (
        f"{path} has format {row.get('format')}, this version reads {FORMAT}: measure again with "
        f"`python -m evals.run --checkpoint {row.get('checkpoint')}:{row.get('ask')} --suite ...`"
    )


def read_folder(folder: Path) -> list[tuple[Result, list[Item]]]:
    """The results that the folder's last run wrote, in its order."""
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} holds no results: run `python -m evals.run` first")
    try:
        names = parsed((folder / "run.json").read_text(encoding="utf-8"))["systems"]
        paths = [folder / f"{name}.json" for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'run.json'} is damaged ({error}): run `python -m evals.run` again") from None
    return [read_result(path) for path in paths]
