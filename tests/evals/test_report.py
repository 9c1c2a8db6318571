"""The table and the page come from result files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from evals import gate
from evals.report import build
from evals.results import Item, prompt_hash
from tests.evals.test_results import make
from training.artifacts.errors import UserError

pytestmark = pytest.mark.unit


def preference(utilities: list[float | None]) -> list[Item]:
    items = []
    for number, utility in enumerate(utilities):
        messages = [{"role": "user", "content": f"<b>prompt</b> {number} & more"}]
        missing = "no answer" if utility is None else None
        scores = {"utility": utility, "follows": None if utility is None else float(utility > 0)}
        tags = {"use_case": "chat" if number % 2 else "open qa"}
        hashed = prompt_hash(messages)
        answer = f"answer {number}"
        items.append(
            Item(
                "preference",
                "prompts",
                str(number),
                messages,
                hashed,
                answer,
                "stop",
                scores,
                tags=tags,
                missing=missing,
            )
        )
    return items


def folder_of(tmp_path: Path) -> Path:
    make(tmp_path, preference([0.0, 0.0, 0.5, 0.0]), "base.plain", "base", ask="plain")
    make(tmp_path, preference([1.0, 0.0, 0.2, None]), "sft.chat", "sft")
    pairs = [
        Item("reward", "labelers_training", str(i), "p", "p", None, None, {"agrees": float(i > 0), "longer_wins": 0.5})
        for i in range(4)
    ]
    make(tmp_path, pairs, "reward-1.score", "reward", ask="score")
    run = {
        "systems": ["base.plain", "sft.chat", "reward-1.score"],
        "baselines": ["base.plain"],
        "candidates": ["sft.chat"],
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    return tmp_path


def test_table_pairs_by_prompt_and_counts_ties_half(tmp_path: Path) -> None:
    build(folder_of(tmp_path), Console(quiet=True))
    table = json.loads((tmp_path / "table.json").read_text())
    row = next(row for row in table["rows"] if row["metric"] == "win_rate")
    assert row["base"] is None
    # won, tied, lost; the fourth prompt was not measured for one of them
    assert (row["sft"]["value"], row["sft"]["n"], row["sft"]["missing"]) == (0.5, 3, 1)
    assert row["against"] == "base.plain"
    assert table["reward_model"][0]["accuracy"]["value"] == 0.75
    assert "| preferred to base |  | 50 [" in (tmp_path / "table.md").read_text()


def test_page_stands_alone_and_escapes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rows = gate.compare(preference([1.0, 0.0, 0.2, None]), preference([0.0, 0.0, 0.5, 0.0]))
    assert rows[0].verdict == "unmeasured"
    build(folder, Console(quiet=True))
    page = (folder / "index.html").read_text()
    assert "<script" not in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "default-src 'none'" in page
    assert "<b>prompt</b>" not in page
    assert "&lt;b&gt;prompt&lt;/b&gt; 0 &amp; more" in page
    assert page.count("data:image/svg+xml;base64,") >= 2
    assert "1 measurement is missing (no answer)" in page


def test_the_same_results_give_the_same_page(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    build(folder, Console(quiet=True))
    first = (folder / "index.html").read_bytes()
    build(folder, Console(quiet=True))
    assert (folder / "index.html").read_bytes() == first


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run `python -m evals\.run` first"):
        build(tmp_path, Console(quiet=True))
