"""Held-out accuracy beside length: agrees with the stage's own figure, and counts nothing that was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Toy
from training.artifacts import comparisons
from training.artifacts.comparisons import SIMULATED
from training.artifacts.errors import UserError
from training.data.items import Ranking
from training.stages import accuracy, rankings, reward

pytestmark = pytest.mark.unit


def measured(chain: Toy, data: Path, **changes: Any) -> dict[str, Any]:
    settings = {"model": chain.reward.id, "training": (str(chain.home / "rankings.jsonl"),), "home": chain.home}
    return accuracy.measure(accuracy.Config(data=(str(data),), **(settings | changes)))


def test_it_is_the_stage_s_own_accuracy_over_all_groups(toy_chain: Toy) -> None:
    figures = measured(toy_chain, toy_chain.home / "rankings-validation.jsonl")
    metrics = toy_chain.reward.manifest.metrics
    groups = [name.partition("/")[2] for name in metrics if name.startswith("pairs/")]
    pairs = sum(metrics[f"pairs/{group}"] for group in groups)
    for key, name in (("accuracy", "accuracy"), ("length_accuracy", "length_accuracy")):
        expected = sum(metrics[f"{name}/{group}"] * metrics[f"pairs/{group}"] for group in groups) / pairs
        assert figures[key]["value"] == pytest.approx(expected)
    assert figures["pairs"] == pairs
    assert figures["length_baseline"] == metrics["length_baseline"]


def test_the_difference_is_paired_by_prompt(toy_chain: Toy) -> None:
    figures = measured(toy_chain, toy_chain.home / "rankings-validation.jsonl")
    by_hand = figures["accuracy"]["value"] - figures["length_accuracy"]["value"]
    assert figures["difference"]["value"] == pytest.approx(by_hand)
    assert figures["difference"]["low"] <= by_hand <= figures["difference"]["high"]


def test_turned_judgements_turn_the_accuracy(toy_chain: Toy, tmp_path: Path) -> None:
    rows = comparisons.read(toy_chain.home / "rankings-validation.jsonl")[0]
    turned = [replace(row, ranks=tuple(max(row.ranks or ()) + 1 - rank for rank in row.ranks or ())) for row in rows]
    comparisons.freeze(turned, tmp_path / "turned.jsonl")
    one = measured(toy_chain, toy_chain.home / "rankings-validation.jsonl")
    other = measured(toy_chain, tmp_path / "turned.jsonl")
    assert one["accuracy"]["value"] + other["accuracy"]["value"] == pytest.approx(1)
    assert one["accuracy"]["value"] > 0.8


def test_training_rows_are_not_held_out(toy_chain: Toy, tmp_path: Path) -> None:
    training = comparisons.read(toy_chain.home / "rankings.jsonl")[0]
    others = comparisons.read(toy_chain.home / "rankings-validation.jsonl")[0]
    comparisons.freeze([*training, *others], tmp_path / "both.jsonl")
    alone = measured(toy_chain, toy_chain.home / "rankings-validation.jsonl")
    assert measured(toy_chain, tmp_path / "both.jsonl")["pairs"] == alone["pairs"]
    with pytest.raises(UserError, match="is in the training data too"):
        measured(toy_chain, toy_chain.home / "rankings.jsonl")


def test_simulated_rankings_are_counted_in_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        reward.shared_passes,
        "ranking_scores",
        lambda _, of: torch.tensor([float(row[0]) for rows in of for row in rows]),
    )
    people, stand_in = (Ranking([[2], [1]], [(0, 1, 1)], group) for group in ("training", SIMULATED))
    scores = rankings.own_scores(reward.scores_of(None, [people]), [people], 8)
    metrics = rankings.measure(scores, [people, stand_in, stand_in], [people])
    assert (metrics["training_comparisons"], metrics["simulated_comparisons"]) == (3, 2)
    assert "simulated_comparisons" not in rankings.measure(scores, [people], [people])
