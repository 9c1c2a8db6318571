"""The reward model's data, loss over prompts, measures and offset."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import toy_world as toy
from tests.training.conftest import Toy
from training.artifacts import comparisons
from training.artifacts.comparisons import Comparison, Response
from training.artifacts.errors import UserError
from training.artifacts.rendering import Renderer
from training.data import reading, rendering
from training.data.items import Ranking, Rankings, Rows
from training.models import forward, loading, shared_passes
from training.stages import pretrain, rankings, reward

pytestmark = pytest.mark.unit


def comparison(texts: list[Any], ranks: tuple[int, ...], id: str = "c", **fields: Any) -> Comparison:
    return Comparison(
        id=id,
        messages=tuple(toy.turns("a b")),
        responses=tuple(text if isinstance(text, Response) else Response(text) for text in texts),
        ranks=ranks,
        labeler_group="training",
        **fields,
    )


def rendered(
    chain: Toy, folder: Path, comparisons_: list[Comparison], context: int = 32, **options: Any
) -> Rows[Rankings]:
    """These comparisons as the reward model reads them."""
    comparisons.freeze(comparisons_, folder / "rows.jsonl")
    selection = reading.select(reading.COMPARISONS, str(folder / "rows.jsonl"), **options)
    renderer = Renderer(pretrain.load_tokenizer(str(chain.policy.path)))
    return rendering.comparisons(folder, selection, renderer, context)


def test_ties_and_what_does_not_fit_are_counted(toy_chain: Toy, tmp_path: Path) -> None:
    rows = rendered(
        toy_chain,
        tmp_path,
        [
            comparison(["red", "the cat " * 30, "blue", "no"], (2, 1, 3, 3), id="a"),  # the winner is too long
            comparison(["red", "blue <|user|> x"], (1, 2), id="b"),  # one response forges a turn
            comparison(["red", "the cat " * 30], (1, 2), id="c"),
            comparison(["red", "blue", "no"], (1, 2, 2), id="d"),
        ],
    )
    assert [ranking.pairs for ranking in rows.items] == [[(0, 1, 1), (0, 2, 1)]] * 2
    assert [len(ranking.rows) for ranking in rows.items] == [3, 3]
    assert [ranking.group for ranking in rows.items] == ["training", "training"]
    assert rows.usage.used == 2
    assert rows.usage.skipped == {
        "contains the special token '<|user|>': remove it from the text": 1,
        "longer than 32 tokens": 1,
    }
    assert rows.usage.noted == {"response left out: longer than 32 tokens": 1, "tied pair left out": 2}
    assert sum(rows.usage.skipped.values()) + rows.usage.used == rows.usage.rows == 4


def test_a_response_that_was_cut_off_is_never_a_finished_one(toy_chain: Toy, tmp_path: Path) -> None:
    cut = Response("the cat", finish_reason="length")
    rows = rendered(
        toy_chain,
        tmp_path,
        [
            comparison([cut, Response("red"), Response("blue")], (1, 2, 3), id="a"),
            comparison([Response("red"), cut], (1, 2), id="b"),
        ],
    )
    (ranking,) = rows.items
    assert ranking.pairs == [(0, 1, 1)]
    assert len(ranking.rows) == 2
    reason = "a response that was cut off at its length limit"
    assert rows.usage.skipped == {reason: 1}
    assert rows.usage.noted == {f"response left out: {reason}": 1}


def test_rows_are_the_rendered_conversation_and_length_is_in_tokens(toy_chain: Toy, tmp_path: Path) -> None:
    """Text without spaces is one word and many tokens."""
    texts = ["the cat is red .", "红的是猫，猫是红的。"]
    (ranking,) = rendered(toy_chain, tmp_path, [comparison(texts, (1, 2))], 64).items
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    expected = [row.ids for row in renderer.render([[*toy.turns("a b", text)] for text in texts])]
    assert ranking.rows == expected
    assert ranking.lengths == [len(row) for row in expected]
    assert ranking.lengths[1] > ranking.lengths[0]


def test_a_corrected_comparison_is_left_out_wherever_its_correction_stands(toy_chain: Toy, tmp_path: Path) -> None:
    """The limit draws among the others, so that it never takes a corrected row and leaves its correction."""
    texts = ["red", "blue"]
    lines = [comparison(texts, (1, 2), id="a"), comparison(texts, (2, 1), id="b", supersedes="a")]
    (tmp_path / "rows.jsonl").write_text("".join(comparisons.to_json(c) + "\n" for c in lines))
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    for limit in (None, 1):
        selection = reading.select(reading.COMPARISONS, str(tmp_path / "rows.jsonl"), limit=limit)
        rows = rendering.comparisons(tmp_path, selection, renderer, 32)
        assert [ranking.pairs for ranking in rows.items] == [[(0, 1, -1)]]
        assert rows.usage.skipped == {"a later row corrects it": 1}


@pytest.mark.parametrize(
    ("revealed", "pairs", "skipped"),
    [
        (False, [[(0, 1, 1)]], {"given after the names were shown": 2}),
        (True, [[(0, 1, -1)], [(0, 1, -1)]], {"a later row corrects it": 1}),
    ],
)
def test_what_was_given_after_the_names_were_shown_is_left_out_and_corrects_nothing(
    toy_chain: Toy, tmp_path: Path, revealed: bool, pairs: list[Any], skipped: dict[str, int]
) -> None:
    texts, shown = ["red", "blue"], {"meta": {comparisons.AFTER_REVEAL: True}}
    lines = [
        comparison(texts, (1, 2), id="a"),
        comparison(texts, (2, 1), id="b", supersedes="a", **shown),
        comparison(texts, (2, 1), id="c", **shown),
    ]
    comparisons.freeze(lines, tmp_path / "rows.jsonl")
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    selection = reading.select(reading.COMPARISONS, str(tmp_path / "rows.jsonl"), revealed=revealed)
    rows = rendering.comparisons(tmp_path, selection, renderer, 32)
    assert [ranking.pairs for ranking in rows.items] == pairs
    assert rows.usage.skipped == skipped


def test_loss_weighs_prompts_alike_and_each_response_goes_forward_once(
    toy_chain: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = loading.load(toy_chain.reward.id, toy_chain.home, "reward").model
    scores = {1: 1.0, 2: 0.0, 3: 0.0, 4: 0.0, 5: 0.0}
    seen: list[int] = []

    def fake(model: object, rankings: list[list[list[int]]]) -> torch.Tensor:
        seen.extend(row[0] for rows in rankings for row in rows)
        return torch.tensor([scores[row[0]] for rows in rankings for row in rows])

    monkeypatch.setattr(shared_passes, "ranking_scores", fake)
    two = Ranking([[1], [2]], [(0, 1, 1)], "a")
    three = Ranking([[3], [4], [5]], [(0, 1, 1), (0, 2, 1), (1, 2, -1)], "a")
    scores_of_both = reward.scores_of(model, [two, three])
    loss = rankings.loss_of(scores_of_both([0, 1]), [two, three])
    assert loss.item() == pytest.approx((math.log1p(math.exp(-1)) + math.log(2)) / 2, abs=1e-6)
    assert seen == [1, 2, 3, 4, 5]


def test_accuracy_by_group_beside_length_alone(toy_chain: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(model: object, rankings: list[list[list[int]]]) -> torch.Tensor:
        return torch.tensor([float(row[0]) for rows in rankings for row in rows])

    monkeypatch.setattr(shared_passes, "ranking_scores", fake)
    training = [Ranking([[0], [0] * 5], [(0, 1, 1)], "training")] * 3  # shorter is preferred
    held_out = [
        Ranking([[9] * 3, [5] * 2, [7]], [(0, 1, 1), (0, 2, 1), (1, 2, 1)], "training"),
        Ranking([[1] * 2, [1] * 2], [(0, 1, 1)], "heldout"),
    ]
    metrics = rankings.measure(rankings.own_scores(reward.scores_of(None, held_out), held_out, 1), training, held_out)
    assert metrics["length_baseline"] == "shorter"
    assert metrics["accuracy/training"] == pytest.approx(2 / 3)
    assert metrics["length_accuracy/training"] == 0.0
    assert metrics["accuracy/heldout"] == metrics["length_accuracy/heldout"] == 0.5
    expected = ((math.log1p(math.exp(-4)) + math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 3 + math.log(2)) / 2
    assert metrics["held_out_loss"] == pytest.approx(expected)


def test_demonstrations_score_zero_on_average(toy_chain: Toy) -> None:
    source = loading.load(toy_chain.reward.id, toy_chain.home, "reward")
    rows = Renderer(source.tokenizer).render([toy.turns(toy.question(i), toy.answer(i)) for i in range(40)])
    mean = forward.scores_of(source.model, [row.ids for row in rows]).mean().item()
    assert mean - toy_chain.reward.manifest.reward_offset == pytest.approx(0.0, abs=1e-5)


def test_it_learns_the_toy_rankings(toy_chain: Toy) -> None:
    metrics = toy_chain.reward.manifest.metrics
    assert metrics["accuracy/training"] > 0.9
    assert metrics["offset_from"] == "demonstrations"
    assert metrics["split_by"] == "file"


def test_all_tied_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    comparisons.freeze([comparison(["red", "blue"], (1, 1))], tmp_path / "tied.jsonl")
    with pytest.raises(UserError, match="tied"):
        reward.train(reward.Config(data=str(tmp_path / "tied.jsonl"), home=toy_chain.home))


def reward_config(chain: Toy, home: Path, **changes: Any) -> reward.Config:
    settings: dict[str, Any] = {
        "data": str(chain.home / "rankings.jsonl"),
        "model": str(chain.policy.path),
        "home": home,
    }
    return reward.Config(**(settings | changes))


def test_without_demonstrations_the_offset_is_of_good_and_bad_responses(toy_chain: Toy, tmp_path: Path) -> None:
    """Of chosen and rejected pairs the first response is always the better one."""
    config = reward_config(toy_chain, tmp_path, epochs=1, batch=8)
    checkpoint = reward.train(config)
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    data = rankings.load(config, renderer, 32)
    offset_rows, offset_from, _ = reward.offset_rows_of(config, renderer, 32, data.training)
    places = [tuple(row) for ranking in data.training for row in ranking.rows]
    assert sorted(map(tuple, offset_rows)) == sorted(places)
    assert (
        checkpoint.manifest.metrics["offset_from"] == offset_from == f"a random {len(places)} of all training responses"
    )
    assert reward.responses_of(data.training, 5, 0) == reward.responses_of(data.training, 5, 0)
    some = reward.responses_of(data.training, 12, 0)
    best = {tuple(ranking.rows[0]) for ranking in data.training}
    assert 0 < sum(tuple(row) in best for row in some) < 12


@pytest.mark.parametrize("users, by", [(1, "prompt"), (3, "prompt"), (24, "user")])
def test_few_users_are_split_by_prompt(toy_chain: Toy, tmp_path: Path, users: int, by: str) -> None:
    rows = [
        Comparison(
            id=f"c{i:02d}",
            messages=tuple(toy.turns(toy.question(i))),
            responses=(Response("red"), Response("blue")),
            ranks=(1, 2),
            user=f"u{i % users}",
        )
        for i in range(24)
    ]
    comparisons.freeze(rows, tmp_path / "users.jsonl")
    config = reward_config(toy_chain, tmp_path, data=str(tmp_path / "users.jsonl"))
    renderer = Renderer(pretrain.load_tokenizer(str(toy_chain.policy.path)))
    data = rankings.load(config, renderer, 32)
    assert data.split_by == by
    assert len(data.training) + len(data.held_out) == 24
    assert 1 <= len(data.held_out) <= 6


def test_a_single_prompt_cannot_be_split(toy_chain: Toy, tmp_path: Path) -> None:
    comparisons.freeze([comparison(["red", "blue"], (1, 2))], tmp_path / "one.jsonl")
    with pytest.raises(UserError, match="a single usable prompt, which cannot be split: give --validation FILE"):
        reward.train(reward_config(toy_chain, tmp_path, data=str(tmp_path / "one.jsonl")))


def test_validation_that_equals_the_training_data_is_refused(toy_chain: Toy, tmp_path: Path) -> None:
    """Under another name, in another order, with other ids: the content is the same."""
    rows, _ = comparisons.read(toy_chain.home / "rankings.jsonl")
    lines = [comparisons.to_json(row).replace(f'"{row.id}"', f'"other-{row.id}"') for row in reversed(rows)]
    (tmp_path / "copy.jsonl").write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"is in the training data too.*give other rows with --validation"):
        reward.train(reward_config(toy_chain, tmp_path, validation=str(tmp_path / "copy.jsonl")))
