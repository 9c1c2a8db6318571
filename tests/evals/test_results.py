"""The result contract: its fields, a round trip, and damage that is noticed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from evals.results import Item, Result, prompt_hash, read_result, summarise, write_items, write_result
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def item(number: int, scores: dict[str, float | None], **more: Any) -> Item:
    messages = [{"role": "user", "content": f"question {number}"}]
    return Item("truth", "facts", str(number), messages, prompt_hash(messages), "an answer", "stop", scores, **more)


def make(folder: Path, items: list[Item], system: str = "sft-1.chat", label: str = "sft", **more: Any) -> Path:
    values: dict[str, Any] = {
        "checkpoint": "sft-1", "ask": "chat", "url": "http://127.0.0.1:8000", "through_filters": False,
        "created": "2026-01-31T10:00:00+00:00", "seed": 0,
        "sampling": {"temperature": 0.0, "max_tokens": 64, "seed": 0},
        "suites": ["truth"], "data": {}, "judges": {}, "prompts_sha256": "0" * 64,
    }  # fmt: skip
    file = f"{system}.items.jsonl"
    digest = write_items(items, folder / file)
    result = Result(
        system=system, label=label, items_file=file, items_sha256=digest, metrics=summarise(items), **(values | more)
    )
    return write_result(result, folder)


def test_texts_may_hold_any_line_end(tmp_path: Path) -> None:
    """JSON escapes a line feed, but not the separators of Unicode."""
    odd = item(0, {"truthful": 1.0}, tags={"kind": "a\u2028b\u0085c"})
    assert read_result(make(tmp_path, [odd, item(1, {"truthful": 0.0})]))[1][0] == odd


def test_schema(tmp_path: Path) -> None:
    path = make(tmp_path, [item(0, {"truthful": 1.0}), item(1, {"truthful": None}, missing="no answer")])
    row = json.loads(path.read_text())
    assert set(row) == {
        "system", "label", "checkpoint", "ask", "url", "through_filters", "created", "seed", "sampling", "suites",
        "data", "judges", "prompts_sha256", "items_file", "items_sha256", "metrics", "manifest", "reward", "packages",
        "git_commit", "git_dirty", "seconds", "format",
    }  # fmt: skip
    assert set(row) == {f.name for f in fields(Result)}
    assert row["format"] == 1
    assert set(row["metrics"]["truth.facts.truthful"]) == {"value", "low", "high", "n", "missing"}
    lines = [json.loads(line) for line in (tmp_path / row["items_file"]).read_text().splitlines()]
    assert set(lines[0]) == {
        "suite", "task", "id", "prompt", "prompt_hash", "response", "finish_reason", "scores", "weight", "cluster",
        "tags", "missing", "seed",
    }  # fmt: skip
    assert set(lines[0]) == {f.name for f in fields(Item)}


def test_round_trip_and_missing_is_counted(tmp_path: Path) -> None:
    items = [item(0, {"truthful": 1.0}), item(1, {"truthful": None}, missing="no answer"), item(2, {"truthful": 0.0})]
    result, read = read_result(make(tmp_path, items))
    assert read == items
    metric = result.metrics["truth.facts.truthful"]
    assert (metric.value, metric.n, metric.missing) == (0.5, 2, 1)


def test_changed_items_are_noticed(tmp_path: Path) -> None:
    path = make(tmp_path, [item(0, {"truthful": 0.0})])
    file = tmp_path / "sft-1.chat.items.jsonl"
    file.write_text(file.read_text().replace('"truthful": 0.0', '"truthful": 1.0'))
    with pytest.raises(UserError, match="run the evaluation again"):
        read_result(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}'])
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a result file"):
        read_result(path)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path, [item(0, {"truthful": 0.0})], format=2)
    with pytest.raises(UserError, match="format 2"):
        read_result(path)


def test_tokens_weigh_the_loss() -> None:
    found = summarise(
        [
            Item("tax", "heldout", "0", "a", "a", None, None, {"loss": 1.0}, weight=3),
            Item("tax", "heldout", "1", "b", "b", None, None, {"loss": 3.0}, weight=1),
        ]
    )
    assert found["tax.heldout.loss"].value == pytest.approx(1.5)
