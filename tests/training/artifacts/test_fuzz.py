"""Damage inside some rows leaves all others as they are; a file whose rows cannot be told apart is one sentence."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from tests.training.artifacts.fuzz import case, problem
from training.artifacts.errors import UserError
from training.artifacts.rows import open_source


def run(folder: Path, files: int, rows: int, seed: int) -> None:
    """Read `files` files with at least `rows` rows in all; every problem is told with the number of its file."""
    problems: list[str] = []
    read: Counter[str] = Counter()
    for number in range(files):
        rng = random.Random(f"{seed} {number}")
        file = case(rng, rng.randrange(3, 2 * rows // files))
        path = folder / file.name
        path.write_bytes(file.content)
        outcome, sentence = None, ""
        try:
            outcome = list(open_source(str(path)).rows())
        except UserError as error:
            sentence = str(error)
        path.unlink()
        read[file.name] += len(file.intact) + file.damaged
        fault = problem(file, outcome)
        if outcome is None and (str(path) not in sentence or "\n" in sentence):
            fault = f"the file is not named in one sentence: {sentence}"
        if fault is not None:
            problems.append(f"file {number} ({file.name}): {fault}")
    assert not problems, f"{len(problems)} of {files}: " + "; ".join(problems[:5])
    assert sum(read.values()) >= rows
    assert {name.removesuffix(".gz") for name in read} >= {f"rows.{kind}" for kind in ("jsonl", "json", "csv", "tsv")}


@pytest.mark.unit
def test_damage_stays_in_its_rows(tmp_path: Path) -> None:
    run(tmp_path, files=200, rows=2_000, seed=0)


@pytest.mark.slow
def test_damage_stays_in_its_rows_over_100_000_rows(tmp_path: Path) -> None:
    run(tmp_path, files=10_000, rows=100_000, seed=1)
