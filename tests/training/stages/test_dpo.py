"""Direct preferences: the paper's loss by hand, what counts as a response, what is learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.conftest import Toy
from training.artifacts.errors import UserError
from training.data.items import Ranking
from training.models import loading
from training.stages import dpo, rankings

pytestmark = pytest.mark.unit
STOP = 0
PROMPT = [STOP, 3, 264, 265, 4]
TWO = Ranking([[*PROMPT, 261, 262, STOP], [*PROMPT, 261, 263, 264, STOP]], [(0, 1, 1)], "a")
THREE = Ranking(
    [[STOP, 3, 261, 4, *row] for row in ([265, STOP], [266, 267, STOP], [268, STOP])],
    [(0, 1, -1), (0, 2, 1), (1, 2, 0)],
    "a",
)


def config_of(toy: Toy, **changes: Any) -> dpo.Config:
    settings: dict[str, Any] = {
        "data": (str(toy.home / "rankings.jsonl"),),
        "validation": (str(toy.home / "rankings-validation.jsonl"),),
        "batch": 8,
        "learning_rate": 3e-3,
        "epochs": 4,
        "home": toy.home,
    }
    return dpo.Config(**(settings | changes))


def logprob(model: Any, prompt: list[int], response: list[int]) -> float:
    """By the model's own logits, token by token."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits
    logprobs = logits[0].log_softmax(-1)
    return sum(float(logprobs[len(prompt) + place - 1, token]) for place, token in enumerate(response))


def test_the_loss_is_equation_7(toy_chain: Toy) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    reference = [torch.tensor([-3.0, -4.5]), torch.tensor([-1.0, -2.0, -4.0])]
    score = dpo.implicit_rewards(policy, dpo.Answers([STOP]), [TWO, THREE], reference, beta=0.1)

    def reward(ranking: Ranking, number: int, of_reference: float) -> float:
        start = 4 if ranking is THREE else 5
        row = ranking.rows[number]
        return 0.1 * (logprob(policy, row[:start], row[start:]) - of_reference)

    def loss(winner: float, loser: float) -> float:
        return math.log1p(math.exp(loser - winner))

    # The first token of both responses of TWO is the same, and cancels out where the reference counts it too.
    shared = logprob(policy, PROMPT, [261])
    a, b = (reward(TWO, number, float(reference[0][number]) + shared) for number in (0, 1))
    c, d, e = (reward(THREE, number, float(reference[1][number])) for number in (0, 1, 2))
    expected = (loss(a, b) + (loss(d, c) + loss(c, e)) / 2) / 2  # the tie is left out; prompts count alike
    values = score([0, 1])
    assert values.tolist() == pytest.approx([a, b, c, d, e], abs=1e-5)
    assert rankings.loss_of(values, [TWO, THREE]).item() == pytest.approx(expected, abs=1e-5)


def test_what_follows_the_end_of_a_turn_is_nobodys_choice(toy_chain: Toy) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    answers = dpo.Answers([STOP])
    tailed = TWO._replace(rows=[[*row, 262] for row in TWO.rows])
    torch.testing.assert_close(answers.logprobs(policy, [tailed]), answers.logprobs(policy, [TWO]))
    # One response that begins as the other goes on: something of each is left to compare.
    nested = Ranking([[*PROMPT, 261], [*PROMPT, 261, 262]], [(0, 1, 1)], "a")
    assert answers.logprobs(policy, [nested]).isfinite().all()
    assert (answers.logprobs(policy, [nested]) < 0).all()
    same = Ranking([TWO.rows[0], TWO.rows[0]], [], "a")
    first, second = answers.logprobs(policy, [same]).tolist()
    assert first == pytest.approx(second, abs=1e-6)


def test_before_any_step_all_pairs_are_even_and_a_step_prefers_the_winner(toy_chain: Toy) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    answers = dpo.Answers([STOP])
    with torch.no_grad():
        reference = [answers.logprobs(policy, [ranking]) for ranking in (TWO, THREE)]
    score = dpo.implicit_rewards(policy, answers, [TWO, THREE], reference, beta=0.1)
    assert rankings.add_gradients(score, [TWO, THREE], 1000) == pytest.approx(math.log(2), abs=1e-6)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter -= 0.1 * parameter.grad
        a, b, c, d, e = score([0, 1]).tolist()
    assert a > b
    assert d > c > e


@pytest.mark.parametrize("tokens_per_pass", [1, 20])
def test_passes_give_the_gradient_of_the_step(toy_chain: Toy, tokens_per_pass: int) -> None:
    policy = loading.load(toy_chain.policy.id, toy_chain.home).model
    batch = [TWO, THREE, TWO]
    reference = [torch.tensor([-3.0, -4.5]), torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([-4.0, -4.0])]
    score = dpo.implicit_rewards(policy, dpo.Answers([STOP]), batch, reference, beta=0.5)

    def gradient(tokens: int) -> torch.Tensor:
        policy.zero_grad()
        rankings.add_gradients(score, batch, tokens)
        return torch.cat([p.grad.flatten() for p in policy.parameters()])

    torch.testing.assert_close(gradient(tokens_per_pass), gradient(1000), atol=1e-6, rtol=1e-5)


def test_it_learns_the_rankings_and_publishes_a_policy(toy_chain: Toy) -> None:
    made = dpo.train(config_of(toy_chain, learning_rate=1e-2))
    manifest = made.manifest
    assert (manifest.stage, manifest.kind) == ("dpo", "policy")
    assert list(manifest.parents) == [toy_chain.policy.id]
    assert manifest.generation == toy_chain.policy.manifest.generation
    assert manifest.stop_ids == toy_chain.policy.manifest.stop_ids
    assert manifest.metrics["held_out_loss"] < math.log(2) - 0.1
    groups = [name for name in manifest.metrics if name.startswith("accuracy/")]
    assert groups
    assert all(manifest.metrics[name] > 0.7 for name in groups)
    assert not list((toy_chain.home / "work").glob("dpo-*"))


def test_frozen_embeddings_stay_as_they_are(toy_chain: Toy) -> None:
    made = dpo.train(config_of(toy_chain, epochs=1, freeze_embeddings=True))
    before, after = (loading.load(c.id, toy_chain.home).model.state_dict() for c in (toy_chain.policy, made))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {"model.embed_tokens.weight", "lm_head.weight"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"beta": 0.0}, "--beta 0.0: use a number above 0"),
        ({"warmup": 1.5}, "--warmup 1.5: use a share"),
        ({"batch": 0}, "must be at least 1"),
        ({"learning_rate": -1.0}, "is below 0"),
        ({"tokens_per_pass": 0}, "--tokens-per-pass 0"),
        ({"model": "reward"}, "not a policy one"),
        ({"context": 3}, "24 x longer than 3 tokens"),
    ],
)
def test_contradictions_are_refused(toy_chain: Toy, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dpo.train(config_of(toy_chain, **changes))
