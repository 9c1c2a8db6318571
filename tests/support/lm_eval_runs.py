"""Output folders as lm-eval writes them, with chosen scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DATE = "2026-01-01T10-00-00.000001"
Scores = Mapping[str, Sequence[Any]]  # "metric" or "metric,filter" -> a value per item


def write_run(
    folder: Path,
    tasks: Mapping[str, Scores],
    model: str = "model",
    date: str = DATE,
    higher: Mapping[str, bool | None] | None = None,
    figures: Mapping[str, float] | None = None,
    docs: Sequence[Mapping[str, Any]] | None = None,
    config: Mapping[str, Any] | None = None,
    gold: str = "0",
) -> Path:
    """Write results and samples of one run, and return the model's folder.

    Args:
        higher: metric -> whether higher is better; True for those that are not named.
        figures: "metric,filter" -> lm-eval's own figure, where it is not the mean.
        docs: of the items; numbered questions by default.
        config: settings of every task beside the usual ones.
        gold: target of every item.
    """
    target = folder / model
    target.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    for task, scores in tasks.items():
        count = len(next(iter(scores.values())))
        questions = docs or [{"question": f"question {i}"} for i in range(count)]
        rows = [row for i in range(count) for row in _rows(i, questions[i], scores, gold)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (target / f"samples_{task}_{date}.jsonl").write_text(lines)
        results[task] = {"alias": task} | {_keyed(name): _figure(values) for name, values in scores.items()}
        results[task] |= dict(figures or {})
    names = {task: {name.split(",")[0] for name in scores} for task, scores in tasks.items()}
    content = {
        "results": results,
        "higher_is_better": {t: {n: (higher or {}).get(n, True) for n in ns} for t, ns in names.items()},
        "n-samples": {t: {"original": 9999, "effective": len(next(iter(s.values())))} for t, s in tasks.items()},
        "n-shot": dict.fromkeys(tasks, 0),
        "versions": dict.fromkeys(tasks, 1.0),
        "configs": {task: {"output_type": "generate_until", "num_fewshot": 0, **(config or {})} for task in tasks},
        "config": {"model": "hf", "model_args": f"pretrained={model}", "fewshot_seed": 1234},
        "model_name": model,
        "chat_template": None,
    }
    (target / f"results_{date}.json").write_text(json.dumps(content))
    return target


def _rows(i: int, doc: Mapping[str, Any], scores: Scores, gold: str) -> list[dict[str, Any]]:
    """A line per filter, as lm-eval writes them."""
    filters = sorted({_keyed(name).split(",")[1] for name in scores})
    rows = []
    for name in filters:
        values = {n.split(",")[0]: v[i] for n, v in scores.items() if _keyed(n).split(",")[1] == name}
        prompt = str(doc["question"])
        rows.append({
            "doc_id": i, "doc": dict(doc), "target": gold,
            "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["\n"]}}},
            "resps": [["answer"]], "filtered_resps": ["answer"], "filter": name, "metrics": list(values),
            "doc_hash": _hash(json.dumps(doc)), "prompt_hash": _hash(prompt), "target_hash": _hash(gold), **values,
        })  # fmt: skip
    return rows


def _keyed(name: str) -> str:
    return name if "," in name else f"{name},none"


def _figure(values: Sequence[Any]) -> Any:
    numbers = [v for v in values if isinstance(v, int | float)]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) else 1.0


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
