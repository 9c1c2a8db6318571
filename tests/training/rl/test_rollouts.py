"""Sampled responses against transformers' own generation and forward pass."""

from __future__ import annotations

import pytest
import torch

from tests.training.conftest import Toy
from training.models import forward, loading
from training.rl.rollouts import Sampling, generate

pytestmark = pytest.mark.unit
PROMPTS = [[0, 3, 264, 265, 4], [0, 3, 265, 266, 267, 268, 4], [0, 3, 4], [0, 3, 261, 4]]


def test_log_probabilities_are_those_of_the_trainer(toy_chain: Toy) -> None:
    """Left padding, the cache and rows that leave the batch change nothing."""
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    drawn = generate(model, PROMPTS, 3, Sampling(0.8, 12, (0,), seed=1, tokens=80))
    assert [len(ids) for ids in drawn.ids] == [len(row) for row in drawn.logprobs]
    assert {len(ids) for ids in drawn.ids} != {12}
    prompts = [p for p in PROMPTS for _ in range(3)]
    ours = forward.response_logprobs(model, prompts, drawn.ids, temperature=0.8)
    theirs = forward.pad_right(drawn.logprobs, 0.0, torch.float32)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_greedy_text_equals_transformers_generate(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    drawn = generate(model, PROMPTS, 1, Sampling(0.0, 8, (0,), seed=0))
    for prompt, response in zip(PROMPTS, drawn.ids, strict=True):
        whole = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=0)
        assert response == whole[0, len(prompt) :].tolist()


def test_a_response_ends_with_its_stop_token_or_is_unfinished(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    drawn = generate(model, PROMPTS, 8, Sampling(1.0, 4, (0, 263), seed=2))
    assert 0 < sum(drawn.finished) < len(drawn.ids)
    for ids, finished in zip(drawn.ids, drawn.finished, strict=True):
        assert not {0, 263} & set(ids[:-1])
        assert (ids[-1] in (0, 263)) == finished
        assert finished or len(ids) == 4


def test_a_seed_gives_the_same_responses_and_another_gives_others(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    one, again, other = (generate(model, PROMPTS, 4, Sampling(1.0, 8, (0,), seed)) for seed in (3, 3, 4))
    assert one == again
    assert one.ids != other.ids


@pytest.mark.parametrize("tokens", [1, 40, 100])
def test_how_many_are_sampled_at_once_changes_nothing(toy_chain: Toy, tokens: int) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    whole = generate(model, PROMPTS, 3, Sampling(1.0, 8, (0,), seed=4))
    assert generate(model, PROMPTS, 3, Sampling(1.0, 8, (0,), seed=4, tokens=tokens)).ids == whole.ids


def test_samples_follow_the_distribution(toy_chain: Toy) -> None:
    model = loading.load(toy_chain.policy.id, toy_chain.home).model
    drawn = generate(model, [PROMPTS[0]], 4000, Sampling(1.0, 1, (0,), seed=5))
    expected = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(-1)
    counts = torch.bincount(torch.tensor([ids[0] for ids in drawn.ids]), minlength=len(expected)) / 4000
    assert (counts - expected).abs().max().item() < 0.03  # four standard errors of a share of one half
