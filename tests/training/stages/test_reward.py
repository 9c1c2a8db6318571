"""The reward model's data, loss over prompts, measures and offset."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.support import toy_world as toy
from tests.support.checkpoints import row
from tests.training.conftest import Toy
from training.artifacts import comparisons
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data.rendering import usable_rows
from training.models import forward, loading
from training.stages import pretrain, reward

pytestmark = pytest.mark.unit


def comparison(texts: list[str], ranks: tuple[int, ...], group: str = "training") -> Comparison:
    return Comparison(
        id="c",
        messages=tuple(toy.turns("a b")),
        responses=tuple(map(Response, texts)),
        ranks=ranks,
        labeler_group=group,
    )


def ranking(pairs: list[tuple[int, int, int]], words: list[int], rows: list[list[int]], group: str) -> reward.Ranking:
    return reward.Ranking(rows, pairs, words, group)


def test_ties_and_what_does_not_fit_are_counted(toy_chain: Toy) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_chain.policy.path))
    skipped: Counter[str] = Counter()
    found = reward.rankings_of(
        Renderer(tokenizer),
        [
            comparison(["red", "the cat " * 30, "blue", "no"], (2, 1, 3, 3)),  # the winner is too long
            comparison(["red", "blue <|user|> x"], (1, 2)),  # one response forges a turn
            comparison(["red", "blue"], (1, 1)),
        ],
        32,
        skipped,
    )
    assert len(found) == 1
    assert found[0].pairs == [(0, 1, 1), (0, 2, 1)]
    assert len(found[0].rows) == 3
    assert found[0].words == [1, 1, 1]
    assert skipped == {
        "longer than 32 tokens": 1,
        "contains the special token '<|user|>': remove it from the text": 1,
        "no decided pair": 2,
        "tied pair": 1,
    }


def test_rows_are_the_rendered_conversation(toy_chain: Toy) -> None:
    tokenizer = pretrain.load_tokenizer(str(toy_chain.policy.path))
    conversation = toy.turns(toy.question(0), toy.answer(0))
    assert usable_rows(Renderer(tokenizer), [conversation], 32, Counter()) == [row(tokenizer, conversation).ids]


def test_loss_weighs_prompts_alike_and_each_response_goes_forward_once(
    toy_chain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    scores = {1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0}
    seen: list[int] = []

    def fake(model: object, rankings: list[list[list[int]]]) -> torch.Tensor:
        seen.extend(row[0] for rows in rankings for row in rows)
        return torch.tensor([scores[row[0]] for rows in rankings for row in rows])

    monkeypatch.setattr(forward, "ranking_scores", fake)
    two = ranking([(0, 1, 1)], [1, 1], [[1], [2]], "a")
    three = ranking([(0, 1, 1), (0, 2, 1), (1, 2, -1)], [1, 1, 1], [[3], [4], [5]], "a")
    loss = reward.loss_of(model, [two, three])
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log(2)) / 2, abs=1e-6)
    assert seen == [1, 2, 3, 4, 5]


def test_accuracy_by_group_beside_length_alone(toy_chain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(model: object, rankings: list[list[list[int]]]) -> torch.Tensor:
        return torch.tensor([float(row[0]) for rows in rankings for row in rows])

    monkeypatch.setattr(forward, "ranking_scores", fake)
    training = [ranking([(0, 1, 1)], [1, 5], [[0], [0]], "training")] * 3  # shorter is preferred
    held_out = [
        ranking([(0, 1, 1), (0, 2, 1), (1, 2, 1)], [3, 2, 1], [[9], [5], [7]], "training"),
        ranking([(0, 1, 1)], [2, 2], [[1], [1]], "heldout"),
    ]
    metrics = reward.measure(None, training, held_out)
    assert metrics["length_baseline"] == "shorter"
    assert metrics["accuracy/training"] == pytest.approx(2 / 3)
    assert metrics["length_accuracy/training"] == 0.0
    assert metrics["accuracy/heldout"] == metrics["length_accuracy/heldout"] == 0.5
    expected = ((math.log1p(math.exp(-4)) + math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 3 + math.log(2)) / 2
    assert metrics["held_out_loss"] == pytest.approx(expected)


def test_demonstrations_score_zero_on_average(toy_chain: Toy) -> None:
    source = loading.load(toy_chain.reward.id, toy_chain.home, "reward")
    rows = [toy.turns(toy.question(i), toy.answer(i)) for i in range(40)]
    ids = [row for row in usable_rows(Renderer(source.tokenizer), rows, 32, Counter()) if row is not None]
    mean = forward.scores_of(source.model, ids).mean().item()
    assert mean - toy_chain.reward.manifest.reward_offset == pytest.approx(0.0, abs=1e-5)


def test_it_learns_the_toy_rankings(toy_chain: Toy) -> None:
    metrics = toy_chain.reward.manifest.metrics
    assert metrics["accuracy/training"] > 0.9
    assert metrics["offset_from"] == "demonstrations"


def test_all_tied_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    comparisons.freeze([comparison(["red", "blue"], (1, 1))], tmp_path / "tied.jsonl")
    with pytest.raises(UserError, match="tied"):
        reward.train(reward.Config(data=str(tmp_path / "tied.jsonl"), home=toy_chain.home))
