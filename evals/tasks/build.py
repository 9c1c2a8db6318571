"""lm-eval's own tasks on local rows: its prompts, metrics, few-shot sampling and clean-up, with other data.

A task is built as lm-eval builds it, by a subclass that takes the rows in the place of a download. So the prompt is the
official one by construction.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.tasks import fit, names, ours
from evals.tasks.files import OURS, Row, Rows, columns_of, dataset, read_task
from evals.tasks.layouts import official
from training.artifacts import progress
from training.artifacts.errors import UserError
from training.artifacts.text import STEERING

FEW_SHOT_SEED = 1234  # lm_eval's default, so that its command draws the same examples
SPLITS = ("training_split", "validation_split", "test_split")
HUB_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")
MOST_COLUMNS = 12


@dataclass(frozen=True)
class Spec:
    """One task before its data is read.

    Attributes:
        name: in results, without dots and colons.
        kind: of its rows, see `files.Rows`; the hub's columns where the task is named by lm-eval's name alone.
        task: lm-eval's name; empty for a task of ours.
        source: file or folder; None: from the hub.
    """

    name: str
    kind: str
    task: str = ""
    source: str | None = None


@dataclass(frozen=True)
class Built:
    """A task ready to run.

    Attributes:
        name: of the task in results, with its number of examples.
        task: lm-eval's object.
        ids: of its rows in order; empty for a task from the hub, whose rows go by their number.
        kind: see `Spec`.
        summary: of its data.
        shots: few-shot examples in each prompt.
    """

    name: str
    task: Any
    ids: Sequence[str]
    kind: str
    summary: Mapping[str, Any]
    shots: int = 0


def spec_of(name: str, kind: str, source: str, home: Path) -> Spec:
    """What `--data NAME=SOURCE` means: a benchmark, a task of ours, any multiple choice, another lm-eval task on a file
    in the hub's layout, or plain text, whose bits per byte are measured.

    Raises:
        UserError: none of these.
    """
    known = official(kind)
    if known is not None:
        return Spec(plain(name), known.task, known.task, source)
    if kind in OURS:
        return Spec(plain(name), kind, source=source)
    columns = columns_of(source)
    if not columns:
        read_task("choices", source)  # raises, with the reasons why no row can be read
    if {"query", "choices", "gold"} <= columns or ("choices" in columns and "answerKey" in columns):
        return Spec(plain(name), "choices", source=source)
    if columns == {"line"}:  # plain text, which no task of lm-eval reads
        return Spec(plain(name), "heldout", source=source)
    files = names.task_files(home)
    if files.get(kind):
        return Spec(plain(name), "hub", kind, source)
    if kind in files:
        raise UserError(f"{kind} is a group of several lm-eval tasks: name one of them, such as by --data TASK=FILE")
    hint = f"; its text is measured by --data heldout:{name}={source}" if "text" in columns else ""
    raise UserError(
        f"--data {name}={source}: {kind} is neither a task of lm-eval nor is the file multiple choice with the columns "
        f"query, choices, gold (it has {', '.join(sorted(columns)[:MOST_COLUMNS]) or 'none'}){hint}"
    )


def plain(name: str) -> str:
    """A name as results hold it: dots separate its parts there, and signs that steer a terminal stand nowhere."""
    return re.sub(rf"(?:[.:/\s]|{STEERING})+", "-", name)


def build(spec: Spec, shots: Sequence[int], home: Path) -> list[Built]:
    """The task once per number of few-shot examples. A task that fixes its number keeps it and is built once.

    Raises:
        UserError: the task is unknown, its data cannot be read, or needs what this suite does not do.
    """
    config = _config(spec, home)
    evaluated, pool = _splits(config)
    rows = None
    if spec.source is not None:
        columns = set(columns_read(config)) & columns_of(spec.source) if spec.kind == "hub" else set()
        rows = read_task(spec.kind, spec.source, evaluated, pool, columns)
    if rows is not None and rows.kind != spec.kind:  # the file is less than the benchmark
        config, evaluated, pool = _own_config(rows.kind), "test", None
    fixed = config.get("num_fewshot") == 0 and bool(spec.task)
    tasks: list[Built] = []
    for count in dict.fromkeys((0,) if fixed or config.get("output_type") == "loglikelihood_rolling" else shots):
        name = f"{spec.name}-{count}shot" if count else spec.name
        task = _task(name, config, rows, evaluated, pool, spec, count)
        if rows is not None and rows.kind == "hub" and not tasks:
            fit.check_rows(task, spec.task, str(spec.source))
        fit.check_examples(task, spec.name, count)
        ids = rows.ids if rows is not None and len(rows.ids) == len(task.eval_docs) else ()
        kind = rows.kind if rows is not None else spec.kind
        tasks.append(Built(name, task, ids, kind, rows.summary if rows is not None else _hub_summary(task), count))
    return tasks


def _config(spec: Spec, home: Path) -> dict[str, Any]:
    """lm-eval's configuration of a task, functions resolved."""
    if not spec.task:
        return _own_config(spec.kind)
    from lm_eval.tasks._yaml_loader import load_yaml

    known = official(spec.task)
    file = known.yaml if known is not None and known.task == spec.task else names.find(spec.task, home)
    if not file:
        raise UserError(f"{spec.task} is a group of several lm-eval tasks: name them one by one")
    config = dict(load_yaml(names.tasks_folder() / file, resolve_func=True))
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    if config.get("unsafe_code"):
        raise UserError(f"{spec.task} runs code that the model wrote: this suite does not")
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise UserError(f"{spec.task} needs images or sound: this suite measures text")
    return config


def _own_config(kind: str) -> dict[str, Any]:
    return ours.CONFIGS[kind] | {"test_split": "test", "metadata": {"version": ours.VERSION}}


