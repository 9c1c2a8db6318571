"""The result contract: its fields, a round trip, and damage that is noticed."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from evals.results import Item, Result, declare, prompt_hash, read_folder, read_result, summarise
from evals.suite import Metric
from tests.support.evaluations import write_result_of
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit
METRICS = {
    "truthfulqa": (Metric("facts.truthful", "truthful"), Metric("*.loss", "loss of {task}", "lower", share=False)),
}  # fmt: skip
OLD = Path(__file__).parents[1] / "support" / "results_of_format_1"


def item(number: int, scores: dict[str, float | None], **more: Any) -> Item:
    messages = [{"role": "user", "content": f"question {number}"}]
    return Item(
        "truthfulqa", "facts", str(number), messages, prompt_hash(messages), "an answer", "stop", scores, **more
    )


def test_texts_may_hold_any_line_end(tmp_path: Path) -> None:
    """JSON escapes a line feed, but not the separators of Unicode."""
    odd = item(0, {"truthful": 1.0}, tags={"kind": "a\u2028b\u0085c"})
    path = write_result_of(tmp_path, [odd, item(1, {"truthful": 0.0})], METRICS)
    assert read_result(path)[1][0] == odd


def test_schema(tmp_path: Path) -> None:
    items = [item(0, {"truthful": 1.0}), item(1, {"truthful": None}, missing="no answer")]
    row = json.loads(write_result_of(tmp_path, items, METRICS).read_text())
    assert set(row) == {
        "system", "label", "checkpoint", "ask", "url", "through_filters", "created", "seed", "sampling", "suites",
        "data", "judges", "prompts_sha256", "items_file", "items_sha256", "metrics", "declared", "comparable",
        "options", "manifest", "reward", "packages", "git_commit", "git_dirty", "seconds", "requests", "format",
    }  # fmt: skip
    assert set(row) == {f.name for f in fields(Result)}
    assert row["format"] == 2
    assert {"value", "low", "high", "n", "missing"} <= set(row["metrics"]["truthfulqa.facts.truthful"])
    lines = [json.loads(line) for line in (tmp_path / row["items_file"]).read_text().splitlines()]
    assert set(lines[0]) == {
        "suite", "task", "id", "prompt", "prompt_hash", "response", "finish_reason", "scores", "weight", "cluster",
        "tags", "missing", "seed",
    }  # fmt: skip
    assert set(lines[0]) == {f.name for f in fields(Item)}


def test_round_trip_and_missing_is_counted(tmp_path: Path) -> None:
    items = [item(0, {"truthful": 1.0}), item(1, {"truthful": None}, missing="no answer"), item(2, {"truthful": 0.0})]
    result, read = read_result(write_result_of(tmp_path, items, METRICS))
    assert read == items
    estimate = result.metrics["truthfulqa.facts.truthful"]
    assert (estimate.value, estimate.n, estimate.missing) == (0.5, 2, 1)
    assert result.metric("truthfulqa.facts.truthful") == METRICS["truthfulqa"][0]


def test_a_metric_keeps_its_slices_through_json(tmp_path: Path) -> None:
    metrics = {"truthfulqa": [Metric("facts.truthful", "truthful", slices=("use_case", "language"))]}
    result, _ = read_result(write_result_of(tmp_path, [item(0, {"truthful": 1.0})], metrics))
    assert result.metric("truthfulqa.facts.truthful").slices == ("use_case", "language")


def test_changed_items_are_noticed(tmp_path: Path) -> None:
    path = write_result_of(tmp_path, [item(0, {"truthful": 0.0})], METRICS)
    file = tmp_path / "sft-1.chat.items.jsonl"
    file.write_text(file.read_text().replace('"truthful": 0.0', '"truthful": 1.0'))
    with pytest.raises(UserError, match="run the evaluation again"):
        read_result(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 2, "metrics": 3}'])
def test_other_files_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not a result file"):
        read_result(path)


def test_a_result_of_format_1_is_refused_with_the_command() -> None:
    """Written by the version before: its hashes leave out choices and gold labels."""
    with pytest.raises(UserError) as refused:
        read_result(OLD / "sft-1.chat.json")
    message = str(refused.value)
    assert "\n" not in message
    assert "has format 1, this version reads 2" in message
    assert "python -m evals.run --checkpoint sft-1:chat" in message


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = write_result_of(tmp_path, [item(0, {"truthful": 0.0})], METRICS, format=3)
    with pytest.raises(UserError, match="has format 3"):
        read_result(path)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run `python -m evals\.run` first"):
        read_folder(tmp_path)


def test_weights_count_in_means() -> None:
    items = [
        Item("truthfulqa", "heldout", "0", "a", "a", None, None, {"loss": 1.0}, weight=3),
        Item("truthfulqa", "heldout", "1", "b", "b", None, None, {"loss": 3.0}, weight=1),
    ]
    estimates = summarise(items, declare(items, METRICS))
    assert estimates["truthfulqa.heldout.loss"].value == pytest.approx(1.5)  # (3 * 1 + 1 * 3) / 4


def test_an_undeclared_score_is_a_fault_of_the_suite() -> None:
    with pytest.raises(ValueError, match=r"facts\.surprise, which no metric"):
        declare([item(0, {"surprise": 1.0})], METRICS)


def test_repeated_items_are_a_fault_of_the_suite() -> None:
    with pytest.raises(ValueError, match="1 items occur twice, the first is truthfulqa/facts/0"):
        declare([item(0, {"truthful": 1.0}), item(0, {"truthful": 0.0})], METRICS)
