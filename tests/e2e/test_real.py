"""The loop on real data from end to end, on a tiny random model: served, trained, measured, ranked by a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import human_files
from tests.support.live_service import ROOT, free_port
from training.artifacts import checkpoints, comparisons
from training.artifacts.comparisons import SIMULATED

pytestmark = pytest.mark.slow  # three engines start


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "training", "real", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=1500, env=os.environ,
    )  # fmt: skip


def test_all_of_it_unattended_and_simulated_rankings_stay_marked(tmp_path: Path) -> None:
    files, home = human_files.write(tmp_path), tmp_path / "home"
    options = human_files.arguments(files, human_files.save_model(tmp_path / "model"), home)
    checked = run(*options, "--check", "--rankings", "20", "--port", str(free_port()))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "served and open for ranking in" in checked.stderr

    (file,) = (home / "reports").glob("real-*/real.json")
    figures = json.loads(file.read_text())
    first, second = figures["policies"]
    assert figures["accuracy"]["pairs"] > 40
    assert set(figures["drift"]["policies"]) == {figures["base"], first, second}
    measured = figures["evaluation"]["metrics"]
    assert len(measured) == 2
    assert all(
        metrics[name]["n"] == 6
        for metrics in measured.values()
        for name in (
            "tax.hellaswag.accuracy_by_characters",
            "tax.piqa.accuracy_by_characters",
            "truthfulqa.choices.mc1",
        )
    )
    assert "**Simulated**" in file.with_suffix(".md").read_text()

    # Marked in what was trained on, in its manifest, and in the store.
    manifest = checkpoints.resolve(second, home / "checkpoints").manifest
    assert manifest.parents == (first,)
    assert manifest.metrics["simulated_comparisons"] == figures["next"]["used"] > 0
    (frozen,) = (home / "human").glob("rankings-*.jsonl")
    rows = comparisons.read(frozen)[0]
    assert len({row.prompt_id for row in rows}) >= 20
    assert {row.labeler_group for row in rows} == {SIMULATED}

    refused = run(*options, "--next", "--port", str(free_port()))
    assert refused.returncode == 2
    assert f"there are 0 rankings of people, and {len(rows)} simulated ones" in refused.stderr
    assert refused.stderr.strip().splitlines()[-1].startswith("error: ")