def _splits(config: Mapping[str, Any]) -> tuple[str, str | None]:
    """Names of the split that lm-eval evaluates, and of the one that its few-shot examples come from."""
    evaluated = config.get("test_split") or config.get("validation_split") or "validation"
    chosen_pool = config.get("fewshot_config") or {}
    pool = chosen_pool.get("split") or config.get("fewshot_split") or config.get("training_split")
    return evaluated, pool or (config.get("validation_split") if config.get("test_split") else None)


def _task(
    name: str, config: Mapping[str, Any], rows: Rows | None, evaluated: str, pool: str | None, spec: Spec, shots: int
) -> Any:
    from lm_eval.api.task import ConfigurableTask

    cls = config.get("class", ConfigurableTask)
    adapted = {key: value for key, value in config.items() if key != "class"} | {"task": name}
    if rows is None:
        task = _from_hub(cls, adapted, spec)
    else:
        splits = {evaluated: rows.rows} | ({pool: rows.training} if pool and rows.training else {})
        if cls is not ConfigurableTask:  # its own methods name its splits, whatever there is
            splits = dict.fromkeys(("train", "validation", "test"), rows.rows) | splits
        adapted |= _adapted_splits(adapted, splits, evaluated)
        task = _from_rows(cls, adapted, splits, spec)
    task.config.task = name
    task.set_config("num_fewshot", shots)
    task.set_fewshot_seed(FEW_SHOT_SEED)
    return task


def _adapted_splits(config: Mapping[str, Any], splits: Mapping[str, Any], evaluated: str) -> dict[str, Any]:
    """Only splits that the local copy has. Without one for few-shot examples they come from the evaluated rows, but
    never from the item itself: lm-eval leaves it out where both are called the test split."""
    if len(splits) > 1:
        return {key: config.get(key) if config.get(key) in splits else None for key in (*SPLITS, "fewshot_split")}
    adapted: dict[str, Any] = {
        "training_split": None, "validation_split": None, "test_split": evaluated, "fewshot_split": evaluated
    }  # fmt: skip
    few_shot = config.get("fewshot_config")
    if isinstance(few_shot, Mapping):
        adapted["fewshot_config"] = {key: value for key, value in few_shot.items() if key != "split"}
        if few_shot.get("samples") is not None:
            adapted["fewshot_split"] = None
    return adapted


def _from_rows(cls: Any, config: Mapping[str, Any], splits: Mapping[str, Sequence[Row]], spec: Spec) -> Any:
    import datasets
    from jinja2 import TemplateError

    local = datasets.DatasetDict({split: dataset(rows, spec.name) for split, rows in splits.items()})

    def download(self: Any, *_: Any, **__: Any) -> None:
        self.dataset = local

    try:
        return type(cls.__name__, (cls,), {"download": download})(config=dict(config))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, TemplateError) as error:
        columns = ", ".join(columns_read({**config, "class": cls})) or "of the hub"
        raise UserError(
            f"{spec.source} does not fit lm-eval's task {spec.task or spec.kind} ({type(error).__name__}: {error}): it "
            f"needs the columns {columns}"
        ) from None


def _from_hub(cls: Any, config: Mapping[str, Any], spec: Spec) -> Any:
    path = config.get("dataset_path") or getattr(cls, "DATASET_PATH", None)
    try:
        with progress.bar(f"{spec.task} from the hub", None):
            return cls(config=dict(config))
    except (OSError, ValueError, RuntimeError) as error:  # what `datasets` raises for everything that it cannot load
        part = f", configuration {config['dataset_name']}" if config.get("dataset_name") else ""
        split = _splits(config)[0]
        raise UserError(
            f"{spec.task} needs the data set {path}{part}, split {split}, which the hub does not give "
            f"({type(error).__name__}): write it to a file and give --data {spec.task}=FILE with the columns "
            f"{', '.join(columns_read({**config, 'class': cls})) or 'of the hub'}"
        ) from None


def columns_read(config: Mapping[str, Any]) -> list[str]:
    """Columns that a task reads, as far as its templates and functions name them."""
    from jinja2 import Environment, TemplateError, meta

    names_read: dict[str, None] = {}
    parts = [config.get(key) for key in ("doc_to_text", "doc_to_target", "doc_to_choice", "process_docs")]
    parts += [config.get("process_results"), config.get("class")]
    for part in parts:
        if isinstance(part, str) and re.fullmatch(r"\w+", part):
            names_read[part] = None
        elif isinstance(part, str):
            try:
                names_read |= dict.fromkeys(sorted(meta.find_undeclared_variables(Environment().parse(part))))
            except TemplateError:
                continue
        elif callable(part) and getattr(part, "__module__", "") != "lm_eval.api.task":
            names_read |= dict.fromkeys(re.findall(r"""doc(?:\[|\.get\()["'](\w+)["']""", inspect.getsource(part)))
    return list(names_read)


def _hub_summary(task: Any) -> dict[str, Any]:
    documents = task.eval_docs
    fingerprint = str(getattr(documents, "_fingerprint", ""))
    return {"path": str(task.DATASET_PATH), "sha256": fingerprint, "rows": len(documents), "skipped": {}}


def quiet() -> None:
    """lm-eval and `datasets` without their own bars and warnings, which would cut through ours."""
    import logging

    import datasets
    import lm_eval.api.task

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    # lm-eval's own bars cannot be turned off by an option.
    lm_eval.api.task.tqdm = lambda things, **_: things


def stay_offline() -> None:
    """Keep `datasets` from looking for local rows on the hub. Before its first import, and not for tasks of the hub."""
    for variable in HUB_VARIABLES:
        os.environ.setdefault(variable, "1")
