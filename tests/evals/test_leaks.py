"""Items in training data per model: a shared source is read once and counts for each model that was trained on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evals import contamination, leaks
from evals.generation import Sampling
from evals.options import Config
from evals.record import Record
from evals.results import Item
from evals.subjects import Subject
from evals.suite import Measurement, Metric
from evals.world import honesty
from training.artifacts.checkpoints import Manifest
from training.artifacts.files import sha256_file

pytestmark = pytest.mark.unit
LEAKED = "the old miller of the green valley sold nine sacks of grey flour to a blind baker"
CLEAN = "a young sailor from the far island bought seven boxes of red apples for his deaf uncle"


def entry(path: Path, *texts: str) -> dict[str, Any]:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return {"path": str(path), "sha256": sha256_file(path)}


def record(name: str, data: dict[str, Any] | None) -> Record:
    manifest = None if data is None else Manifest(name, "sft", "policy", (), "now", "t", None, (), 64, data=data)
    items = [Item("tax", "qa", text[:9], text, text, None, None, {"accuracy": right}, cluster=None)
             for text, right in ((LEAKED, 1.0), (CLEAN, 0.0))]  # fmt: skip
    subject = Subject(name, "chat", name, manifest)
    return Record(subject, Config(), Sampling(), None, {"tax": Measurement(items)}, 1.0, {})


def test_each_model_by_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared, other = entry(tmp_path / "shared.jsonl", "first", LEAKED), entry(tmp_path / "other.jsonl", "something else")
    gone = {"path": str(tmp_path / "gone.jsonl"), "sha256": "0" * 64}
    opened: list[str] = []
    monkeypatch.setattr(contamination, "open_source", lambda path, **more: (opened.append(path), real(path, **more))[1])
    records = [
        record("first", {"data": shared}),
        record("second", {"ptx": shared, "data": gone}),
        record("third", {"data": other}),
        record("foreign", None),
    ]
    reports = leaks.find(records, tmp_path)
    assert {name: (r["checked"], r["found"]) for name, r in reports.items()} == {
        "first.chat": (2, 1), "second.chat": (2, 1), "third.chat": (2, 0)
    }  # fmt: skip
    assert reports["first.chat"]["by_task"] == {"tax.qa": 1}
    assert reports["first.chat"]["clean"] == {"tax.qa.accuracy": 0.0}
    assert list(reports["second.chat"]["not_read"]) == ["sft: data"]
    assert "gone.jsonl" in reports["second.chat"]["not_read"]["sft: data"]
    assert reports["first.chat"]["not_read"] == {}
    assert opened.count(str(tmp_path / "shared.jsonl")) == 1


def test_every_metric_has_its_clean_mean(tmp_path: Path) -> None:
    data = {"data": entry(tmp_path / "text.jsonl", LEAKED)}
    tasks = [f"task{number:02d}" for number in range(20)]
    items = [replace(item, task=task) for task in tasks for item in record("m", data).items]
    of_many = replace(record("m", data), measured={"tax": Measurement(items, metrics=[Metric("*.accuracy", "right")])})
    clean = leaks.find([of_many], tmp_path)["m.chat"]["clean"]
    assert clean == {f"tax.{task}.accuracy": 0.0 for task in tasks}


def test_an_item_that_is_also_pooled_counts_once(tmp_path: Path) -> None:
    data = {"data": entry(tmp_path / "text.jsonl", LEAKED)}
    alone = [replace(item, suite="honesty", task="harmful", scores={"honest": 1.0}) for item in record("m", data).items]
    both = replace(record("m", data), measured={"honesty": Measurement([*alone, *honesty.pooled(alone)])})
    report = leaks.find([both], tmp_path)["m.chat"]
    assert (report["checked"], report["found"]) == (2, 1)
    assert report["by_task"] == {"honesty.all": 1, "honesty.harmful": 1}


real = contamination.open_source
