"""Public files, read as they are: how many of their rows are used, and why the others are not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.live_service import ROOT
from training.artifacts.layouts import comparisons, demonstrations, prompts

pytestmark = pytest.mark.integration
DATA = Path(os.environ.get("ALIGNLOOP_DATA", ROOT.parent / "shared" / "data"))


@pytest.mark.parametrize(
    "kind, name, rows, skipped",
    [
        (
            comparisons,
            "hh/harmless_base_test.jsonl",
            2312,
            {
                "chosen and rejected differ before their last turn": 5,
                "two turns in a row have the same role": 4,
                "a response is empty": 4,
            },
        ),
        (demonstrations, "sft/alpaca_random9k.jsonl", 9229, {"`output` is empty": 4}),
        (demonstrations, "sft/dolly_hhrlhf_1k.jsonl", 1000, {}),
        (demonstrations, "sft/self_instruct_seed_tasks.jsonl", 175, {}),
        (demonstrations, "sft/user_oriented_instructions_252.jsonl", 252, {}),
        (comparisons, "prefs/finegrained_qa_feedback_dev_k4.jsonl", 500, {}),
        (prompts, "prefs/finegrained_qa_feedback_dev_k4.jsonl", 500, {}),
        (prompts, "rtp/rtp_decodingtrust_nontoxic.jsonl", 1200, {}),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
def test_rows_of_public_files(kind: Any, name: str, rows: int, skipped: dict[str, int]) -> None:
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}: set ALIGNLOOP_DATA")
    loaded = kind.load(str(DATA / name))
    assert (loaded.rows, dict(loaded.skipped)) == (rows, skipped)
    assert len(loaded.records) >= 0.97 * rows


def test_prompts_of_comparisons_are_those_that_were_compared() -> None:
    if not DATA.is_dir():
        pytest.skip(f"no real data in {DATA}: set ALIGNLOOP_DATA")
    for name in ("hh/harmless_base_test.jsonl", "prefs/finegrained_qa_feedback_dev_k4.jsonl"):
        compared = comparisons.load(str(DATA / name)).records
        assert [list(p.messages) for p in prompts.load(str(DATA / name)).records] == [
            list(c.messages) for c in compared
        ]
