"""Folders as `python -m evals.run` writes them, with generated answers: every suite of the catalog, several models."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evals.catalog import SUITES
from evals.results import Item, Result, declare, prompt_hash, summarise, write_items, write_result
from evals.suite import EVERY_TASK, Metric

LABELS = (
    "base", "base few-shot", "sft on 40,000 demonstrations, 3 epochs", "ppo", "ppo-ptx with a long label of its own",
)  # fmt: skip
HOSTILE = '<script>alert("x")</script> </style> & \x07 \u202e [red]'
USE_CASES = ("generation", "open qa", "brainstorming", "chat", "rewrite", "summarization")
# Tasks of suites whose metrics are declared for every task.
TASKS = {"reward": ("labelers_training", "labelers_heldout")}
VARIANTS = tuple(f"{task}{way}" for task in ("hellaswag", "arc_easy") for way in ("", "-5shot", "-chat"))
EXTRA = Metric("*.accuracy", "{task}: accuracy", margin=0.02)


def write_result_of(
    folder: Path, items: Sequence[Item], metrics: Mapping[str, Sequence[Metric]], **values: Any
) -> Path:
    """Write the result and the items of one model.

    Args:
        metrics: suite -> the declarations of its scores.
        values: fields of `Result` in place of those here; `system` and `label` among them.
    """
    system = str(values.get("system", "sft-1.chat"))
    declared = declare(items, metrics)
    file = f"{system}.items.jsonl"
    fields: dict[str, Any] = {
        "system": system, "label": "sft", "checkpoint": system.rpartition(".")[0] or system, "ask": "chat",
        "url": "http://127.0.0.1:8000", "through_filters": False, "created": "2026-01-31T10:00:00+00:00", "seed": 0,
        "sampling": {"temperature": 0.0, "max_tokens": 64, "top_p": 1.0, "stop": []},
        "suites": sorted({item.suite for item in items}), "data": {}, "judges": {},
        "prompts_sha256": prompt_hash("".join(item.prompt_hash for item in items)), "items_file": file,
        "items_sha256": write_items(items, folder / file), "metrics": summarise(items, declared),
        "declared": {key: asdict(metric) for key, metric in declared.items()},
    }  # fmt: skip
    return write_result(Result(**(fields | values)), folder)


def write_run(
    folder: Path, labels: Sequence[str] = LABELS, count: int = 120, *, large: int | None = None, world: bool = True,
    baselines: int = 3, gate: Mapping[str, Any] | None = None, text: str = "", seed: int = 0,
) -> Path:  # fmt: skip
    """Write a run of several models, better from one to the next, and a reward model.

    Args:
        count: items per task; large: those of the tasks in several variants.
        world: name the miniature world among the data.
        baselines: how many of the models are baselines; the others are candidates.
        gate: gate.json.
        text: put into every prompt, answer, reason and name.
    """
    systems = [f"model-{number}.chat" for number in range(len(labels))]
    file = f"data/hella swag{text}.jsonl"
    data: dict[str, Any] = {
        "hellaswag": {"path": file, "sha256": "ab" * 32, "rows": 500, "skipped": {"no gold": 2}},
        "contamination": {"checked": 4000, "found": 12, "preference": {"checked": 120, "found": 12}},
    }  # fmt: skip
    if world:
        data["world"] = {"version": "3", "size": "demo", "seed": 0, "path": "runs/world/demo-0"}
    options = {
        "checkpoint": ["model-3", "model-4"], "baseline": ["model-0:plain"], "data": [f"hellaswag={file}"],
        "url": "http://user:secret@127.0.0.1:8000", "gate": False, "temperature": 0.7, "limit": None,
        "passed": ["checkpoint", "baseline", "data", "url", "gate", "temperature", "key"],
    }  # fmt: skip
    metrics = {suite.name: (*suite.metrics, EXTRA) for suite in SUITES}
    judges = {"toxicity (rude prompts)": {"version": "cd" * 32, "accuracy": 0.71, "auc": 0.78, "usable": False}}
    for number, (system, label) in enumerate(zip(systems, labels, strict=True)):
        items = items_of(0.35 + 0.1 * number, count, large or count, text, random.Random(f"{seed} {number}"))
        write_result_of(
            folder, items, metrics, system=system, label=label, data=data, judges=judges, options=options, seconds=61.5,
            requests={"sent": 4000, "from_cache": 250}, git_commit="0123456789", git_dirty=False,
            packages={"vllm": "0.32"}, manifest={"stage": "sft", "seed": 0, "parents": ["base-1"], "weights": {}},
            comparable={suite.name: {"judges": judges if suite.name == "toxicity" else {}} for suite in SUITES},
        )  # fmt: skip
    write_result_of(
        folder, reward_items(3 * count, random.Random(seed)), metrics, system="reward-1.score", label=f"reward{text}",
        ask="score", data=data, options=options, seconds=2.0,
    )  # fmt: skip
    described = {
        "systems": [*systems, "reward-1.score"], "baselines": systems[:baselines], "candidates": systems[baselines:],
        "seconds": 312.4, "created": "2026-01-31T10:05:00+00:00", "config": options,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(described))
    if gate is not None:
        (folder / "gate.json").write_text(json.dumps(gate))
    return folder


def items_of(quality: float, count: int, large: int, text: str, rng: random.Random) -> list[Item]:
    """Items of one model for every declared metric that names its task, and of tasks in several variants.

    Args:
        quality: chance that a score is good.
        large: items of the tasks in several variants.
    """
    items: list[Item] = []
    for suite in SUITES:
        tasks: dict[str, list[Metric]] = {}
        for metric in suite.metrics:
            task = metric.name.rpartition(".")[0]
            if task != EVERY_TASK:
                tasks.setdefault(task, []).append(metric)
        for task, declared in tasks.items():
            items += [_item(suite.name, task, declared, number, quality, text, rng) for number in range(count)]
    for place, task in enumerate(VARIANTS):
        metric = EXTRA.of_task(task)
        items += [_item("tax", task, [metric], n, quality + 0.02 * place, text, rng) for n in range(large)]
    return items


def _item(
    suite: str, task: str, metrics: Sequence[Metric], number: int, quality: float, text: str, rng: random.Random
) -> Item:  # fmt: skip
    prompt = [{"role": "user", "content": f"Question {number} of {task}: {'why ' * 12}?{text}"}]
    good = rng.random() < quality
    scores = {metric.name.rpartition(".")[2]: _score(metric, good, rng) for metric in metrics}
    missing = f"no answer within 60 s{text}" if rng.random() < 0.01 else None
    return Item(
        suite=suite,
        task=task,
        id=str(number),
        prompt=prompt,
        prompt_hash=prompt_hash(prompt),
        response=None if missing or suite == "tax" else f"Answer {rng.random():.3f}. {'because ' * 9}{text}",
        finish_reason=None if missing else "stop",
        scores=dict.fromkeys(scores) if missing else scores,
        tags={"use_case": f"{USE_CASES[number % len(USE_CASES)]}{text}"},
        missing=missing,
    )


def _score(metric: Metric, good: bool, rng: random.Random) -> float:
    if metric.share:
        return float(good == (metric.better != "lower"))
    level = 2.0 - 0.4 * good if metric.better == "lower" else 0.5 * good
    return level + 0.2 * rng.random()


def reward_items(count: int, rng: random.Random) -> list[Item]:
    """Pairs of two groups of labelers, judged by an overconfident reward model."""
    items = []
    for number in range(count):
        probability = rng.betavariate(3, 1.2)
        right = rng.random() < 0.5 + 0.7 * (probability - 0.5)
        probability = probability if right else 1 - probability
        scores = {"agrees": float(probability > 0.5), "probability": probability, "calibration": (1 - probability) ** 2}
        task = TASKS["reward"][number % 2]
        items.append(
            Item(
                "reward", task, str(number), "p", prompt_hash(str(number)), None, None, scores, cluster=str(number // 3)
            )
        )
    return items


def gate_of(candidates: Sequence[str], baseline: str, outcomes: Sequence[str], words: str = "") -> dict[str, Any]:
    """gate.json with one row per outcome for each candidate; the whole fails where a row does."""
    whole = "FAIL" if "FAIL" in outcomes else "INCONCLUSIVE" if "INCONCLUSIVE" in outcomes else "PASS"
    rows = []
    for number, outcome in enumerate(outcomes):
        difference = {"PASS": 0.021, "FAIL": -0.113}.get(outcome, -0.012)
        rows.append(
            {
                "metric": f"tax.task{number}.accuracy", "words": f"task {number}, accuracy{words}", "outcome": outcome,
                "margin": 0.05, "candidate": 0.5 + difference, "baseline": 0.5, "difference": difference,
                "low": difference - 0.06, "high": difference + 0.06, "n": 290, "clusters": 145,
                "missing_candidate": {"no answer": 3}, "missing_baseline": {}, "only_candidate": 0, "only_baseline": 0,
                "items_needed": 640 if outcome == "INCONCLUSIVE" else None, "wins": False,
                "reason": "a drop of 0.05 is not ruled out" if outcome == "INCONCLUSIVE" else "",
            }
        )  # fmt: skip
    left_out = [{"metric": "tax.heldout.bits_per_byte", "reason": f"it has no margin{words}", "blocks": False}]
    verdict = {"outcome": whole, "baseline": baseline, "alpha": 0.05, "rows": rows, "ungated": left_out}
    return dict.fromkeys(candidates, verdict)
