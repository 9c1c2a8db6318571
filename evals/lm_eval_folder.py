"""Output folders of lm-eval as one side of a comparison: `results_DATE.json` and `samples_TASK_DATE.jsonl`.

Every metric that lm-eval computed is either decided on or named with the reason why it cannot be. A metric can be
compared if it has one number per item and lm-eval's own figure is their mean: corpus figures such as BLEU, and
perplexity (whose items are log-probabilities), are not.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.checked import parsed
from evals.lm_eval_samples import Sample, items_of, per_item, read_samples, score_name
from evals.measured import Measured
from training.artifacts import progress
from training.artifacts.errors import UserError

SUITE = "tax"
MARGIN = 0.02  # of shares, unless a policy sets another
# What must agree between two runs: settings of the task, of the run, and of the command line.
OF_TASK = ("output_type", "num_fewshot", "generation_kwargs", "repeats", "filter_list")
OF_RUN = ("system_instruction_sha", "fewshot_as_multiturn")
OF_COMMAND = ("gen_kwargs", "fewshot_seed")
OF_TASKS = ("configs", "higher_is_better", "n-samples")  # tables by task, of a table each
TABLES = (*OF_TASKS, "config", "versions", "n-shot")


@dataclass(frozen=True)
class SamplesFile:
    """A file of samples: its task, and the date that its run bears in all its files."""

    path: Path
    task: str
    date: str


def read_lm_eval(folder: Path) -> Measured:
    """Read the one run that a folder holds.

    Args:
        folder: that `lm_eval --log_samples --output_path` wrote, or the model's folder in it.

    Raises:
        UserError: there are no samples, several models, several runs of one task, or a damaged file.
    """
    files = _files(folder)
    runs = {file.date: _results(file) for file in files}
    model = _model(folder, runs)
    items, tasks = [], {}
    declared: dict[str, dict[str, Any]] = {}
    unusable: dict[str, str] = {}
    for file in progress.track(files, f"reading samples of {folder.name}"):
        samples, run = read_samples(file.path), runs[file.date]
        _check_count(file, run, samples)
        metrics = _metrics(file.task, run, samples)
        name = file.task.replace(".", "-")  # dots part the names of metrics
        usable = frozenset(score for score, (_, reason) in metrics.items() if not reason)
        for score, (fields, reason) in metrics.items():
            declared[f"{SUITE}.{name}.{score}"] = fields
            if reason:
                unusable[f"{SUITE}.{name}.{score}"] = reason
        items += items_of(samples, SUITE, name, usable)
        tasks[file.task] = _settings(file.task, run)
    label = str(model.get("model_name") or folder.name)
    return Measured(
        label, json.dumps(model, sort_keys=True, default=str), items, declared, {SUITE: {"tasks": tasks}},
        unusable=unusable, rule_for_all=True,
    )  # fmt: skip


def _files(folder: Path) -> list[SamplesFile]:
    """The samples of one model, one run per task."""
    paths = sorted(folder.rglob("samples_*.jsonl"))
    if not paths:
        raise UserError(f"{folder} holds no samples_*.jsonl: run lm-eval with --log_samples, or give a result JSON")
    folders = sorted({path.parent for path in paths})
    if len(folders) > 1:
        names = ", ".join(str(f.relative_to(folder)) for f in folders)
        raise UserError(f"{folder} holds {len(folders)} models or runs ({names}): name one of these folders")
    parts = [path.stem.removeprefix("samples_").rpartition("_") for path in paths]
    for path, (task, _, date) in zip(paths, parts, strict=True):
        if not task or not date:
            raise UserError(f"{path} is not named samples_TASK_DATE.jsonl, as lm-eval does it: move it away")
    files = [SamplesFile(path, task, date) for path, (task, _, date) in zip(paths, parts, strict=True)]
    dates: dict[str, list[str]] = defaultdict(list)
    for file in files:
        dates[file.task].append(file.date)
    for task, of_task in dates.items():
        if len(of_task) > 1:
            raise UserError(
                f"{folder} holds {len(of_task)} runs of {task} ({', '.join(of_task)}): move all but one away"
            )
    return files


def _results(file: SamplesFile) -> dict[str, Any]:
    """lm-eval's own figures of the run that wrote the samples."""
    path = next(iter(sorted(file.path.parent.glob(f"*_{file.date}.json"))), None)
    if path is None:
        raise UserError(
            f"{file.path.parent} holds no results_{file.date}.json beside {file.path.name}: the direction of its "
            "metrics stands there, copy it too"
        )
    try:
        content = parsed(path.read_text(encoding="utf-8"))
        if content["results"] is None:
            raise TypeError("results is not a table")
        for name in ("results", *TABLES):
            _check_table(name, content.get(name))
        for name in ("results", *OF_TASKS):
            _check_table(f"{name} of {file.task}", (content.get(name) or {}).get(file.task) or {})
        return content
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): copy it whole, or move it away") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a results file of lm-eval ({error}): measure again") from None


def _check_table(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, dict):
        raise TypeError(f"{name} is not a table")


def _model(folder: Path, runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What identifies the model; the same for every run in the folder."""
    models = []
    for run in runs.values():
        config = run.get("config") or {}
        names = ("model", "model_args", "model_sha", "model_revision")
        model = {"model_name": run.get("model_name")} | {name: config.get(name) for name in names}
        if model not in models:
            models.append(model)
    if len(models) > 1:
        names_of = " and ".join(str(m["model_args"] or m["model_name"]) for m in models)
        raise UserError(f"{folder} mixes runs of different models ({names_of}): give each a folder of its own")
    return models[0]


def _check_count(file: SamplesFile, run: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    expected = ((run.get("n-samples") or {}).get(file.task) or {}).get("effective")
    documents = len({sample.id for sample in samples})
    if isinstance(expected, int) and documents != expected:
        raise UserError(f"{file.path} holds {documents} of {expected} items: the file is damaged, measure again")


def _metrics(task: str, run: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, tuple[dict[str, Any], str]]:
    """Score -> its declaration, and why it cannot be compared, empty if it can."""
    values: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for sample in samples:
        for metric, value in sample.scores.items():
            values[metric, sample.filter].append(value)
    directions = (run.get("higher_is_better") or {}).get(task) or {}
    figures = run["results"].get(task) or {}
    metrics = {}
    for (metric, filter_name), column in values.items():
        numbers = [per_item(metric, value) for value in column]
        figure = figures.get(f"{metric},{filter_name}")
        higher = directions.get(metric)
        reason = _unusable(column, numbers, figure) or (
            "" if isinstance(higher, bool) else "lm-eval gives it no direction"
        )
        shares = all(n is not None and (n[0] is None or 0 <= n[0] <= 1) for n in numbers)
        share = shares and not any(isinstance(value, list) for value in column)
        words = f"{task}: {metric}" + ("" if filter_name == "none" else f" ({filter_name})")
        better = {True: "higher", False: "lower"}.get(higher) if isinstance(higher, bool) else None
        margin = MARGIN if share else None
        fields = {"words": words, "better": better, "share": share, "margin": margin, "required": True, "wins": False}
        metrics[score_name(metric, filter_name)] = (fields, reason)
    return metrics


def _unusable(column: Sequence[Any], numbers: Sequence[tuple[float | None, float] | None], figure: Any) -> str:
    """Why a metric has no values per item that stand for lm-eval's figure; empty if it has."""
    if any(number is None for number in numbers):
        kind = next(type(v).__name__ for v, n in zip(column, numbers, strict=True) if n is None)
        return f"its values per item are not numbers ({kind}): it is computed over the whole set"
    pairs = [(value, weight) for value, weight in (n for n in numbers if n is not None) if value is not None]
    if not pairs or not isinstance(figure, int | float):
        return "lm-eval's results have no figure for it"
    mean = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    if not math.isclose(mean, figure, rel_tol=1e-6, abs_tol=1e-9):
        return f"lm-eval's figure {figure:.6g} is not the mean over items, {mean:.6g}"
    return ""


def _settings(task: str, run: Mapping[str, Any]) -> dict[str, Any]:
    config, command = (run.get("configs") or {}).get(task) or {}, run.get("config") or {}
    return {
        **{name: config.get(name) for name in OF_TASK},
        **{name: run.get(name) for name in OF_RUN},
        **{name: command.get(name) for name in OF_COMMAND},
        "version": (run.get("versions") or {}).get(task),
        "n-shot": (run.get("n-shot") or {}).get(task),
        "items": ((run.get("n-samples") or {}).get(task) or {}).get("effective"),
        "form": "chat" if run.get("chat_template") else "raw",
    }
